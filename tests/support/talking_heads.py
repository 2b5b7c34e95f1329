"""Clips of people whom no network of the zoo has seen or heard, with their sound."""

from dataclasses import dataclass

import numpy as np
from tavr_synthetic.captions import describe
from tavr_synthetic.motion import sample_motion
from tavr_synthetic.people import sample_person
from tavr_synthetic.render import render_clip
from tavr_synthetic.scenes import sample_scene
from tavr_synthetic.speech import synthesize

HEIGHT, WIDTH, FPS, SAMPLE_RATE = 64, 112, 25, 16000
FIRST_SEED = 5_000_000


@dataclass(frozen=True)
class Talker:
    """frames uint8 [T, 64, 112, 3], face boxes float32 [T, 4], 16 kHz sound, mouth_open float32 [T], caption."""

    frames: np.ndarray
    boxes: np.ndarray
    waveform: np.ndarray
    mouth_open: np.ndarray
    caption: str


def render_talker(index: int, frames: int) -> Talker:
    """Talker number `index`, framed as `ingest` frames a head."""
    seed = FIRST_SEED + index
    person, scene = sample_person(seed), sample_scene(seed + 700_000)
    motion = sample_motion(seed, frames, FPS)
    speech = synthesize(person.voice, seed, frames / FPS, SAMPLE_RATE, FPS)
    pictures, truth = render_clip(person, scene, motion, speech.mouth_open, HEIGHT, WIDTH, (0.5, 0.5), 1.2)
    caption = describe(person, scene, motion, np.random.default_rng(seed))
    return Talker(pictures, truth.face_box, speech.waveform, speech.mouth_open, caption)
