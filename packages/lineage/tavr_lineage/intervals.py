"""Bootstrap interval of a mean of paired differences: the same numbers for the same values, everywhere."""

from collections.abc import Sequence

import numpy as np

ROUNDING = 1e-12  # values that differ by no more are equal: an interval of nothing but rounding errors is NaN


def paired_interval(differences: Sequence[float], confidence: float, resamples: int) -> tuple[float, float]:
    """Bias-corrected and accelerated bounds of the mean difference, from a fixed seed.

    Raises:
        ValueError: fewer than two differences.
    """
    from scipy.stats import bootstrap  # seconds of import, wanted by the gate alone

    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2:
        raise ValueError(f"{len(values)} differences give no interval; at least 2 are needed")
    if np.ptp(values) <= ROUNDING:
        return float(values[0]), float(values[0])
    result = bootstrap(
        (values,), np.mean, confidence_level=confidence, n_resamples=resamples, rng=np.random.default_rng(0)
    )
    bounds = result.confidence_interval
    return float(bounds.low), float(bounds.high)
