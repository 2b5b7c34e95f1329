"""What an attack on a release is, and the tools to forge one."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evidence_world import Json, Key, World, entries_of, table_of, with_log
from tavr_lineage.evidence.tables import write_closure
from tavr_records.ids import canonical_json

THIEF = Key(66)
Files = dict[str, bytes]
WITHDRAWAL = {"kind": "person_id", "value": "person0", "reason": "asked", "withdrawn_at": "2026-03-01T00:00:00Z"}


@dataclass
class Attack:
    """A forged release, with what its reader trusts, and the reason both verifiers must give."""

    files: Files
    reason: str
    trust: str = ""
    since: bytes | None = None
    weights: Path | None = None
    spoil_zip: Callable[[Path], None] | None = None


def edited(files: Files, name: str, change: Callable[[Any], None], end: bytes = b"\n") -> Files:
    """The files with one JSON document changed."""
    document = json.loads(files[name])
    change(document)
    return {**files, name: canonical_json(document) + end}


def replaced(files: Files, name: str, old: bytes, new: bytes) -> Files:
    assert old in files[name]
    return {**files, name: files[name].replace(old, new)}


def with_rows(files: Files, rows: list[Json]) -> Files:
    return {**files, "consumption.sqlite": write_closure(table_of(rows))}


def relogged(files: Files, world: World, change: Callable[[list[tuple[Key, str, Json]]], None]) -> Files:
    """The log changed and signed anew by whoever holds its key."""
    entries = entries_of(files["log.jsonl"], [world.key, THIEF])
    change(entries)
    return with_log(files, entries)


def swap_lines(log: bytes, first: int, second: int) -> bytes:
    lines = log.splitlines(keepends=True)
    lines[first], lines[second] = lines[second], lines[first]
    return b"".join(lines)
