"""The closure of a model: every clip that went into it, through which stage, and the person and source it came from.

Clips reach a model three ways: a training consumed them (stage1, stage2, stage3), the stage2 model generated preference
pairs under their conditions (preferences), or the benchmark judged the model by them (benchmark).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from tavr_records.errors import InputError
from tavr_records.ids import sha256_bytes
from tavr_records.manifest import arrow_schema, read_manifest, read_table, write_table
from tavr_records.schemas import Clip, ClipPair, ClipSplit, PreferencePair, Score
from tavr_records.withdrawals import COLUMNS, Withdrawal, find_withdrawn

from tavr_lineage.git import read_file
from tavr_lineage.stages import JUDGED

pc: Any = pyarrow.compute  # its functions are made when it is imported

CONSUMPTION = "reports/lineage/consumption.parquet"
_USES = pa.schema(
    [
        ("clip_id", pa.string()),
        ("stage", pa.string()),
        ("first_step", pa.int64()),
        ("last_step", pa.int64()),
        ("samples", pa.int64()),
    ]
)
_OF_CLIP = ("person_id", "source_key", "source_sha256", "clip_sha256", "start_ms", "end_ms", "rights")


@dataclass(frozen=True)
class Consumption:
    """What one stage did with one clip (`reports/lineage/consumption.parquet`), with the clip's parents.

    `samples` counts the ledger rows, generations or judged videos that used the clip; `first_step` and `last_step` are
    optimizer steps (0 where nothing is optimised).
    """

    clip_id: str
    stage: str
    person_id: str
    identity: str
    source_key: str
    source_sha256: str
    clip_sha256: str
    start_ms: int
    end_ms: int
    rights: str
    first_step: int
    last_step: int
    samples: int


def close_ledgers(root: Path, used: Mapping[str, pa.Table]) -> tuple[pa.Table, list[str]]:
    """The consumption table, sorted by clip and stage, and the ids that `ingest` does not know.

    Args:
        root: the run's worktree.
        used: of each training stage, `ledger.count_uses`.
    """
    tables = [*used.items(), *_conditions(root).items()]
    found = [table.append_column("stage", _repeat(stage, len(table))).select(_USES.names) for stage, table in tables]
    uses = pa.concat_tables([_USES.empty_table(), *found]).combine_chunks()
    clips = _clips(root).sort_by("clip_id")
    place = _find(uses["clip_id"], clips["clip_id"])
    known = pc.is_valid(place)
    unknown = sorted(set(uses.filter(pc.invert(known))["clip_id"].to_pylist()))
    uses, place = uses.filter(known), place.filter(known)
    order = pc.sort_indices(
        pa.table({"clip": place, "stage": uses["stage"]}), [(n, "ascending") for n in ("clip", "stage")]
    )
    uses, parents = uses.take(order), clips.take(place.take(order))
    columns = {**{name: parents[name] for name in clips.column_names}, **{name: uses[name] for name in _USES.names}}
    schema = arrow_schema(Consumption)
    return pa.table(columns).select(schema.names).cast(schema).combine_chunks(), unknown


def write_consumption(root: Path, table: pa.Table) -> None:
    """Write who and what went into the model, one row a clip and stage."""
    write_table(root / CONSUMPTION, table)


def parse_consumption(data: bytes) -> pa.Table:
    """The table of a file's bytes."""
    return pq.read_table(pa.BufferReader(data))


def read_consumption(root: Path, commit: str, record: Mapping[str, Any]) -> pa.Table:
    """The consumption table of a candidate's commit.

    Raises:
        InputError: it is not the one the record names.
    """
    pinned = record["consumption"]
    data = read_file(root, commit, pinned["path"])
    if data is None or sha256_bytes(data) != pinned["sha256"]:
        raise InputError(f"{commit[:12]}:{pinned['path']}: not the table that the record names; do not trust this run")
    return parse_consumption(data)


