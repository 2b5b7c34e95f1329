"""Speech-like sound: deterministic, one voice a person, loud when the mouth is open."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tavr_synthetic.people import sample_person
from tavr_synthetic.speech import synthesize


def loudness(speech, fps=25.0, sample_rate=16000):
    per_frame = round(sample_rate / fps)
    frames = len(speech.mouth_open)
    return np.sqrt((speech.waveform[: frames * per_frame].reshape(frames, per_frame) ** 2).mean(axis=1))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_sound_follows_the_mouth(person, seed):
    speech = synthesize(sample_person(person).voice, seed, 4.0)
    assert speech.waveform.shape == (64000,)
    assert speech.waveform.dtype == speech.mouth_open.dtype == np.float32
    assert np.abs(speech.waveform).max() <= 1
    assert speech.mouth_open.shape == (100,)
    assert speech.mouth_open.min() >= 0
    assert speech.mouth_open.max() <= 1
    assert np.corrcoef(loudness(speech), speech.mouth_open)[0, 1] > 0.85


def test_shifting_the_sound_spoils_the_agreement():
    speech = synthesize(sample_person(1).voice, 2, 8.0)
    energy = loudness(speech)
    matched = np.corrcoef(energy, speech.mouth_open)[0, 1]
    for shift in (3, 5, 9, 15):
        assert np.corrcoef(np.roll(energy, shift), speech.mouth_open)[0, 1] < matched - 0.2


def test_same_seed_same_bytes_and_pauses_exist():
    voice = sample_person(3).voice
    first, again = synthesize(voice, 5, 6.0), synthesize(voice, 5, 6.0)
    assert first.waveform.tobytes() == again.waveform.tobytes()
    assert (first.mouth_open < 0.05).mean() > 0.05
    assert (first.mouth_open > 0.5).mean() > 0.1


def test_voices_differ_in_pitch():
    people = [sample_person(seed) for seed in range(200)]
    men = [p.voice.f0 for p in people if p.gender == "Male"]
    women = [p.voice.f0 for p in people if p.gender == "Female"]
    assert np.mean(women) > 1.4 * np.mean(men)
    low, high = people[int(np.argmin([p.voice.f0 for p in people]))], max(people, key=lambda p: p.voice.f0)

    def pitch(person):
        sound = synthesize(person.voice, 1, 3.0).waveform.astype(np.float64)
        power = np.abs(np.fft.rfft(sound)) ** 2
        correlation = np.fft.irfft(power)
        lags = np.arange(16000 // 400, 16000 // 60)
        return 16000 / lags[np.argmax(correlation[lags])]

    assert abs(pitch(low) / low.voice.f0 - 1) < 0.25
    assert pitch(high) > 1.5 * pitch(low)
