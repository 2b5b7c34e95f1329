"""A small data set on disk: good and bad records, files drawn here, and perception that knows where the face is."""

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rows import write_passed
from tavr_ingest import normalise
from tavr_ingest.config import Face, Filters, HeadScores, IngestConfig, SceneCut
from tavr_ingest.metadata import HEAD_SCORES
from tavr_perception.keypoints import Keypoints
from tavr_records.ids import sha256_file
from tavr_records.manifest import write_manifest
from tavr_records.media import write_video
from tavr_records.schemas import Source

RATE = 16000


def good_record(record_id: str = "clip-1", person: str = "7") -> dict[str, Any]:
    return {
        "id": record_id,
        "height": 36,
        "width": 64,
        "fps": 25.0,
        "start-time": 0,
        "end-time": 1.2,
        "start-frame": 0,
        "end-frame": 30,
        "durations": "1.200s",
        "info": {
            "Person ID": person,
            "Ethnicity": "White",
            "Age Group": "60+",
            "Gender": "Male",
            "Video Link": "https://video.invalid/watch?v=abc",
            "Language": "English",
            "Video Category": "News",
        },
        "description": "A person speaks.",
        "dover_scores": 8.9,
        "cotracker_ratio": 0.92,
        "head_detail": {"scores": dict.fromkeys(HEAD_SCORES, 100.0)},
    }


def make_config(**changes: Any) -> IngestConfig:
    head = HeadScores(**dict.fromkeys(HEAD_SCORES, 60.0))
    values: dict[str, Any] = {
        "dataset": "test",
        "person_key": "person.key",
        "person_key_sha256": None,
        "keypoints": "weights/keypoints",
        "identity": "weights/identity",
        "height": 32,
        "width": 48,
        "fps": 25,
        "sample_rate": RATE,
        "min_frames": 20,
        "max_frames": 28,
        "crf": 20,
        "filters": Filters(0.8, 5.0, 0.7, 0.99, head),
        "scene_cut": SceneCut("content", 10.0),
        "face": Face(sampled_frames=4, min_score=0.3, min_share=0.75, row=0.45, min_cover=0.8),
    }
    return IngestConfig(**(values | changes))


def picture(seed: int, frames: int, height: int = 36, width: int = 64) -> np.ndarray:
    """A smooth still with a bright square that moves a little: uint8 [T, H, W, 3]."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(60, 160, width)[None, :, None] * rng.uniform(0.5, 1.0, (1, 1, 3)) * np.ones((height, 1, 1))
    video = np.repeat(ramp[None].astype(np.uint8), frames, axis=0)
    for index in range(frames):
        video[index, 10:22, 24 + index % 4 : 38 + index % 4] = 230
    return video


def tone(seconds: float, pitch: float = 220.0) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


@dataclass
class DataSet:
    """`data/sources` under `root`; `add` a record and its file, then `write`."""

    root: Path
    records: list[Any] = field(default_factory=list)
    sources: dict[str, Source] = field(default_factory=dict)
    seeds: int = 0

    def add(self, record_id: str, *, file: str = "good", fps: int = 25, frames: int = 30, **changes: Any) -> None:
        """A record with dotted changes (value None removes) and a file that is good, silent, cut, corrupt or faceless."""
        self.seeds += 1
        record = copy.deepcopy(good_record(record_id))
        for name, value in changes.items():
            _change(record, name.split("__"), value)
        self.records.append(record)
        folder = self.root / "data/sources/media"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{record_id}.mp4"
        video = picture(self.seeds, frames)
        if file == "cut":
            video[frames // 2 :] = 255 - video[frames // 2 :]
        if file == "faceless":
            video[:] = 20
        write_video(path, video, fps, None if file == "silent" else tone(frames / fps, 200 + 10 * self.seeds), RATE)
        if file == "corrupt":
            path.write_bytes(path.read_bytes()[:400])
        self.source(record_id, f"video-{record_id}", (0, 1200))

    def source(self, record_id: str, key: str, section: tuple[int, int]) -> None:
        path = f"media/{record_id}.mp4"
        digest = sha256_file(self.root / "data/sources" / path)
        self.sources[record_id] = Source(
            record_id, key, digest, path, *section, "CC0-1.0", "2026-01-01", "metadata.json"
        )

    def write(self) -> None:
        folder = self.root / "data/sources"
        (folder / "metadata.json").write_text(json.dumps(self.records))
        write_manifest(folder / "manifest.parquet", Source, self.sources.values(), ("record_id",))


def _change(record: dict[str, Any], names: list[str], value: Any) -> None:
    for name in names[:-1]:
        record = record[name]
    if value is None:
        del record[names[-1]]
    else:
        record[names[-1]] = value


class KnowingKeypoints:
    """Sees a face at the bright square, none where there is none."""

    def estimate(self, frames: np.ndarray) -> Keypoints:
        bright = (frames > 200).all(axis=-1)
        points = np.zeros((len(frames), 4, 2), np.float32)
        for index, mask in enumerate(bright):
            rows, columns = np.nonzero(mask)
            if len(rows):
                left, right, top, bottom = columns.min(), columns.max(), rows.min(), rows.max()
                points[index] = [[left, top], [right, top], [left, bottom], [right, bottom]]
        return Keypoints(points, np.repeat(bright.any(axis=(1, 2))[:, None], 4, axis=1).astype(np.float32))


class KnowingIdentity:
    def embed(self, frames: np.ndarray) -> SimpleNamespace:
        found = (frames > 200).all(axis=-1).any(axis=(1, 2))
        colour = frames[:, 0, 0].astype(np.float32) / 255  # each clip's own ramp stands in for its face
        vectors = np.where(found[:, None], colour / np.linalg.norm(colour, axis=1, keepdims=True), 0)
        return SimpleNamespace(found=found, vectors=vectors.astype(np.float32))


@pytest.fixture
def data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataSet:
    """An empty checkout whose perception needs no weights; work stays in this process."""
    monkeypatch.setenv("TAVR_WORKERS", "1")
    monkeypatch.delenv("TAVR_WORK", raising=False)
    monkeypatch.setattr(normalise, "_keypoints", lambda _: KnowingKeypoints())
    monkeypatch.setattr(normalise, "_identity", lambda _: KnowingIdentity())
    (tmp_path / "person.key").write_text("a key\n")
    for name in ("keypoints", "identity"):
        (tmp_path / "weights" / name).mkdir(parents=True)
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit/withdrawn_faces.jsonl").touch()
    write_passed(tmp_path, "sources")
    return DataSet(tmp_path)
