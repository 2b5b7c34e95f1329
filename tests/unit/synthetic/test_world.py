"""The planned world: real files, TalkVid's metadata, faults that deserve rejection, truth kept aside."""

import dataclasses
import json

import av
import av.error
import numpy as np
import pytest
from tavr_records.media import read_audio, read_video
from tavr_synthetic.people import sample_person
from tavr_synthetic.talkvid import HeadScores, Info, Record
from tavr_synthetic.video import write_mp4
from tavr_synthetic.world import (
    REJECTS,
    WorldConfig,
    make_record,
    plan_world,
    render,
    render_bytes,
    render_planned,
    write_metadata,
)

CONFIG = WorldConfig(
    people=3,
    scenes_per_person=2,
    clips_per_scene=2,
    clip_frames=15,
    fps=25.0,
    height=48,
    width=80,
    seed=1,
    rejects=True,
)


def faulty(reason):
    return next(clip for clip in plan_world(CONFIG) if clip.reject == reason)


def test_plan_is_pure_and_complete():
    plan = plan_world(CONFIG)
    assert plan == plan_world(CONFIG)
    good = [clip for clip in plan if clip.reject is None]
    assert len(good) == 3 * 2 * 2
    assert [clip.reject for clip in plan[len(good) :]] == list(REJECTS)
    assert len({clip.key for clip in plan}) == len(plan)
    assert len({clip.person_seed for clip in good}) == 3
    assert len({(clip.person_seed, clip.scene_seed) for clip in good}) == 6
    assert len(plan_world(dataclasses.replace(CONFIG, rejects=False))) == len(good)
    assert len(plan_world(dataclasses.replace(CONFIG, rejects=11))) == len(good) + 11
    assert not {c.person_seed for c in good} & {
        c.person_seed for c in plan_world(dataclasses.replace(CONFIG, seed=2)) if c.reject is None
    }


@pytest.mark.parametrize("change", [{"people": 0}, {"clip_frames": -1}, {"fps": 0.0}, {"height": 47}, {"width": 0}])
def test_impossible_worlds_are_refused(change):
    with pytest.raises(ValueError, match=str(next(iter(change.values())))):
        plan_world(dataclasses.replace(CONFIG, **change))


def test_clip_is_h264_and_aac_and_reads_back(tmp_path):
    clip = plan_world(CONFIG)[0]
    path = render_planned(clip, tmp_path / "clips")
    assert path == tmp_path / "clips" / clip.file_name
    with av.open(str(path)) as container:
        assert [s.codec_context.name for s in container.streams.video] == ["h264"]
        assert [s.codec_context.name for s in container.streams.audio] == ["aac"]
        assert not container.metadata.get("creation_time")
    frames, fps = read_video(path)
    assert frames.shape == (15, 48, 80, 3)
    assert fps == 25.0
    rendered = render(clip)
    error = ((frames.astype(float) - rendered.frames) ** 2).mean()
    assert 10 * np.log10(255**2 / error) > 30, "PSNR in dB after h264"
    sound = read_audio(path, 16000)
    assert rendered.waveform is not None
    length = len(rendered.waveform)
    assert length == 9600
    assert np.corrcoef(sound[:length], rendered.waveform)[0, 1] > 0.9, "sound is in step with the picture"


def test_files_are_byte_equal_and_nothing_else_is_written(tmp_path):
    clip = plan_world(CONFIG)[1]
    path = render_planned(clip, tmp_path)
    assert path.read_bytes() == render_bytes(clip)
    assert [p.name for p in tmp_path.iterdir()] == [clip.file_name]


def test_truth_is_kept_aside_when_asked(tmp_path):
    clip = plan_world(CONFIG)[0]
    render_planned(clip, tmp_path / "clips", truth_dir=tmp_path / "truth")
    render_planned(clip, tmp_path / "again", truth_dir=tmp_path / "truth_again")
    file = tmp_path / "truth" / f"{clip.key}.npz"
    assert file.read_bytes() == (tmp_path / "truth_again" / file.name).read_bytes()
    with np.load(file) as truth:
        assert truth["person_mask"].shape == (15, 48, 80)
        assert truth["face_box"].shape == (15, 4)
        facts = json.loads(truth["facts"].tobytes())
    assert facts["person_seed"] == clip.person_seed
    assert facts["reject"] is None


