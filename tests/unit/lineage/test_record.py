"""The record holds what the run was made of, follows its schema, and is the same bytes for the same run."""

import json
import shutil
from pathlib import Path

import jsonschema
import pytest
from tavr_lineage.candidate import tree_without_seal
from tavr_lineage.closure import CONSUMPTION, Consumption
from tavr_lineage.record import RECORD, StageOutcome, parse_record
from tavr_lineage.subjects import subject_tree
from tavr_lineage.trust.attest import ATTESTATION, open_sealed
from tavr_lineage.trust.keys import signing_key
from tavr_records.errors import InputError
from tavr_records.ids import canonical_json, sha256_bytes
from tavr_records.manifest import read_manifest, read_table
from tavr_records.withdrawals import read_withdrawals

from .conftest import CLIPS, ORDER, Finish, git

RUN = "20260101-00000001"


@pytest.fixture
def schema(root: Path) -> dict:
    return json.loads((root / "docs/schemas/record.schema.json").read_text())


def test_the_record_says_what_the_model_was_made_of(finish: Finish, checkout: Path, schema: dict) -> None:
    record = finish(RUN).record
    jsonschema.validate(record, schema)
    assert record["code"]["commit"] == git(checkout, "rev-parse", "main")
    assert record["code"]["dirty"] is False
    assert record["seeds"] == {"stage1": 3}
    assert record["weights"][0]["sha256"] == "b" * 64
    assert record["outputs"]["data/stage3/model/model.safetensors"] == sha256_bytes(b"stage3 0.3")
    assert record["licences"] == {"data": {"Apache-2.0": 4}, "weights": {"Apache-2.0": 1}}
    assert record["people"] == {"trained": 2, "benchmark": 4, "in_both": []}
    assert record["exclusions"]["data/ingest/quarantine.parquet"][0]["reason"] == "dover 3.0"
    assert record["ledgers"]["stage2"]["rows"] == 7
    assert record["ledgers"]["stage2"]["used"] == 6
    assert record["ledgers"]["stage2"]["clips"] == 4
    assert {row["reviewer"] for row in record["reviews"]} == {"ground-truth"}


def test_consumption_names_every_used_clip_and_no_skipped_one(finish: Finish, checkout: Path) -> None:
    record = finish(RUN).record
    rows = read_manifest(checkout / ".runs" / RUN / CONSUMPTION, Consumption)
    learnt = [row for row in rows if row.stage != "benchmark"]
    assert {(row.clip_id, row.stage) for row in learnt} == {
        (clip.clip_id, stage) for clip in CLIPS[:4] for stage in ("stage1", "stage2", "stage3")
    }
    assert all((row.first_step, row.last_step, row.samples) == (0, 2, 3) for row in learnt)
    assert {row.clip_id for row in rows if row.stage == "benchmark"} == {clip.clip_id for clip in CLIPS[4:]}
    assert all(row.samples == 2 for row in rows if row.stage == "benchmark")  # the candidate's and the base's video
    assert rows == sorted(rows, key=lambda row: (row.clip_id, row.stage))
    assert (record["consumption"]["clips"], record["consumption"]["rows"]) == (12, 20)
    tree = subject_tree(read_table(checkout / ".runs" / RUN / CONSUMPTION, Consumption)).tree
    assert record["consumption"]["subjects"] == {"size": tree.size, "merkle_root": tree.root}


def test_the_commit_carries_the_record_in_canonical_bytes(finish: Finish, checkout: Path) -> None:
    candidate = finish(RUN)
    data = (checkout / ".runs" / RUN / RECORD).read_bytes()
    assert data == canonical_json(candidate.record) + b"\n"
    assert sha256_bytes(data) == candidate.record_sha256
    assert parse_record(data, "here") == candidate.record
    assert candidate.record_sha256 in git(checkout, "log", "-1", "--format=%B", f"run/{RUN}")
    assert tree_without_seal(checkout, candidate.commit) == candidate.record["code"]["tree"]
    assert git(checkout, "log", "-1", "--format=%ae", candidate.commit) == "tavr@localhost"


def test_the_attestation_is_signed_and_names_the_trained_files(finish: Finish, checkout: Path) -> None:
    candidate = finish(RUN)
    key = signing_key(checkout)
    data = (checkout / ".runs" / RUN / ATTESTATION).read_bytes()
    told = json.loads(open_sealed(data, [key], "here"))
    assert told["predicateType"] == "https://slsa.dev/provenance/v1"
    subjects = {subject["name"]: subject["digest"]["sha256"] for subject in told["subject"]}
    assert subjects.pop("record.json") == candidate.record_sha256
    assert sorted(subjects) == [f"data/stage{n}/model/model.safetensors" for n in (1, 2, 3)]
    envelope = json.loads(data)
    envelope["payload"] = envelope["payload"][:-8] + "AAAAAAA="
    with pytest.raises(InputError, match="signed by none"):
        open_sealed(json.dumps(envelope).encode(), [key], "here")


def test_a_refused_run_still_has_a_record(finish: Finish, checkout: Path, schema: dict) -> None:
    def refuse(worktree: Path) -> None:
        for name in ("stage1", "stage2", "stage3", "benchmark"):
            shutil.rmtree(worktree / "data" / name)
        shutil.rmtree(worktree / "reports/benchmark")

    stages = [StageOutcome(name, "done" if ORDER.index(name) < 9 else "not_run") for name in ORDER]
    record = finish(RUN, spoil=refuse, stages=stages).record
    jsonschema.validate(record, schema)
    assert record["benchmark"] is None
    assert record["consumption"]["clips"] == 0
    assert not [path for path in record["outputs"] if "/model/" in path]


def test_withdrawn_and_unknown_clips_are_named(finish: Finish, checkout: Path) -> None:
    line = {"kind": "person_id", "value": "person0", "reason": "asked", "withdrawn_at": "2026-01-01T00:00:00Z"}

    def spoil(worktree: Path) -> None:
        (worktree / "audit/withdrawn.jsonl").write_text(json.dumps(line) + "\n")
        assert len(read_withdrawals(worktree / "audit/withdrawn.jsonl")) == 1

    record = finish(RUN, spoil=spoil).record
    assert record["consumption"]["withdrawn_clips"] == sorted(clip.clip_id for clip in CLIPS[:2])


def test_a_record_of_another_version_or_no_record_is_refused() -> None:
    with pytest.raises(InputError, match="schema_version is 3"):
        parse_record(b'{"schema_version": 3}', "here")
    with pytest.raises(InputError, match="here: not a run record"):
        parse_record(b"[]", "here")
