"""What two clips are compared by: the faces of sampled frames and the background behind the person."""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tavr_perception.identity import FaceEmbeddings, FaceIdentity
from tavr_perception.people import PersonSegmenter
from tavr_records.media import Frames, read_video
from tavr_records.memo import Memo

from tavr_pairs.config import PairsConfig

_FILE = "appearance.npz"


@dataclass(frozen=True)
class Job:
    """One clip (`media`, with digest `clip_sha256`)."""

    media: Path
    clip_sha256: str
    identity: Path
    people: Path
    config: PairsConfig
    memo: Memo


@dataclass(frozen=True)
class Appearance:
    """Faces of S sampled frames, and B backgrounds: colours uint8 [B, h, w, 3], valid bool [B, h, w] off any person."""

    faces: FaceEmbeddings
    colours: NDArray[np.uint8]
    valid: NDArray[np.bool_]

    @property
    def face_share(self) -> float:
        """Share of the sampled frames that show a face."""
        return float(self.faces.found.mean())

    @property
    def mean_face(self) -> NDArray[np.float32]:
        """Unit mean of the faces, zero without one; float32 [D]."""
        mean = self.faces.vectors[self.faces.found].sum(axis=0, dtype=np.float64)
        length = float(np.linalg.norm(mean))
        return (mean / length if length > 0 else mean).astype(np.float32)


def describe(job: Job) -> Path:
    """Work out a clip's appearance once for each content; the file that holds it."""
    return job.memo.entry({"clip_sha256": job.clip_sha256}, lambda folder: _describe_into(folder, job)) / _FILE


def load(path: Path) -> Appearance:
    """Read back what `describe` wrote."""
    with np.load(path) as arrays:
        faces = FaceEmbeddings(arrays["vectors"], arrays["found"], arrays["boxes"])
        return Appearance(faces, arrays["colours"], arrays["valid"])


def _describe_into(folder: Path, job: Job) -> None:
    frames, _ = read_video(job.media)
    faces = _identity(job.identity).embed(frames[spread(len(frames), job.config.sampled_frames)])
    shown = frames[spread(len(frames), job.config.background_frames)]
    colours, valid = pool_background(shown, _people(job.people).masks(shown), job.config.background_pool)
    np.savez(folder / _FILE, vectors=faces.vectors, found=faces.found, boxes=faces.boxes, colours=colours, valid=valid)


@functools.lru_cache(maxsize=1)
def _identity(directory: Path) -> FaceIdentity:
    return FaceIdentity(directory)


@functools.lru_cache(maxsize=1)
def _people(directory: Path) -> PersonSegmenter:
    import torch

    torch.set_num_threads(1)
    return PersonSegmenter(directory)


def spread(count: int, samples: int) -> NDArray[np.int64]:
    """`samples` indices spread evenly over 0..count-1, repeating when there are fewer frames."""
    return np.round(np.linspace(0, count - 1, samples)).astype(np.int64)


def pool_background(
    frames: Frames, people: NDArray[np.bool_], block: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Average square blocks; a block is valid when no pixel of it lies on a person. Rows and columns left over go."""
    count, height, width = people.shape
    rows, columns = height // block, width // block
    tiles = frames[:, : rows * block, : columns * block].reshape(count, rows, block, columns, block, 3)
    hidden = people[:, : rows * block, : columns * block].reshape(count, rows, block, columns, block)
    colours = np.round(tiles.mean(axis=(2, 4), dtype=np.float64)).astype(np.uint8)
    return colours, np.logical_not(hidden.any(axis=(2, 4)))


def background_psnr(a: Appearance, b: Appearance) -> tuple[float, float]:
    """PSNR in dB over what is background in both clips, and that share of the picture (paper, "Benchmark Dataset").

    Identical backgrounds give 100 dB; without common background the PSNR is 0 and the share 0.
    """
    both = a.valid & b.valid
    share = float(both.mean())
    if not both.any():
        return 0.0, 0.0
    difference = a.colours[both].astype(np.float64) - b.colours[both].astype(np.float64)
    error = float(np.square(difference).mean())
    return (100.0 if error == 0 else min(100.0, float(10 * np.log10(255.0**2 / error)))), share
