"""`tavr status`: the runs of this checkout, the versions, and which of them holds which stage."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from tavr_flows.runs import list_runs, read_summary
from tavr_lineage.candidates import open_finished
from tavr_lineage.case import rejection, withdrawn_clips
from tavr_lineage.git import repository_root
from tavr_lineage.policy import read_policy
from tavr_lineage.registry import Version, holder, list_assignments, list_versions, unlogged_tags
from tavr_lineage.trust.log import open_log
from tavr_records.errors import InputError, VerificationError

_SHOWN = 20


def read_status(root: Path) -> dict[str, Any]:
    """Everything `tavr status` shows.

    Raises:
        InputError: no git repository, no policy.
    """
    root = repository_root(root)
    artifact = read_policy(root / "conf/policy.yaml").artifact
    held, problems = _held(root, artifact)
    return {
        "stages": held,
        "versions": [_version(root, version, held) for version in list_versions(root, artifact)],
        "problems": problems,
        "runs": [
            {
                "run_id": run.request.run_id,
                "profile": run.request.profile,
                "created_at": run.request.created_at,
                "state": _state(read_summary(run)),
            }
            for run in list_runs(root)
        ],
    }


def _held(root: Path, artifact: str) -> tuple[dict[str, str], list[str]]:
    """Which version holds which stage, and whatever of log and tags does not agree."""
    held: dict[str, str] = {}
    problems: list[str] = []
    for stage in sorted({assignment.stage for assignment in list_assignments(root, artifact)}):
        try:
            version = holder(root, artifact, stage)
        except VerificationError as error:
            problems.append(f"{stage}: {error}")
            continue
        if version is not None:
            held[stage] = version.label
    try:
        unlogged = unlogged_tags(root, artifact, open_log(root))
    except VerificationError:
        return held, problems  # a broken log is told of already
    return held, [*problems, *(f"tag {name} is on no line of the log; it moves nothing" for name in unlogged)]


def _version(root: Path, version: Version, held: dict[str, str]) -> dict[str, Any]:
    """One version, with what is against it; a candidate that cannot be read has nothing but its name."""
    found: dict[str, Any] = {"version": version.label, "commit": version.commit, "run": "", "holds": "", "against": ""}
    found["holds"] = ", ".join(stage for stage, label in held.items() if label == version.label)
    try:
        candidate = open_finished(root, version.commit)
        withdrawn = withdrawn_clips(root, version.commit, candidate.record)
        rejected = rejection(open_log(root), candidate.record_sha256)
    except (InputError, VerificationError) as error:
        return {**found, "against": str(error)}
    against = [rejected, f"{len(withdrawn)} withdrawn clips" if withdrawn else ""]
    return {**found, "run": candidate.run_id, "against": "; ".join(reason for reason in against if reason)}


def print_status(found: dict[str, Any]) -> None:
    """The status as tables; the newest lines last."""
    console = Console()
    for title, rows in (("Runs", found["runs"]), ("Versions", found["versions"])):
        if rows:
            table = Table(title=title, title_justify="left")
            for name in rows[0]:
                table.add_column(name)
            for row in rows[-_SHOWN:]:
                table.add_row(*(str(value)[:40] for value in row.values()))
            console.print(table)
    for stage, version in found["stages"].items():
        console.print(f"{version} holds {stage}")
    for problem in found["problems"]:
        console.print(f"NOT VERIFIED: {problem}")
    if not found["runs"]:
        console.print("no runs yet: `make retrain` makes one")


def _state(summary: dict[str, Any] | None) -> str:
    if summary is None:
        return "unfinished"
    for stage in summary["stages"]:
        if stage["state"] in {"refused", "failed"}:
            return f"{stage['state']} at {stage['name']}"
    if summary["promotion"] is not None:
        return f"promoted as {summary['promotion']['version']}"
    return "allowed" if summary["gate"]["allow"] else "refused by the gate"
