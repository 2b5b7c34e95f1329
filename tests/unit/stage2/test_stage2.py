"""Stage2's examples: both directions of every training pair, nobody from the benchmark."""

import pytest
from tavr_records.errors import InputError
from tavr_records.manifest import read_manifest
from tavr_records.schemas import ClipPair
from tavr_stage2.stage import cross_scene_examples
from tavr_training.dataset import LatentStore
from training_world import build_world, clip_name


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = build_world(tmp_path_factory.mktemp("world"))
    return read_manifest(root / "data/pairs/manifest.parquet", ClipPair), LatentStore(root / "data/latents")


def test_both_directions_of_training_pairs(world):
    pairs, store = world
    examples = {(e.ref_clip, e.target_clip) for e in cross_scene_examples(pairs, store, set())}
    expected = {(clip_name(p, a), clip_name(p, 1 - a)) for p in range(3) for a in range(2)}
    assert examples == expected


def test_a_pair_listed_twice_counts_once(world):
    pairs, store = world
    assert len(cross_scene_examples([*pairs, *pairs], store, set())) == 6


def test_quarantined_ids_drop_their_pairs(world):
    pairs, store = world
    clip, pair = clip_name(0, 1), next(p.pair_id for p in pairs if p.ref_clip_id == clip_name(1, 0))
    examples = cross_scene_examples(pairs, store, {clip, pair})
    assert {e.ref_clip for e in examples} == {clip_name(2, 0), clip_name(2, 1)}


def test_nothing_left_is_the_users_to_mend(world):
    pairs, store = world
    with pytest.raises(InputError, match="no pair of split train"):
        cross_scene_examples([p for p in pairs if p.split == "benchmark"], store, set())
