"""Speech-like sound whose cause is the mouth: syllables open it, and loudness and formants follow.

Voiced sound is a train of glottal pulses, each ringing in four formants (damped sinusoids); the first formant rises as
the mouth opens. Between syllables the mouth is nearly shut and may hiss (fricatives); pauses are silent.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tavr_synthetic.people import Voice

Wave = npt.NDArray[np.float64]

CONTROL_RATE = 200
"""Points a second of the control curves (mouth opening, pitch, hiss)."""
RINGING_SECONDS = 0.022
BANDWIDTHS = np.array([70.0, 100.0, 150.0, 220.0])
FORMANT_GAINS = np.array([1.0, 0.55, 0.28, 0.14])


@dataclass(frozen=True)
class Speech:
    """waveform float32 [samples] in [-1, 1] on the 16-bit grid; mouth_open float32 [frames] in [0, 1]."""

    waveform: npt.NDArray[np.float32]
    mouth_open: npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Articulation:
    """Control curves at CONTROL_RATE: opening and hiss in [0, 1], front (vowel frontness) in [0, 1], pitch in Hz."""

    opening: Wave
    hiss: Wave
    front: Wave
    pitch: Wave


def _articulate(rng: np.random.Generator, voice: Voice, seconds: float) -> _Articulation:
    """Syllable by syllable: a consonant with a nearly shut mouth, a vowel that opens it, now and then a pause."""
    points = int(np.ceil((seconds + 1.0) * CONTROL_RATE))
    time = np.arange(points) / CONTROL_RATE
    opening, hiss = np.zeros(points), np.zeros(points)
    front = np.full(points, 0.5)
    at, left_in_phrase = float(rng.uniform(0.0, 0.25)), int(rng.integers(3, 9))
    while at < seconds + 0.5:
        length = float(rng.uniform(0.75, 1.3)) / voice.rate
        peak = float(rng.uniform(0.35, 1.0))
        away = np.minimum(np.abs(time - (at + 0.55 * length)) / (0.52 * length), 1.0)
        opening = np.maximum(opening, peak * np.minimum(1.0, 1.25 * (1 - away * away * (3 - 2 * away))))
        inside = (time >= at) & (time < at + length)
        front[inside] = rng.random()
        if rng.random() < 0.35:
            shape = 1 - np.minimum(np.abs(time - at) / 0.045, 1.0)
            hiss = np.maximum(hiss, shape * rng.uniform(0.4, 1.0))
        at += length
        left_in_phrase -= 1
        if left_in_phrase == 0:
            at += float(rng.uniform(0.25, 0.6))
            left_in_phrase = int(rng.integers(3, 9))
    kernel = np.full(9, 1 / 9)
    front = np.convolve(front, kernel, mode="same")
    wander = np.sin(2 * np.pi * rng.uniform(0.3, 0.7) * time + rng.uniform(0, 6.28))
    pitch = voice.f0 * (1 + 0.10 * wander + 0.10 * (opening - 0.5) + 0.015 * np.sin(2 * np.pi * 5.1 * time))
    return _Articulation(opening, hiss, front, pitch)


def _pulse_times(pitch: Wave, seconds: float) -> Wave:
    """Seconds at which the glottis closes: where the phase of `pitch` passes whole numbers."""
    phase = np.concatenate([[0.0], np.cumsum(pitch) / CONTROL_RATE])
    whole = np.arange(1, int(phase[-1]))
    times = np.interp(whole, phase, np.arange(len(phase)) / CONTROL_RATE)
    return times[times < seconds]


def _voiced(control: _Articulation, voice: Voice, seconds: float, sample_rate: int) -> Wave:
    """Glottal pulses ringing in the formants of the moment, float64 [samples]."""
    samples = round(seconds * sample_rate)
    times = _pulse_times(control.pitch, seconds)
    grid = np.arange(len(control.opening)) / CONTROL_RATE
    opening = np.interp(times, grid, control.opening)
    front = np.interp(times, grid, control.front)
    formants = voice.formant_scale * np.stack(
        [270 + 560 * opening, 850 + 1250 * front, 2350 + 350 * front, np.full_like(front, 3400.0)], axis=1
    )
    start = np.ceil(times * sample_rate).astype(np.intp)
    ringing = int(RINGING_SECONDS * sample_rate)
    since = (start[:, None] + np.arange(ringing)) / sample_rate - times[:, None]
    decay = np.exp(-np.pi * BANDWIDTHS * since[..., None]) * FORMANT_GAINS
    waves = (decay * np.sin(2 * np.pi * formants[:, None, :] * since[..., None])).sum(axis=2)
    attack = np.minimum(since / 0.0006, 1.0)
    # Loudness follows the opening; a shut mouth is silent.
    loud = np.clip((opening - 0.04) / 0.96, 0.0, 1.0) ** 0.8
    sound = np.zeros(samples + ringing)
    np.add.at(sound, start[:, None] + np.arange(ringing), waves * attack * loud[:, None])
    return sound[:samples]


def _noise(rng: np.random.Generator, control: _Articulation, voice: Voice, seconds: float, sample_rate: int) -> Wave:
    """Fricatives (high-passed noise while the mouth is nearly shut) and breath in the vowels."""
    samples = round(seconds * sample_rate)
    white = rng.uniform(-1.0, 1.0, samples + 2)
    bright = white[2:] - 2 * white[1:-1] + white[:-2]
    time = np.arange(samples) / sample_rate
    grid = np.arange(len(control.hiss)) / CONTROL_RATE
    shut = np.clip(1.2 - 2.0 * np.interp(time, grid, control.opening), 0.0, 1.0)
    hiss = np.interp(time, grid, control.hiss) * shut
    breath = 0.10 * voice.breath * np.interp(time, grid, control.opening)
    return 0.07 * hiss * bright + 0.25 * breath * white[1:-1]


def synthesize(voice: Voice, seed: int, seconds: float, sample_rate: int = 16000, fps: float = 25.0) -> Speech:
    """Speech of this voice and seed; frame f of `mouth_open` belongs to the sound around (f + 0.5) / fps seconds."""
    rng = np.random.default_rng([seed, 0x7370])
    control = _articulate(rng, voice, seconds)
    sound = 0.55 * _voiced(control, voice, seconds, sample_rate)
    sound = sound + _noise(rng, control, voice, seconds, sample_rate)
    peak = max(1.0, float(np.abs(sound).max(initial=0.0)) / 0.9)
    # The 16-bit grid absorbs last-bit differences of exp and sin between CPUs.
    waveform = (np.round(sound / peak * 32767) / 32768).astype(np.float32)
    frames = round(seconds * fps)
    middles = (np.arange(frames) + 0.5) / fps
    opening = np.interp(middles, np.arange(len(control.opening)) / CONTROL_RATE, control.opening)
    return Speech(waveform, opening.astype(np.float32))
