"""One model against another by the same metric over the same pairs: the numbers a rule of the gate decides by."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tavr_lineage.intervals import paired_interval
from tavr_lineage.policy import BenchmarkPolicy


@dataclass(frozen=True)
class Interval:
    """The mean difference of a metric over pairs, with the bounds of its bootstrap interval."""

    metric: str
    mean: float
    low: float
    high: float
    pairs: int

    def facts(self) -> dict[str, Any]:
        """As the log holds it."""
        return asdict(self)

    def __str__(self) -> str:
        return f"[{self.low:.4f}, {self.high:.4f}] over {self.pairs} pairs"


@dataclass(frozen=True)
class Compared:
    """A comparison: the interval (None of too few pairs), how many pairs counted, and those without a score."""

    interval: Interval | None
    pairs: int
    unscored: tuple[str, ...]


def compare(
    ours: Mapping[str, Any], method: str, theirs: Mapping[str, Any], other: str, rule: BenchmarkPolicy
) -> Compared:
    """Compare one method's scores with another's over the pairs that both have, in the order of pair ids."""
    mine, yours, metric = ours.get(method, {}), theirs.get(other, {}), rule.metric
    pairs = sorted(set(mine) & set(yours))
    unscored = tuple(pair for pair in pairs if mine[pair][metric] is None or yours[pair][metric] is None)
    differences = [mine[pair][metric] - yours[pair][metric] for pair in pairs if pair not in unscored]
    if len(differences) < rule.minimum_pairs:
        return Compared(None, len(differences), unscored)
    low, high = paired_interval(differences, rule.confidence, rule.resamples)
    mean = sum(differences) / len(differences)
    return Compared(Interval(metric, mean, low, high, len(differences)), len(differences), unscored)
