"""MFCC against a literal definition, SyncNet's windows against one-at-a-time, and what the tiny network finds."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.fftpack import dct
from talking_heads import FPS, Talker, render_talker
from tavr_perception.lipsync import LipSync, SyncScore, crop_faces, filled_boxes
from tavr_perception.mfcc import mfcc
from tavr_perception.syncnet import SyncNet, SyncNetConfig, audio_windows, offset_distances, spatial_size
from tavr_records.errors import InputError

CLIPS, FRAMES = 12, 44
TINY = SyncNetConfig(width=0.0625, embedding=8, crop_size=64, crop_scale=1.0, crop_shift=0.2, edge="overlap")


@pytest.fixture(scope="module")
def lipsync(zoo: Path) -> LipSync:
    return LipSync(zoo / "lipsync")


@pytest.fixture(scope="module")
def talkers() -> list[Talker]:
    return [render_talker(index, FRAMES) for index in range(CLIPS)]


def literal_mfcc(samples: np.ndarray, rate: int) -> np.ndarray:
    """python_speech_features' mfcc with its defaults, window by window and filter by filter."""
    signal = samples.astype(float)
    signal = np.array([signal[0], *(signal[i] - 0.97 * signal[i - 1] for i in range(1, len(signal)))])
    count = 1 + int(np.ceil((len(signal) - 400) / 160))
    signal = np.concatenate([signal, np.zeros((count - 1) * 160 + 400 - len(signal))])
    to_mel, to_hertz = lambda h: 2595 * np.log10(1 + h / 700), lambda m: 700 * (10 ** (m / 2595) - 1)
    edges = [int(np.floor(513 * to_hertz(m) / rate)) for m in np.linspace(0, to_mel(rate / 2), 28)]
    rows = []
    for start in range(0, count * 160, 160):
        power = np.abs(np.fft.rfft(signal[start : start + 400], 512)) ** 2 / 512
        bands = []
        for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
            rising = sum(power[i] * (i - low) / (middle - low) for i in range(low, middle))
            bands.append(rising + sum(power[i] * (high - i) / (high - middle) for i in range(middle, high)))
        cepstra = dct(np.log(np.maximum(bands, 1e-300)), type=2, norm="ortho")[:13]
        cepstra = cepstra * (1 + 11 * np.sin(np.pi * np.arange(13) / 22))
        cepstra[0] = np.log(power.sum())
        rows.append(cepstra)
    return np.array(rows)


@pytest.mark.parametrize("length", [400, 401, 4000, 13440])
def test_mfcc_is_the_published_definition(length: int) -> None:
    rng = np.random.default_rng(length)
    samples = (rng.standard_normal(length) * 3000).astype(np.int16)
    assert mfcc(samples, 16000) == pytest.approx(literal_mfcc(samples, 16000), abs=1e-6)


def test_silence_has_finite_features() -> None:
    assert np.isfinite(mfcc(np.zeros(8000, np.int16), 16000)).all()


def test_full_size_network_has_the_public_names_and_shapes() -> None:
    with torch.device("meta"):
        network = SyncNet(SyncNetConfig(1.0, 1024, 224, 1.4, 0.4, "zeros"))
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert spatial_size(224) == 6
    assert shapes["netcnnaud.0.weight"] == (64, 1, 3, 3)
    assert shapes["netcnnaud.4.weight"] == (192, 64, 3, 3)
    assert shapes["netcnnaud.18.weight"] == (512, 256, 5, 4)
    assert shapes["netcnnaud.19.running_var"] == (512,)
    assert shapes["netfcaud.3.weight"] == (1024, 512)
    assert shapes["netcnnlip.0.weight"] == (96, 3, 5, 7, 7)
    assert shapes["netcnnlip.18.weight"] == (512, 256, 1, 6, 6)
    assert shapes["netfclip.0.weight"] == (512, 512)
    assert shapes["netfclip.1.weight"] == (512,)


def test_whole_clip_equals_one_window_at_a_time() -> None:
    torch.manual_seed(0)
    network = SyncNet(TINY).eval()
    crops, sound = torch.rand(1, 3, 14, 64, 64) * 255, torch.randn(60, 13)
    with torch.no_grad():
        together = network.forward_visual(crops)[0]
        single = torch.cat([network.forward_visual(crops[:, :, i : i + 5])[0] for i in range(10)])
        heard = network.forward_audio(audio_windows(sound, 10))
        apart = [network.forward_audio(sound[4 * i : 4 * i + 20].T[None, None]) for i in range(10)]
    assert torch.allclose(together, single, atol=1e-5)
    assert torch.allclose(heard, torch.cat(apart), atol=1e-5)


