"""Stills that the perception trainers learn from: many people, scenes, poses, mouths; softened as videos are."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tavr_synthetic.motion import sample_motion
from tavr_synthetic.people import dressed, sample_person
from tavr_synthetic.render import KEYPOINT_NAMES, render_clip, render_room
from tavr_synthetic.scenes import sample_scene

SOURCE_SIZE = (72, 128)
"""Height and width of the tiny sources; `ingest` makes 64 x 112 of them."""
CLIP_SIZE = (64, 112)
TRAINING_SEED = 10_000_000
"""People from here on are for training; the measurements draw theirs from UNSEEN_SEED on, the world from 1e9 on."""
UNSEEN_SEED = 5_000_000
POSE_RATE = 1.1
"""Poses of one rendering lie this many a second apart, so that they differ."""


@dataclass(frozen=True)
class StillsConfig:
    """`people` persons from `first_seed` on, each in `scenes` scenes with `poses` poses a scene."""

    people: int
    scenes: int
    poses: int
    first_seed: int


TRAINING = StillsConfig(5000, 2, 2, TRAINING_SEED)


@dataclass(frozen=True)
class Stills:
    """Pictures with their truth; pixel i spans i to i + 1.

    frames uint8 [N, 72, 128, 3] RGB; masks bool [N, 72, 128]; boxes float32 [N, 4] xyxy; keypoints float32 [N, K, 2];
    person int64 [N] counts from 0, scene int64 [N] within the person.
    """

    frames: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    boxes: NDArray[np.float32]
    keypoints: NDArray[np.float32]
    person: NDArray[np.int64]
    scene: NDArray[np.int64]


def load_stills(config: StillsConfig, cache: Path) -> Stills:
    """Render once into `cache` (npy files), later memory-map them."""
    folder = cache / f"stills-{config.people}x{config.scenes}x{config.poses}-{config.first_seed}"
    if not (folder / "truth.npz").exists():
        _render(config, folder)
    truth = np.load(folder / "truth.npz")
    return Stills(
        frames=np.load(folder / "frames.npy", mmap_mode="r"),
        masks=np.load(folder / "masks.npy", mmap_mode="r"),
        boxes=truth["boxes"],
        keypoints=truth["keypoints"],
        person=truth["person"],
        scene=truth["scene"],
    )


def _render(config: StillsConfig, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    height, width = SOURCE_SIZE
    total = config.people * config.scenes * config.poses
    shape = (total, height, width)
    frames = np.lib.format.open_memmap(folder / "frames.npy", mode="w+", dtype=np.uint8, shape=(*shape, 3))
    masks = np.lib.format.open_memmap(folder / "masks.npy", mode="w+", dtype=np.bool_, shape=shape)
    boxes = np.zeros((total, 4), np.float32)
    keypoints = np.zeros((total, len(KEYPOINT_NAMES), 2), np.float32)
    for index in range(config.people * config.scenes):
        seed = config.first_seed + index // config.scenes
        rng = np.random.default_rng([seed, index % config.scenes, 0x5374])
        part = slice(index * config.poses, (index + 1) * config.poses)
        frames[part], truth = render_clip(
            dressed(sample_person(seed), int(rng.integers(1 << 31))),
            sample_scene(int(rng.integers(1 << 31))),
            sample_motion(int(rng.integers(1 << 31)), config.poses, POSE_RATE),
            (rng.random(config.poses) * (rng.random(config.poses) < 0.7)).astype(np.float32),
            height,
            width,
            center=(0.5 + float(rng.normal(0, 0.05)), 0.47 + float(rng.normal(0, 0.025))),
            scale=float(rng.uniform(0.88, 1.12)),
        )
        masks[part], boxes[part], keypoints[part] = truth.person_mask, truth.face_box, truth.keypoints
    frames.flush()
    masks.flush()
    numbers = np.arange(total) // config.poses
    np.savez(
        folder / "truth.npz",
        boxes=boxes,
        keypoints=keypoints,
        person=numbers // config.scenes,
        scene=numbers % config.scenes,
    )


def empty_rooms(count: int, first_seed: int) -> NDArray[np.uint8]:
    """Rooms without anyone, uint8 [count, 72, 128, 3]."""
    return np.concatenate([render_room(sample_scene(first_seed + index), 1, *SOURCE_SIZE) for index in range(count)])


def random_view(rng: np.random.Generator, size: tuple[int, int], spread: float = 1.0) -> NDArray[np.float32]:
    """An affine map [2, 3] from source pixels to a picture of `size`: the whole frame, zoomed and shifted a little.

    Coordinates are continuous (pixel i spans i to i + 1); `spread` 0 is the plain resize.
    """
    height, width = size
    zoom = 1 + spread * float(rng.uniform(-0.08, 0.22))
    scale_y, scale_x = zoom * height / SOURCE_SIZE[0], zoom * width / SOURCE_SIZE[1]
    shift_x = spread * float(rng.uniform(-0.06, 0.06)) * width + width * (1 - zoom) / 2
    shift_y = spread * float(rng.uniform(-0.05, 0.05)) * height + height * (1 - zoom) / 2
    return np.array([[scale_x, 0, shift_x], [0, scale_y, shift_y]], np.float32)


def view(frame: NDArray[np.uint8], matrix: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The frame (or mask) seen through `matrix`, edges repeated."""
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]], np.float32)
    to_index = np.linalg.inv(half) @ np.vstack([matrix, [0, 0, 1]]) @ half
    warped = cv2.warpAffine(
        frame, to_index[:2], (size[1], size[0]), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return warped.astype(np.uint8)


def moved(points: NDArray[np.float32], matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Points [..., 2] through the affine map."""
    return (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


def soften(frame: NDArray[np.uint8], rng: np.random.Generator, strength: float = 1.0) -> NDArray[np.uint8]:
    """What codecs, VAEs and diffusion do to a picture: lost detail, block noise, grain, drifting colour.

    A quarter of the frames stay as they are; `strength` 1 reaches the softness of early generations.
    """
    if rng.random() < 0.25:
        return frame
    height, width = frame.shape[:2]
    kind = rng.random()
    if kind < 0.4:
        sigma = float(rng.uniform(0.3, 1.0 + 1.0 * strength))
        frame = cv2.GaussianBlur(frame, (0, 0), sigma).astype(np.uint8)
    elif kind < 0.7:
        factor = float(rng.uniform(1.1, 1.5 + 1.5 * strength))
        coarse = (max(8, int(width / factor)), max(8, int(height / factor)))
        small = cv2.resize(frame, coarse, interpolation=cv2.INTER_AREA)
        how = cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_LINEAR
        frame = cv2.resize(small, (width, height), interpolation=how).astype(np.uint8)
    if rng.random() < 0.4:
        quality = int(rng.integers(25, 90))
        _, data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert decoded is not None, "what imencode wrote, imdecode reads"
        frame = decoded[..., ::-1].astype(np.uint8)
    values = frame.astype(np.float32)
    if rng.random() < 0.6:
        gain = rng.uniform(0.88, 1.12) * rng.uniform(0.95, 1.05, size=3)
        values = (values - 128) * rng.uniform(0.88, 1.12) + 128 * rng.uniform(0.94, 1.06)
        values = values * gain
    if rng.random() < 0.5:
        values = values + rng.normal(0, rng.uniform(1, 7), size=values.shape)
    return np.clip(np.round(values), 0, 255).astype(np.uint8)