def test_records_have_talkvids_fields_and_pass_its_filters():
    for clip in plan_world(CONFIG)[:12]:
        record = make_record(clip)
        assert set(record) == set(Record.__annotations__)
        assert set(record["info"]) == set(Info.__annotations__)
        scores = record["head_detail"]["scores"]
        assert set(scores) == set(HeadScores.__annotations__)
        assert record["end-frame"] - record["start-frame"] == 15
        assert record["end-time"] - record["start-time"] == pytest.approx(0.6)
        assert record["durations"] == "0.600s"
        assert record["dover_scores"] >= 5
        assert 0.7 <= record["cotracker_ratio"] <= 0.99
        limits = {"movement": (80, 60), "orientation": (70, 30), "completeness": (100, 100)}
        for name, (average, lowest) in {**limits, "resolution": (50, 40), "rotation": (70, 60)}.items():
            assert scores[f"avg_{name}"] >= average
            assert scores[f"min_{name}"] >= lowest
            assert scores[f"avg_{name}"] >= scores[f"min_{name}"]
        json.dumps(record)
    assert any(make_record(clip)["start-time"] == 0 for clip in plan_world(CONFIG))


def test_description_tells_of_room_and_clothes_not_of_the_face():
    clip = plan_world(CONFIG)[0]
    text = make_record(clip)["description"]
    assert clip.person().clothing.colour_name in text
    assert "background" in text
    assert "light" in text
    for word in ("hair", "beard", "skin", "glasses", "bald", "eyes are", "man", "woman"):
        assert word not in text.split()


def test_metadata_file_is_a_list_of_all_records(tmp_path):
    plan = plan_world(CONFIG)
    write_metadata(plan, tmp_path / "metadata.json")
    records = json.loads((tmp_path / "metadata.json").read_text())
    assert [r["id"] for r in records] == [clip.key for clip in plan]


def test_blurred_clip_has_low_dover_and_little_detail():
    clip = faulty("low_dover")
    assert make_record(clip)["dover_scores"] < 5

    def detail(frames):
        return np.abs(np.diff(frames.astype(int), axis=2)).mean()

    assert detail(render(clip).frames) < 0.5 * detail(render(dataclasses.replace(clip, reject=None)).frames)


def test_missing_audio_corrupt_and_short_files(tmp_path):
    with av.open(str(render_planned(faulty("no_audio"), tmp_path))) as container:
        assert not container.streams.audio
    with pytest.raises(av.error.InvalidDataError):
        av.open(str(render_planned(faulty("corrupt"), tmp_path)))
    frames, _ = read_video(render_planned(faulty("too_short"), tmp_path))
    assert len(frames) == 5


def test_hard_cut_changes_person_and_room():
    clip = faulty("hard_cut")
    rendered = render(clip)
    assert rendered.frames.shape == (15, 48, 80, 3)
    assert len(rendered.truth.face_box) == 15
    steps = np.abs(np.diff(rendered.frames.astype(int), axis=0)).mean(axis=(1, 2, 3))
    assert int(np.argmax(steps)) == 15 // 2 - 1
    assert np.sort(steps)[-1] > 5 * np.sort(steps)[-2]


def test_duplicate_has_the_bytes_of_another_clip():
    plan = plan_world(CONFIG)
    copy = faulty("duplicate")
    original = next(c for c in plan if c.reject is None and c.motion_seed == copy.motion_seed)
    assert copy.key != original.key
    assert render_bytes(copy) == render_bytes(original)


def test_missing_field_and_empty_room():
    dropped = [c for c in plan_world(dataclasses.replace(CONFIG, rejects=32)) if c.reject == "missing_field"]
    missing = [set(Record.__annotations__) - set(make_record(clip)) for clip in dropped]
    assert missing == [{"end-time"}, {"dover_scores"}, {"fps"}, {"info"}]
    empty = render(faulty("no_face"))
    assert not empty.truth.person_mask.any()
    assert (empty.frames == empty.frames[:1]).all()


def test_mp4_refuses_odd_sizes_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="47x80"):
        write_mp4(tmp_path / "a.mp4", np.zeros((2, 47, 80, 3), np.uint8), None, 25.0)
    assert not list(tmp_path.iterdir())


def test_people_have_plausible_metadata():
    for seed in range(50):
        person = sample_person(seed)
        assert person.gender in ("Male", "Female")
        assert person.ethnicity in ("White", "Asian", "Black")
        if person.gender == "Female":
            assert person.beard.style == "none"
