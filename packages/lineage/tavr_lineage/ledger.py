"""The consumption ledgers of a run, column by column: millions of rows are read without making objects of them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray
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


@dataclass(frozen=True)
class ReadLedger:
    """A ledger's step, clip ids and whether they were used, row by row; and `count_uses` of it."""

    rows: pa.Table
    uses: pa.Table


def read_ledgers(root: Path) -> dict[str, ReadLedger]:
    """Every stage's ledger, by stage, side by side: Arrow and numpy let go of the interpreter.

    Raises:
        InputError: a ledger that cannot be read or lacks a column.
    """
    paths = sorted((root / "data").glob(f"*/{LEDGER}"))
    with ThreadPoolExecutor() as pool:
        return dict(zip((path.parent.name for path in paths), pool.map(_read_ledger, paths), strict=True))


def _read_ledger(path: Path) -> ReadLedger:
    rows = read_table(path, Consumed, ("step", "clip_ids", "used"), encoded=("clip_ids",))
    return ReadLedger(rows, count_uses(rows))


def digest_ledger(root: Path, stage: str, ledger: ReadLedger) -> LedgerDigest:
    """What the record says of a ledger."""
    rows = ledger.rows
    steps = pc.min_max(rows["step"]).as_py() if len(rows) else {"min": 0, "max": 0}
    return LedgerDigest(
        rows=len(rows),
        used=pc.sum(rows["used"]).as_py() or 0,
        clips=len(ledger.uses),
        first_step=steps["min"],
        last_step=steps["max"],
        sha256=sha256_file(root / "data" / stage / LEDGER),
    )


def count_uses(ledger: pa.Table) -> pa.Table:
    """Distinct clips of the used rows: columns clip_id, first_step, last_step, samples (ledger rows that used it)."""
    used = ledger.filter(ledger["used"])
    steps = np.repeat(used["step"].to_numpy(), pc.list_value_length(used["clip_ids"]).to_numpy())
    names, codes = _encode([pc.list_flatten(chunk).dictionary_encode() for chunk in used["clip_ids"].chunks])
    in_order = not np.any(np.diff(steps) < 0)  # as a ledger is
    order = slice(None) if in_order else np.argsort(steps, kind="stable")
    codes, steps = codes[order], steps[order]
    first, last = np.zeros(len(names), np.int64), np.zeros(len(names), np.int64)
    first[codes[::-1]], last[codes] = steps[::-1], steps  # of several the last written stays
    samples = np.bincount(codes, minlength=len(names))
    columns = {"clip_id": names, "first_step": first, "last_step": last, "samples": samples}
    return pa.table(columns).filter(pa.array(samples > 0))


def _encode(chunks: Sequence[pa.DictionaryArray]) -> tuple[pa.StringArray, NDArray[np.int64]]:
    """The distinct values of encoded chunks, and all their rows as places among those.

    The chunks of a parquet row group share one dictionary, which is looked at once; Arrow's own `combine_chunks` looks
    at it once a chunk.
    """
    filled = [chunk for chunk in chunks if len(chunk)]
    dictionaries = {_memory(chunk.dictionary): chunk.dictionary for chunk in filled}
    texts = pa.chunked_array([*dictionaries.values()], pa.string()).combine_chunks().dictionary_encode()
    places = np.split(
        texts.indices.to_numpy(zero_copy_only=False).astype(np.int64),
        np.cumsum([len(one) for one in dictionaries.values()], dtype=np.int64)[:-1],
    )
    place = dict(zip(dictionaries, places, strict=True)) if dictionaries else {}
    codes = [place[_memory(one.dictionary)][one.indices.to_numpy(zero_copy_only=False)] for one in filled]
    return texts.dictionary, np.concatenate([np.zeros(0, np.int64), *codes])


def _memory(array: pa.Array) -> tuple[int, ...]:
    """Where an array lies: equal only for one and the same, as long as both are held."""
    return array.offset, len(array), *(0 if one is None else one.address for one in array.buffers())
