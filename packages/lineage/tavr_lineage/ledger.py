"""From the consumption ledgers to the clips and people a model saw."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tavr_records.ids import canonical_json, sha256_file
from tavr_records.manifest import read_manifest
from tavr_records.schemas import Clip, ClipSplit, Consumed

from tavr_lineage.merkle import merkle_root


@dataclass(frozen=True)
class Consumption:
    """What one stage did with one clip (`reports/lineage/consumption.parquet`), with the clip's parents.

    `samples` counts the ledger rows that used the clip; `first_step` and `last_step` are optimizer steps.
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


@dataclass(frozen=True)
class LedgerDigest:
    """One stage's ledger in the record: how much it holds, and the digests that pin it."""

    rows: int
    used: int
    clips: int
    first_step: int
    last_step: int
    sha256: str
    merkle_root: str


def read_ledgers(root: Path) -> dict[str, list[Consumed]]:
    """The ledger of every stage that has one, by stage."""
    paths = sorted((root / "data").glob("*/ledger.parquet"))
    return {path.parent.name: read_manifest(path, Consumed) for path in paths}


def digest_ledger(root: Path, stage: str, rows: list[Consumed]) -> LedgerDigest:
    """Digests of a ledger: of the file's bytes, and of the Merkle tree over its rows as canonical JSON."""
    names = [field.name for field in fields(Consumed)]
    steps = [row.step for row in rows] or [0]
    return LedgerDigest(
        rows=len(rows),
        used=sum(row.used for row in rows),
        clips=len({clip for row in rows if row.used for clip in row.clip_ids}),
        first_step=min(steps),
        last_step=max(steps),
        sha256=sha256_file(root / "data" / stage / "ledger.parquet"),
        merkle_root=merkle_root(canonical_json([getattr(row, name) for name in names]) for row in rows),
    )


def consumption(root: Path, ledgers: Mapping[str, list[Consumed]]) -> tuple[list[Consumption], list[str]]:
    """Every (clip, stage) that was used, and the ids in the ledgers that `ingest` does not know."""
    clips = _by_clip(root / "data/ingest/manifest.parquet", Clip)
    splits = _by_clip(root / "data/pairs/clips.parquet", ClipSplit)
    steps: dict[tuple[str, str], list[int]] = {}
    for stage, rows in ledgers.items():
        for row in rows:
            if row.used:
                for clip_id in row.clip_ids:
                    steps.setdefault((clip_id, stage), []).append(row.step)
    unknown = sorted({clip_id for clip_id, _ in steps if clip_id not in clips})
    used = [
        _consumed(clips[clip_id], splits.get(clip_id), stage, seen)
        for (clip_id, stage), seen in sorted(steps.items())
        if clip_id in clips
    ]
    return used, unknown


def _consumed(clip: Clip, split: ClipSplit | None, stage: str, steps: list[int]) -> Consumption:
    return Consumption(
        clip_id=clip.clip_id,
        stage=stage,
        person_id=clip.person_id,
        identity=split.identity if split is not None else "",
        source_key=clip.source_key,
        source_sha256=clip.source_sha256,
        clip_sha256=clip.clip_sha256,
        start_ms=clip.start_ms,
        end_ms=clip.end_ms,
        rights=clip.rights,
        first_step=min(steps),
        last_step=max(steps),
        samples=len(steps),
    )


def _by_clip(path: Path, row_type: type[Any]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    return {row.clip_id: row for row in read_manifest(path, row_type)}


def consumed_rows(table: bytes | None) -> list[dict[str, Any]]:
    """The rows of a consumption table as column -> value; none without a table."""
    return [] if table is None else pq.read_table(pa.BufferReader(table)).to_pylist()


def rows_as_mappings(rows: Iterable[Consumption]) -> list[dict[str, Any]]:
    """The rows as column -> value, as `records.withdrawals` reads them."""
    return [asdict(row) for row in rows]
