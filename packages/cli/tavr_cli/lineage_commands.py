"""The questions of an audit: `tavr trace`, `who-used`, `lineage`, `diff`, `prove`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from tavr_records.errors import InputError

AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")]
SUBJECT = "clip:ID, person:ID, source:KEY or file:SHA256, or the id alone, or its first 8 characters."


def register(app: typer.Typer) -> None:
    """Add these commands to `tavr`."""
    app.command()(trace)
    app.command("who-used")(who_used)
    app.command()(lineage)
    app.command()(diff)
    app.command()(prove)


def trace(
    clip: Annotated[str, typer.Argument(help="A clip id, or its first 8 characters.")],
    model: Annotated[
        str, typer.Option("--in", help="Look in this run, version or commit; default: every model that used the clip.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Every row, shard, pair, step and model a clip became."""
    from tavr_lineage.candidates import open_finished
    from tavr_lineage.questions import who_used as ask
    from tavr_lineage.trace import trace_clip

    from tavr_cli.lineage_tables import print_traces
    from tavr_cli.main import print_json

    answer = ask(Path.cwd(), f"clip:{clip.removeprefix('clip:')}")
    models = [model] if model else [found.commit for found in answer.models]
    traces = [
        trace_clip(Path.cwd(), found.commit, found.record, answer.subject.value)
        for found in (open_finished(Path.cwd(), name) for name in models)
    ]
    if as_json:
        print_json({"clip": answer.subject.value, "traces": [asdict(found) for found in traces]})
    else:
        print_traces(answer, traces)


def who_used(
    subject: Annotated[str, typer.Argument(help=SUBJECT)],
    as_json: AsJson = False,
) -> None:
    """Which models a clip, a person, a source or a file went into, and what to do if it is withdrawn."""
    from tavr_lineage.questions import who_used as ask

    answer = ask(Path.cwd(), subject)
    if as_json:
        from tavr_cli.main import print_json

        print_json(asdict(answer))
    else:
        from tavr_cli.lineage_tables import print_uses

        print_uses(answer)


def lineage(
    model: Annotated[str, typer.Argument(help="A run id, a version or a commit.")],
    form: Annotated[str, typer.Option("--format", help="tree, mermaid or html.")] = "tree",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A file instead of the terminal.")] = None,
    as_json: AsJson = False,
) -> None:
    """What a model came from: its stages, their data and digests, and the runs before it."""
    from tavr_lineage.family import as_html, as_mermaid, trace_family

    from tavr_cli.lineage_tables import as_tree
    from tavr_cli.main import print_json

    forms: dict[str, Any] = {"tree": as_tree, "mermaid": as_mermaid, "html": as_html}
    if form not in forms:
        raise InputError(f"--format is {form!r}; use one of {', '.join(forms)}")
    family = trace_family(Path.cwd(), model)
    if as_json:
        print_json(asdict(family))
    elif out is not None:
        from tavr_records.atomic import write_bytes

        write_bytes(out, forms[form](family).encode())
    else:
        print(forms[form](family), end="")


def diff(
    before: Annotated[str, typer.Argument(help="A run id, a version or a commit.")],
    after: Annotated[str, typer.Argument(help="Another.")],
    as_json: AsJson = False,
) -> None:
    """In what two models differ: data, parameters, code, environment, weights, metrics."""
    from tavr_lineage.difference import compare

    from tavr_cli.lineage_tables import print_difference
    from tavr_cli.main import print_json

    found = compare(Path.cwd(), before, after)
    (print_json if as_json else print_difference)(found)


def prove(
    model: Annotated[str, typer.Argument(help="A run id, a version or a commit.")],
    subject: Annotated[str, typer.Argument(help=SUBJECT)],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A JSON file instead of the terminal.")] = None,
) -> None:
    """A proof that a subject went into a model, or did not, against the root in the model's signed record."""
    from tavr_lineage.questions import prove_subject
    from tavr_records.atomic import write_bytes
    from tavr_records.ids import canonical_json

    proof = prove_subject(Path.cwd(), model, subject)
    if out is None:
        print(canonical_json(proof).decode())
    else:
        write_bytes(out, canonical_json(proof) + b"\n")
        print(f"{out}: {'is' if 'rows' in proof else 'is not'} in run {proof['run']}")
