"""The stage `pairs` as a whole, its review decisions, and what its check refuses."""

import dataclasses
import json
import shutil

import pytest
from tavr_pairs.checks import check_pairs
from tavr_pairs.config import CheckPairsConfig
from tavr_pairs.review import read_decisions
from tavr_pairs.stage import pairs
from tavr_records.errors import InputError, RefusedError
from tavr_records.ids import pair_id
from tavr_records.manifest import read_manifest, write_manifest
from tavr_records.schemas import ClipPair, ClipSplit, Refused
from tavr_records.verdict import require_passed

from .conftest import CONFIG


def manifest(root):
    return read_manifest(root / "data/pairs/manifest.parquet", ClipPair)


def splits(root):
    return {row.clip_id: row for row in read_manifest(root / "data/pairs/clips.parquet", ClipSplit)}


def refusals(root):
    return {row.record_id: row.rule for row in read_manifest(root / "data/pairs/quarantine.parquet", Refused)}


def name(a, b):
    return pair_id(*sorted((a, b)))


def decide(root, *decisions):
    rows = [
        {
            "pair_id": pair,
            "decision": decision,
            "reviewer": "me",
            "assurance": "human",
            "decided_at": "2026-01-01",
            "reason": "seen",
        }
        for pair, decision in decisions
    ]
    (root / "review.json").write_text(json.dumps({"schema_version": 1, "decisions": rows}))


@pytest.fixture
def world(clips):
    """Four people in two scenes each; ann has a third scene."""
    ids = {
        person: [clips.add(person, look, scene) for scene in (look, look + 2)]
        for look, person in enumerate(("ann", "bob", "cas", "dan"))
    }
    ids["ann"].append(clips.add("ann", 0, 5))
    clips.write()
    return clips.root, ids


def test_one_identity_is_cut_off_and_all_others_train_both_ways(world):
    root, ids = world
    pairs(CONFIG, root)
    rows = manifest(root)
    benchmark = [row for row in rows if row.split == "benchmark"]
    assert len(benchmark) == 1
    held = benchmark[0].person_id
    assert benchmark[0].ref_clip_id < benchmark[0].target_clip_id
    for person, mine in ids.items():
        count = sum(row.person_id == person for row in rows)
        assert count == (1 if person == held else len(mine) * (len(mine) - 1))
        assert {splits(root)[clip].split for clip in mine} == {"benchmark" if person == held else "train"}
    assert all(row.id_similarity == 1.0 for row in rows)
    assert {row.review for row in rows} == {"pending"}


def test_thresholds_refuse_by_name(clips):
    a, b = clips.add("ann", 0, 1), clips.add("ann", 3, 4)
    c, d = clips.add("bob", 1, 2), clips.add("bob", 1, 2)
    e, f = clips.add("cas", 2, 1), clips.add("cas", 2, 5, wide=True)
    g, h = clips.add("dan", 4, 1, faces=0.3), clips.add("dan", 4, 5)
    clips.write()
    pairs(CONFIG, clips.root)
    assert manifest(clips.root) == []
    assert refusals(clips.root) == {
        name(a, b): "low_similarity",
        name(c, d): "same_scene",
        name(e, f): "little_background",
        name(g, h): "few_faces",
    }


def test_one_face_under_two_labels_is_one_identity(clips):
    for person, look in (("ann", 0), ("amy", 0), ("bob", 1), ("cas", 2)):
        clips.add(person, look, look)
        clips.add(person, look, look + 3)
    clips.write()
    pairs(dataclasses.replace(CONFIG, benchmark_people=2), clips.root)
    rows = splits(clips.root).values()
    assert {row.identity for row in rows if row.person_id in ("ann", "amy")} == {"amy"}
    assert len({row.split for row in rows if row.person_id in ("ann", "amy")}) == 1


def test_a_rejected_pair_goes_nowhere_and_the_next_stands_in(world):
    root, ids = world
    first, second, third = ids["ann"]
    only_ann = dataclasses.replace(CONFIG, benchmark_people=4)
    pairs(only_ann, root)
    (chosen,) = [row for row in manifest(root) if row.person_id == "ann"]
    decide(root, (chosen.pair_id, "rejected"))
    pairs(only_ann, root)
    (other,) = [row for row in manifest(root) if row.person_id == "ann"]
    assert other.pair_id != chosen.pair_id
    assert refusals(root)[chosen.pair_id] == "rejected"
    assert "not_lowest_psnr" in refusals(root).values()
    decide(root, *((name(a, b), "rejected") for a, b in ((first, second), (first, third), (second, third))))
    pairs(only_ann, root)
    assert [row for row in manifest(root) if row.person_id == "ann"] == []
    assert splits(root)[first].split == "train"


