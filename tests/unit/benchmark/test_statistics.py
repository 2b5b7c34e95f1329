"""Means and bootstrap intervals over pairs: paired, deterministic, honest about what is missing."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tavr_benchmark.statistics import METRICS, Interval, by_pair, interval, summarise
from tavr_lineage.intervals import paired_interval

values = st.lists(st.integers(-(10**7), 10**7), min_size=2, max_size=12).map(lambda numbers: np.array(numbers) / 1e6)


def table(rows):
    """Scores from (method, pair, seed, value): every metric is the value, but sync_d its negative."""
    return pd.DataFrame(
        [
            {"method": method, "pair_id": pair, "seed": seed}
            | dict.fromkeys(METRICS, value)
            | {"sync_d": -value}
            for method, pair, seed, value in rows
        ]
    )  # fmt: skip


def summary(scores, methods=("base", "ours"), seed=0):
    return summarise(scores, methods, "base", 0.95, 199, seed)


@settings(deadline=None, max_examples=30)
@given(values)
def test_an_interval_holds_numbers_in_order_within_the_data(data):
    found = interval(data, 0.95, 199, 0)
    assert found.pairs == len(data)
    assert found.mean == pytest.approx(data.mean())
    assert data.min() - 1e-9 <= found.low <= found.high <= data.max() + 1e-9


@settings(deadline=None, max_examples=15)
@given(values, st.integers(-3, 3))
def test_an_interval_grows_with_its_data(data, power):
    """By powers of two, which lose no digit: ties among resampled means stay ties."""
    here, there = interval(data, 0.9, 199, 3), interval(data * 2.0**power, 0.9, 199, 3)
    assert (there.low, there.high) == pytest.approx((here.low * 2.0**power, here.high * 2.0**power))


@given(st.floats(-10, 10), st.integers(2, 20))
def test_equal_values_have_no_width(value, count):
    found = interval(np.full(count, value), 0.95, 99, 0)
    assert found.low == found.mean == found.high == pytest.approx(value)


@pytest.mark.parametrize("data", [[1.0, 1.0, 1.0 + 2e-16], [0.0, 5e-324], [0.1 + 0.2, 0.3, 0.3]])
def test_rounding_errors_have_no_width(data):
    found = interval(np.array(data), 0.95, 99, 0)
    assert found.low == found.high == pytest.approx(data[0])
    assert paired_interval(data, 0.95, 99) == pytest.approx((data[0], data[0]))


@pytest.mark.parametrize("data", [[], [0.5], [np.nan, np.nan], [np.nan, 0.5], [np.inf, 0.5]])
def test_fewer_than_two_values_have_no_interval(data):
    count = int(np.isfinite(data).sum())
    assert interval(np.array(data), 0.95, 99, 0) == Interval(None, None, None, count)


def test_a_missing_value_is_left_out_and_counted():
    data = np.array([0.1, np.nan, 0.3, 0.6])
    assert interval(data, 0.95, 199, 0) == interval(data[[0, 2, 3]], 0.95, 199, 0)
    assert interval(data, 0.95, 199, 0).pairs == 3


def test_more_confidence_is_wider_and_the_same_seed_the_same():
    data = np.random.default_rng(0).normal(size=20)
    widths = [found.high - found.low for found in (interval(data, c, 999, 0) for c in (0.5, 0.8, 0.95, 0.99))]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]
    assert interval(data, 0.95, 999, 0) == interval(data, 0.95, 999, 0)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    samples = (interval(rng.normal(0.3, 1.0, 20), 0.9, 299, 0) for _ in range(120))
    held = np.mean([found.low <= 0.3 <= found.high for found in samples])
    assert 0.8 <= held <= 0.97


def test_seeds_are_averaged_before_pairs_are_compared():
    rows = [("ours", "p", 0, 0.2), ("ours", "p", 1, 0.6), ("ours", "q", 0, 1.0), ("base", "p", 0, 9.0)]
    found = by_pair(table(rows), "ours")
    assert list(found.index) == ["p", "q"]
    assert found["id_target"].tolist() == pytest.approx([0.4, 1.0])


def test_a_seed_without_a_value_leaves_its_pair_without_one():
    rows = [("ours", "p", 0, 0.2), ("ours", "p", 1, np.nan), ("ours", "q", 0, 1.0)]
    assert by_pair(table(rows), "ours")["id_target"].isna().tolist() == [True, False]


def test_the_difference_is_of_the_same_pairs():
    """Ours is better on every pair by little, and the pairs differ by much: only paired is it clear."""
    levels = {f"p{index}": float(index) for index in range(8)}
    rows = [("base", pair, 0, level) for pair, level in levels.items()]
    rows += [("ours", pair, 0, level + 0.1 + 0.01 * (index % 3)) for index, (pair, level) in enumerate(levels.items())]
    found = summary(table(rows))
    alone, paired = found["methods"]["ours"]["id_target"], found["versus_base"]["ours"]["id_target"]
    assert paired["low"] > 0.1 - 1e-9
    assert alone["low"] < found["methods"]["base"]["id_target"]["high"]
    assert paired["mean"] == pytest.approx(alone["mean"] - found["methods"]["base"]["id_target"]["mean"])
    assert found["versus_base"]["ours"]["sync_d"]["mean"] == pytest.approx(-paired["mean"])
    assert list(found["versus_base"]) == ["ours"]


def test_a_pair_without_sync_still_counts_for_identity():
    rows = [(method, f"p{index}", 0, 0.1 * index) for method in ("base", "ours") for index in range(5)]
    scores = table(rows)
    scores.loc[(scores["method"] == "base") & (scores["pair_id"] == "p1"), ["sync_c", "sync_d"]] = math.nan
    found = summary(scores)
    versus = found["versus_base"]["ours"]
    assert (versus["sync_c"]["pairs"], versus["id_target"]["pairs"]) == (4, 5)
    assert found["methods"]["ours"]["sync_c"]["pairs"] == 5


def test_pairs_only_one_method_has_are_not_compared():
    rows = [("base", pair, 0, 0.5) for pair in "abc"] + [("ours", pair, 0, 0.75) for pair in "bcd"]
    found = summary(table(rows))
    assert found["versus_base"]["ours"]["vq"] == {"mean": 0.25, "low": 0.25, "high": 0.25, "pairs": 2}
    disjoint = [("base", pair, 0, 0.5) for pair in "ab"] + [("ours", pair, 0, 0.75) for pair in "cd"]
    assert summary(table(disjoint))["versus_base"]["ours"]["vq"]["mean"] is None


@settings(deadline=None, max_examples=10)
@given(st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(random):
    rng = np.random.default_rng(0)
    rows = [(method, f"p{i}", 0, float(rng.normal())) for method in ("base", "ours") for i in range(4)]
    shuffled = random.sample(rows, len(rows))
    one, other = (json.dumps(summary(table(order)), sort_keys=True) for order in (rows, shuffled))
    assert one == other


def test_whatever_is_missing_the_summary_is_plain_json():
    scores = table([(method, f"p{i}", 0, 0.1 * i) for method in ("base", "ours") for i in range(3)])
    scores[["sync_c", "sync_d"]] = math.nan
    found = json.loads(json.dumps(summary(scores), allow_nan=False))
    assert found["methods"]["ours"]["sync_c"] == {"mean": None, "low": None, "high": None, "pairs": 0}
    assert found["methods"]["ours"]["id_ref"]["mean"] == pytest.approx(0.1)


def test_the_gate_would_come_to_the_same_bounds():
    data = np.random.default_rng(2).normal(size=16)
    found = interval(data, 0.95, 999, 0)
    assert (found.low, found.high) == paired_interval(data.tolist(), 0.95, 999)
