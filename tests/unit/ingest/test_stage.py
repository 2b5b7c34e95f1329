"""The stage `ingest` as a whole: what goes in, what is refused by which rule, and bytes that never depend on history."""

import dataclasses
import hashlib
import json
import shutil
import wave

import pytest
from tavr_ingest import normalise
from tavr_ingest.checks import check_ingest
from tavr_ingest.config import CheckIngestConfig
from tavr_ingest.stage import ingest
from tavr_records.errors import InputError, RefusedError
from tavr_records.ids import clip_id, person_id
from tavr_records.manifest import read_manifest, write_manifest
from tavr_records.media import read_video
from tavr_records.schemas import Clip, Refused
from tavr_records.verdict import CheckResult, Verdict, require_passed, write_verdict

from .conftest import good_record, make_config


def clips(root):
    return read_manifest(root / "data/ingest/manifest.parquet", Clip)


def refusals(root):
    return {(row.record_id, row.rule) for row in read_manifest(root / "data/ingest/quarantine.parquet", Refused)}


def digests(folder):
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()
    }


def test_good_records_become_clips(data_set):
    data_set.add("one")
    data_set.add("two", fps=30, frames=36, info__Gender="Female")
    data_set.write()
    ingest(make_config(), data_set.root)
    assert refusals(data_set.root) == set()
    for clip in clips(data_set.root):
        assert clip.clip_id == clip_id(clip.source_key, 0, 1200)
        assert clip.person_id == person_id(b"a key\n", "test", "7")
        assert (clip.height, clip.width, clip.fps, clip.frames) == (32, 48, 25, 28)
        frames, fps = read_video(data_set.root / "data/ingest" / clip.path)
        assert frames.shape == (28, 32, 48, 3)
        assert fps == 25
        with wave.open(str(data_set.root / "data/ingest" / clip.audio_path)) as sound:
            assert (sound.getnframes(), sound.getframerate(), sound.getnchannels()) == (28 * 640, 16000, 1)
    assert [clip.gender for clip in sorted(clips(data_set.root), key=lambda c: c.record_id)] == ["Male", "Female"]


def test_every_bad_record_is_refused_by_its_rule(data_set):
    data_set.add("good")
    data_set.add("silent", file="silent")
    data_set.add("cut", file="cut")
    data_set.add("corrupt", file="corrupt")
    data_set.add("faceless", file="faceless")
    data_set.add("short", frames=12)
    data_set.add("blurred", dover_scores=2.0)
    data_set.add("vague", info=None)
    data_set.add("late")
    data_set.source("late", "video-late", (40, 1240))
    data_set.add("twin")
    shutil.copyfile(data_set.root / "data/sources/media/good.mp4", data_set.root / "data/sources/media/twin.mp4")
    data_set.source("twin", "video-twin", (0, 1200))
    data_set.records.append(good_record("unfetched"))
    data_set.records.append(good_record("../escape"))
    data_set.records.append(good_record("good"))
    data_set.add("orphan")
    data_set.records.pop()
    data_set.add("withdrawn")
    data_set.write()
    quarantined = [Refused("withdrawn", "no_withdrawn", "by request")]
    write_manifest(data_set.root / "reports/sources/quarantine.parquet", Refused, quarantined, ("record_id", "rule"))
    ingest(make_config(), data_set.root)
    assert [clip.record_id for clip in clips(data_set.root)] == ["good"]
    assert refusals(data_set.root) == {
        ("silent", "no_audio"),
        ("cut", "scene_cut"),
        ("corrupt", "unreadable"),
        ("faceless", "no_face"),
        ("short", "too_short"),
        ("blurred", "dover"),
        ("vague", "missing_field"),
        ("late", "section_changed"),
        ("twin", "duplicate"),
        ("unfetched", "not_fetched"),
        ("#11", "unsafe_id"),
        ("#12", "duplicate_id"),
        ("orphan", "no_metadata"),
        ("withdrawn", "quarantined"),
    }


