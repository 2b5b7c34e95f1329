"""`metrics.json` of a training: pure functions of the recorded steps; wall-clock values go to `.work/` instead."""

from pathlib import Path
from typing import Any

from tavr_records.atomic import write_bytes
from tavr_records.ids import canonical_json

TAIL = 0.1


def summarise(rows: list[dict[str, Any]]) -> dict[str, float | int]:
    """Steps, and for every recorded value its mean over the first and the last tenth of the training."""
    tail = max(1, round(len(rows) * TAIL))
    summary: dict[str, float | int] = {"steps": len(rows)}
    for name in sorted(set(rows[0]) - {"step", "learning_rate"}) if rows else []:
        values = [float(row[name]) for row in rows]
        summary[f"first_{name}"] = sum(values[:tail]) / tail
        summary[f"final_{name}"] = sum(values[-tail:]) / tail
    return summary


def write_metrics(path: Path, values: dict[str, float | int]) -> None:
    """Write metrics in canonical JSON."""
    write_bytes(path, canonical_json(values) + b"\n")
