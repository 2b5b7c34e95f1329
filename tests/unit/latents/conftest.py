"""Clips on disk and small stand-ins for the networks."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from rows import make_clip, write_passed
from tavr_latents import encode
from tavr_latents.config import LatentsConfig
from tavr_perception.keypoints import Keypoints
from tavr_records.ids import sha256_file
from tavr_records.manifest import write_manifest
from tavr_records.media import write_video, write_wav
from tavr_records.schemas import Clip, ClipSplit

HEIGHT, WIDTH = 32, 48
CONFIG = LatentsConfig(
    vae="w/vae",
    text_encoder="w/text_encoder",
    tokenizer="w/tokenizer",
    speech="w/speech",
    keypoints="w/keypoints",
    people="w/people",
    height=HEIGHT,
    width=WIDTH,
    num_frames=9,
    ref_frames_max=5,
    long_frames_max=13,
    face_stride=4,
    face_min_score=0.3,
    face_expand=1.0,
    face_boxes_override="boxes.json",
    people_stride=4,
    hole_dilation=1,
    text_max_tokens=16,
    shard_bits=2,
)


@dataclass
class Clips:
    root: Path
    rows: list[Clip] = field(default_factory=list)

    def add(self, *, frames: int = 16, person: bool = True, caption: str = "A person.") -> str:
        """A clip; its person is a bright block, so that the stand-ins find it."""
        clip = make_clip(f"video-{len(self.rows)}", person_id=f"p{len(self.rows) + 1}", frames=frames, caption=caption)
        video = np.full((frames, HEIGHT, WIDTH, 3), 40 + 3 * len(self.rows), np.uint8)
        if person:
            video[:, 8:32, 16:32] = 220
        folder = self.root / "data/ingest"
        write_video(folder / clip.path, video, 25, crf=1)
        sound = np.sin(np.arange(frames * 640) / (5 + len(self.rows))).astype(np.float32) / 2
        write_wav(folder / clip.audio_path, sound, 16000)
        self.rows.append(replace(clip, clip_sha256=sha256_file(folder / clip.path)))
        return clip.clip_id

    def write(self) -> None:
        write_manifest(self.root / "data/ingest/manifest.parquet", Clip, self.rows, ("clip_id",))
        splits = [ClipSplit(row.clip_id, row.person_id, row.person_id, "train") for row in self.rows]
        write_manifest(self.root / "data/pairs/clips.parquet", ClipSplit, splits, ("clip_id",))


class Networks:
    def encode_frames(self, frames: np.ndarray) -> np.ndarray:
        kept = frames[np.r_[0, 4 : len(frames) : 4]] if len(frames) > 1 else frames
        small = kept[:, ::8, ::8].mean(axis=-1) / 127.5 - 1
        return np.repeat(small[None], 16, axis=0).astype(ml_dtypes.bfloat16)

    def encode_text(self, caption: str, max_tokens: int) -> np.ndarray:
        codes = np.frombuffer(caption.encode()[:max_tokens], np.uint8).astype(np.float32)
        return np.repeat(codes[:, None] / 255, 4, axis=1).astype(ml_dtypes.bfloat16)

    def encode_audio(self, waveform: np.ndarray, frames: int, fps: int) -> np.ndarray:
        rows = waveform[: frames * 640].reshape(frames, 640).mean(axis=1)
        return np.repeat(np.repeat(rows[:, None, None], 3, axis=1), 2, axis=2).astype(ml_dtypes.bfloat16)


def estimate(frames: np.ndarray) -> Keypoints:
    found = (frames > 200).all(axis=-1).any(axis=(1, 2))
    points = np.tile(np.array([[18, 10], [28, 10], [18, 20], [28, 20]], np.float32), (len(frames), 1, 1))
    return Keypoints(points, np.repeat(found[:, None], 4, axis=1).astype(np.float32))


def masks(frames: np.ndarray) -> np.ndarray:
    return (frames > 200).all(axis=-1)


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clips:
    monkeypatch.setenv("TAVR_WORKERS", "1")
    monkeypatch.delenv("TAVR_WORK", raising=False)
    monkeypatch.setattr(encode, "_networks", lambda *_: Networks())
    monkeypatch.setattr(encode, "_keypoints", lambda _: SimpleNamespace(estimate=estimate))
    monkeypatch.setattr(encode, "_people", lambda _: SimpleNamespace(masks=masks))
    for name in ("vae", "text_encoder", "tokenizer", "speech", "keypoints", "people"):
        (tmp_path / "w" / name).mkdir(parents=True)
    write_passed(tmp_path, "pairs")
    (tmp_path / "boxes.json").write_text("{}")
    return Clips(tmp_path)
