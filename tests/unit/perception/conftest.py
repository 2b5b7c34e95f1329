"""People whom no network of the zoo has seen, rendered at the size of the tiny clips."""

from dataclasses import dataclass

import numpy as np
import pytest
from tavr_synthetic.motion import sample_motion
from tavr_synthetic.people import sample_person
from tavr_synthetic.render import Truth, render_clip, render_room
from tavr_synthetic.scenes import sample_scene

PEOPLE, SCENES, FRAMES, ROOMS = 20, 2, 2, 80
HEIGHT, WIDTH = 64, 112
FIRST_SEED = 4_000_000


@dataclass(frozen=True)
class Heads:
    """clips uint8 [PEOPLE, SCENES, FRAMES, 64, 112, 3]; truth [PEOPLE][SCENES]; rooms uint8 [ROOMS, 64, 112, 3]."""

    clips: np.ndarray
    truth: list[list[Truth]]
    rooms: np.ndarray


@pytest.fixture(scope="session")
def heads() -> Heads:
    """Unseen people, each in two unseen scenes, and rooms without anyone."""
    clips = np.zeros((PEOPLE, SCENES, FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    truth: list[list[Truth]] = [[] for _ in range(PEOPLE)]
    for person in range(PEOPLE):
        for scene in range(SCENES):
            seed = FIRST_SEED + SCENES * person + scene
            mouth = np.random.default_rng(seed).random(FRAMES).astype(np.float32)
            clips[person, scene], clip_truth = render_clip(
                sample_person(FIRST_SEED + person),
                sample_scene(seed),
                sample_motion(seed, FRAMES, 1.0),
                mouth,
                HEIGHT,
                WIDTH,
            )
            truth[person].append(clip_truth)
    rooms = np.concatenate([render_room(sample_scene(FIRST_SEED + 1000 + i), 1, HEIGHT, WIDTH) for i in range(ROOMS)])
    return Heads(clips, truth, rooms)
