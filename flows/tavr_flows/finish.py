"""The end of a run, whatever its stages did: commit the candidate, judge it, keep what is worth keeping."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, cast

import yaml
from tavr_lineage.candidate import SEALED, Candidate, commit_candidate
from tavr_lineage.case import open_case
from tavr_lineage.clock import now
from tavr_lineage.git import dirty_paths, read_file
from tavr_lineage.promotion import Promotion, promote_case
from tavr_lineage.publication.publish import publish_or_tell
from tavr_lineage.record import RECORD, Run, StageOutcome
from tavr_lineage.trust.keys import signing_key
from tavr_records.atomic import write_bytes
from tavr_records.errors import InputError, RefusedError, VerificationError
from tavr_records.ids import sha256_bytes

from tavr_flows.runs import RunFolder
from tavr_flows.summary import render_summary
from tavr_flows.worktree import close_worktree

TARGET = "dev"
FINISHED = ("done", "cached")


def finish(run: RunFolder, outcomes: Sequence[StageOutcome], started_at: str, promote: bool) -> dict[str, Any]:
    """Commit, judge, promote if asked and allowed, prune the worktree; returns and writes the summary."""
    _drop(run.tree, [outcome.name for outcome in outcomes if outcome.state not in FINISHED])
    candidate = commit_candidate(run.tree, _facts(run, outcomes, started_at), signing_key(run.root))
    paths = _keep(run, candidate.record)
    close_worktree(run)
    allow, reasons, notes, promotion = _judge(run, candidate, promote)
    published = publish_or_tell(run.root, promotion) if promotion is not None else None
    summary = {
        "run_id": run.request.run_id,
        "profile": run.request.profile,
        "branch": run.branch,
        "commit": candidate.commit,
        "record_sha256": candidate.record_sha256,
        "stages": [asdict(outcome) for outcome in outcomes],
        "verdicts": _verdicts(candidate.record),
        "metrics": (candidate.record["benchmark"] or {}).get("metrics"),
        "gate": {"target": TARGET, "allow": allow, "reasons": reasons, "notes": list(notes)},
        "promotion": asdict(promotion) if promotion is not None else None,
        "published": published,
        "paths": paths,
    }
    write_bytes(run.folder / "summary.md", render_summary(summary).encode())
    write_bytes(run.folder / "summary.json", json.dumps(summary, indent=2, sort_keys=True).encode() + b"\n")
    return summary


class _Judged(NamedTuple):
    """What the gate said, and the promotion that followed."""

    allow: bool
    reasons: list[str]
    notes: Sequence[str] = ()
    promotion: Promotion | None = None


def _judge(run: RunFolder, candidate: Candidate, promote: bool) -> _Judged:
    try:
        case = open_case(run.root, candidate.commit, TARGET)
    except (InputError, VerificationError) as error:
        return _Judged(allow=False, reasons=[f"gate: {error}"])
    found = _Judged(case.decision.allow, list(case.decision.reasons), list(case.decision.notes))
    if not promote:
        return found
    try:
        return found._replace(promotion=promote_case(run.root, case))
    except RefusedError:
        return found
    except InputError as error:  # the log takes no line from us, or somebody made the same tag: the candidate stays
        return _Judged(allow=False, reasons=[f"gate: {error}"])


def _facts(run: RunFolder, outcomes: Sequence[StageOutcome], started_at: str) -> Run:
    request = run.request
    base = read_file(run.root, f"run/{request.base}", RECORD) if request.base else None
    return Run(
        run_id=request.run_id,
        reason=request.reason,
        requested_by=request.requested_by,
        commit=request.commit,
        dirty_paths=sorted({*request.dirty, *dirty_paths(run.tree)}),
        started_at=started_at,
        finished_at=now(),
        stages=outcomes,
        parents=[{"run_id": request.base, "record_sha256": sha256_bytes(base)}] if base is not None else [],
    )


def _drop(tree: Path, stages: Sequence[str]) -> None:
    """Take away what an earlier run left of stages this run did not finish: it is none of this candidate's."""
    path = tree / "dvc.lock"
    if not path.is_file() or not stages:
        return
    lock = cast("dict[str, Any]", yaml.safe_load(path.read_bytes()))
    for name in stages:
        for out in lock["stages"].pop(name, {}).get("outs", []):
            target = tree / out["path"]
            if target.is_dir():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)
    write_bytes(path, yaml.safe_dump(lock, sort_keys=False).encode())


def _verdicts(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """For each check: how many rules, which failed and how badly, and how many rows it quarantined."""
    found: dict[str, dict[str, Any]] = {}
    for stage, verdict in record["verdicts"].items():
        failed = [f"{check['id']} ({check['severity']})" for check in verdict["checks"] if not check["passed"]]
        refused = record["exclusions"].get(f"reports/{stage}/quarantine.parquet", [])
        found[stage] = {
            "rules": len(verdict["checks"]),
            "failed": failed,
            "critical": verdict["critical"],
            "quarantined": len({row["record_id"] for row in refused}),
        }
    return found


def _keep(run: RunFolder, record: Mapping[str, Any]) -> dict[str, str]:
    """Link reports, generated videos, the trained model and the record out of the worktree; returns where they are."""
    tree, folder = run.tree, run.folder
    for name in SEALED:
        if (tree / name).is_file():
            shutil.copyfile(tree / name, folder / name)
    paths = {"run": str(folder), "record": str(folder / RECORD), "logs": str(folder / "logs")}
    if (tree / "reports").is_dir():
        _link(tree / "reports", folder / "reports")
        report = folder / "reports" / "benchmark" / "report.html"
        paths |= {"reports": str(folder / "reports")} | ({"report": str(report)} if report.is_file() else {})
    if record["benchmark"] is None:
        return paths
    _link(tree / "data" / "benchmark", folder / "data" / "benchmark")
    candidate = record["benchmark"]["metrics"]["candidate"]
    model = record["params"]["benchmark"]["methods"][candidate]["model"]
    if (tree / model).is_dir():
        _link(tree / model, folder / "model")
        paths["model"] = str(folder / "model")
    if (sample := _sample(folder, record["benchmark"]["scores"][candidate], candidate)) is not None:
        paths["sample"] = str(sample)
    return paths


def _sample(folder: Path, scores: Mapping[str, Mapping[str, float | None]], candidate: str) -> Path | None:
    """A generated video to look at: of the pair in the middle by id_target, neither the best nor the worst."""
    ranked = sorted(scores, key=lambda pair: (scores[pair]["id_target"] or 0.0, pair))
    for pair in ranked[len(ranked) // 2 :]:
        found = sorted((folder / "data" / "benchmark" / "videos" / candidate).glob(f"{pair}*.mp4"))
        if found:
            return found[0]
    return None


def _link(source: Path, target: Path) -> None:
    """A copy that shares bytes where the file system can."""

    def link(origin: str, goal: str) -> str:
        try:
            os.link(origin, goal)
        except OSError:
            shutil.copyfile(origin, goal)
        return goal

    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(source, target, copy_function=link)
