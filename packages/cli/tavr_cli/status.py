"""`tavr status`: the runs of this checkout, the versions, and which of them holds which stage."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from tavr_flows.runs import list_runs, read_summary
from tavr_lineage.git import repository_root
from tavr_lineage.policy import read_policy
from tavr_lineage.registry import holder, list_assignments, list_versions, tag_facts

_SHOWN = 20


def read_status(root: Path) -> dict[str, Any]:
    """Everything `tavr status` shows.

    Raises:
        InputError: no git repository, no policy.
    """
    root = repository_root(root)
    artifact = read_policy(root / "conf/policy.yaml").artifact
    stages = sorted({assignment.stage for assignment in list_assignments(root, artifact)})
    held = {stage: version.label for stage in stages if (version := holder(root, artifact, stage)) is not None}
    return {
        "stages": held,
        "versions": [
            {"version": version.label, "commit": version.commit, "run": tag_facts(root, version.name).get("run", "")}
            for version in list_versions(root, artifact)
        ],
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
