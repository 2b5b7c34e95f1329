"""Splits: nobody stands in two of them, whatever the labels say; the benchmark takes the most different scenes."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tavr_pairs.split import GoodPair, cut_benchmark, identities, label_pairs
from tavr_records.ids import pair_id

PEOPLE = ["p0", "p1", "p2", "p3", "p4"]
CLIPS = st.lists(st.tuples(st.sampled_from(PEOPLE), st.integers(0, 4)), min_size=1, max_size=14)


def faces(directions):
    return np.eye(5, dtype=np.float32)[list(directions)]


def good(first, second, person, psnr=10.0):
    return GoodPair(pair_id(first, second), first, second, person, 0.9, psnr)


@given(clips=CLIPS)
def test_an_identity_holds_all_of_a_label_and_all_of_a_face(clips):
    people, looks = [person for person, _ in clips], [look for _, look in clips]
    names = identities(people, faces(looks), 0.9)
    for a, b in itertools.combinations(range(len(clips)), 2):
        if people[a] == people[b] or looks[a] == looks[b]:
            assert names[a] == names[b]
    assert set(names) <= set(people)


@settings(max_examples=200)
@given(clips=CLIPS, count=st.integers(0, 4), seed=st.integers(0, 3), data=st.data())
def test_splits_are_disjoint_by_identity_person_and_face(clips, count, seed, data):
    ids = [f"clip{index:02d}" for index in range(len(clips))]
    person = dict(zip(ids, (p for p, _ in clips), strict=True))
    names = dict(zip(ids, identities(list(person.values()), faces(look for _, look in clips), 0.9), strict=True))
    pairs = [
        good(first, second, person[first], data.draw(st.floats(0, 30)))
        for first, second in label_pairs(person, {clip: clip for clip in ids})
    ]
    rejected = {pair.pair_id for pair in pairs if data.draw(st.booleans())}
    benchmark = cut_benchmark(pairs, names, rejected, count, seed)
    assert len(benchmark) <= count
    held = {clip for clip in ids if names[clip] in benchmark}
    for clip, other in itertools.product(held, set(ids) - held):
        assert person[clip] != person[other]
        assert clips[ids.index(clip)][1] != clips[ids.index(other)][1]
    for name, pair in benchmark.items():
        assert names[pair.first] == name
        assert pair.pair_id not in rejected
        others = [p for p in pairs if names[p.first] == name and p.pair_id not in rejected]
        assert pair.background_psnr == min(p.background_psnr for p in others)


def test_new_people_do_not_reshuffle_the_benchmark():
    old = [good(f"a{n}", f"b{n}", f"p{n}") for n in range(20)]
    names = {clip: pair.person_id for pair in old for clip in (pair.first, pair.second)}
    before = set(cut_benchmark(old, names, set(), 5, 0))
    late = good("a99", "b99", "p99")
    after = set(cut_benchmark([*old, late], names | {"a99": "p99", "b99": "p99"}, set(), 5, 0))
    assert len(before - after) <= 1
    assert set(cut_benchmark(old, names, set(), 5, 1)) != before


def test_pairs_come_from_two_sources():
    person = {"a": "p", "b": "p", "c": "p", "d": "q"}
    assert label_pairs(person, {"a": "v1", "b": "v1", "c": "v2", "d": "v3"}) == [("a", "c"), ("b", "c")]


def test_no_clips_have_no_identities():
    assert identities([], np.zeros((0, 1), np.float32), 0.9) == []
