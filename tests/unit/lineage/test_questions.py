"""who-used, trace, lineage and diff against what the fixtures say was used; the index can be thrown away."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from tavr_lineage.candidates import open_finished
from tavr_lineage.difference import compare
from tavr_lineage.family import as_html, as_mermaid, trace_family
from tavr_lineage.index import index_path
from tavr_lineage.promotion import promote
from tavr_lineage.questions import prove_subject, who_used
from tavr_lineage.subjects import check_proof
from tavr_lineage.trace import trace_clip
from tavr_records.errors import InputError
from tavr_records.manifest import read_manifest, write_manifest
from tavr_records.schemas import CachedClip, Consumed

from .conftest import CLIPS, Finish, commit, git

FIRST, SECOND = "20260101-00000001", "20260102-00000002"
ALL = {"stage1", "stage2", "stage3"}


def test_a_clip_a_person_a_source_and_a_file_are_found(finish: Finish, checkout: Path) -> None:
    finish(FIRST)
    clip = CLIPS[0]
    for asked in (clip.clip_id, f"clip:{clip.clip_id[:12]}", f"source:{clip.source_key}", f"file:{clip.clip_sha256}"):
        (model,) = who_used(checkout, asked).models
        assert model.run_id == FIRST
        assert {use.stage for use in model.uses} == ALL
        assert all((use.first_step, use.last_step, use.samples, use.clips) == (0, 2, 3, 1) for use in model.uses)
        assert model.remedy == "block"
    person = who_used(checkout, f"person:{clip.person_id}")
    assert set(person.clips) == {CLIPS[0].clip_id, CLIPS[1].clip_id}
    assert all((use.samples, use.clips) == (6, 2) for use in person.models[0].uses)


def test_the_remedy_follows_the_registry(finish: Finish, checkout: Path) -> None:
    finish(FIRST)
    promote(checkout, FIRST, "dev")
    (model,) = who_used(checkout, CLIPS[0].clip_id).models
    assert (model.versions, model.holds, model.remedy) == (("v0.0.1",), ("dev",), "retrain from stage1")
    (judged,) = who_used(checkout, CLIPS[6].clip_id).models
    assert [use.stage for use in judged.uses] == ["benchmark"]
    assert judged.remedy == "retrain from benchmark"
    finish(SECOND, gain=0.4)
    promote(checkout, SECOND, "dev")
    first, second = who_used(checkout, CLIPS[0].clip_id).models
    assert (first.holds, first.held, first.remedy) == ((), ("dev",), "block")
    assert (second.holds, second.remedy) == (("dev",), "retrain from stage1")


def test_the_index_is_disposable_and_forgets_what_git_forgot(finish: Finish, checkout: Path) -> None:
    finish(FIRST)
    answer = who_used(checkout, CLIPS[0].clip_id)
    index_path(checkout).write_bytes(b"not a database at all, " * 100)
    assert who_used(checkout, CLIPS[0].clip_id) == answer
    finish(SECOND)
    assert len(who_used(checkout, CLIPS[0].clip_id).models) == 2
    git(checkout, "worktree", "remove", "--force", f".runs/{SECOND}")
    git(checkout, "branch", "-D", f"run/{SECOND}")
    assert who_used(checkout, CLIPS[0].clip_id) == answer


def test_what_is_asked_must_name_one_thing(finish: Finish, checkout: Path) -> None:
    finish(FIRST)
    assert who_used(checkout, "e" * 64).models == ()
    with pytest.raises(InputError, match="first 8 characters"):
        who_used(checkout, "abc")
    with pytest.raises(InputError, match=r"fits 5 .*give more of it"):
        who_used(checkout, "person:i-person")


def test_a_table_that_was_swapped_is_not_answered_from(finish: Finish, checkout: Path) -> None:
    finish(FIRST)
    worktree = checkout / ".runs" / FIRST
    table = worktree / "reports/lineage/consumption.parquet"
    table.write_bytes(table.read_bytes() + b" ")
    commit(worktree, "swap")
    with pytest.raises(InputError, match="not the table that the record names"):
        who_used(checkout, CLIPS[0].clip_id)


def test_trace_names_rows_steps_skips_shards_and_models(finish: Finish, checkout: Path) -> None:
    cached = CachedClip(CLIPS[0].clip_id, "target0/latents", "shard-0.safetensors", 4096, 128, 0, 21, "person0")

    def add(worktree: Path) -> None:
        write_manifest(worktree / "data/latents/manifest.parquet", CachedClip, [cached], ("clip_id", "key"))
        ledger = worktree / "data/stage2/ledger.parquet"
        rows = read_manifest(ledger, Consumed)
        more = Consumed("stage2", 7, 0, [CLIPS[0].clip_id], "target0", "ref0", True, "")
        lost = Consumed("stage2", 9, 0, [CLIPS[0].clip_id], "target0", "ref0", False, "loss is nan")
        write_manifest(ledger, Consumed, [*rows, more, lost], ("step", "slot"))

    finish(FIRST, spoil=add)
    found = open_finished(checkout, FIRST)
    trace = trace_clip(checkout, found.commit, found.record, CLIPS[0].clip_id)
    assert trace.missing == []
    assert trace.rows["latents"] == [asdict(cached)]
    assert trace.rows["ingest"][0]["record_id"] == "r0"
    assert len(trace.rows["pairs"]) == 1
    assert trace.steps["stage1"] == {"samples": 3, "used": [(0, 2)], "skipped": []}
    assert trace.steps["stage2"]["used"] == [(0, 2), (7, 7)]
    assert trace.steps["stage2"]["skipped"] == [{"step": 9, "reason": "loss is nan"}]
    assert set(trace.models) == {f"data/{stage}/model/model.safetensors" for stage in ALL}
    judged = trace_clip(checkout, found.commit, found.record, CLIPS[4].clip_id)
    assert (judged.scores, dict(judged.models)) == (2, {})


def test_trace_says_what_is_not_on_this_machine(finish: Finish, checkout: Path) -> None:
    finish(FIRST)
    for path in (checkout / ".dvc/cache/files/md5").glob("*/*"):
        path.unlink()
    found = open_finished(checkout, FIRST)
    trace = trace_clip(checkout, found.commit, found.record, CLIPS[0].clip_id)
    assert "data/stage1/ledger.parquet" in trace.missing
    assert trace.steps == {}


def test_lineage_in_every_form(finish: Finish, checkout: Path) -> None:
    record = finish(FIRST).record
    parent = {"run_id": FIRST, "record_sha256": "a" * 64}
    finish(SECOND, parents=[parent])
    family = trace_family(checkout, SECOND)
    assert [node.name for node in family.nodes] == [
        s["name"] for s in record["stages"] if s["name"] in record["dvc"]["stages"]
    ]
    assert family.parents == (parent,)
    assert trace_family(checkout, FIRST).children == (SECOND,)
    stage1 = next(node for node in family.nodes if node.name == "stage1")
    assert stage1.facts["trained on"] == "4 clips, 6 samples"
    assert as_mermaid(family).startswith("flowchart TD\n")
    assert f'["run {FIRST}"]' in as_mermaid(family)
    page = as_html(family)
    assert "<script" not in page
    assert "http" not in page


def test_diff_tells_data_params_metrics_and_nothing_of_equals(finish: Finish, checkout: Path) -> None:
    def fewer(worktree: Path) -> None:
        ledger = worktree / "data/stage1/ledger.parquet"
        rows = [row for row in read_manifest(ledger, Consumed) if CLIPS[0].clip_id not in row.clip_ids]
        write_manifest(ledger, Consumed, rows, ("step", "slot"))
        params = worktree / "params.yaml"
        params.write_text(params.read_text().replace("0.001", "0.002"))

    finish(FIRST)
    finish(SECOND, gain=0.4, spoil=fewer)
    found = compare(checkout, FIRST, SECOND)
    assert found["params"] == {"stage1.lr": [0.001, 0.002]}
    assert found["data"]["stage1"]["removed_clips"] == sorted([CLIPS[0].clip_id, CLIPS[1].clip_id])
    assert set(found["data"]) == {"stage1"}
    assert found["code"] == {}
    assert found["environment"] == {}
    assert found["metrics"]["id_target"]["difference"] == pytest.approx(0.1)
    same = compare(checkout, FIRST, FIRST)
    assert [same[name] for name in ("params", "data", "code", "environment", "weights")] == [{}] * 5


def test_a_proof_of_presence_and_one_of_absence(finish: Finish, checkout: Path) -> None:
    record = finish(FIRST).record
    pinned = record["consumption"]["subjects"]
    inside = prove_subject(checkout, FIRST, f"person:{CLIPS[0].person_id}")
    assert check_proof(json.loads(json.dumps(inside)), pinned["merkle_root"], pinned["size"])
    assert len(inside["rows"]) == 6
    outside = prove_subject(checkout, FIRST, "person:nobody-at-all")
    assert not check_proof(outside, pinned["merkle_root"], pinned["size"])
    assert "rows" not in outside
    assert prove_subject(checkout, FIRST, f"person_id:{CLIPS[0].person_id}") == inside
    with pytest.raises(InputError, match="a group of faces"):
        prove_subject(checkout, FIRST, f"person:i-{CLIPS[0].person_id}")
