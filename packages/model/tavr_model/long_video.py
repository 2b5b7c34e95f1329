"""Longer videos (paper section 3.1): windows that continue each other by motion latents, held by a global anchor.

The first window has its own first frame and the masked background. Every later one starts with the last latents of the
video so far, which carry time 0, and sees the first latent of the whole video in place of the background (choices 10
and 11). All windows are latents of one sequence, decoded once; audio is indexed by the latent's place in the video.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tavr_model.conditions import Conditions
from tavr_model.shapes import AudioWindows, FrameArray, Latents


@dataclass(frozen=True)
class Window:
    """One generation of a long video: `frames` new latents from place `first` on, after `motion` that are known."""

    first: int
    frames: int
    motion: int


def plan_windows(latent_frames: int, window: int, motion: int) -> list[Window]:
    """Cut a video of `latent_frames` into windows of at most `window` latents, motion latents included.

    Args:
        latent_frames: of the whole video.
        window: latents that the network sees at once (21 in the paper: 81 pixel frames).
        motion: latents of the video so far that a later window starts with (2 in the paper).

    Raises:
        ValueError: nothing to generate, or a window without a new latent, or motion that the first lacks.
    """
    if latent_frames < 1 or motion < 1 or window <= 2 * motion:
        raise ValueError(
            f"latent_frames {latent_frames}, window {window}, motion {motion}: "
            "give latent_frames >= 1, motion >= 1 and window > 2 * motion"
        )
    first = Window(0, min(window, latent_frames), 0)
    starts = range(first.frames, latent_frames, window - motion)
    return [first, *(Window(start, min(window - motion, latent_frames - start), motion) for start in starts)]


def joins(latent_frames: int, window: int, motion: int) -> list[int]:
    """Pixel frames with which later windows begin."""
    return [4 * part.first - 3 for part in plan_windows(latent_frames, window, motion)[1:]]


@dataclass(frozen=True)
class Seams:
    """How visible the joins of a video are; a change is the mean absolute difference of two neighbouring frames.

    Attributes:
        ratio: the largest change at a join over the median change of all neighbours. Among many places of a video
            without joins the largest change lies above the median too: 2.1 times in rendered clips (docs/log.md).
        mean_ratio: the mean change at a join over the same median; 1 in a video without joins.
        ratio_to_boundaries: the same over the median change between the last frame of a latent and the first of the
            next where no windows meet: a VAE decodes four frames a latent, and a weak one jumps there in any video.
    """

    ratio: float
    mean_ratio: float
    ratio_to_boundaries: float


def measure_seams(frames: FrameArray, starts: Sequence[int]) -> Seams | None:
    """Measure the joins of a video [T, H, W, 3] at frames `starts`; None where there is none."""
    shown = frames.astype(np.int16)
    changes = np.abs(shown[1:] - shown[:-1]).mean(axis=(1, 2, 3))
    at_joins = [start - 1 for start in starts if start < len(frames)]
    boundaries = [change for change in range(0, len(changes), 4) if change not in at_joins]
    if not at_joins or not boundaries:
        return None
    largest, mean, median = float(changes[at_joins].max()), float(changes[at_joins].mean()), float(np.median(changes))
    return Seams(largest / median, mean / median, largest / float(np.median(changes[boundaries])))


def continue_video(conditions: Conditions, anchor: Latents, motion: Latents, driving_audio: AudioWindows) -> Conditions:
    """The conditions of a later window.

    Args:
        conditions: of the video.
        anchor: the video's first latent [C, 1, h, w], which takes the place of the background, nothing masked.
        motion: the last latents before the window [C, motion, h, w].
        driving_audio: windows of the motion latents, then of the new ones.
    """
    return replace(conditions, driving_audio=driving_audio, bg_latents=anchor, bg_tokens=None, motion_latents=motion)
