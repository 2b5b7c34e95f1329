"""How long each stage is expected to take (`conf/budget.yaml`), told before a run starts."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from tavr_records.errors import InputError


def read_budget(root: Path, profile: str) -> dict[str, float]:
    """Seconds by stage for a profile; empty when nobody has measured it.

    Raises:
        InputError: the file is not a mapping of profiles to mappings of stages to seconds.
    """
    path = root / "conf" / "budget.yaml"
    if not path.is_file():
        return {}
    try:
        document = cast("dict[str, Any]", yaml.safe_load(path.read_bytes()) or {})
        return {str(stage): float(seconds) for stage, seconds in (document.get(profile) or {}).items()}
    except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{path}: {profile}: not a mapping of stages to seconds ({error}); mend it") from error


def tell_budget(order: Sequence[str], to_run: Collection[str], budget: Mapping[str, float]) -> list[str]:
    """The plan as lines of text: every stage with its expected time or `cached`, and the sum."""
    lines = [
        f"  {name:<20} {'cached' if name not in to_run else _minutes(budget[name]) if name in budget else '?':>9}"
        for name in order
    ]
    known = sum(budget.get(name, 0.0) for name in order if name in to_run)
    unknown = sum(name not in budget for name in order if name in to_run)
    total = _minutes(known) + (f" and {unknown} nobody has measured" if unknown else "")
    return ["time budget:", *lines, f"  {'in all':<20} {total:>9}"]


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
