"""The committed baseline (`audit/baseline.json`): numbers of a known good run, against which checks see drift."""

import json
from pathlib import Path
from typing import Any, cast

from tavr_records.errors import InputError

from tavr_checks.suite import Rule, Severity, scalar


def read_baseline(stage: str, path: Path = Path("audit/baseline.json")) -> dict[str, float]:
    """The numbers of one stage, empty when none is on record.

    Raises:
        InputError: no such file, or not an object of objects of numbers.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; restore it from git (`{{}}` means no baseline)")
    try:
        document: Any = json.loads(path.read_bytes())
        section = cast("dict[str, Any]", document).get(stage, {})
        return {str(name): float(value) for name, value in section.items()}
    except (json.JSONDecodeError, AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{path}: {stage}: not an object of numbers ({error}); restore it from git") from error


def near_baseline(  # noqa: PLR0913 - one comparison has this many facts
    rule_id: str, severity: Severity, name: str, *, observed: float, baseline: dict[str, float], tolerance: float
) -> Rule:
    """`observed` lies within the relative `tolerance` of the baseline's `name`; without a baseline it passes."""
    if name not in baseline:
        return scalar(rule_id, severity, observed, True, "no baseline")
    expected = baseline[name]
    low, high = sorted((expected * (1 - tolerance), expected * (1 + tolerance)))
    return scalar(rule_id, severity, observed, low <= observed <= high, [low, high])
