"""Means with bootstrap intervals over benchmark pairs, alone and paired against another method."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import bootstrap

ROUNDING = 1e-12  # values that differ by no more are equal: an interval of nothing but rounding errors is NaN
METRICS = ("id_ref", "id_target", "sync_c", "sync_d", "vq", "mq", "ta", "overall")


@dataclass(frozen=True)
class Interval:
    """A mean over `pairs` pairs with the bounds of its confidence interval; None where fewer than two have a value."""

    mean: float | None
    low: float | None
    high: float | None
    pairs: int


def interval(values: NDArray[np.float64], confidence: float, resamples: int, seed: int) -> Interval:
    """Bias-corrected and accelerated bootstrap interval of the mean of one value a pair.

    NaN is a pair without the metric (a clip without a face has no sync) and is left out.
    """
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return Interval(None, None, None, len(values))
    mean = float(values.mean())
    if np.ptp(values) <= ROUNDING:
        return Interval(mean, mean, mean, len(values))
    result = bootstrap(
        (values,), np.mean, confidence_level=confidence, n_resamples=resamples, rng=np.random.default_rng(seed)
    )
    bounds = result.confidence_interval
    return Interval(mean, float(bounds.low), float(bounds.high), len(values))


def by_pair(scores: pd.DataFrame, method: str) -> pd.DataFrame:
    """One row a pair (index pair_id, sorted), averaged over seeds, for one method; NaN where any seed has none."""
    rows: Any = scores[scores["method"] == method].groupby("pair_id")[list(METRICS)]
    return rows.agg(lambda values: values.mean(skipna=False)).sort_index()


def summarise(  # noqa: PLR0913 - a comparison has this many facts
    scores: pd.DataFrame, methods: Sequence[str], baseline: str, confidence: float, resamples: int, seed: int
) -> dict[str, Any]:
    """`methods`: each metric's interval a method; `versus_<baseline>`: intervals of the paired differences."""
    reference = by_pair(scores, baseline)
    table: dict[str, dict[str, Any]] = {}
    versus: dict[str, dict[str, Any]] = {}
    for method in methods:
        rows = by_pair(scores, method)
        table[method] = {
            metric: asdict(interval(rows[metric].to_numpy(np.float64), confidence, resamples, seed))
            for metric in METRICS
        }
        if method == baseline:
            continue
        difference = rows - reference  # NaN where either has no value
        versus[method] = {
            metric: asdict(interval(difference[metric].to_numpy(np.float64), confidence, resamples, seed))
            for metric in METRICS
        }
    return {"methods": table, f"versus_{baseline}": versus}
