"""Four benchmark pairs with real videos and sound, and a scorer whose model and judges are arithmetic."""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rows import make_clip, make_pair, write_passed
from tavr_benchmark import scoring, stage
from tavr_benchmark.config import BenchmarkConfig, Method, Reference
from tavr_benchmark.scoring import Scorer
from tavr_perception.identity import FaceEmbeddings
from tavr_records.manifest import write_manifest
from tavr_records.media import write_video, write_wav
from tavr_records.schemas import Clip, ClipPair
from tavr_training.dataset import LatentStore
from training_world import write_latents

FRAMES, REF_START = 9, 9  # as `write_latents` lays a clip out: a target window of nine frames, then the reference
CONFIG = BenchmarkConfig(
    methods={
        "ours": Method("data/stage3/model", 2, Reference.own),
        "base": Method("data/weights/base", 2, Reference.own),
        "control": Method("data/stage3/model", 1, Reference.other),
    },
    candidate="ours",
    baseline="base",
    seeds=1,
    vae="data/weights/vae",
    scheduler="data/weights/scheduler",
    identity="data/weights/identity",
    keypoints="data/weights/keypoints",
    lipsync="data/weights/lipsync",
    reward="data/weights/reward",
    keypoint_min_score=0.3,
    face_expand=0.2,
    fps=25,
    sample_rate=16000,
    num_frames=FRAMES,
    steps=2,
    text_guidance=1.0,
    audio_guidance=1.0,
    confidence=0.95,
    resamples=99,
    seed=7,
)


def clip_of(person: int, role: str) -> Clip:
    caption = f"Person {person} <talks> & looks."
    return make_clip(f"{person} {role}", person_id=f"person-{person}", frames=20, caption=caption)


def pair_of(person: int, split: str = "benchmark", review: str = "accepted") -> ClipPair:
    return make_pair(clip_of(person, "ref").clip_id, clip_of(person, "target").clip_id, person, split, review)


def embed(frames: np.ndarray) -> FaceEmbeddings:
    """The face of a frame points where its mean grey says; a frame nearly black has none."""
    grey = frames.mean(axis=(1, 2, 3)) / 255
    vectors = np.stack([np.cos(grey * np.pi / 2), np.sin(grey * np.pi / 2)], axis=1).astype(np.float32)
    found = grey > 0.1
    return FaceEmbeddings(np.where(found[:, None], vectors, 0), found, np.zeros((len(frames), 4), np.float32))


@dataclass
class World:
    """What was generated, and with which grey; a test may change `grey` and `broken`."""

    root: Path
    grey: dict[str, int] = field(default_factory=lambda: {"ours": 200, "base": 120, "control": 60})
    generated: list[tuple[str, int]] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)

    def scorer(self, config: BenchmarkConfig = CONFIG) -> Scorer:
        made = object.__new__(Scorer)
        made.config, made.data = config, self.root / "data/ingest"
        made.store = LatentStore(self.root / "data/latents")
        made.identity = SimpleNamespace(embed=embed)
        made.keypoints = SimpleNamespace(estimate=lambda frames: frames)
        made.lipsync = SimpleNamespace(score=self.sync)
        made.reward = SimpleNamespace(
            score=lambda frames, fps, prompt: SimpleNamespace(vq=1.0, mq=2.0, ta=3.0, overall=6.0)
        )
        made.vae = made.scheduler = None
        made.one_at_a_time = threading.Lock()
        made.generate = self.generate
        return made

    def generate(self, model, task, conditions) -> np.ndarray:
        if task.pair.person_id in self.broken:
            raise KeyboardInterrupt
        self.generated.append((task.name, task.pair.person_id))
        return np.full((FRAMES, 32, 48, 3), self.grey[task.name], np.uint8)

    def sync(self, frames, boxes, waveform, fps):
        assert len(waveform) == FRAMES * 640
        seen = bool(embed(frames).found.any())
        return SimpleNamespace(sync_c=1.5 if seen else float("nan"), sync_d=8.0 if seen else float("nan"))


@pytest.fixture
def world(tmp_path, monkeypatch) -> World:
    monkeypatch.setenv("TAVR_WORKERS", "1")
    monkeypatch.delenv("TAVR_WORK", raising=False)
    clips = [clip_of(person, role) for person in range(4) for role in ("ref", "target")]
    for clip in clips:
        frames = np.zeros((20, 32, 48, 3), np.uint8)
        frames[:FRAMES] = 220 if clip.source_key.endswith("target") else 0
        frames[REF_START:] = 0 if clip.source_key.endswith("target") else 180
        write_video(tmp_path / "data/ingest" / clip.path, frames, 25, crf=1)
        write_wav(tmp_path / "data/ingest" / clip.audio_path, np.zeros(20 * 640, np.float32), 16000)
    write_manifest(tmp_path / "data/ingest/manifest.parquet", Clip, clips, ("clip_id",))
    pairs = [pair_of(person) for person in range(4)]
    write_manifest(tmp_path / "data/pairs/manifest.parquet", ClipPair, pairs, ("pair_id",))
    write_latents(tmp_path / "data/latents", {clip.clip_id: clip.person_id for clip in clips})
    write_passed(tmp_path, "pairs", "latents")
    for folder in (
        "stage3/model",
        *(f"weights/{role}" for role in ("base", "vae", "identity", "keypoints", "lipsync", "reward")),
    ):
        (tmp_path / "data" / folder).mkdir(parents=True)
    made = World(tmp_path)
    monkeypatch.setattr(scoring, "face_boxes", lambda frames, *_: np.zeros((len(frames), 4), np.float32))
    monkeypatch.setattr(stage, "load_model", lambda directory, like: directory)
    monkeypatch.setattr(stage, "Scorer", lambda config, root: made.scorer(config))
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    return made
