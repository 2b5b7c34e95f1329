"""How a speed ratio is measured: pairs in alternating order, the median of their ratios, and an A/A pair beside them.

A ratio compares two sides that do the same work on one thread of one process. Every round times three things one after
the other: the anchor twice (A/A) and ours. Every other round runs backwards, so that neither side is always the later
one, and each ratio is taken within a round, so that what slows the machine from round to round cancels.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

NOISE_LIMIT = 0.03
LEAST_PAIRS = 25

Role = Literal["control", "anchor", "ours"]
Verdict = Literal["ok", "missed", "inconclusive"]
Timed = Callable[[], float]
"""Does the work once and returns the seconds it cost."""


@dataclass(frozen=True)
class Target:
    """What a ratio must reach.

    Attributes:
        bound: the ratio itself, 1 is equal.
        growth: False: anchor over ours, at least `bound`. True: ours over anchor, at most `bound`.
    """

    bound: float
    growth: bool = False


@dataclass(frozen=True)
class Timings:
    """Seconds of each round: the anchor, the anchor once more as `control`, and ours."""

    control: tuple[float, ...]
    anchor: tuple[float, ...]
    ours: tuple[float, ...]


@dataclass(frozen=True)
class Measurement:
    """Medians over `pairs` rounds.

    Attributes:
        ratio: see `Target.growth` for which way round.
        control: the same of anchor over anchor; 1 on a machine without noise.
        pairs: how many.
        verdict: see `verdict`.
    """

    ratio: float
    control: float
    pairs: int
    verdict: Verdict


def round_order(index: int) -> tuple[Role, Role, Role]:
    """What round `index` times, in order; the anchor is next to both others, and odd rounds run backwards."""
    return ("control", "anchor", "ours") if index % 2 == 0 else ("ours", "anchor", "control")


def measure(anchor: Timed, ours: Timed, pairs: int) -> Timings:
    """Time `pairs` rounds after one untimed run of each side.

    Raises:
        ValueError: no pairs.
    """
    if pairs < 1:
        raise ValueError(f"pairs is {pairs}; give at least 1, and {LEAST_PAIRS} for a verdict")
    sides: dict[Role, Timed] = {"control": anchor, "anchor": anchor, "ours": ours}
    anchor()
    ours()
    rounds = [{role: sides[role]() for role in round_order(index)} for index in range(pairs)]
    control, first, second = (tuple(row[role] for row in rounds) for role in round_order(0))
    return Timings(control, first, second)


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """The median of the per-pair ratios of two lists of seconds.

    Raises:
        ValueError: lists of different lengths (statistics.StatisticsError: empty ones).
    """
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


def verdict(ratio: float, control: float, pairs: int, target: Target) -> Verdict:
    """Whether `ratio` reaches `target`; inconclusive when the A/A ratio is off by more than 3 %, or with few pairs."""
    if abs(control - 1) > NOISE_LIMIT or pairs < LEAST_PAIRS:
        return "inconclusive"
    reached = ratio <= target.bound if target.growth else ratio >= target.bound
    return "ok" if reached else "missed"


def evaluate(timings: Timings, target: Target) -> Measurement:
    """The medians of all rounds and what they say about the target."""
    sides = (timings.ours, timings.anchor) if target.growth else (timings.anchor, timings.ours)
    ratio, control = median_ratio(*sides), median_ratio(timings.control, timings.anchor)
    pairs = len(timings.anchor)
    return Measurement(ratio, control, pairs, verdict(ratio, control, pairs, target))
