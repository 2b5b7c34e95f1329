"""Geometry, time and sound of a clip."""

from types import SimpleNamespace

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tavr_ingest.decode import RefusedClipError, decode, nearest_frames, place_sound
from tavr_ingest.normalise import Window, crop_window, find_cut, fit_sound, frame_count, sample_indices
from tavr_records.media import write_video

RATE = 16000
SIZES = st.tuples(st.integers(32, 2200), st.integers(32, 4000))


@given(
    frame=SIZES,
    target=st.sampled_from([(480, 896), (64, 112), (896, 480), (64, 64)]),
    x=st.floats(0, 1),
    y=st.floats(0, 1),
    row=st.floats(0.2, 0.8),
    cover=st.floats(0.3, 1.0),
)
def test_the_window_lies_in_the_frame_and_has_the_target_shape(frame, target, x, y, row, cover):
    height, width = frame
    face = np.array([x * width, y * height, x * width, y * height], np.float32)
    window = crop_window(face, frame, target, row, cover)
    assert window.left >= 0
    assert window.top >= 0
    assert window.left + window.width <= width
    assert window.top + window.height <= height
    assert abs(window.width - window.height * target[1] / target[0]) <= 1 + target[1] / target[0]
    largest = min(height, width * target[0] / target[1])
    assert cover * largest - 1.5 <= window.height <= largest + 1


def test_the_window_is_centred_where_the_frame_allows():
    window = crop_window(np.array([880, 400, 1080, 600], np.float32), (1080, 1920), (480, 896), 0.45, 0.5)
    assert abs(window.left + window.width / 2 - 980) <= 1
    assert abs(window.top + 0.45 * window.height - 500) <= 1


def test_a_face_at_the_edge_gets_the_smallest_window_beside_it():
    window = crop_window(np.array([0, 400, 100, 600], np.float32), (1080, 1920), (480, 896), 0.45, 0.75)
    assert window.left == 0
    assert abs(window.height - 0.75 * 1920 * 480 / 896) <= 1


def test_cropping_averages_areas():
    frame = np.zeros((8, 16, 3), np.uint8)
    frame[:, ::2] = 200
    assert (Window(0, 0, 16, 8).cut(frame, 4, 8) == 100).all()


@given(video=st.floats(0, 20), audio=st.floats(0, 20), section=st.floats(0, 20), cap=st.integers(1, 200))
def test_no_frame_lacks_picture_or_more_than_one_its_sound(video, audio, section, cap):
    count = frame_count(video, audio, section, 25, cap)
    assert 0 <= count <= cap
    for covered in (video, audio + 1 / 25, section):
        assert count / 25 <= covered + 0.0011


def test_sections_of_whole_frames_lose_none():
    for frames in range(1, 200):
        assert frame_count(99, 99, round(1000 * frames / 25) / 1000, 25, 1000) == frames
        assert frame_count(frames / 25, frames / 25, 99, 25, 1000) == frames


@given(length=st.integers(0, 5000), frames=st.integers(1, 40), fps=st.sampled_from([24, 25, 30]))
def test_sound_lasts_exactly_as_long_as_the_pictures(length, frames, fps):
    fitted = fit_sound(np.ones(length, np.float32), frames, fps, RATE)
    assert len(fitted) == frames * RATE // fps
    kept = min(length, len(fitted))
    assert (fitted[:kept] == 1).all()
    assert (fitted[kept:] == 0).all()


@given(delay=st.integers(-50, 50), length=st.integers(1, 200))
def test_sound_is_placed_by_its_own_time(delay, length):
    sound = np.arange(1, 101, dtype=np.float32)
    placed = place_sound(sound, delay, length)
    assert len(placed) <= length
    for index, value in enumerate(placed):
        assert value == (sound[index - delay] if index >= delay else 0)


@given(gaps=st.lists(st.floats(0.005, 0.2), min_size=2, max_size=60), fps=st.sampled_from([12, 25, 30]))
def test_each_instant_takes_the_nearest_frame(gaps, fps):
    times = np.cumsum([0.0, *gaps])
    count = int(times[-1] * fps) + 1
    chosen = nearest_frames(times, fps, count)
    for instant, index in zip(np.arange(count) / fps, chosen, strict=True):
        assert abs(times[index] - instant) <= np.abs(times - instant).min() + 1e-12
    assert (np.diff(chosen) >= 0).all()


