"""What a training consumed and what it lost, line by line while it runs; consolidated into the stage's outputs."""

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tavr_records.atomic import full_disk_named, write_bytes
from tavr_records.ids import canonical_json
from tavr_records.manifest import write_manifest
from tavr_records.schemas import Consumed


class Journal:
    """Append-only JSON lines of one process: the consumption ledger, and (first process only) the losses."""

    def __init__(self, directory: Path, rank: int, start_step: int) -> None:
        """Open the files, dropping what was written at or after `start_step` and any torn last line."""
        directory.mkdir(parents=True, exist_ok=True)
        self._ledger = directory / f"ledger-{rank:05d}.jsonl"
        self._losses = directory / "losses.jsonl" if rank == 0 else None
        for path in (self._ledger, self._losses):
            if path is not None:
                kept = [row for row in _read_lines(path) if row["step"] < start_step]
                write_bytes(path, b"".join(canonical_json(row) + b"\n" for row in kept))

    def consume(self, rows: Iterable[Consumed]) -> None:
        """Write down a batch as it is collated."""
        _append(self._ledger, (asdict(row) for row in rows))

    def record(self, values: dict[str, Any]) -> None:
        """Write down the values of one step."""
        if self._losses is not None:
            _append(self._losses, [values])


def write_ledger(directory: Path, path: Path) -> int:
    """Join the ledgers of all processes into the parquet output; returns the number of rows."""
    rows = [Consumed(**row) for file in sorted(directory.glob("ledger-*.jsonl")) for row in _read_lines(file)]
    write_manifest(path, Consumed, rows, sort_by=("step", "slot"))
    return len(rows)


def read_losses(directory: Path) -> list[dict[str, Any]]:
    """The recorded steps in order."""
    return sorted(_read_lines(directory / "losses.jsonl"), key=lambda row: row["step"])


def write_losses(rows: list[dict[str, Any]], path: Path) -> None:
    """Write `losses.csv`: step, loss, then the other values."""
    text = io.StringIO()
    names = ["step", "loss", *sorted(set(rows[0]) - {"step", "loss"})] if rows else ["step", "loss"]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def _append(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with full_disk_named(path, path), path.open("ab") as file:
        file.write(b"".join(canonical_json(row) + b"\n" for row in rows))


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file; a line torn by a crash ends it."""
    rows: list[dict[str, Any]] = []
    if path.is_file():
        for line in path.read_bytes().splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return rows
