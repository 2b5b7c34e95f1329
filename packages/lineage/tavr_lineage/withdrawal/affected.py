"""What a withdrawal means for every model: who was trained or judged on it, who is deployed, and what is to be done."""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from tavr_records.errors import InputError
from tavr_records.ids import clip_id
from tavr_records.withdrawals import Withdrawal, find_withdrawn

from tavr_lineage.candidates import Standing, candidate_commits, read_record, standings
from tavr_lineage.closure import JUDGED, find_withdrawn_clips, read_consumption
from tavr_lineage.git import main_checkout, read_file, repository_root
from tavr_lineage.outputs import stored_files
from tavr_lineage.policy import POLICY, artifact_name, read_policy
from tavr_lineage.promotion import open_case
from tavr_lineage.publication.receipts import list_receipts
from tavr_lineage.publication.storage import open_storage
from tavr_lineage.registry import holder, list_assignments
from tavr_lineage.trust.log import read_log

pc: Any = pyarrow.compute  # its functions are made when it is imported

CHECKED_AGAIN = ("sources", "ingest", "pairs")
"""Outputs whose rows a tombstone can meet, in the order of the pipeline."""
_AFTER = {"sources": "sources", "ingest": "pairs", "pairs": "latents"}
"""The first stage that DVC runs again when a row of that output is withdrawn: `sources` drops it itself, else the
check of the output quarantines it and the stage after reads less."""
_FALLBACK = "sources"


@dataclass(frozen=True)
class Remedy:
    """What is to be done with a model.

    Attributes:
        action: `none`; `retrain`, when the model holds a stage or is deployed, from `from_stage` on; else `block`: the
            gate refuses it from now on, and nobody needs a successor.
        from_stage: the earliest stage that DVC runs again.
        command: the retrain, ready to be run.
        parameters: the same for the form of the flow `retrain`.
    """

    action: str
    from_stage: str = ""
    command: str = ""
    parameters: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Affected:
    """A candidate whose ledgers hold something withdrawn.

    Attributes:
        used: for each stage the number of withdrawn clips it used.
        stages: target stages it holds now; `pulled`: where it was pulled to, as the log knows.
        gate: for each stage it holds, or `dev`, what the gate says of it now; empty means it would be allowed.
    """

    run_id: str
    commit: str
    versions: tuple[str, ...]
    stages: tuple[str, ...]
    pulled: tuple[str, ...]
    used: Mapping[str, int]
    clips: tuple[str, ...]
    gate: Mapping[str, tuple[str, ...]]
    remedy: Remedy

    @property
    def trained(self) -> bool:
        """Whether weights were fitted to it, not only judged by it."""
        return any(stage != JUDGED for stage in self.used)


@dataclass(frozen=True)
class Candidate:
    """A commit with a record, and its consumption table."""

    commit: str
    record: Mapping[str, Any]
    used: pa.Table

    def rows_of(self, withdrawals: Sequence[Withdrawal]) -> list[dict[str, Any]]:
        """The rows of withdrawn clips."""
        clips = pa.array(find_withdrawn_clips(self.used, withdrawals), pa.string())
        return self.used.filter(pc.is_in(self.used["clip_id"], value_set=clips)).to_pylist()


def candidates(root: Path) -> Iterator[Candidate]:
    """Every run branch's and every version's candidate, each commit once.

    Raises:
        InputError: one's consumption table is not the one its record names.
    """
    artifact = read_policy(root / POLICY).artifact
    for commit in candidate_commits(root, artifact):
        record = read_record(root, commit)
        if record is not None:
            yield Candidate(commit, record, read_consumption(root, commit, record))


def find_affected(root: Path, withdrawals: Sequence[Withdrawal], judge: bool = True) -> list[Affected]:
    """Every candidate that used something withdrawn, oldest first, with the gate asked anew.

    Args:
        root: the repository.
        withdrawals: what to look for.
        judge: ask the gate, which reads every stored model file; else `gate` stays empty.
    """
    root = repository_root(root)
    standing = standings(root, read_policy(root / POLICY).artifact)
    found = [_affected(root, standing.get(one.commit, Standing()), one, withdrawals, judge) for one in candidates(root)]
    return sorted((one for one in found if one is not None), key=lambda one: one.run_id)


def judge_holders(root: Path) -> dict[str, dict[str, Any]]:
    """For every target stage that a version holds: the version, and the gate's reasons against it as things stand."""
    root = repository_root(root)
    artifact = read_policy(root / POLICY).artifact
    held: dict[str, dict[str, Any]] = {}
    for stage in sorted({assignment.stage for assignment in list_assignments(root, artifact)}):
        version = holder(root, artifact, stage)
        if version is not None:
            held[stage] = {"version": version.label, "reasons": list(_reasons(root, version.commit, stage))}
    return held