def test_decisions_show_in_both_orders(world):
    root, _ = world
    pairs(CONFIG, root)
    decide(root, *((row.pair_id, "accepted") for row in manifest(root) if row.ref_clip_id < row.target_clip_id))
    pairs(CONFIG, root)
    assert {(row.review, row.reviewer, row.assurance) for row in manifest(root)} == {("accepted", "me", "human")}


def test_incremental_and_fresh_runs_give_the_same_bytes(world, clips):
    root, _ = world
    pairs(CONFIG, root)
    clips.add("eve", 5, 0)
    clips.add("eve", 5, 4)
    clips.write()
    pairs(CONFIG, root)
    files = sorted((root / "data/pairs").iterdir())
    incremental = [path.read_bytes() for path in files]
    shutil.rmtree(root / ".work")
    pairs(CONFIG, root)
    assert [path.read_bytes() for path in files] == incremental


def test_no_clips_make_no_pairs(clips):
    clips.write()
    pairs(CONFIG, clips.root)
    assert manifest(clips.root) == []


@pytest.mark.parametrize(
    "text", ["", "[]", '{"schema_version": 1}', '{"decisions": [{"pair_id": "a"}]}', '{"decisions": 3}']
)
def test_a_bad_review_file_is_one_clear_error(tmp_path, text):
    (tmp_path / "review.json").write_text(text)
    with pytest.raises(InputError, match="review"):
        read_decisions(tmp_path / "review.json")


def test_reviews_contradict_nobody(tmp_path):
    decide(tmp_path, ("a", "accepted"), ("a", "rejected"))
    with pytest.raises(InputError, match="two decisions"):
        read_decisions(tmp_path / "review.json")
    decide(tmp_path, ("a", "perhaps"))
    with pytest.raises(InputError, match="perhaps"):
        read_decisions(tmp_path / "review.json")
    with pytest.raises(InputError, match="no such file"):
        read_decisions(tmp_path / "lost.json")


CHECK = CheckPairsConfig(min_similarity=0.8, max_background_psnr=25.0, min_benchmark_pairs=1, min_train_pairs=4)


def judge(root):
    (root / "audit").mkdir(exist_ok=True)
    (root / "audit/withdrawn.jsonl").touch()
    (root / "audit/baseline.json").write_text("{}")
    check_pairs(CHECK, root)
    try:
        require_passed("pairs", root / "reports")
    except RefusedError as error:
        return str(error)
    return ""


def test_the_check_passes_good_pairs_and_refuses_broken_ones(world):
    root, _ = world
    pairs(CONFIG, root)
    assert "enough_benchmark_pairs" in judge(root), "pending pairs are no benchmark"
    decide(root, *((row.pair_id, "accepted") for row in manifest(root)))
    pairs(CONFIG, root)
    assert judge(root) == ""
    rows, held = manifest(root), splits(root)

    (benchmark,) = [row for row in rows if row.split == "benchmark"]
    leaked = dataclasses.replace(held[benchmark.ref_clip_id], split="train")
    write_manifest(
        root / "data/pairs/clips.parquet", ClipSplit, (held | {leaked.clip_id: leaked}).values(), ("clip_id",)
    )
    verdict = judge(root)
    assert "splits_share_no_person" in verdict
    assert "splits_share_no_identity" in verdict
    write_manifest(root / "data/pairs/clips.parquet", ClipSplit, held.values(), ("clip_id",))

    weak = [dataclasses.replace(rows[0], id_similarity=0.1), *rows[1:]]
    write_manifest(root / "data/pairs/manifest.parquet", ClipPair, weak, ("pair_id",))
    assert "id_similarity_between" in judge(root)

    (root / "audit/withdrawn.jsonl").write_text(
        json.dumps({"kind": "clip_id", "value": rows[0].ref_clip_id, "reason": "asked", "withdrawn_at": "2026-01-01"})
    )
    write_manifest(root / "data/pairs/manifest.parquet", ClipPair, rows, ("pair_id",))
    assert "no_withdrawn" in judge(root)
