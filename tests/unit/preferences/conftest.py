"""Pairs, verdicts and ids of a stage of preferences, without its networks."""

from pathlib import Path

import numpy as np
import pytest
from rows import make_pair, sha256_of, write_passed
from tavr_preferences.config import PreferencesConfig
from tavr_preferences.mining import Drawn, Generation
from tavr_records.manifest import write_manifest
from tavr_records.schemas import ClipPair

CONFIG = PreferencesConfig(
    model="data/stage2/model",
    vae="data/weights/vae",
    scheduler="data/weights/scheduler",
    identity="data/weights/identity",
    target_pairs=3,
    min_margin=0.2,
    max_draws=4,
    round_conditions=2,
    ref_latent_frames=2,
    num_frames=9,
    steps=2,
    text_guidance=1.0,
    audio_guidance=1.0,
    shard_bits=2,
    seed=0,
)


def pair(person: int, split: str = "train") -> ClipPair:
    return make_pair(sha256_of(f"ref {person}"), sha256_of(f"target {person}"), person, split)


def drawn(*similarities: float) -> Drawn:
    """Generations whose latents are their own similarity, in bfloat16's grid where a test compares them."""
    return Drawn(
        tuple(
            Generation(seed, np.full((2, 1, 2, 2), value, np.float32), value) for seed, value in enumerate(similarities)
        )
    )


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Eight train pairs and one of the benchmark, checked and nothing refused."""
    pairs = [pair(person) for person in range(8)] + [pair(8, "benchmark")]
    write_manifest(tmp_path / "data/pairs/manifest.parquet", ClipPair, pairs, ("pair_id",))
    write_passed(tmp_path, "pairs", "latents")
    return tmp_path
