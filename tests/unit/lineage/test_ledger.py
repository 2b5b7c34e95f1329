"""Ledgers read column by column give what a scan row by row gives."""

from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st
from tavr_lineage.ledger import count_uses, digest_ledger, read_ledgers
from tavr_records.manifest import arrow_schema, read_table, write_manifest
from tavr_records.schemas import Consumed

ROW = st.tuples(st.lists(st.sampled_from(["", "a", "b", "c", "dd"]), max_size=3, unique=True), st.booleans())


def rows_of(drawn: list[tuple[list[str], bool]]) -> list[Consumed]:
    return [
        Consumed("stage1", number // 3, number % 3, clips, "target0", "ref0", used, "" if used else "loss is nan")
        for number, (clips, used) in enumerate(drawn)
    ]


def scan(rows: list[Consumed]) -> dict[str, tuple[int, int, int]]:
    steps: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        for clip in row.clip_ids if row.used else ():
            steps[clip].append(row.step)
    return {clip: (min(found), max(found), len(found)) for clip, found in steps.items()}


@settings(max_examples=60, deadline=None)
@given(drawn=st.lists(ROW, max_size=30), group=st.integers(1, 8), encoded=st.booleans())
def test_uses_equal_a_scan_however_the_file_is_cut(drawn: list, group: int, *, encoded: bool) -> None:
    rows = rows_of(drawn)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "data/stage1/ledger.parquet"
        write_manifest(path, Consumed, rows, ("step", "slot"))
        pq.write_table(pq.read_table(path).cast(arrow_schema(Consumed)), path, row_group_size=group)
        if encoded:
            ledger = read_ledgers(Path(folder))["stage1"]
            uses = ledger.uses
            told = digest_ledger(Path(folder), "stage1", ledger)
            assert (told.rows, told.used, told.clips) == (len(rows), sum(row.used for row in rows), len(scan(rows)))
        else:
            uses = count_uses(read_table(path, Consumed))
    found = {row["clip_id"]: (row["first_step"], row["last_step"], row["samples"]) for row in uses.to_pylist()}
    assert found == scan(rows)
    assert len(uses) == len(found)