def test_the_same_rate_takes_every_frame():
    assert nearest_frames(np.arange(50) / 25, 25, 50).tolist() == list(range(50))


@pytest.mark.parametrize(("detector", "threshold"), [("content", 10.0), ("histogram", 0.085)])
def test_a_cut_is_found_and_a_steady_clip_has_none(detector, threshold):
    rng = np.random.default_rng(0)
    room = rng.integers(0, 90, (36, 64, 3), dtype=np.uint8)
    other = rng.integers(120, 255, (36, 64, 3), dtype=np.uint8)
    steady = [np.roll(room, shift, axis=1) // 2 + room // 2 for shift in (0, 0, 0, 0, 0)]
    assert find_cut(steady, detector, threshold) is None
    assert find_cut([room] * 4 + [other] * 4, detector, threshold) == 4
    with pytest.raises(ValueError, match="nonsense"):
        find_cut(steady, "nonsense", 1.0)


def test_sampled_frames_reach_both_ends():
    assert sample_indices(10, 4).tolist() == [0, 3, 6, 9]
    assert sample_indices(2, 8).tolist() == [0, 1]


def clip(path, frames=20, fps=25, sound=True, pitch=300.0):
    picture = np.full((frames, 32, 48, 3), 80, np.uint8)
    picture[:, :, :24] = 200
    wave = (0.5 * np.sin(2 * np.pi * pitch * np.arange(round(frames / fps * RATE)) / RATE)).astype(np.float32)
    write_video(path, picture, fps, wave if sound else None, RATE)
    return wave


def test_decoding_gives_times_pictures_and_sound_in_step(tmp_path):
    wave = clip(tmp_path / "a.mp4")
    footage, sound = decode(tmp_path / "a.mp4", 10.0, RATE)
    assert len(footage.pictures) == 20
    assert np.allclose(footage.times, np.arange(20) / 25)
    assert footage.seconds == pytest.approx(0.8)
    assert footage.frame(0).shape == (32, 48, 3)
    assert abs(len(sound) - len(wave)) <= 2048
    middle = slice(4000, 8000)
    lags = [float(np.dot(sound[middle], wave[4000 + lag : 8000 + lag])) for lag in range(-20, 21)]
    assert abs(int(np.argmax(lags)) - 20) <= 2, "the first sample belongs to the first frame"


def test_decoding_stops_after_the_seconds_asked_for(tmp_path):
    clip(tmp_path / "a.mp4", frames=50)
    footage, sound = decode(tmp_path / "a.mp4", 0.4, RATE)
    assert len(footage.pictures) == 12
    assert len(sound) <= round(footage.seconds * RATE)


def test_a_turned_picture_comes_out_upright(tmp_path):
    clip(tmp_path / "a.mp4", frames=3)
    footage, _ = decode(tmp_path / "a.mp4", 1.0, RATE)
    upright = footage.frame(0)
    straight = footage.pictures[0]
    footage.pictures[0] = SimpleNamespace(rotation=90, to_ndarray=straight.to_ndarray)
    assert np.array_equal(footage.frame(0), np.rot90(upright, 1))


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (lambda data: data[:300], "unreadable"),
        (lambda data: b"", "unreadable"),
        (lambda data: b"not a video at all" * 100, "unreadable"),
        (lambda data: data[: len(data) // 2], "unreadable"),
    ],
)
def test_a_broken_file_is_refused(tmp_path, spoil, rule):
    path = tmp_path / "a.mp4"
    clip(path)
    data = path.read_bytes()
    moov_last = tmp_path / "late.mp4"
    with av.open(str(path)) as source, av.open(str(moov_last), "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    path.write_bytes(spoil(moov_last.read_bytes() if len(data) // 2 else data))
    with pytest.raises(RefusedClipError) as refusal:
        decode(path, 1.0, RATE)
    assert refusal.value.rule == rule
    assert str(tmp_path) not in refusal.value.reason, "quarantine does not depend on where the checkout lies"


def test_a_silent_file_is_refused(tmp_path):
    clip(tmp_path / "a.mp4", sound=False)
    with pytest.raises(RefusedClipError) as refusal:
        decode(tmp_path / "a.mp4", 1.0, RATE)
    assert refusal.value.rule == "no_audio"
