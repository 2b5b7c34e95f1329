"""Where one clip went in one candidate: every row, shard, pair, step and model it became, read from the DVC cache."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.compute
import pyarrow.parquet as pq
from tavr_records.errors import InputError

from tavr_lineage.git import main_checkout, read_file
from tavr_lineage.outputs import stored_files

pc: Any = pyarrow.compute  # its functions are made when it is imported
_MANIFESTS = {
    "ingest": ("clip_id",),
    "pairs": ("ref_clip_id", "target_clip_id"),
    "latents": ("clip_id",),
    "preferences": ("ref_clip_id", "target_clip_id"),
}
_TRAININGS = ("stage1", "stage2", "stage3")


@dataclass(frozen=True)
class Trace:
    """What became of a clip in one candidate.

    Attributes:
        rows: of each manifest, its rows that name the clip, as column -> value.
        steps: of each training, the optimizer steps that used it as ranges (first, last), and those that skipped it
            with the reason.
        scores: how many videos of the benchmark were judged by it.
        exclusions: the quarantines that name it, and why.
        models: sha256 of the trained files of the stages that learnt from it.
        missing: files of the run that are not in this machine's DVC cache, and so could not be looked at.
    """

    commit: str
    run_id: str
    rows: Mapping[str, list[dict[str, Any]]]
    steps: Mapping[str, dict[str, Any]]
    scores: int
    exclusions: list[dict[str, str]]
    models: Mapping[str, str]
    missing: list[str]


def trace_clip(root: Path, commit: str, record: Mapping[str, Any], clip_id: str) -> Trace:
    """Follow a clip through a candidate's manifests, ledgers and scores.

    Args:
        root: any checkout of the repository.
        commit: the candidate's commit.
        record: its record.
        clip_id: the whole id.
    """
    files = _Files(root, commit, record)
    rows = {
        stage: files.rows(f"data/{stage}/manifest.parquet", columns, {clip_id}) for stage, columns in _MANIFESTS.items()
    }
    steps = {
        stage: _steps(files.rows(f"data/{stage}/ledger.parquet", ("clip_ids",), {clip_id})) for stage in _TRAININGS
    }
    pairs = {row["pair_id"] for row in rows["pairs"]}
    scores = len(files.rows("data/benchmark/manifest.parquet", ("pair_id",), pairs))
    learnt = [stage for stage, found in steps.items() if found["used"]]
    return Trace(
        commit=commit,
        run_id=record["run"]["run_id"],
        rows={stage: found for stage, found in rows.items() if found},
        steps={stage: found for stage, found in steps.items() if found["used"] or found["skipped"]},
        scores=scores,
        exclusions=list(_exclusions(record, {clip_id, *(row["record_id"] for row in rows["ingest"])})),
        models={
            path: digest
            for path, digest in sorted(record["outputs"].items())
            if any(path.startswith(f"data/{stage}/model/") for stage in learnt)
        },
        missing=sorted(files.missing),
    )


class _Files:
    """The stored outputs of a candidate; those that are not on this machine are remembered as missing."""

    def __init__(self, root: Path, commit: str, record: Mapping[str, Any]) -> None:
        lock = read_file(root, commit, "dvc.lock") or b""
        self._stored = dict(stored_files(lock, main_checkout(root) / ".dvc/cache"))
        self._outputs = record["outputs"]
        self.missing: set[str] = set()

    def rows(self, path: str, columns: tuple[str, ...], values: set[str]) -> list[dict[str, Any]]:
        """Rows of a manifest one of whose columns (or lists) holds one of `values`.

        Raises:
            InputError: the file in the cache is no parquet file.
        """
        if path not in self._outputs or not values:
            return []
        file = self._stored.get(path)
        if file is None or not file.is_file():
            self.missing.add(path)
            return []
        try:
            table = pq.read_table(file)
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise InputError(f"{file}: not a readable manifest ({error}); fetch it with `dvc pull`") from error
        wanted = pyarrow.array(values, pyarrow.string())
        positions: set[int] = set()
        for column in (table[name].combine_chunks() for name in columns):
            if pyarrow.types.is_list(column.type):
                hits = pc.list_parent_indices(column).filter(pc.is_in(pc.list_flatten(column), value_set=wanted))
            else:
                hits = pc.indices_nonzero(pc.is_in(column, value_set=wanted))
            positions.update(hits.to_pylist())
        return table.take(pyarrow.array(sorted(positions), pyarrow.int64())).to_pylist()


def _steps(rows: list[dict[str, Any]]) -> dict[str, Any]:
    used = sorted({row["step"] for row in rows if row["used"]})
    skipped = [{"step": row["step"], "reason": row["reason"]} for row in rows if not row["used"]]
    return {"samples": sum(row["used"] for row in rows), "used": list(_ranges(used)), "skipped": skipped}


def _ranges(steps: list[int]) -> Iterator[tuple[int, int]]:
    """Runs of successive steps as (first, last)."""
    if not steps:
        return
    first = steps[0]
    for previous, step in pairwise(steps):
        if step != previous + 1:
            yield first, previous
            first = step
    yield first, steps[-1]


def _exclusions(record: Mapping[str, Any], ids: set[str]) -> Iterator[dict[str, str]]:
    for path, refused in sorted(record["exclusions"].items()):
        for row in refused:
            if row["record_id"] in ids:
                yield {"list": path, **row}
