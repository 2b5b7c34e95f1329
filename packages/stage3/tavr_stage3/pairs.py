"""Preference pairs as training samples: winner and loser at one time with one noise, under one condition."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from tavr_model.conditions import Conditions
from tavr_records.errors import InputError
from tavr_records.schemas import Consumed, PreferencePair
from tavr_training.dataset import LatentStore, build_conditions
from tavr_training.draws import ref_window
from tavr_training.flow_matching import FlowPoint, draw_time, flow_point
from torch import Tensor

from tavr_stage3.config import Stage3Config


@dataclass(frozen=True)
class PreferenceSample:
    """One pair: the three points share t and noise; `foreground_mask` is None in the unmasked variant."""

    conditions: Conditions
    winner: FlowPoint
    loser: FlowPoint
    anchor: FlowPoint
    foreground_mask: Tensor | None
    consumed: Consumed


def kept_pairs(pairs: Sequence[PreferencePair], excluded: set[str]) -> list[PreferencePair]:
    """The pairs without a quarantined id, in manifest order.

    Raises:
        InputError: none is left.
    """
    kept = [
        pair
        for pair in pairs
        if not excluded.intersection((pair.preference_id, pair.pair_id, pair.ref_clip_id, pair.target_clip_id))
    ]
    if not kept:
        raise InputError("data/preferences/manifest.parquet: no pair left; lower the margin or draw more generations")
    return kept


class GenerationStore:
    """The generated latents of `data/preferences`, by preference id."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._shards: dict[str, Any] = {}

    def latents(self, pair: PreferencePair, member: str) -> Tensor:
        """`winner` or `loser`, float32 [C, T, h, w].

        Raises:
            InputError: the shard is missing or broken.
        """
        try:
            if pair.shard not in self._shards:
                self._shards[pair.shard] = safe_open(self._directory / pair.shard, framework="pt")
            return self._shards[pair.shard].get_tensor(f"{pair.preference_id}/{member}").float()
        except (SafetensorError, OSError) as error:
            raise InputError(f"{self._directory / pair.shard}: unreadable ({error}); run preferences again") from error


def draw_preference_sample(  # noqa: PLR0913 - two stores, a pair, its place and how it is drawn
    store: LatentStore,
    generations: GenerationStore,
    pair: PreferencePair,
    config: Stage3Config,
    generator: torch.Generator,
    place: tuple[str, int, int],
) -> PreferenceSample:
    """Draw the sample of `place` = (stage, step, slot) from its own generator."""
    choice = config.preference
    conditions = build_conditions(
        store, pair.ref_clip_id, pair.target_clip_id, pair.ref_latent_frames, pair.ref_key, pair.target_key
    )
    text, audio = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
    conditions = conditions.drop(text=text < choice.text_dropout, audio=audio < choice.audio_dropout)
    real = store.tensor(pair.target_clip_id, f"{pair.target_key}/latents").float()
    winner = real if choice.variant == "real_winner" else generations.latents(pair, "winner")
    loser = generations.latents(pair, "loser")
    t = draw_time(generator, config.times.logit_mean, config.times.logit_std)
    noise = torch.randn(winner.shape, generator=generator)
    mask = None
    if choice.variant != "unmasked":
        mask = store.tensor(pair.target_clip_id, f"{pair.target_key}/foreground")
    stage, step, slot = place
    clips = sorted({pair.ref_clip_id, pair.target_clip_id})
    segment = f"preferences/{pair.preference_id}"
    consumed = Consumed(stage, step, slot, clips, segment, ref_window(pair.ref_latent_frames), used=True, reason="")
    return PreferenceSample(
        conditions,
        winner=flow_point(winner, noise, t),
        loser=flow_point(loser, noise, t),
        anchor=flow_point(real if choice.anchor == "target" else winner, noise, t),
        foreground_mask=mask,
        consumed=consumed,
    )
