"""Clips on disk whose face and background are plain colours, and perception that reads them."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rows import make_clip, write_passed
from tavr_pairs import appearance
from tavr_pairs.config import PairsConfig
from tavr_perception.identity import FaceEmbeddings
from tavr_records.ids import sha256_file
from tavr_records.manifest import write_manifest
from tavr_records.media import write_video
from tavr_records.schemas import Clip

HEIGHT, WIDTH = 32, 48
CONFIG = PairsConfig(
    identity="weights/identity",
    people="weights/people",
    review="review.json",
    sampled_frames=3,
    min_face_share=0.6,
    min_similarity=0.8,
    link_similarity=0.9,
    background_frames=2,
    background_pool=4,
    min_background_share=0.2,
    max_background_psnr=25.0,
    benchmark_people=1,
    seed=0,
)


@dataclass
class Clips:
    root: Path
    rows: list[Clip] = field(default_factory=list)

    def add(self, person: str, look: int, scene: int, *, faces: float = 1.0, wide: bool = False) -> str:
        """A clip of a person whose face is look * 40 grey, before a wall of scene * 40 grey; its id."""
        clip = make_clip(f"video-{len(self.rows)}", person_id=person, frames=6)
        frames = np.full((6, HEIGHT, WIDTH, 3), 20 + 40 * scene, np.uint8)
        seen = np.arange(6) < round(6 * faces)
        frames[:, :, 0 if wide else 16 : 48 if wide else 32] = 0
        frames[seen, 8:24, 16:32] = 30 + 40 * look
        path = self.root / "data/ingest" / clip.path
        write_video(path, frames, 25, crf=1)
        self.rows.append(replace(clip, clip_sha256=sha256_file(path)))
        return clip.clip_id

    def write(self) -> None:
        write_manifest(self.root / "data/ingest/manifest.parquet", Clip, self.rows, ("clip_id",))


def _middle(frames: np.ndarray) -> np.ndarray:
    return frames[:, 12:20, 20:28].mean(axis=(1, 2, 3))


def embed(frames: np.ndarray) -> FaceEmbeddings:
    grey = _middle(frames)
    found = grey > 20
    vectors = np.zeros((len(frames), 8), np.float32)
    vectors[np.arange(len(frames)), np.clip(np.round((grey - 30) / 40), 0, 7).astype(int)] = found
    return FaceEmbeddings(vectors, found, np.zeros((len(frames), 4), np.float32))


def masks(frames: np.ndarray) -> np.ndarray:
    found = np.zeros(frames.shape[:3], bool)
    found[:, :, 14:34] = True
    found |= (frames < 10).all(axis=-1)
    return found


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clips:
    monkeypatch.setenv("TAVR_WORKERS", "1")
    monkeypatch.delenv("TAVR_WORK", raising=False)
    monkeypatch.setattr(appearance, "_identity", lambda _: SimpleNamespace(embed=embed))
    monkeypatch.setattr(appearance, "_people", lambda _: SimpleNamespace(masks=masks))
    for name in ("identity", "people"):
        (tmp_path / "weights" / name).mkdir(parents=True)
    write_passed(tmp_path, "ingest")
    (tmp_path / "review.json").write_text('{"schema_version": 1, "decisions": []}')
    return Clips(tmp_path)
