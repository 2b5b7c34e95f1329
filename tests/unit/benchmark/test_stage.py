"""The stage around the metrics: who is judged, what is done once, what is written, and how what is missing is told."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rows import sha256_of
from tavr_benchmark.config import Reference
from tavr_benchmark.scoring import Task
from tavr_benchmark.stage import benchmark, benchmark_pairs, reference_of, release_digest
from tavr_records.errors import InputError, RefusedError
from tavr_records.manifest import read_manifest, write_manifest
from tavr_records.media import read_audio, read_video
from tavr_records.schemas import Clip, ClipPair, Refused, Score
from tavr_records.verdict import CheckResult, Verdict, write_verdict

from .conftest import CONFIG, FRAMES, clip_of, pair_of


def metrics(root):
    return json.loads((root / "reports/benchmark/metrics.json").read_text(), parse_constant=pytest.fail)


def scores(root):
    return read_manifest(root / "data/benchmark/manifest.parquet", Score)


def test_every_method_is_judged_on_every_pair(world):
    benchmark(CONFIG, world.root)
    table = pd.DataFrame([vars(score) for score in scores(world.root)])
    assert table.groupby("method")["pair_id"].nunique().to_dict() == {"base": 4, "control": 4, "ours": 4}
    assert table["score_id"].is_unique
    for row in table.itertuples():
        frames, rate = read_video(world.root / "data/benchmark" / row.path)
        assert (len(frames), rate, row.frames) == (FRAMES, 25, FRAMES)
        assert len(read_audio(world.root / "data/benchmark" / row.path, 16000)) >= FRAMES * 640
    assert set(table["ref_frames"]) == {5, 1}
    assert set(table["seed"]) == {7}


def test_identity_is_taken_against_the_real_target_and_the_reference_frames(world):
    """The target is 220 in its first frames, the reference 180 after its first nine: each metric reads the right one."""
    world.grey |= {"ours": 220}
    benchmark(CONFIG, world.root)
    angle = {grey: grey / 255 * np.pi / 2 for grey in (220, 180, 120)}
    found = {score.method: score for score in scores(world.root)}
    assert found["ours"].id_target == pytest.approx(1.0, abs=0.01)
    assert found["ours"].id_ref == pytest.approx(np.cos(angle[220] - angle[180]), abs=0.01)
    assert found["base"].id_target == pytest.approx(np.cos(angle[220] - angle[120]), abs=0.01)
    versus = metrics(world.root)["versus_base"]["ours"]["id_target"]
    assert versus["low"] > 0
    assert versus["pairs"] == 4


def test_a_clip_without_a_face_is_a_score_not_a_crash(world):
    world.grey |= {"base": 0}
    benchmark(CONFIG, world.root)
    base = [score for score in scores(world.root) if score.method == "base"]
    assert {score.faceless_frames for score in base} == {FRAMES}
    assert {score.id_target for score in base} == {0.0}
    assert np.isnan([score.sync_c for score in base]).all()
    found = metrics(world.root)
    assert found["methods"]["base"]["sync_c"] == {"mean": None, "low": None, "high": None, "pairs": 0}
    assert found["versus_base"]["ours"]["sync_d"]["mean"] is None
    assert found["versus_base"]["ours"]["id_target"]["mean"] > 0.9
    assert "<td>-<br><small>0 pairs</small></td>" in (world.root / "reports/benchmark/report.html").read_text()


def test_an_interrupted_run_generates_nothing_twice(world):
    last = max((pair_of(person) for person in range(4)), key=lambda pair: pair.pair_id)
    world.broken = {last.person_id}
    with pytest.raises(KeyboardInterrupt):
        benchmark(CONFIG, world.root)
    assert not (world.root / "data/benchmark").exists()
    assert not (world.root / "reports/benchmark").exists()
    done = len(world.generated)
    assert 0 < done < 12
    world.broken = set()
    benchmark(CONFIG, world.root)
    assert len(world.generated) == len(set(world.generated)) == 12
    before = (world.root / "data/benchmark/manifest.parquet").read_bytes()
    page = (world.root / "reports/benchmark/report.html").read_bytes()
    benchmark(CONFIG, world.root)
    assert len(world.generated) == 12
    assert (world.root / "data/benchmark/manifest.parquet").read_bytes() == before
    assert (world.root / "reports/benchmark/report.html").read_bytes() == page


def test_other_bytes_of_a_clip_are_generated_anew(world):
    benchmark(CONFIG, world.root)
    clips = read_manifest(world.root / "data/ingest/manifest.parquet", Clip)
    target = pair_of(0).target_clip_id
    changed = [replace(clip, clip_sha256="f" * 64) if clip.clip_id == target else clip for clip in clips]
    write_manifest(world.root / "data/ingest/manifest.parquet", Clip, changed, ("clip_id",))
    release = metrics(world.root)["release"]
    benchmark(CONFIG, world.root)
    assert world.generated[12:] == [(method, "person-0") for method in ("base", "control", "ours")]
    assert metrics(world.root)["release"] != release


def test_more_seeds_are_more_clips_of_as_many_pairs(world):
    benchmark(replace(CONFIG, seeds=3), world.root)
    found = scores(world.root)
    assert len(found) == 36
    assert {score.seed for score in found} == {7, 8, 9}
    assert metrics(world.root)["methods"]["ours"]["vq"]["pairs"] == 4


def test_the_control_sees_another_identity():
    pairs = [pair_of(person) for person in range(3)]
    assert [reference_of(index, pairs, Reference.own) for index in range(3)] == [pair.ref_clip_id for pair in pairs]
    others = [reference_of(index, pairs, Reference.other) for index in range(3)]
    assert sorted(others) == sorted(pair.ref_clip_id for pair in pairs)
    assert all(other != pair.ref_clip_id for other, pair in zip(others, pairs, strict=True))


@pytest.mark.parametrize("role", ["candidate", "baseline"])
def test_a_method_that_is_not_there_is_named(world, role):
    with pytest.raises(InputError, match=r"benchmark\.methods has no 'lost'"):
        benchmark(replace(CONFIG, **{role: "lost"}), world.root)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_pairs_are_told_before_any_network_is_loaded(world, monkeypatch, count):
    pairs = [pair_of(person, review="accepted" if person < count else "pending") for person in range(4)]
    write_manifest(world.root / "data/pairs/manifest.parquet", ClipPair, pairs, ("pair_id",))
    monkeypatch.setattr("tavr_benchmark.stage.Scorer", lambda *_: pytest.fail("loaded"))
    with pytest.raises(InputError, match=f"{count} benchmark pairs are left, 2 are needed; accept more in the review"):
        benchmark(CONFIG, world.root)


@pytest.mark.parametrize("checked", ["pairs", "latents"])
@pytest.mark.parametrize("named", ["pair_id", "ref_clip_id", "target_clip_id"])
def test_only_accepted_pairs_of_the_benchmark_that_no_check_refused_are_judged(world, checked, named):
    pairs = [
        pair_of(0),
        pair_of(1),
        pair_of(2, review="pending"),
        pair_of(3, review="rejected"),
        pair_of(4, "train"),
    ]
    write_manifest(world.root / "data/pairs/manifest.parquet", ClipPair, pairs, ("pair_id",))
    refused = [Refused(getattr(pairs[1], named), "rule", "reason")]
    write_manifest(world.root / f"reports/{checked}/quarantine.parquet", Refused, refused, ("record_id", "rule"))
    assert benchmark_pairs(world.root) == [pairs[0]]


def test_a_critical_verdict_stops_it(world):
    failed = CheckResult("split", "critical", passed=False, observed=1, limit=0)
    write_verdict(world.root / "reports/pairs/verdict.json", Verdict("pairs", (failed,)))
    with pytest.raises(RefusedError, match=r"pairs/verdict.json: refused by split \(observed 1, limit 0\)"):
        benchmark(CONFIG, world.root)


def test_the_release_names_pairs_bytes_and_prompts():
    pairs = [pair_of(person) for person in range(2)]
    clips = {clip.clip_id: clip for person in range(2) for clip in (clip_of(person, "ref"), clip_of(person, "target"))}
    release = release_digest(pairs, clips)
    assert release == release_digest(pairs, dict(reversed(clips.items())))
    target, ref = pairs[0].target_clip_id, pairs[0].ref_clip_id
    others = [
        release_digest(pairs[:1], clips),
        release_digest(pairs, clips | {target: replace(clips[target], caption="another")}),
        release_digest(pairs, clips | {target: replace(clips[target], clip_sha256=sha256_of("x"))}),
        release_digest(pairs, clips | {ref: replace(clips[ref], clip_sha256=sha256_of("x"))}),
    ]
    assert len({release, *others}) == 5
    assert release == release_digest(pairs, clips | {ref: replace(clips[ref], caption="of no pair's target")})


def test_scores_of_different_generations_have_different_ids():
    ours = CONFIG.methods["ours"]
    pair = pair_of(0)
    first = Task("ours", ours, pair, pair.ref_clip_id, 7)
    others = [
        replace(first, name="base"),
        replace(first, seed=8),
        replace(first, ref_clip_id="x"),
        replace(first, pair=pair_of(1)),
        replace(first, method=replace(ours, ref_latent_frames=3)),
    ]
    assert len({task.score_id for task in (first, *others)}) == 6
    assert first.path == f"videos/ours/{pair.pair_id}-7.mp4"
