"""The speech encoder: alignment to video frames, and what its states say about a voice never heard."""

from pathlib import Path

import numpy as np
import pytest
from tavr_model.speech import SpeechEncoder, frame_positions, interpolate_rows
from tavr_records.errors import InputError
from tavr_synthetic.people import sample_person
from tavr_synthetic.speech import synthesize

FRAMES, FPS = 44, 25


@pytest.fixture(scope="module")
def encoder(zoo: Path) -> SpeechEncoder:
    return SpeechEncoder(zoo / "speech")


def voices(first: int, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(waveform, mouth opening) of unseen voices."""
    spoken = [synthesize(sample_person(s).voice, s, FRAMES / FPS, 16000, FPS) for s in range(first, first + count)]
    return [(speech.waveform, speech.mouth_open) for speech in spoken]


def test_one_row_a_frame(encoder: SpeechEncoder) -> None:
    wave, _ = voices(5_100_000, 1)[0]
    for frames in (1, 5, 21, FRAMES):
        states = encoder.encode(wave, frames, FPS)
        assert states.shape == (frames, encoder.layers, encoder.dim)
        assert states.dtype == np.float32
    assert (encoder.layers, encoder.dim) == (5, 64)


def test_deterministic_and_blind_to_what_the_video_does_not_show(encoder: SpeechEncoder) -> None:
    wave, _ = voices(5_100_001, 1)[0]
    states = encoder.encode(wave, 21, FPS)
    assert np.array_equal(states, encoder.encode(wave, 21, FPS))
    assert np.array_equal(states, encoder.encode(wave[: 21 * 640], 21, FPS))
    silence_after = np.concatenate([wave[: 10 * 640], np.zeros(11 * 640, np.float32)])
    assert np.array_equal(encoder.encode(wave[: 10 * 640], 21, FPS), encoder.encode(silence_after, 21, FPS))


def test_frame_middles_fall_where_wav2vec2_base_has_them() -> None:
    # Frame 0 spans samples 0..639, middle 320; hidden state j spans 320 j ... 320 j + 399, middle 320 j + 200.
    assert frame_positions(3, 25, 320, 400) == pytest.approx([0.375, 2.375, 4.375])


def test_interpolation_is_linear_and_holds_the_ends() -> None:
    rows = np.array([[0.0, 1.0], [2.0, 5.0], [4.0, 9.0]], np.float32)
    found = interpolate_rows(rows, np.array([-1.0, 0.0, 0.5, 1.25, 2.0, 7.0]))
    assert found == pytest.approx(np.array([[0, 1], [0, 1], [1, 3], [2.5, 6], [4, 9], [4, 9]]))


def test_a_click_shows_in_its_own_frame(encoder: SpeechEncoder) -> None:
    """Loudness moves the states where it happens: a burst within frame 20 changes frame 20 the most."""
    rng = np.random.default_rng(0)
    quiet = (rng.standard_normal(FRAMES * 640) * 1e-3).astype(np.float32)
    loud = quiet.copy()
    loud[20 * 640 : 21 * 640] += 0.2 * np.sin(2 * np.pi * 150 * np.arange(640) / 16000).astype(np.float32)
    states = encoder.encode(loud, FRAMES, FPS)[:, -1]
    rest = np.delete(states, slice(17, 24), axis=0).mean(axis=0)
    assert abs(int(np.linalg.norm(states - rest, axis=1).argmax()) - 20) <= 1


def test_states_carry_the_mouth_of_unseen_voices(encoder: SpeechEncoder) -> None:
    heard = voices(5_200_000, 24)
    features = np.concatenate([encoder.encode(wave, FRAMES, FPS) for wave, _ in heard])
    mouth = np.concatenate([opening for _, opening in heard])
    known = len(mouth) * 2 // 3
    for layer in range(encoder.layers):
        rows = np.concatenate([features[:, layer], np.ones((len(mouth), 1))], axis=1)
        weights = np.linalg.solve(rows[:known].T @ rows[:known] + np.eye(65) * 0.1, rows[:known].T @ mouth[:known])
        error = mouth[known:] - rows[known:] @ weights
        assert 1 - error.var() / mouth[known:].var() > 0.85, layer


def test_refuses_bad_sound(encoder: SpeechEncoder) -> None:
    with pytest.raises(ValueError, match="samples"):
        encoder.encode(np.zeros((2, 100), np.float32), 4, FPS)
    with pytest.raises(ValueError, match="finite"):
        encoder.encode(np.full(16000, np.nan, np.float32), 4, FPS)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json.*weights"):
        SpeechEncoder(tmp_path)
