"""The consumption ledgers of a run, column by column: millions of rows are read without making objects of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
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
    """Step, clip ids and whether they were used of every stage's ledger, by stage.

    Raises:
        InputError: a ledger that cannot be read or lacks a column.
    """
    paths = sorted((root / "data").glob(f"*/{LEDGER}"))
    columns = ("step", "clip_ids", "used")
    return {path.parent.name: read_table(path, Consumed, columns, encoded=("clip_ids",)) for path in paths}


def digest_ledger(root: Path, stage: str, ledger: pa.Table, uses: pa.Table) -> LedgerDigest:
    """What the record says of a ledger, whose `count_uses` is `uses`."""
    steps = pc.min_max(ledger["step"]).as_py() if len(ledger) else {"min": 0, "max": 0}
    return LedgerDigest(
        rows=len(ledger),
        used=pc.sum(ledger["used"]).as_py() or 0,
        clips=len(uses),
        first_step=steps["min"],
        last_step=steps["max"],
        sha256=sha256_file(root / "data" / stage / LEDGER),
    )


def count_uses(ledger: pa.Table) -> pa.Table:
    """Distinct clips of the used rows: columns clip_id, first_step, last_step, samples (ledger rows that used it)."""
    used = ledger.filter(ledger["used"])
    clips = used["clip_ids"].combine_chunks()
    steps = used["step"].combine_chunks().take(pc.list_parent_indices(clips)).to_numpy()
    encoded = pc.list_flatten(clips).dictionary_encode()
    names, codes = encoded.dictionary, encoded.indices.to_numpy(zero_copy_only=False)
    order = (
        np.argsort(steps, kind="stable") if np.any(np.diff(steps) < 0) else slice(None)
    )  # a ledger is sorted by step
    codes, steps = codes[order], steps[order]
    first, last = np.zeros(len(names), np.int64), np.zeros(len(names), np.int64)
    first[codes[::-1]], last[codes] = steps[::-1], steps  # of several the last written stays
    samples = np.bincount(codes, minlength=len(names))
    columns = {"clip_id": names, "first_step": first, "last_step": last, "samples": samples}
    return pa.table(columns).filter(pa.array(samples > 0))