def find_withdrawn_clips(table: pa.Table, withdrawals: Sequence[Withdrawal]) -> list[str]:
    """Ids of the clips of a consumption table that are withdrawn, sorted.

    Only rows that hold a named value at all are looked at one by one.
    """
    touched = pa.array([False] * len(table), pa.bool_())
    for kind, columns in COLUMNS.items():
        values = pa.array({item.value for item in withdrawals if item.kind == kind}, pa.string())
        for column in columns if len(values) else ():
            if column in table.column_names:
                touched = pc.or_(touched, pc.is_in(table[column].combine_chunks(), value_set=values))
    rows = table.filter(touched).to_pylist()
    return sorted({str(rows[at]["clip_id"]) for at in find_withdrawn(rows, withdrawals)})


def find_withdrawn_subject(table: pa.Table, withdrawals: Sequence[Withdrawal]) -> tuple[str, str] | None:
    """Kind and value of the first clip, person, source or file in the table that is withdrawn as a whole, if any."""
    for item in withdrawals:
        columns = [column for column in COLUMNS[item.kind] if column in table.column_names]
        if item.start_ms is None and any(pc.any(pc.equal(table[column], item.value)).as_py() for column in columns):
            return item.kind, item.value
    return None


def trained(table: pa.Table) -> pa.Table:
    """The rows that the model learnt from, less those it was only judged by."""
    return table.filter(pc.not_equal(table["stage"], JUDGED))


def _clips(root: Path) -> pa.Table:
    """Every ingested clip with its parents and its connected identity."""
    path, splits = root / "data/ingest/manifest.parquet", root / "data/pairs/clips.parquet"
    clips = read_table(path, Clip) if path.is_file() else arrow_schema(Clip).empty_table()
    clips = clips.select(["clip_id", *_OF_CLIP])
    identities = read_table(splits, ClipSplit) if splits.is_file() else arrow_schema(ClipSplit).empty_table()
    identity = identities["identity"].take(_find(clips["clip_id"], identities["clip_id"]))
    return clips.append_column("identity", pc.fill_null(identity, "")).combine_chunks()


def _find(values: pa.ChunkedArray, among: pa.ChunkedArray) -> pa.Array:
    """For each value its row in `among`, null where there is none; quicker than a join of two tables."""
    return pc.index_in(values, value_set=among.combine_chunks()).combine_chunks()


def _conditions(root: Path) -> dict[str, pa.Table]:
    """Clips under whose conditions videos were generated: for preference pairs, and for the benchmark's scores."""
    found: dict[str, dict[str, int]] = {}
    for stage, clip, count in (*_preference_uses(root), *_benchmark_uses(root)):
        counts = found.setdefault(stage, {})
        counts[clip] = counts.get(clip, 0) + count
    return {
        stage: pa.table(
            {
                "clip_id": pa.array(counts, pa.string()),
                "first_step": pa.array([0] * len(counts), pa.int64()),
                "last_step": pa.array([0] * len(counts), pa.int64()),
                "samples": pa.array(counts.values(), pa.int64()),
            }
        )
        for stage, counts in found.items()
    }


def _preference_uses(root: Path) -> Iterator[tuple[str, str, int]]:
    path = root / "data/preferences/manifest.parquet"
    for pair in read_manifest(path, PreferencePair) if path.is_file() else ():
        for clip in {pair.ref_clip_id, pair.target_clip_id}:
            yield "preferences", clip, pair.drawn


def _benchmark_uses(root: Path) -> Iterator[tuple[str, str, int]]:
    path, pairs = root / "data/benchmark/manifest.parquet", root / "data/pairs/manifest.parquet"
    if not path.is_file() or not pairs.is_file():
        return
    clips = {pair.pair_id: {pair.ref_clip_id, pair.target_clip_id} for pair in read_manifest(pairs, ClipPair)}
    for score in read_manifest(path, Score):
        for clip in clips.get(score.pair_id, ()):
            yield JUDGED, clip, 1


def _repeat(value: str, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), count)
