"""Drawing until two generations lie apart: no draw too many, the earliest of equals, nothing drawn twice."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tavr_preferences.mining import Drawn, Generation, draw_seed, draw_until_apart, memoised, spread_report
from tavr_records.memo import Memo

similarities = st.lists(st.floats(-1, 1), min_size=2, max_size=12)


def looked_up(values):
    """A draw whose similarity stands in a table, and the list of seeds it is asked for."""
    asked = []

    def draw(seed):
        asked.append(seed)
        return np.full((1, 1, 1, 1), seed, np.float32), values[seed]

    return draw, asked


@given(similarities, st.floats(0, 2))
def test_it_draws_the_fewest_that_lie_apart(values, min_margin):
    draw, asked = looked_up(values)
    drawn = draw_until_apart(draw, list(range(len(values))), min_margin)
    enough = (n for n in range(2, len(values) + 1) if max(values[:n]) - min(values[:n]) >= min_margin)
    seen = values[: next(enough, len(values))]
    assert asked == list(range(len(seen)))
    assert drawn.margin == max(seen) - min(seen)
    assert (drawn.winner.seed, drawn.loser.seed) == (seen.index(max(seen)), seen.index(min(seen)))
    assert float(drawn.winner.latents.max()) == drawn.winner.seed


def test_two_are_drawn_even_where_no_margin_is_wanted():
    draw, asked = looked_up([0.3, 0.3, 0.9])
    drawn = draw_until_apart(draw, [0, 1, 2], 0.0)
    assert asked == [0, 1]
    assert drawn.winner is drawn.loser
    assert drawn.margin == 0.0


@pytest.mark.parametrize("seeds", [[], [1]])
def test_one_draw_makes_no_pair(seeds):
    with pytest.raises(ValueError, match="max_draws must be at least 2"):
        draw_until_apart(looked_up([0.1, 0.9])[0], seeds, 0.2)


@given(st.integers(0, 2**31), st.text(max_size=70), st.integers(0, 1000))
def test_a_seed_is_the_first_six_bytes_of_its_name(stage_seed, pair_id, index):
    name = f"{stage_seed}|{pair_id}|{index}".encode()
    assert draw_seed(stage_seed, pair_id, index) == int(hashlib.sha256(name).hexdigest()[:12], 16)


def test_seeds_differ_by_run_by_pair_and_by_draw():
    pairs = [hashlib.sha256(bytes([number])).hexdigest() for number in range(20)]
    seeds = [draw_seed(run, pair, index) for run in (0, 1) for pair in pairs for index in range(16)]
    assert len(set(seeds)) == len(seeds)


def test_an_interrupted_run_repeats_no_draw(tmp_path):
    memo = Memo(tmp_path, "context")
    draw, asked = looked_up([0.1, 1 / 3, 0.9])

    def interrupted(seed):
        if seed == 2:
            raise KeyboardInterrupt
        return draw(seed)

    with pytest.raises(KeyboardInterrupt):
        draw_until_apart(memoised(interrupted, memo, "pair"), [0, 1, 2], 0.5)
    assert asked == [0, 1]
    drawn = draw_until_apart(memoised(draw, memo, "pair"), [0, 1, 2], 0.5)
    assert asked == [0, 1, 2]
    assert [one.similarity for one in drawn.generations] == [0.1, 1 / 3, 0.9]
    again = draw_until_apart(memoised(draw, memo, "pair"), [0, 1, 2], 0.5)
    assert asked == [0, 1, 2]
    assert again.winner.latents.dtype == np.float32
    assert again.winner.latents.tobytes() == drawn.winner.latents.tobytes()
    memoised(draw, memo, "another pair")(0)
    memoised(draw, Memo(tmp_path, "other weights"), "pair")(0)
    assert asked == [0, 1, 2, 0, 0]


@given(st.lists(st.lists(st.floats(-1, 1), min_size=1, max_size=6), max_size=6), st.integers(0, 6))
def test_the_report_is_plain_json_whatever_was_drawn(groups, accepted):
    nothing = np.zeros((1, 1, 1, 1), np.float32)
    drawn = [Drawn(tuple(Generation(seed, nothing, value) for seed, value in enumerate(group))) for group in groups]
    document = json.loads(spread_report(drawn, accepted), parse_constant=pytest.fail)
    total = sum(map(len, groups))
    assert (document["conditions"], document["generations"], document["accepted"]) == (len(groups), total, accepted)
    assert document["generations_per_accepted"] == (total / accepted if accepted else None)
    assert document["margins"] == sorted(document["margins"])
    assert document["margins"] == pytest.approx(sorted(max(group) - min(group) for group in groups), abs=1e-6)
    if groups:
        assert document["mean_similarity"] == pytest.approx(np.mean([value for group in groups for value in group]))
    spreads = [np.std(group, ddof=1) for group in groups if len(group) > 1]
    expected = pytest.approx(np.mean(spreads)) if spreads else None
    assert document["mean_standard_deviation_within_condition"] == expected