@pytest.mark.parametrize("edge", ["zeros", "overlap"])
def test_offset_distances_are_the_definition(edge: str) -> None:
    torch.manual_seed(1)
    visual, audio = torch.randn(9, 4), torch.randn(9, 4)
    found = offset_distances(visual, audio, 4, edge)
    for index, shift in enumerate(range(-4, 5)):
        terms = []
        for i in range(9):
            if 0 <= i + shift < 9:
                terms.append(float((visual[i] - audio[i + shift]).norm()))
            elif edge == "zeros":
                terms.append(float(visual[i].norm()))
        assert float(found[index]) == pytest.approx(np.mean(terms), abs=1e-4)


def test_boxes_are_filled_from_neighbours() -> None:
    boxes = np.array([[np.nan] * 4, [0, 0, 10, 10], [np.nan] * 4, [4, 0, 14, 10]], np.float32)
    filled = filled_boxes(boxes)
    assert filled is not None
    assert filled.tolist() == [[0, 0, 10, 10], [0, 0, 10, 10], [2, 0, 12, 10], [4, 0, 14, 10]]
    assert filled_boxes(np.full((3, 4), np.nan, np.float32)) is None


def test_crops_are_bgr_squares_of_the_face() -> None:
    frames = np.zeros((9, 40, 60, 3), np.uint8)
    frames[:, 10:30, 20:40] = (200, 100, 50)
    boxes = np.tile(np.array([20, 10, 40, 30], np.float32), (9, 1))
    crops = crop_faces(frames, boxes, SyncNetConfig(1.0, 8, 32, 1.0, 0.0, "overlap"))
    assert crops.shape == (9, 32, 32, 3)
    assert (crops[:, 2:-2, 2:-2] == (50, 100, 200)).all()


def test_matched_sound_is_told_from_shifted_sound_on_unseen_people(lipsync: LipSync, talkers: list[Talker]) -> None:
    matched, shifted = [], []
    for talker in talkers:
        visual, audio = lipsync.features(talker.frames, talker.boxes, talker.waveform)
        table = torch.cdist(visual, audio).numpy()
        matched += np.diagonal(table).tolist()
        for shift in (-8, -4, 4, 8):
            shifted += np.diagonal(table, shift).tolist()
    below = np.array(matched)[:, None] < np.array(shifted)[None]
    assert below.mean() > 0.92


@pytest.mark.parametrize("late", [-5, -3, 4, 6])
def test_the_found_offset_follows_the_sound(lipsync: LipSync, talkers: list[Talker], late: int) -> None:
    """Sound that comes `late` frames late is found at offset -late, as published."""
    right = 0
    for talker in talkers:
        wave = np.roll(talker.waveform, late * 640)
        right += abs(lipsync.score(talker.frames, talker.boxes, wave, FPS).offset + late) <= 1
    assert right >= CLIPS - 2


def test_right_sound_scores_better_than_another_voice(lipsync: LipSync, talkers: list[Talker]) -> None:
    own = [lipsync.score(t.frames, t.boxes, t.waveform, FPS) for t in talkers]
    other = [lipsync.score(t.frames, t.boxes, talkers[(i + 1) % CLIPS].waveform, FPS) for i, t in enumerate(talkers)]
    assert np.mean([s.sync_c for s in own]) > 1.5 * np.mean([s.sync_c for s in other])
    assert np.mean([s.sync_d for s in own]) < 0.8 * np.mean([s.sync_d for s in other])


def test_short_clip_deterministic_and_without_a_face(lipsync: LipSync, talkers: list[Talker]) -> None:
    talker = talkers[0]
    short = lipsync.score(talker.frames[:21], talker.boxes[:21], talker.waveform[: 21 * 640], FPS)
    assert isinstance(short, SyncScore)
    assert abs(short.offset) <= 8
    assert short == lipsync.score(talker.frames[:21], talker.boxes[:21], talker.waveform[: 21 * 640], FPS)
    none = lipsync.score(talker.frames, np.full_like(talker.boxes, np.nan), talker.waveform, FPS)
    assert np.isnan(none.sync_c)
    assert np.isnan(none.sync_d)


def test_refuses_another_frame_rate_and_too_short_clips(lipsync: LipSync, talkers: list[Talker]) -> None:
    talker = talkers[0]
    with pytest.raises(ValueError, match="25"):
        lipsync.score(talker.frames, talker.boxes, talker.waveform, 30)
    with pytest.raises(ValueError, match="too short"):
        lipsync.score(talker.frames[:7], talker.boxes[:7], talker.waveform, FPS)


def test_bad_directories_are_named(tmp_path: Path, zoo: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json.*weights"):
        LipSync(tmp_path)
    values = json.loads((zoo / "lipsync" / "config.json").read_text()) | {"edge": "wrap"}
    (tmp_path / "config.json").write_text(json.dumps(values))
    (tmp_path / "model.safetensors").write_bytes((zoo / "lipsync" / "model.safetensors").read_bytes())
    with pytest.raises(InputError, match="edge"):
        LipSync(tmp_path)