def test_one_section_of_one_source_makes_one_clip(data_set):
    data_set.add("first")
    data_set.add("second")
    data_set.source("second", "video-first", (0, 1200))
    data_set.write()
    ingest(make_config(), data_set.root)
    assert refusals(data_set.root) == {("second", "duplicate")}


def test_incremental_and_fresh_runs_give_the_same_bytes(data_set, monkeypatch):
    data_set.add("one")
    data_set.add("two", file="cut")
    data_set.write()
    ingest(make_config(), data_set.root)
    data_set.add("three")
    data_set.write()
    worked = []
    clip = normalise._clip
    monkeypatch.setattr(normalise, "_clip", lambda job: worked.append(job.media.stem) or clip(job))
    ingest(make_config(), data_set.root)
    assert worked == ["three"], "only the new clip is worked on"
    incremental = digests(data_set.root / "data/ingest")
    shutil.rmtree(data_set.root / ".work")
    shutil.rmtree(data_set.root / "data/ingest")
    ingest(make_config(), data_set.root)
    assert digests(data_set.root / "data/ingest") == incremental
    assert len(incremental) == 3 + 2 * 2


def test_a_parameter_of_the_picture_makes_new_clips_but_a_filter_does_not(data_set, monkeypatch):
    data_set.add("one")
    data_set.write()
    ingest(make_config(), data_set.root)
    worked = []
    clip = normalise._clip
    monkeypatch.setattr(normalise, "_clip", lambda job: worked.append(job.media.stem) or clip(job))
    ingest(make_config(dataset="other"), data_set.root)
    assert worked == []
    ingest(make_config(crf=30), data_set.root)
    assert worked == ["one"]


