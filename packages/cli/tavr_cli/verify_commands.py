"""`tavr evidence` and `tavr verify`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tavr_lineage.evidence.verification import Verification

EXIT_NOT_VERIFIED = 4
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(evidence)
    app.command()(verify)


def evidence(
    model: Annotated[str, typer.Argument(help="MODEL@VERSION, a version, or a stage.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The zip file to write.")],
    as_json: AsJson = False,
) -> None:
    """Write everything that proves a release into one file, with a verifier that needs nothing of ours."""
    from tavr_lineage.evidence.collect import collect_evidence
    from tavr_lineage.evidence.container import write_zip
    from tavr_lineage.evidence.page import add_views
    from tavr_records.ids import sha256_file

    files = add_views(collect_evidence(Path.cwd(), model))
    write_zip(out, files)
    told = {"out": str(out), "sha256": sha256_file(out), "files": len(files), "bytes": out.stat().st_size}
    print(json.dumps(told, indent=2) if as_json else f"{out}: {told['files']} files, {told['bytes']} bytes")


def verify(
    release: Annotated[str, typer.Argument(help="MODEL@VERSION, a version, a stage, or an evidence file.")],
    since: Annotated[
        Path | None, typer.Option(help="A checkpoint you kept: proves that nothing before changed.")
    ] = None,
    trust: Annotated[str, typer.Option(help="Fingerprint of the key that the log must begin with.")] = "",
    weights: Annotated[Path | None, typer.Option(help="A folder with the model's files.")] = None,
    as_json: AsJson = False,
) -> None:
    """Hold a release against its evidence, offline, step by step; exit code 4 when a step does not hold."""
    from tavr_lineage.evidence.collect import Asked, verify_release

    found = verify_release(Path.cwd(), release, Asked(trust, since, weights))
    print(json.dumps(found.to_json(), indent=2, sort_keys=True) if as_json else describe(found))
    if found.state == "failed":
        raise typer.Exit(EXIT_NOT_VERIFIED)


def describe(found: "Verification") -> str:
    """The answer for people."""
    lines = [f"{'ok    ' if check.ok else 'FAILED'} {check.step}: {check.reason}" for check in found.checks]
    lines += [f"withdrawn since the promotion: clip {clip}" for clip in found.withdrawn]
    return "\n".join([*lines, found.state.upper()])
