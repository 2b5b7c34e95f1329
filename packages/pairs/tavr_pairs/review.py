"""Review decisions about pairs: a versioned file, one decision a pair (`docs/schemas/review.schema.json`)."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tavr_records.errors import InputError

DECISIONS = ("accepted", "rejected")
_FIELDS = ("pair_id", "decision", "reviewer", "assurance", "decided_at", "reason")


@dataclass(frozen=True)
class Decision:
    """What a reviewer said about two clips; `pair_id` names them with the smaller clip id first.

    `assurance` is `human`, or `automatic` where no one looked (a rendered world knows its own truth).
    """

    pair_id: str
    decision: str
    reviewer: str
    assurance: str
    decided_at: str
    reason: str


def read_decisions(path: Path) -> dict[str, Decision]:
    """Decisions by pair id.

    Raises:
        InputError: no such file, not a decisions file, an unknown decision, or two decisions about one pair.
    """
    if not path.is_file():
        raise InputError(f'{path}: no such file; without reviews give {{"schema_version": 1, "decisions": []}}')
    try:
        document = cast("dict[str, Any]", json.loads(path.read_bytes()))
        rows = [_decision(row, f"{path}: decision {index}") for index, row in enumerate(document["decisions"])]
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a file of review decisions ({error!r}); restore it from git") from error
    decisions: dict[str, Decision] = {}
    for row in rows:
        if row.pair_id in decisions:
            raise InputError(f"{path}: two decisions about pair {row.pair_id}; keep one")
        decisions[row.pair_id] = row
    return decisions


def _decision(row: dict[str, Any], where: str) -> Decision:
    decision = Decision(**{name: str(row[name]) for name in _FIELDS})
    if decision.decision not in DECISIONS:
        raise InputError(f"{where}: decision is {decision.decision!r}; use {' or '.join(DECISIONS)}")
    return decision