def pulls(root: Path, commit: str, versions: Sequence[str]) -> tuple[str, ...]:
    """Where a candidate was pulled to and not returned from, by the storage's receipts; else by the log."""
    entries = [entry for entry in read_log(root) if entry["event"] == "pulled"]
    mine = [e for e in entries if e.get("commit") == commit or str(e.get("version", "")).split("@")[-1] in versions]
    found = {str(e.get("host") or e.get("actor") or f"seq {e['seq']}") for e in mine}
    storage = open_storage() if versions else None
    if storage is None:
        return tuple(sorted(found))
    try:
        copies = [copy for name in versions for copy in list_receipts(storage, artifact_name(root), name)]
    except InputError:  # the storage cannot be asked: better one deployment too many than one too few
        return tuple(sorted(found))
    return tuple(sorted({copy.receipt.host if copy.receipt else copy.path for copy in copies if copy.deployed}))


def _affected(
    root: Path, standing: Standing, one: Candidate, withdrawals: Sequence[Withdrawal], judge: bool
) -> Affected | None:
    rows = one.rows_of(withdrawals)
    if not rows:
        return None
    pulled = pulls(root, one.commit, standing.versions)
    used: dict[str, int] = {}
    for row in rows:
        used[row["stage"]] = used.get(row["stage"], 0) + 1
    return Affected(
        run_id=str(one.record["run"]["run_id"]),
        commit=one.commit,
        versions=standing.versions,
        stages=standing.holds,
        pulled=pulled,
        used=dict(sorted(used.items())),
        clips=tuple(sorted({str(row["clip_id"]) for row in rows})),
        gate={stage: _reasons(root, one.commit, stage) for stage in standing.holds or ("dev",)} if judge else {},
        remedy=_remedy(root, one, withdrawals, needed=bool(standing.holds or pulled)),
    )


def _reasons(root: Path, commit: str, stage: str) -> tuple[str, ...]:
    try:
        return tuple(open_case(root, commit, stage).decision.reasons)
    except InputError as error:
        return (f"gate: {error}",)


def _remedy(root: Path, one: Candidate, withdrawals: Sequence[Withdrawal], needed: bool) -> Remedy:
    if not needed:
        return Remedy("block")
    compose = one.record["params"].get("_compose", {})
    parameters: dict[str, Any] = {
        "profile": compose.get("profile", "tiny"),
        "overrides": list(compose.get("overrides", [])),
        "reason": f"successor of run {one.record['run']['run_id']} without what was withdrawn",
    }
    command = ["tavr", "retrain", "--profile", parameters["profile"], "--reason", parameters["reason"]]
    return Remedy(
        "retrain",
        rerun_from(root, one.commit, withdrawals),
        shlex.join([*command, *parameters["overrides"]]),
        parameters,
    )


def rerun_from(root: Path, commit: str, withdrawals: Sequence[Withdrawal]) -> str:
    """The earliest stage whose result changes without the withdrawn rows, by the candidate's own outputs.

    When those are gone, `sources`: running again from there is always right.
    """
    outputs = _tables(root, commit)
    for stage in CHECKED_AGAIN:
        if find_withdrawn(outputs.get(stage, ()), withdrawals):
            return _AFTER[stage]
    return _FALLBACK


def _tables(root: Path, commit: str) -> dict[str, list[dict[str, Any]]]:
    lock = read_file(root, commit, "dvc.lock") or b""
    wanted = {f"data/{stage}/manifest.parquet": stage for stage in CHECKED_AGAIN}
    found: dict[str, list[dict[str, Any]]] = {}
    for name, path in stored_files(lock, main_checkout(root) / ".dvc/cache"):
        if name in wanted and path.is_file():
            rows = pq.read_table(pa.BufferReader(path.read_bytes())).to_pylist()
            found[wanted[name]] = [_with_clip(row) for row in rows]
    return found


def _with_clip(row: dict[str, Any]) -> dict[str, Any]:
    if "clip_id" in row or "source_key" not in row:
        return row
    return {**row, "clip_id": clip_id(row["source_key"], int(row["start_ms"]), int(row["end_ms"]))}


def affected_document(found: Iterable[Affected]) -> list[dict[str, Any]]:
    """As JSON values."""
    return [{**asdict(one), "trained": one.trained} for one in found]
