"""Metadata records in TalkVid's format (README of FreedomIntelligence/TalkVid), one a clip.

Good clips get scores that pass the published filters: DOVER >= 5, CoTracker ratio 0.7 ... 0.99, head movement 80 / 60
(average / minimum), orientation 70 / 30, completeness 100 / 100, resolution 50 / 40, rotation 70 / 60.
"""

from typing import TypedDict

import numpy as np

from tavr_synthetic.motion import Curve, Motion
from tavr_synthetic.people import Person

VIDEO_CATEGORIES = ("Personal Experience", "Interview", "News", "Education", "Technology", "Health", "Travel", "Food")
LINK = "https://video.invalid/watch?v={}"
GOOD_DOVER = (6.5, 9.6)
LOW_DOVER = (1.5, 4.2)

Info = TypedDict(
    "Info",
    {
        "Person ID": str,
        "Ethnicity": str,
        "Age Group": str,
        "Gender": str,
        "Video Link": str,
        "Language": str,
        "Video Category": str,
    },
)


class HeadScores(TypedDict):
    """Scores of the head filter, 0 ... 100 (resolution may exceed it)."""

    avg_movement: float
    min_movement: float
    avg_rotation: float
    min_rotation: float
    avg_completeness: float
    min_completeness: float
    avg_resolution: float
    min_resolution: float
    avg_orientation: float
    min_orientation: float


class HeadDetail(TypedDict):
    """The `head_detail` block."""

    scores: HeadScores


Record = TypedDict(
    "Record",
    {
        "id": str,
        "height": int,
        "width": int,
        "fps": float,
        "start-time": float,
        "start-frame": int,
        "end-time": float,
        "end-frame": int,
        "durations": str,
        "info": Info,
        "description": str,
        "dover_scores": float,
        "cotracker_ratio": float,
        "head_detail": HeadDetail,
    },
)
"""Times in seconds and frames within the linked video; durations as TalkVid prints it, '5.042s'."""


def clip_key(video: str, scene: int, section: int) -> str:
    """TalkVid's id of a section of a scene of a video."""
    return f"videovideo{video}-scene{scene}-scene{section}"


def describe_person(person: Person, person_id: str, video: str, category: str) -> Info:
    """The `info` block."""
    return {
        "Person ID": person_id,
        "Ethnicity": person.ethnicity,
        "Age Group": person.age_group,
        "Gender": person.gender,
        "Video Link": LINK.format(video),
        "Language": person.language,
        "Video Category": category,
    }


def _calm(curve: Curve, scale: float) -> Curve:
    """100 minus the steps of a curve between frames, times `scale`, by at most 30."""
    return 100.0 - np.minimum(scale * np.abs(np.diff(curve, prepend=curve[:1])), 30.0)


def score_head(motion: Motion, face_height: float, rng: np.random.Generator) -> HeadDetail:
    """Scores that follow the truth: the calmer and the more frontal the head, the higher.

    face_height is in pixels of the clip; every motion of `sample_motion` passes the published thresholds.
    """
    movement = _calm(motion.shift_x, 400.0) - rng.uniform(0.0, 4.0)
    rotation = _calm(motion.roll, 500.0) - rng.uniform(0.0, 4.0)
    orientation = 100.0 - 55.0 * np.abs(motion.yaw) - 25.0 * np.abs(motion.pitch)
    resolution = 50.0 + 5.0 * face_height
    return {
        "scores": {
            "avg_movement": round(float(movement.mean()), 6),
            "min_movement": round(float(movement.min()), 6),
            "avg_rotation": round(float(rotation.mean()), 6),
            "min_rotation": round(float(rotation.min()), 6),
            "avg_completeness": 100.0,
            "min_completeness": 100.0,
            "avg_resolution": round(resolution, 6),
            "min_resolution": round(resolution * 0.94, 6),
            "avg_orientation": round(float(orientation.mean()), 6),
            "min_orientation": round(float(orientation.min()), 6),
        }
    }


def times(start_frame: int, frames: int, fps: float) -> tuple[float, float, str]:
    """start-time, end-time and durations of a section."""
    return start_frame / fps, (start_frame + frames) / fps, f"{frames / fps:.3f}s"
