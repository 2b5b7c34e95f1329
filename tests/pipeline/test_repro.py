"""`dvc repro` in a clean clone: every stage runs, nothing runs twice, one value re-runs what follows it and no more."""

import json
import time

import pandas as pd
import pytest
import yaml
from tavr_cli.compose import CHECKED, SECTIONS, write_params
from tavr_records.media import read_audio, read_video

pytestmark = pytest.mark.xdist_group("clone")


def test_every_stage_has_run(finished):
    lock = yaml.safe_load((finished.path / "dvc.lock").read_text())
    assert sorted(lock["stages"]) == sorted(SECTIONS)
    for stage in CHECKED:
        verdict = json.loads((finished.path / f"reports/{stage}/verdict.json").read_text())
        assert verdict["critical"] is False, verdict
        assert verdict["checks"]


def test_bad_records_are_in_quarantine_with_their_reason(finished):
    refused = pd.read_parquet(finished.path / "data/ingest/quarantine.parquet")
    assert set(refused["rule"]) >= {
        "dover", "no_audio", "scene_cut", "duplicate", "duration", "unreadable", "missing_field", "no_face",
    }  # fmt: skip
    assert refused["reason"].str.len().gt(5).all()


def test_the_ledger_holds_only_people_of_the_train_split(finished):
    clips = pd.read_parquet(finished.path / "data/pairs/clips.parquet").set_index("clip_id")
    persons = {split: set(rows["person_id"]) for split, rows in clips.groupby("split")}
    assert persons["train"] & persons["benchmark"] == set()
    params = yaml.safe_load((finished.path / "params.yaml").read_text())
    for stage in ("stage1", "stage2", "stage3"):
        ledger = pd.read_parquet(finished.path / f"data/{stage}/ledger.parquet")
        optimizer = params[stage]["optimizer"]
        assert len(ledger) == optimizer["steps"] * optimizer["global_batch"]
        used = {clip for ids in ledger["clip_ids"] for clip in ids}
        assert used
        assert set(clips.loc[sorted(used), "split"]) == {"train"}


def test_the_benchmark_writes_videos_with_sound(finished):
    scores = pd.read_parquet(finished.path / "data/benchmark/manifest.parquet")
    assert set(scores["method"]) == {"ours", "base"}
    for row in scores.itertuples():
        video = finished.path / "data/benchmark" / row.path
        frames, rate = read_video(video)
        assert frames.shape == (21, 64, 112, 3)
        assert rate == 25
        assert len(read_audio(video, 16000)) >= 21 * 640
        assert -1 <= row.id_target <= 1
    metrics = json.loads((finished.path / "reports/benchmark/metrics.json").read_text())
    ours = scores[scores["method"] == "ours"].groupby("pair_id")["id_target"].mean()
    assert metrics["methods"]["ours"]["id_target"]["mean"] == pytest.approx(ours.mean())
    page = (finished.path / "reports/benchmark/report.html").read_text()
    assert "http://" not in page
    assert "https://" not in page


def test_nothing_runs_twice(finished):
    started = time.monotonic()
    result = finished.run("dvc", "repro")
    assert "Data and pipelines are up to date." in result.stdout
    assert "Running stage" not in result.stdout
    assert time.monotonic() - started < 60  # a bound against doing work, not a measurement


def test_one_value_of_stage3_reruns_what_follows_it(finished):
    write_params("micro", ["stage3.preference.beta=400.0"], finished.path)
    result = finished.run("dvc", "repro").stdout
    ran = [line.split("'")[1] for line in result.splitlines() if line.startswith("Running stage")]
    assert ran == ["stage3", "benchmark", "check_benchmark"]
