"""`tavr withdraw` and `tavr find-person`: the letter with an id, and the letter without one."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from tavr_records.errors import InputError

AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(withdraw)
    app.command()(find_person)


def withdraw(  # noqa: PLR0913 - a command has as many options as its form has fields
    clip: Annotated[str | None, typer.Option(help="A clip's id.")] = None,
    person: Annotated[str | None, typer.Option(help="A person's id.")] = None,
    source: Annotated[str | None, typer.Option(help="The key of a source.")] = None,
    section: Annotated[
        tuple[int, int] | None, typer.Option(help="START END of the source in milliseconds; default: all of it.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; it stays on the record, so without anybody's name.")] = "",
    purge: Annotated[bool, typer.Option(help="Remove what policy lets go of, and sign the certificate.")] = True,
    unknown: Annotated[bool, typer.Option("--unknown", help="Block it though nothing here knows it.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Only say how long each withdrawal took.")] = False,
    as_json: AsJson = False,
) -> None:
    """Block a clip, person or source, judge every model anew, purge the data, and sign what was done."""
    if status:
        _print_status(as_json)
        return
    from tavr_flows.means import withdrawal_means
    from tavr_flows.withdraw_page import answer_document, render_answer
    from tavr_lineage.git import repository_root
    from tavr_lineage.withdrawal.letter import answer
    from tavr_lineage.withdrawal.tombstones import Request

    asked = [(kind, value) for kind, value in (("clip", clip), ("person", person), ("source", source)) if value]
    if len(asked) != 1:
        raise InputError("withdraw: give one of --clip, --person and --source")
    (kind, value), (start, end) = asked[0], section or (None, None)
    root = repository_root(Path.cwd())
    found = answer(root, Request(kind, value, reason, start, end, unknown), purge, withdrawal_means(root))
    if as_json:
        _print_json(answer_document(found))
    else:
        print(render_answer(found))


def find_person(  # noqa: PLR0913 - a command has as many options as its question has parts
    image: Annotated[Path | None, typer.Option(help="A picture of the person; cut out others.")] = None,
    video: Annotated[Path | None, typer.Option(help="A video of the person.")] = None,
    url: Annotated[str | None, typer.Option(help="Address of a picture or video, or ytdlp:<address>.")] = None,
    root: Annotated[Path, typer.Option(help="The checkout to look in.")] = Path(),
    profile: Annotated[str | None, typer.Option(help="Only runs of this profile; default: every run.")] = None,
    least: Annotated[float, typer.Option(help="Similarity from which on a clip is proposed.")] = 0.4,
    limit: Annotated[int, typer.Option(help="Propose at most so many clips.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Propose clips that show a person, for a human to confirm; nothing is withdrawn."""
    from tavr_cli.find_person import Question, print_proposals, propose_clips

    found = propose_clips(root, Question(image, video, url, profile, least, limit))
    if as_json:
        _print_json(found)
    else:
        print_proposals(found)


def _print_status(as_json: bool) -> None:
    from dataclasses import asdict

    from tavr_flows.withdraw_page import render_times
    from tavr_lineage.withdrawal.compliance import compliance_times

    times = compliance_times(Path.cwd())
    if as_json:
        _print_json([asdict(one) for one in times])
    else:
        print(render_times(times))


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, sort_keys=True))
