"""The consumption ledgers of a run, column by column: millions of rows are read without making objects of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
from tavr_records.ids import sha256_file
from tavr_records.manifest import read_table
from tavr_records.schemas import Consumed

pc: Any = pyarrow.compute  # its functions are made when it is imported

LEDGER = "ledger.parquet"


@dataclass(frozen=True)
class LedgerDigest:
    """One stage's ledger in the record: how much it holds, and the digest of its bytes.

    `rows` counts the samples that were collated, `used` those that were trained on, `clips` the distinct clips in them.
    """

    rows: int
    used: int
    clips: int
    first_step: int
    last_step: int
    sha256: str


def read_ledgers(root: Path) -> dict[str, pa.Table]:
    """The ledger of every stage that has one, by stage.

    Raises:
        InputError: a ledger that cannot be read or lacks a column.
    """
    paths = sorted((root / "data").glob(f"*/{LEDGER}"))
    return {path.parent.name: read_table(path, Consumed) for path in paths}


def digest_ledger(root: Path, stage: str, ledger: pa.Table) -> LedgerDigest:
    """What the record says of a ledger."""
    steps = pc.min_max(ledger["step"]).as_py() if len(ledger) else {"min": 0, "max": 0}
    return LedgerDigest(
        rows=len(ledger),
        used=pc.sum(ledger["used"]).as_py() or 0,
        clips=len(count_uses(ledger)),
        first_step=steps["min"],
        last_step=steps["max"],
        sha256=sha256_file(root / "data" / stage / LEDGER),
    )


def count_uses(ledger: pa.Table) -> pa.Table:
    """Distinct clips of the used rows: columns clip_id, first_step, last_step, samples (ledger rows that used it)."""
    used = ledger.select(["step", "clip_ids"]).filter(ledger["used"]).combine_chunks()
    clips = used["clip_ids"].combine_chunks()
    steps = used["step"].combine_chunks().take(pc.list_parent_indices(clips))
    named = pa.table({"clip_id": pc.list_flatten(clips), "step": steps})
    found = named.group_by("clip_id").aggregate([("step", "min"), ("step", "max"), ("step", "count")])
    return pa.table(
        {
            "clip_id": found["clip_id"],
            "first_step": found["step_min"],
            "last_step": found["step_max"],
            "samples": found["step_count"],
        }
    )


def used_by_stage(ledgers: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    """`count_uses` of every ledger."""
    return {stage: count_uses(ledger) for stage, ledger in ledgers.items()}