def test_an_interrupted_run_leaves_the_old_output_and_is_carried_on(data_set, monkeypatch):
    data_set.add("one")
    data_set.write()
    ingest(make_config(), data_set.root)
    before = digests(data_set.root / "data/ingest")
    data_set.add("two")
    data_set.add("three")
    data_set.write()
    clip = normalise._clip

    def stop_at_the_third(job):
        if job.media.stem == "three":
            raise KeyboardInterrupt
        return clip(job)

    monkeypatch.setattr(normalise, "_clip", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        ingest(make_config(), data_set.root)
    assert digests(data_set.root / "data/ingest") == before
    assert list((data_set.root / "data").glob(".*")) == []
    (data_set.root / "data/.ingest.dead1234").mkdir()
    worked = []
    monkeypatch.setattr(normalise, "_clip", lambda job: worked.append(job.media.stem) or clip(job))
    ingest(make_config(), data_set.root)
    assert worked == ["three"]
    assert len(clips(data_set.root)) == 3
    assert list((data_set.root / "data").glob(".*")) == [], "what a killed run left is gone"


def test_a_damaged_memo_is_named(data_set):
    data_set.add("one")
    data_set.write()
    ingest(make_config(), data_set.root)
    (remembered,) = (data_set.root / ".work/ingest/memo").rglob("clip.mp4")
    remembered.write_bytes(remembered.read_bytes()[:-1])
    with pytest.raises(InputError, match="damaged"):
        ingest(make_config(), data_set.root)


def test_a_refusing_check_stops_the_stage(data_set):
    data_set.add("one")
    data_set.write()
    failed = Verdict("sources", (CheckResult("enough_records", "critical", False, 1, [2, None]),))
    write_verdict(data_set.root / "reports/sources/verdict.json", failed)
    with pytest.raises(RefusedError, match="enough_records"):
        ingest(make_config(), data_set.root)


def test_the_key_must_be_the_named_one(data_set):
    data_set.add("one")
    data_set.write()
    with pytest.raises(InputError, match="restore the right key"):
        ingest(make_config(person_key_sha256="0" * 64), data_set.root)
    with pytest.raises(InputError, match="no key"):
        ingest(make_config(person_key="lost.key"), data_set.root)


def test_metadata_order_decides_which_duplicate_stands(data_set):
    for name in ("b", "a"):
        data_set.add(name)
        data_set.source(name, "one-video", (0, 1200))
    data_set.write()
    ingest(make_config(), data_set.root)
    assert [clip.record_id for clip in clips(data_set.root)] == ["b"]
    assert json.loads((data_set.root / "data/sources/metadata.json").read_text())[0]["id"] == "b"


def judge(root, **changes):
    (root / "audit").mkdir(exist_ok=True)
    (root / "audit/withdrawn.jsonl").touch()
    (root / "audit/baseline.json").write_text("{}")
    config = make_config()
    shape = {
        name: getattr(config, name)
        for name in ("height", "width", "fps", "sample_rate", "min_frames", "max_frames", "filters")
    }
    check_ingest(CheckIngestConfig(**(shape | {"min_clips": 2, "max_refused_share": 0.5} | changes)), root)
    try:
        return require_passed("ingest", root / "reports")
    except RefusedError as error:
        return str(error)


def test_the_check_passes_good_clips_and_refuses_broken_ones(data_set):
    data_set.add("one")
    data_set.add("two")
    data_set.add("three", file="cut")
    data_set.write()
    ingest(make_config(), data_set.root)
    assert judge(data_set.root) == set()
    rows = clips(data_set.root)
    path = data_set.root / "data/ingest/manifest.parquet"

    write_manifest(path, Clip, [dataclasses.replace(rows[0], dover=1.0), rows[1]], ("clip_id",))
    assert "filter_dover" in judge(data_set.root)
    write_manifest(path, Clip, rows, ("clip_id",))
    withdrawn = {"kind": "person_id", "value": rows[0].person_id, "reason": "asked", "withdrawn_at": "2026-01-01"}
    (data_set.root / "audit/withdrawn.jsonl").write_text(json.dumps(withdrawn))
    assert judge(data_set.root) == {row.clip_id for row in rows}, "withdrawn clips are left out by what follows"
    (data_set.root / "audit/withdrawn.jsonl").write_text("")
    sound = data_set.root / "data/ingest" / rows[0].audio_path
    sound.write_bytes(sound.read_bytes()[:-2])
    (data_set.root / "data/ingest" / rows[1].path).unlink()
    verdict = judge(data_set.root, min_clips=3)
    for rule in ("sound_fits_pictures", "file_present", "enough_clips"):
        assert rule in verdict


@pytest.mark.parametrize("by", ["source_sha256", "clip_sha256", "section"])
def test_the_check_blocks_withdrawn_bytes_and_sections_under_another_key(data_set, by):
    """Footage that comes back as another source of another person is left out of everything that follows."""
    data_set.add("one")
    data_set.add("two")
    data_set.write()
    ingest(make_config(), data_set.root)
    first = next(clip for clip in clips(data_set.root) if clip.record_id == "one")
    data_set.records[0]["info"]["Person ID"] = "somebody else"
    if by != "section":
        data_set.source("one", "another-video", (0, 1200))
    data_set.write()
    ingest(make_config(), data_set.root)
    again = next(clip for clip in clips(data_set.root) if clip.record_id == "one")
    assert again.person_id != first.person_id
    assert (again.clip_id == first.clip_id) is (by == "section")
    line = {"kind": "sha256", "value": getattr(first, by, "")}
    if by == "section":
        line = {"kind": "source_key", "value": first.source_key, "start_ms": 1100, "end_ms": 9000}
    (data_set.root / "audit/withdrawn.jsonl").write_text(
        json.dumps(line | {"reason": "asked", "withdrawn_at": "2026-01-01"})
    )
    (data_set.root / "audit/baseline.json").write_text("{}")
    assert judge(data_set.root) == {again.clip_id}
