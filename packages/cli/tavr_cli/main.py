"""The command `tavr`. Every import of weight happens inside its command, so that `tavr --help` is quick."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from tavr_records.errors import InputError, RefusedError, VerificationError
from tavr_records.process import explain

from tavr_cli import (
    export_commands,
    lineage_commands,
    publish_commands,
    registry_commands,
    reproduce_commands,
    trust_commands,
    verify_commands,
    withdraw_commands,
)

EXIT_BAD_INPUT, EXIT_DENIED, EXIT_NOT_VERIFIED, EXIT_INTERRUPTED = 2, 3, 4, 130
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Values of conf/ to change, as section.key=value.")]


export_commands.register(app)
lineage_commands.register(app)
reproduce_commands.register(app)
publish_commands.register(app)
registry_commands.register(app)
trust_commands.register(app)
verify_commands.register(app)
withdraw_commands.register(app)


@app.callback()
def tavr() -> None:
    """A talking-avatar model's whole life: retrain, judge, promote, generate."""


@app.command()
def params(
    overrides: Overrides = None,
    profile: Annotated[str, typer.Option(help="A file of conf/profile.")] = "tiny",
) -> None:
    """Compose conf/ into params.yaml."""
    from tavr_cli.compose import write_params

    write_params(profile, overrides or [])


@app.command()
def retrain(  # noqa: PLR0913 - a command has as many options as its form has fields
    overrides: Overrides = None,
    profile: Annotated[str, typer.Option(help="A file of conf/profile.")] = "tiny",
    base_run: Annotated[str, typer.Option(help="Take unchanged stages from: latest, none, or a run id.")] = "latest",
    reason: Annotated[str, typer.Option(help="Why; it goes on the record.")] = "",
    promote: Annotated[bool, typer.Option(help="Promote to dev when the gate allows.")] = True,
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="Run uncommitted changes; cannot be promoted.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the whole pipeline on a branch of its own, judge the candidate and promote it."""
    from pydantic import ValidationError
    from tavr_flows.launch import retrain_here
    from tavr_flows.parameters import RetrainParameters

    try:
        parameters = RetrainParameters.model_validate(
            {
                "profile": profile,
                "base_run": base_run,
                "overrides": overrides or [],
                "reason": reason,
                "promote": promote,
                "allow_dirty": allow_dirty,
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{field}: {first['msg']}, not {first['input']!r}") from error
    try:
        code, message, summary = retrain_here(Path.cwd(), parameters)
    except KeyboardInterrupt:
        _end("interrupted; run again to carry on", EXIT_INTERRUPTED)
    if as_json:
        print_json({"exit": code, "message": message, "summary": summary})
    elif summary is not None:
        print("\n" + Path(summary["paths"]["run"], "summary.md").read_text(encoding="utf-8"))
    if code != 0:
        print(f"tavr: {message}", file=sys.stderr)
    raise typer.Exit(code)


@app.command()
def up(port: Annotated[int, typer.Option(help="Port of the Prefect page on 127.0.0.1.")] = 4200) -> None:
    """Start the Prefect server, a worker and the deployments; Ctrl-C stops them."""
    from tavr_flows.deploy import up as start

    start(Path.cwd(), port)


@app.command()
def cost(  # noqa: PLR0913 - a command has as many options as its question has parts
    profile: Annotated[str, typer.Option(help="A file of conf/profile.")] = "tiny",
    ref_frames: Annotated[
        int | None, typer.Option(help="Reference frames in pixels; default: the longest stage1 trains with.")
    ] = None,
    machine: Annotated[str, typer.Option(help="A machine of infra/machines.yaml.")] = "h100",
    gpus: Annotated[int, typer.Option(help="GPUs that train.")] = 32,
    face_share: Annotated[
        float | None, typer.Option(help="Measured share of reference tokens that selection keeps.")
    ] = None,
    background_share: Annotated[
        float | None, typer.Option(help="Measured share of background tokens that selection keeps.")
    ] = None,
    selected_tokens: Annotated[
        int | None, typer.Option(help="Measured tokens with selection when their split is unknown.")
    ] = None,
    mfu: Annotated[float | None, typer.Option(help="Model FLOPs utilisation instead of the machine's two.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tokens, FLOPs, memory and GPU-hours of a profile, from the code that shapes the model."""
    from tavr_cli.cost import Question, estimate_cost
    from tavr_cli.cost_tables import print_cost

    question = Question(profile, ref_frames, machine, gpus, face_share, background_share, selected_tokens, mfu)
    found = estimate_cost(question, Path.cwd())
    if as_json:
        print_json(found)
    else:
        print_cost(found)


@app.command()
def generate(  # noqa: PLR0913 - a generation has as many choices
    reference: Annotated[Path, typer.Option(help="A video of the person, with sound, in any scene.")],
    speech: Annotated[Path, typer.Option(help="What is to be said: any file with sound of 16 kHz or more.")],
    background: Annotated[Path, typer.Option(help="The scene: a picture, or a video whose first frame counts.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The mp4 to write.")],
    model: Annotated[
        str, typer.Argument(help="A stage, version, run id, commit, or a checkout after dvc repro.")
    ] = "dev",
    prompt: Annotated[str, typer.Option(help="What is to be seen.")] = "A person talks.",
    seed: Annotated[int, typer.Option(help="Equal seeds give equal videos.")] = 0,
    ref_frames: Annotated[int | None, typer.Option(help="Frames of the reference, 4k + 1.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the solver.")] = None,
    text_guidance: Annotated[float | None, typer.Option(help="s_t.")] = None,
    audio_guidance: Annotated[float | None, typer.Option(help="s_a.")] = None,
    explain: Annotated[Path | None, typer.Option(help="A png: which reference frames each frame looked at.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a talking-avatar video with a promoted model."""
    from tavr_cli.generate import Generation, with_progress

    asked = Generation(
        reference, speech, background, prompt, out, seed, ref_frames, steps, text_guidance, audio_guidance, explain
    )
    made = with_progress(model, asked, quiet=as_json)
    if as_json:
        print_json(made)
    else:
        print(
            f"{made['out']}: {made['seconds']} s, {made['frames']} frames, model {made['model']} {made['commit'][:12]}"
        )
        if made["seams"] is not None:
            told = ", ".join(f"{name} {value}" for name, value in made["seams"].items())
            print(f"{len(made['joins'])} joins: {told}")


def print_json(value: Any) -> None:
    """Print a value for machines: sorted, indented JSON."""
    print(json.dumps(value, indent=2, sort_keys=True))


def main() -> None:
    """Run the command; the user's mistakes are one line and an exit code, never a traceback."""
    try:
        app()
    except InputError as error:
        _end(str(error), EXIT_BAD_INPUT)
    except RefusedError as error:
        _end(str(error), EXIT_DENIED)
    except VerificationError as error:
        _end(str(error), EXIT_NOT_VERIFIED)
    except OSError as error:
        if error.errno is None:
            raise
        _end(explain(error), EXIT_BAD_INPUT)


def _end(message: str, code: int) -> NoReturn:
    print(f"tavr: {message}", file=sys.stderr)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
