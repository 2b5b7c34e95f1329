"""Drawing generations of one condition until the best and the worst lie far enough apart."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tavr_records.memo import Memo

Latents = NDArray[np.float32]  # [C, T, h, w]
Draw = Callable[[int], tuple[Latents, float]]  # seed -> latents, similarity to the real target


@dataclass(frozen=True)
class Generation:
    """One generation: its noise seed, latents [C, T, h, w] and identity similarity to the real target clip."""

    seed: int
    latents: Latents
    similarity: float


@dataclass(frozen=True)
class Drawn:
    """All generations of one condition, in the order drawn."""

    generations: tuple[Generation, ...]

    @property
    def winner(self) -> Generation:
        """The most similar generation; the earliest of equals."""
        return max(self.generations, key=lambda generation: generation.similarity)

    @property
    def loser(self) -> Generation:
        """The least similar generation; the earliest of equals."""
        return min(self.generations, key=lambda generation: generation.similarity)

    @property
    def margin(self) -> float:
        """Similarity of the winner less that of the loser."""
        return self.winner.similarity - self.loser.similarity


def draw_seed(stage_seed: int, pair_id: str, index: int) -> int:
    """The noise seed of draw `index` of a condition, the same on every machine."""
    digest = hashlib.sha256(f"{stage_seed}|{pair_id}|{index}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


def draw_until_apart(draw: Draw, seeds: list[int], min_margin: float) -> Drawn:
    """Draw in order of `seeds` until winner and loser lie `min_margin` apart, or the seeds end.

    Raises:
        ValueError: fewer than two seeds.
    """
    if len(seeds) < 2:
        raise ValueError(f"{len(seeds)} seeds cannot make a pair; max_draws must be at least 2")
    generations: list[Generation] = []
    for seed in seeds:
        generations.append(Generation(seed, *draw(seed)))
        if len(generations) > 1 and Drawn(tuple(generations)).margin >= min_margin:
            break
    return Drawn(tuple(generations))


def memoised(draw: Draw, memo: Memo, condition: str) -> Draw:
    """The same draws, each kept in `memo` under its condition: an interrupted run repeats none."""

    def remembered(seed: int) -> tuple[Latents, float]:
        def build(folder: Path) -> None:
            latents, similarity = draw(seed)
            np.savez(folder / "generation.npz", latents=latents, similarity=np.float64(similarity))

        with np.load(memo.entry({"condition": condition, "seed": seed}, build) / "generation.npz") as kept:
            return kept["latents"], float(kept["similarity"])

    return remembered


def spread_report(drawn: list[Drawn], accepted: int) -> bytes:
    """What the mining cost: draws, acceptance, and the spread of similarity that the margin should be set by."""
    similarities = [np.array([g.similarity for g in one.generations]) for one in drawn]
    spread = [float(values.std(ddof=1)) for values in similarities if len(values) > 1]
    total = sum(len(values) for values in similarities)
    document = {
        "conditions": len(drawn),
        "accepted": accepted,
        "generations": total,
        "generations_per_accepted": total / accepted if accepted else None,
        "mean_similarity": float(np.concatenate(similarities).mean()) if drawn else None,
        "mean_standard_deviation_within_condition": float(np.mean(spread)) if spread else None,
        "margins": sorted(round(one.margin, 6) for one in drawn),
    }
    return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()
