"""The page of a check: self-contained, readable offline, the same bytes for the same verdict."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from tavr_records.atomic import write_bytes
from tavr_records.schemas import Refused
from tavr_records.verdict import Verdict

MAX_ROWS = 500
_BINS = 24
_ORDER = {"critical": 0, "warning": 1, "info": 2}


def write_report(
    path: Path, verdict: Verdict, quarantine: Sequence[Refused], table: pd.DataFrame, id_column: str
) -> None:
    """Write `index.html` with every rule, the quarantined rows and the shape of each numeric column."""
    environment = Environment(
        loader=PackageLoader("tavr_checks", "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    checks = sorted(verdict.checks, key=lambda check: (check.passed, _ORDER[check.severity], check.id))
    quarantined = {row.record_id for row in quarantine}
    html = environment.get_template("check.html").render(
        stage=verdict.stage,
        checks=checks,
        refused=bool(verdict.failed_critical),
        failed=[check for check in checks if not check.passed],
        rows=len(table),
        quarantined=len(quarantined),
        quarantine=list(quarantine)[:MAX_ROWS],
        hidden=max(0, len(quarantine) - MAX_ROWS),
        id_column=id_column,
        columns=[_describe(str(name), column) for name, column in table.items() if _is_numeric(column)],
    )
    write_bytes(path, html.encode("utf-8"))


def _is_numeric(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column) and column.notna().any()


def _describe(name: str, column: pd.Series) -> dict[str, Any]:
    """Minimum, median, maximum, empty count and bar heights in percent of one numeric column."""
    values = column.to_numpy(dtype=np.float64)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return {"name": name, "low": "-", "median": "-", "high": "-", "empty": len(column), "bars": []}
    counts, _ = np.histogram(values, bins=_BINS)
    top = max(int(counts.max()), 1)
    return {
        "name": name,
        "low": f"{values.min():.4g}",
        "median": f"{np.median(values):.4g}",
        "high": f"{values.max():.4g}",
        "empty": len(column) - values.size,
        "bars": [round(100 * int(count) / top) for count in counts],
    }
