"""The method on lists of seconds; nothing here reads a clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.method import LEAST_PAIRS, Target, Timings, evaluate, measure, median_ratio, round_order, verdict

FACTORS = st.floats(0.2, 5.0)


@given(FACTORS, st.lists(st.floats(1e-3, 1e3), min_size=LEAST_PAIRS, max_size=60))
def test_what_slows_whole_rounds_cancels(factor, speeds):
    timings = Timings(tuple(speeds), tuple(speeds), tuple(s / factor for s in speeds))
    found = evaluate(timings, Target(factor * 0.999))
    assert found.ratio == pytest.approx(factor)
    assert found.control == 1
    assert found.verdict == "ok"


@given(FACTORS, st.floats(0.9, 1.1), st.integers(13, 30))
def test_drift_within_rounds_cancels_over_an_even_number_of_pairs(factor, drift, half):
    """Every timing is `drift` times the one before it; alternation leaves half of the drift's square."""
    now = [1.0]

    def taking(seconds):
        def run():
            now[0] *= drift
            return seconds * now[0]

        return run

    timings = measure(taking(factor), taking(1.0), 2 * half)
    left = (drift + 1 / drift) / 2
    found = evaluate(timings, Target(1.0))
    assert found.ratio == pytest.approx(factor * left)
    assert found.control == pytest.approx(left)


@given(st.lists(st.floats(0.5, 2.0), min_size=3), st.floats(1e-3, 1e3))
def test_one_disturbed_pair_moves_nothing_beyond_its_neighbours(seconds, spike):
    ratio = median_ratio([1.0, *seconds, 1.0], [1.0, *seconds, 1.0])
    assert ratio == median_ratio([spike, *seconds, 1.0], [1.0, *seconds, 1.0]) == 1


def test_order_alternates_and_each_side_is_warmed_up():
    called = []
    sides = [lambda name=name: called.append(name) or 1.0 for name in ("anchor", "ours")]
    measure(*sides, pairs=3)
    assert called[:2] == ["anchor", "ours"]
    assert called[2:] == ["anchor", "anchor", "ours", "ours", "anchor", "anchor", "anchor", "anchor", "ours"]
    assert round_order(0) == round_order(1)[::-1] == round_order(2)


@pytest.mark.parametrize(
    ("ratio", "control", "pairs", "target", "expected"),
    [
        (1.3, 1.0, 25, Target(1.25), "ok"),
        (1.2, 1.0, 25, Target(1.25), "missed"),
        (1.3, 1.031, 25, Target(1.25), "inconclusive"),
        (1.2, 0.969, 25, Target(1.25), "inconclusive"),
        (1.3, 1.029, 25, Target(1.25), "ok"),
        (1.3, 1.0, 24, Target(1.25), "inconclusive"),
        (1.05, 1.0, 25, Target(1.06, growth=True), "ok"),
        (1.07, 1.0, 25, Target(1.06, growth=True), "missed"),
    ],
)
def test_verdicts(ratio, control, pairs, target, expected):
    assert verdict(ratio, control, pairs, target) == expected


def test_a_growth_is_ours_over_the_anchor():
    timings = Timings((1.0,) * 25, (1.0,) * 25, (1.05,) * 25)
    assert evaluate(timings, Target(1.06, growth=True)).ratio == 1.05


def test_no_pairs_are_refused():
    with pytest.raises(ValueError, match="pairs is 0"):
        measure(lambda: 1.0, lambda: 1.0, 0)
