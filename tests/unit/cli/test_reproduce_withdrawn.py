"""Reproduction asks what has been withdrawn since: a successor that left it out is made again."""

from types import SimpleNamespace
from typing import Any

import pyarrow as pa
from tavr_cli.reproduce import withdrawn_inputs
from tavr_lineage.closure import Consumption
from tavr_records.manifest import arrow_schema
from tavr_records.withdrawals import Withdrawal

SOURCES: dict[str, Any] = {"rows": [{"source_key": "s0", "sha256": "a" * 64, "section": [0, 1000]}]}
GONE = Withdrawal("source_key", "s0", "asked", "2026-01-01T00:00:00Z")


def dossier(*clips: str) -> Any:
    row = {"clip_id": "", "stage": "stage1", "person_id": "p", "identity": "i", "source_key": "s0", "source_sha256": "a",
           "clip_sha256": "b", "start_ms": 0, "end_ms": 1000, "rights": "CC0-1.0", "first_step": 0, "last_step": 1,
           "samples": 1}  # fmt: skip
    table = pa.Table.from_pylist([{**row, "clip_id": clip} for clip in clips], schema=arrow_schema(Consumption))
    return SimpleNamespace(sources=SOURCES, consumption=table)


def test_a_source_withdrawn_since_is_told() -> None:
    assert withdrawn_inputs(dossier("c0"), [GONE], []) == {"clips": 1, "sources": 1}


def test_a_source_that_was_withdrawn_when_the_run_began_is_none_of_its_inputs() -> None:
    assert withdrawn_inputs(dossier(), [GONE], [GONE]) == {}


def test_a_clip_counts_whenever_it_was_withdrawn() -> None:
    assert withdrawn_inputs(dossier("c0"), [GONE], [GONE]) == {"clips": 1}
