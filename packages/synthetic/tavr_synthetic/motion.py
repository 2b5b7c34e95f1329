"""How a head moves: smooth curves of pose, blinks, brow raises and gaze, one value a frame."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Curve = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Motion:
    """Curves [frames] of a head.

    Angles in radians (yaw > 0 turns to image right, pitch > 0 looks down, roll > 0 tips to image right), shifts in head
    units, eye_open in [0, 1], brow_raise and gaze in [-1, 1].
    """

    yaw: Curve
    pitch: Curve
    roll: Curve
    shift_x: Curve
    shift_y: Curve
    eye_open: Curve
    brow_raise: Curve
    gaze_x: Curve
    gaze_y: Curve

    @property
    def frames(self) -> int:
        """Length of the clip."""
        return len(self.yaw)


def _drift(rng: np.random.Generator, time: Curve, amplitude: float, slow: float, fast: float) -> Curve:
    """A smooth curve [frames]: four sinusoids between `slow` and `fast` Hz, the slow ones largest."""
    rates = rng.uniform(slow, fast, size=4)
    phases = rng.uniform(0.0, 2 * np.pi, size=4)
    weights = amplitude * slow**0.5 / rates**0.5
    waves = np.sin(2 * np.pi * rates[:, None] * time[None, :] + phases[:, None])
    return (weights[:, None] * waves).sum(axis=0) / 2.0


def _blinks(rng: np.random.Generator, time: Curve) -> Curve:
    """Eye opening [frames]: one with dips to zero of about a quarter of a second, one every 2 s or so."""
    opening = np.ones_like(time)
    at = rng.uniform(0.1, 2.2)
    while at < time[-1] + 0.2:
        half = rng.uniform(0.10, 0.15)
        away = np.minimum(np.abs(time - at) / half, 1.0)
        opening = np.minimum(opening, np.clip(1.6 * away * away * (3 - 2 * away) - 0.15, 0.0, 1.0))
        at += rng.uniform(1.0, 3.2)
    return opening


def sample_motion(seed: int, frames: int, fps: float) -> Motion:
    """The motion of this seed; a longer clip of the same seed begins with the shorter one."""
    rng = np.random.default_rng([seed, 0x6D6F])
    time = np.arange(frames, dtype=np.float64) / fps
    rest_yaw, rest_pitch, rest_roll = rng.uniform(-1, 1, size=3) * (0.26, 0.07, 0.06)
    gaze_rest = rng.uniform(-1, 1) * 0.3
    return Motion(
        yaw=np.clip(rest_yaw + _drift(rng, time, 0.16, 0.15, 0.7), -0.45, 0.45),
        pitch=np.clip(rest_pitch + _drift(rng, time, 0.09, 0.2, 1.0), -0.22, 0.22),
        roll=np.clip(rest_roll + _drift(rng, time, 0.06, 0.15, 0.7), -0.18, 0.18),
        shift_x=_drift(rng, time, 0.06, 0.1, 0.5),
        shift_y=_drift(rng, time, 0.03, 0.1, 0.6),
        brow_raise=np.clip(_drift(rng, time, 0.6, 0.2, 0.9), -1.0, 1.0),
        gaze_x=np.clip(gaze_rest + _drift(rng, time, 0.4, 0.2, 0.8), -0.8, 0.8),
        gaze_y=np.clip(_drift(rng, time, 0.25, 0.2, 0.8), -0.6, 0.6),
        eye_open=_blinks(rng, time),
    )
