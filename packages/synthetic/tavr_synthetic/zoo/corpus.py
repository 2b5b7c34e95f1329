"""The clips that the tiny VAE and base are trained on: many people, framed as `ingest` frames them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from tavr_synthetic.motion import sample_motion
from tavr_synthetic.people import sample_person
from tavr_synthetic.render import render_clip
from tavr_synthetic.scenes import sample_scene
from tavr_synthetic.speech import synthesize

FPS = 25
SAMPLE_RATE = 16000


@dataclass(frozen=True)
class CorpusConfig:
    """How many clips of what size; clip i shows person `first_seed + i` (people never repeat)."""

    clips: int
    frames: int
    height: int
    width: int
    first_seed: int


def framing(seed: int) -> tuple[tuple[float, float], float]:
    """Where `ingest` leaves the head of clip `seed`: centre as fractions of width and height, and scale."""
    rng = np.random.default_rng([seed, 7])
    return (0.5 + rng.normal(0, 0.012), 0.5 + rng.normal(0, 0.012)), 1.2 * (1 + rng.normal(0, 0.02))


def render_one(config: CorpusConfig, index: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Frames [T, H, W, 3] and face boxes [T, 4] of clip `index`."""
    seed = config.first_seed + index
    person, scene = sample_person(seed), sample_scene(seed + 500_000)
    motion = sample_motion(seed, config.frames, FPS)
    speech = synthesize(person.voice, seed, config.frames / FPS, SAMPLE_RATE)
    centre, scale = framing(seed)
    mouth = speech.mouth_open[: config.frames]
    frames, truth = render_clip(person, scene, motion, mouth, config.height, config.width, centre, scale)
    return frames, truth.face_box


def captions(config: CorpusConfig) -> list[str]:
    """The caption of every clip of the corpus."""
    from tavr_synthetic.captions import describe

    texts = []
    for seed in range(config.first_seed, config.first_seed + config.clips):
        motion = sample_motion(seed, config.frames, FPS)
        rng = np.random.default_rng([seed, 8])
        texts.append(describe(sample_person(seed), sample_scene(seed + 500_000), motion, rng))
    return texts


def load_corpus(config: CorpusConfig, cache: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Render the corpus once into `cache`: frames, memory-mapped, [N, T, H, W, 3] and face boxes [N, T, 4]."""
    name = f"{config.clips}-{config.frames}-{config.height}x{config.width}-{config.first_seed}"
    frames_path, boxes_path = cache / f"frames-{name}.npy", cache / f"boxes-{name}.npy"
    if not boxes_path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        shape = (config.clips, config.frames, config.height, config.width, 3)
        store = np.lib.format.open_memmap(frames_path, mode="w+", dtype=np.uint8, shape=shape)
        boxes = np.zeros((config.clips, config.frames, 4), np.float32)
        jobs = (delayed(render_one)(config, index) for index in range(config.clips))
        for index, (frames, box) in enumerate(Parallel(n_jobs=-1, return_as="generator")(jobs)):
            store[index], boxes[index] = frames, box
        store.flush()
        np.save(boxes_path, boxes)
    return np.load(frames_path, mmap_mode="r"), np.load(boxes_path)
