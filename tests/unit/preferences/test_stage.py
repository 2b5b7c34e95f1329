"""The stage around the draws: which pairs are tried, which are kept, what is written, how one bad clip is told."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
import torch
from tavr_model.generate import Sampling
from tavr_perception.identity import FaceEmbeddings
from tavr_preferences import stage
from tavr_preferences.stage import Miner, preference_id, preferences, write_pairs
from tavr_records.errors import InputError, RefusedError
from tavr_records.manifest import read_manifest, write_manifest
from tavr_records.media import write_video
from tavr_records.memo import Memo
from tavr_records.schemas import PreferencePair, Refused
from tavr_records.shards import shard_name
from tavr_records.verdict import CheckResult, Verdict, write_verdict
from tavr_stage3.pairs import GenerationStore
from tavr_training.dataset import LatentStore
from training_world import SHAPE, write_latents

from .conftest import CONFIG, drawn, pair


@pytest.fixture
def tried(monkeypatch):
    """Every pair the stage asks for; person 0, 3 and 6 lie too close, the others apart."""
    asked = []

    class Fake:
        def __init__(self, config, root):
            pass

        def mine(self, pairs):
            for one in pairs:
                asked.append(one)
                far = int(one.person_id.removeprefix("person-")) % 3
                yield one, drawn(0.5, 0.25, 0.625) if far else drawn(0.5, 0.5, 0.4375, 0.5)

    monkeypatch.setattr(stage, "Miner", Fake)
    return asked


def kept(root: Path) -> list[PreferencePair]:
    return read_manifest(root / "data/preferences/manifest.parquet", PreferencePair)


def report(root: Path) -> dict:
    return json.loads((root / "data/preferences/report.json").read_text())


def test_it_stops_when_enough_are_accepted(world, tried):
    preferences(CONFIG, world)
    rows = kept(world)
    assert len(rows) == 3
    assert {row.person_id for row in rows} <= {f"person-{person}" for person in (1, 2, 4, 5, 7)}
    assert tried[-1].pair_id in {row.pair_id for row in rows}, "the last one tried is the last one needed"
    told = report(world)
    assert (told["conditions"], told["accepted"]) == (len(tried), 3)
    assert told["generations"] == 3 * 3 + 4 * (len(tried) - 3)
    for row in rows:
        assert row.margin == row.winner_similarity - row.loser_similarity == 0.375
        assert (row.winner_seed, row.loser_seed, row.drawn) == (2, 1, 3)
        assert row.preference_id == preference_id(
            next(p for p in tried if p.pair_id == row.pair_id), drawn(0.5, 0.25, 0.625)
        )


def test_what_it_writes_is_what_stage3_reads(world, tried):
    preferences(CONFIG, world)
    store = GenerationStore(world / "data/preferences")
    for row in kept(world):
        assert store.latents(row, "winner").unique().tolist() == [0.625]
        assert store.latents(row, "loser").unique().tolist() == [0.25]


def test_it_ends_with_fewer_when_the_pairs_end(world, tried):
    preferences(replace(CONFIG, target_pairs=100), world)
    assert len(kept(world)) == 5
    assert len(tried) == 8


def test_none_far_apart_is_an_empty_manifest_that_the_check_refuses(world, tried):
    preferences(replace(CONFIG, min_margin=1.5), world)
    assert kept(world) == []
    assert report(world)["generations_per_accepted"] is None
    assert sorted(path.name for path in (world / "data/preferences").iterdir()) == ["manifest.parquet", "report.json"]


def test_the_order_is_the_seeds(world, tried):
    orders = []
    for seed in (0, 0, 1):
        tried.clear()
        preferences(replace(CONFIG, seed=seed, target_pairs=100), world)
        orders.append([one.pair_id for one in tried])
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != sorted(orders[0])


@pytest.mark.parametrize("checked", ["pairs", "latents"])
@pytest.mark.parametrize("named", ["pair_id", "ref_clip_id", "target_clip_id"])
def test_quarantined_and_benchmark_pairs_are_never_drawn(world, tried, checked, named):
    refused = [Refused(getattr(pair(1), named), "rule", "reason")]
    write_manifest(world / f"reports/{checked}/quarantine.parquet", Refused, refused, ("record_id", "rule"))
    preferences(replace(CONFIG, target_pairs=100), world)
    assert {one.person_id for one in tried} == {f"person-{person}" for person in (0, 2, 3, 4, 5, 6, 7)}


def test_a_critical_verdict_stops_it_before_anything(world, tried):
    failed = CheckResult("latents_finite", "critical", passed=False, observed=3, limit=0)
    write_verdict(world / "reports/latents/verdict.json", Verdict("latents", (failed,)))
    with pytest.raises(RefusedError, match=r"latents/verdict.json: refused by latents_finite \(observed 3, limit 0\)"):
        preferences(CONFIG, world)
    assert tried == []
    assert not (world / "data/preferences").exists()


def test_a_failure_leaves_the_last_output(world, tried, monkeypatch):
    preferences(CONFIG, world)
    before = (world / "data/preferences/manifest.parquet").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stage, "write_manifest", full)
    with pytest.raises(OSError, match="No space left"):
        preferences(replace(CONFIG, target_pairs=1), world)
    assert (world / "data/preferences/manifest.parquet").read_bytes() == before
    assert [path.name for path in (world / "data").iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("shard_bits", [0, 1, 6, 16])
def test_every_pair_lies_in_the_shard_its_row_names(tmp_path, shard_bits):
    rng = np.random.default_rng(0)
    accepted = []
    for person in range(12):
        one = drawn(0.1, 0.9)
        noisy = [replace(g, latents=rng.standard_normal((2, 1, 2, 2)).astype(np.float32)) for g in one.generations]
        accepted.append((pair(person), replace(one, generations=tuple(noisy))))
    write_pairs(tmp_path, accepted, replace(CONFIG, shard_bits=shard_bits))
    rows = read_manifest(tmp_path / "manifest.parquet", PreferencePair)
    assert [row.preference_id for row in rows] == sorted(preference_id(*one) for one in accepted)
    assert {row.shard for row in rows} == {path.name for path in tmp_path.glob("*.safetensors")}
    assert len({row.shard for row in rows}) <= 2**shard_bits
    store = GenerationStore(tmp_path)
    by_pair = {one.pair_id: draws for one, draws in accepted}
    for row in rows:
        assert row.shard == shard_name(row.preference_id, shard_bits)
        for member in ("winner", "loser"):
            expected = getattr(by_pair[row.pair_id], member).latents.astype(ml_dtypes.bfloat16).astype(np.float32)
            np.testing.assert_array_equal(store.latents(row, member).numpy(), expected)


def miner(config=CONFIG, **parts) -> Miner:
    """A miner without its networks."""
    made = object.__new__(Miner)
    made.config = config
    for name, part in parts.items():
        setattr(made, name, part)
    return made


@pytest.mark.parametrize("workers", ["1", "3"])
@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_rounds_keep_the_order_and_draw_no_further_than_asked(monkeypatch, workers, size):
    monkeypatch.setenv("TAVR_WORKERS", workers)
    pairs = [pair(person) for person in range(5)]
    begun = []

    def mine_one(one):
        begun.append(one.pair_id)
        return drawn(0.1, 0.2)

    results = miner(replace(CONFIG, round_conditions=size), mine_one=mine_one).mine(pairs)
    first, _ = next(results)
    assert first == pairs[0]
    assert len(begun) == min(size, 5)
    assert [one for one, _ in results] == pairs[1:]
    assert sorted(begun) == sorted(one.pair_id for one in pairs)


def test_one_bad_clip_is_named_and_ends_the_stage(monkeypatch):
    monkeypatch.setenv("TAVR_WORKERS", "2")

    def mine_one(one):
        if one.person_id == "person-1":
            raise InputError("data/ingest/clips/x.mp4: not a readable video")
        return drawn(0.1, 0.2)

    with pytest.raises(InputError, match=r"clips/x\.mp4: not a readable video"):
        list(miner(mine_one=mine_one).mine([pair(0), pair(1)]))


def embed(frames: np.ndarray) -> FaceEmbeddings:
    """The face of a frame points where its mean grey says; black frames have none."""
    grey = frames.mean(axis=(1, 2, 3)) / 255
    vectors = np.stack([np.cos(grey * np.pi / 2), np.sin(grey * np.pi / 2)], axis=1).astype(np.float32)
    found = grey > 0.05
    return FaceEmbeddings(np.where(found[:, None], vectors, 0), found, np.zeros((len(frames), 4), np.float32))


@pytest.fixture
def networks(tmp_path, monkeypatch):
    """A miner whose model paints one grey a seed, judged against a clip that is white in its first nine frames."""
    one = pair(0)
    write_latents(tmp_path / "data/latents", {one.ref_clip_id: "person-0", one.target_clip_id: "person-0"})
    frames = np.zeros((16, 32, 48, 3), np.uint8)
    frames[:9] = 255
    write_video(tmp_path / "data/ingest/clips/target.mp4", frames, 25, crf=1)
    seen = SimpleNamespace(embedded=[], seeds=[], encoded=[])

    def counted(shown):
        seen.embedded.append(len(shown))
        return embed(shown)

    def encode_references(contexts):
        seen.encoded += contexts
        return ["the reference stream"] * len(contexts)

    def generate(model, scheduler, conditions, shape, seed, sampling, *, reference):
        assert shape == SHAPE
        assert reference == "the reference stream"
        assert sampling == Sampling(2, 1.0, 1.0)
        seen.seeds.append(seed)
        return torch.full(shape, len(seen.seeds) * 0.25)

    monkeypatch.setattr(stage, "generate_latents", generate)
    monkeypatch.setattr(
        stage,
        "decode_latents",
        lambda _, latents: torch.full((9, 8, 8, 3), int(latents.max() * 255), dtype=torch.uint8),
    )
    made = miner(
        root=tmp_path,
        store=LatentStore(tmp_path / "data/latents"),
        clips={one.target_clip_id: SimpleNamespace(path="clips/target.mp4")},
        model=SimpleNamespace(encode_references=encode_references), scheduler=None, vae=None, identity=SimpleNamespace(embed=counted),
        one_at_a_time=stage.threading.Lock(), memo=Memo(tmp_path / "memo", "context"),
    )  # fmt: skip
    return made, one, seen


def test_a_condition_is_judged_against_the_first_frames_of_the_real_clip(networks):
    made, one, seen = networks
    result = made.mine_one(one)
    expected = np.cos((1 - np.array([0.25, 0.5])) * np.pi / 2)
    assert [g.similarity for g in result.generations] == pytest.approx(expected, abs=0.02)
    assert seen.embedded == [9, 9, 9], "the real clip once, then each generation"
    assert len(seen.encoded) == 1, "and the reference stream once for all draws"
    assert len(set(seen.seeds)) == 2
    again = made.mine_one(one)
    assert len(seen.seeds) == 2, "nothing is drawn twice"
    assert len(seen.encoded) == 1, "nor encoded again"
    assert [g.similarity for g in again.generations] == [g.similarity for g in result.generations]


@pytest.mark.parametrize(
    ("lost", "told"), [("target.mp4", "target.mp4: not a readable video"), ("shard", "run the stage latents")]
)
def test_what_a_condition_lacks_is_named(networks, tmp_path, lost, told):
    made, one, _ = networks
    if lost == "shard":
        one = replace(one, ref_clip_id=pair(5).ref_clip_id)
    else:
        (tmp_path / "data/ingest/clips/target.mp4").write_bytes(b"no video")
    with pytest.raises(InputError, match=told):
        made.mine_one(one)
