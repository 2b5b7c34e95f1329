"""`tavr reproduce`: make a model a second time from its record, and say stage by stage whether it came out the same."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tavr_flows.budget import read_budget, tell_budget
from tavr_flows.reproduce import reproduce
from tavr_flows.reproduction import (
    PARAMS,
    Reproduction,
    close_reproduction,
    holding,
    open_reproduction,
    plan_reproduction,
)
from tavr_lineage.closure import find_withdrawn_clips
from tavr_lineage.exports.dossier import Dossier, open_dossier
from tavr_lineage.git import main_checkout, read_file, repository_root, resolve
from tavr_lineage.hardware import platform_class
from tavr_records.errors import InputError
from tavr_records.withdrawals import Withdrawal, find_withdrawn, parse_withdrawals, read_withdrawals

from tavr_cli.stage_comparison import (
    CLOSE,
    DIFFERENT,
    EQUAL,
    FAILED,
    NOT_RUN,
    Original,
    StageComparison,
    compare_stage,
    platform_differences,
)

WITHDRAWN = "inputs withdrawn"
FINISHED = ("done", "cached")
_ORDER = (EQUAL, CLOSE, NOT_RUN, DIFFERENT, FAILED)
_WITHDRAWALS = "audit/withdrawn.jsonl"


@dataclass(frozen=True)
class Answer:
    """What a reproduction found.

    Attributes:
        model: what was asked for, with its commit and run.
        answer: equal, within tolerance, different, failed or inputs withdrawn.
        platform: what differs between the recorded platform class and this one; empty where equality is promised.
        withdrawn: what of the inputs was withdrawn, in counts.
        stages: every recorded stage.
        kept: where the worktree was kept.
    """

    model: str
    commit: str
    run_id: str
    answer: str
    platform: Sequence[str]
    withdrawn: Mapping[str, int]
    stages: Sequence[StageComparison]
    kept: str = ""

    @property
    def kept_promise(self) -> bool:
        """False when the same platform class did not give the same bytes, or a stage failed."""
        if self.answer == FAILED:
            return False
        return self.answer in (EQUAL, WITHDRAWN) or bool(self.platform)

    def to_json(self) -> dict[str, Any]:
        """The answer as a JSON document."""
        return asdict(self)


@dataclass(frozen=True)
class Ears:
    """Who is told: `tell` of lines, `progress` of a stage's percent and bar."""

    tell: Callable[[str], None]
    progress: Callable[[float, str], None]


def reproduce_model(root: Path, model: str, keep: bool, tolerance: float, ears: Ears) -> Answer:
    """Make the model again beside the original, in a worktree, cache and environment of its own.

    Raises:
        InputError: no such model, its commit is not here, or its environment cannot be made.
    """
    root = repository_root(root)
    dossier = open_dossier(root, model)
    record = dossier.record
    platform = platform_differences(record["environment"]["platform"], platform_class())
    then = parse_withdrawals((read_file(root, dossier.commit, _WITHDRAWALS) or b"").decode(), _WITHDRAWALS)
    withdrawn = withdrawn_inputs(dossier, read_withdrawals(root / _WITHDRAWALS), then)
    told = (dossier.name, dossier.commit, record["run"]["run_id"])
    if withdrawn:
        return Answer(*told, WITHDRAWN, platform, withdrawn, [])
    order = [stage["name"] for stage in record["stages"] if stage["name"] in record["dvc"]["stages"]]
    main = main_checkout(root)
    profile = str(record["params"].get("_compose", {}).get("profile", ""))
    for line in tell_budget(order, order, read_budget(main, profile)):
        ears.tell(line)
    if platform:
        ears.tell(f"another platform class, equality is not promised: {'; '.join(platform)}")
    run = plan_reproduction(main, record["run"]["run_id"], profile, _start(root, dossier))
    params = read_file(root, dossier.commit, PARAMS)
    if params is None:
        raise InputError(f"{dossier.name}: commit {dossier.commit[:12]} has no {PARAMS}; name a finished run")
    with holding(run):
        try:
            open_reproduction(run, params, ears.tell)
            stages = list(_run_stages(run, Original(root, dossier, tolerance), order, ears))
        finally:
            if not keep:
                close_reproduction(run)
    worst = max((stage.state for stage in stages), key=_ORDER.index, default=EQUAL)
    return Answer(*told, worst, platform, {}, stages, str(run.tree) if keep else "")


def withdrawn_inputs(dossier: Dossier, withdrawals: Sequence[Withdrawal], then: Sequence[Withdrawal]) -> dict[str, int]:
    """How many clips the model used, and records of its source list, fall under a withdrawal; empty when none does.

    Records that were on the list `then`, when the run began, do not count: it fetched none of them.
    """
    late = [item for item in withdrawals if item not in then]
    rows = [
        {"source_key": row["source_key"], "source_sha256": row["sha256"], "start_ms": row["section"][0],
         "end_ms": row["section"][1]}
        for row in dossier.sources.get("rows", [])
    ]  # fmt: skip
    counts = {
        "clips": len(find_withdrawn_clips(dossier.consumption, withdrawals)),
        "sources": len(find_withdrawn(rows, [item for item in late if item.kind in ("source_key", "sha256")])),
    }
    return {name: count for name, count in counts.items() if count}


def _start(root: Path, dossier: Dossier) -> str:
    """The commit whose files ran: the recorded one, or for a dirty run the snapshot its candidate was built on."""
    return resolve(root, f"{dossier.commit}^" if dossier.record["code"]["dirty"] else dossier.record["code"]["commit"])


def _run_stages(run: Reproduction, original: Original, order: Sequence[str], ears: Ears) -> Iterator[StageComparison]:
    """Every stage in order; after one that fails the rest is not run."""
    failed = ""
    for stage in order:
        if failed:
            yield StageComparison(stage, NOT_RUN, reason=f"{failed} failed")
            continue
        outcome = reproduce(run, stage, ears.tell, ears.progress, ["--no-run-cache"])
        if outcome.state not in FINISHED:
            failed = stage
            found = StageComparison(stage, FAILED, outcome.seconds, outcome.reason)
        else:
            found = compare_stage(original, run.tree, stage, outcome.seconds)
        ears.tell(f"{stage}: {found.state} ({found.seconds:.0f} s)")
        yield found
