"""Withdrawals (`audit/withdrawn.jsonl`): what may no longer be used, one JSON object a line, in git.

A line holds `kind` (clip_id, person_id, source_key or sha256), `value`, `reason`, `withdrawn_at`, and for a source key
optionally the section `start_ms`, `end_ms`. A row is withdrawn when any of its ids or digests is named, or when its
section of a named source overlaps the named section.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tavr_records.errors import InputError

COLUMNS = {
    "clip_id": ("clip_id", "ref_clip_id", "target_clip_id"),
    "person_id": ("person_id",),
    "source_key": ("source_key",),
    "sha256": ("source_sha256", "clip_sha256"),
}
"""Of each kind, the columns of a manifest in which it may stand."""
KINDS = tuple(COLUMNS)


@dataclass(frozen=True)
class Withdrawal:
    """One withdrawn thing; `start_ms` and `end_ms` narrow a source to a section (None: all of it)."""

    kind: str
    value: str
    reason: str
    withdrawn_at: str
    start_ms: int | None = None
    end_ms: int | None = None

    def covers(self, row: Mapping[str, Any]) -> bool:
        """Whether a manifest row (column -> value) falls under this withdrawal."""
        if not any(row.get(column) == self.value for column in COLUMNS[self.kind]):
            return False
        if self.kind != "source_key" or self.start_ms is None or self.end_ms is None or "start_ms" not in row:
            return True
        return int(row["start_ms"]) < self.end_ms and self.start_ms < int(row["end_ms"])


def read_withdrawals(path: Path = Path("audit/withdrawn.jsonl")) -> list[Withdrawal]:
    """Read every withdrawal; an empty file means none.

    Raises:
        InputError: no such file, or a line that is not a withdrawal.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; restore it from git (an empty file means nothing is withdrawn)")
    return parse_withdrawals(path.read_text(encoding="utf-8"), str(path))


def parse_withdrawals(text: str, where: str) -> list[Withdrawal]:
    """As `read_withdrawals`, from text; `where` starts every message."""
    lines = enumerate(text.splitlines(), start=1)
    return [_parse(line, f"{where}:{number}") for number, line in lines if line.strip()]


def _parse(line: str, where: str) -> Withdrawal:
    try:
        document: Any = json.loads(line)
        withdrawal = Withdrawal(**cast("dict[str, Any]", document))
    except (json.JSONDecodeError, TypeError) as error:
        raise InputError(f"{where}: not a withdrawal ({error}); restore the file from git") from error
    if withdrawal.kind not in KINDS:
        raise InputError(f"{where}: kind is {withdrawal.kind!r}; use one of {', '.join(KINDS)}")
    return withdrawal


def find_withdrawn(rows: Iterable[Mapping[str, Any]], withdrawals: Iterable[Withdrawal]) -> list[int]:
    """Positions of the withdrawn rows."""
    known = list(withdrawals)
    return [index for index, row in enumerate(rows) if any(item.covers(row) for item in known)]
