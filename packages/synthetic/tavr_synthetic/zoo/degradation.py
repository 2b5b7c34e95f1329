"""Known damage of rendered clips: what a video reward has to notice. Strength in (0, 1], frames uint8 [T, H, W, 3]."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
Damage = Callable[[Frames, float, np.random.Generator], Frames]


def recompressed(frames: Frames, quality: int) -> Frames:
    """Frames after JPEG of a quality in 0..100."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
    pictures = [cv2.imdecode(cv2.imencode(".jpg", frame, flags)[1], cv2.IMREAD_COLOR) for frame in frames]
    return np.stack([np.asarray(picture, np.uint8) for picture in pictures])


def blur(frames: Frames, strength: float, _rng: np.random.Generator) -> Frames:
    """Gaussian blur of 0.7 to 3 pixels."""
    sigma = 0.7 + 2.3 * strength
    return np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames])


def noise(frames: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Independent noise of 6 to 36 grey levels."""
    values = frames + rng.standard_normal(frames.shape, dtype=np.float32) * np.float32(6 + 30 * strength)
    return np.clip(values, 0, 255).astype(np.uint8)


def blockiness(frames: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """JPEG of quality 24 down to 4, or cells of 2 to 5 pixels."""
    height, width = frames.shape[1:3]
    if rng.random() < 0.5:
        return recompressed(frames, round(24 - 20 * strength))
    cell = 2 + 3 * strength
    size = (max(1, round(width / cell)), max(1, round(height / cell)))
    small = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]
    return np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_NEAREST) for frame in small])


def freeze(frames: Frames, strength: float, _rng: np.random.Generator) -> Frames:
    """The last half or more of the clip, at full strength all of it, shows one frame."""
    first = round((1 - strength) * 0.5 * (len(frames) - 1))
    result = frames.copy()
    result[first:] = frames[first]
    return result


def jitter(frames: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Each frame shifted on its own by up to 1.5 to 5 pixels."""
    reach = 1.5 + 3.5 * strength
    height, width = frames.shape[1:3]
    shifted: list[Frames] = []
    for frame in frames:
        dx, dy = rng.uniform(-reach, reach, 2)
        matrix = np.array([[1, 0, dx], [0, 1, dy]])
        shifted.append(cv2.warpAffine(frame, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE).astype(np.uint8))
    return np.stack(shifted)


def flicker(frames: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Each frame with its own brightness, up to 14 to 44 grey levels apart from the truth."""
    levels = rng.uniform(-1, 1, (len(frames), 1, 1, 1)) * (14 + 30 * strength)
    return np.clip(frames + levels, 0, 255).astype(np.uint8)


def shuffle(frames: Frames, _strength: float, rng: np.random.Generator) -> Frames:
    """Frames in random order."""
    return frames[rng.permutation(len(frames))]


VISUAL: dict[str, Damage] = {"blur": blur, "noise": noise, "blockiness": blockiness}
MOTION: dict[str, Damage] = {"freeze": freeze, "jitter": jitter, "flicker": flicker, "shuffle": shuffle}
