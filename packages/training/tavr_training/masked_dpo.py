"""Masked direct preference optimisation (paper Eq. 7), pure functions of small dataclasses.

Both members of a pair share t and noise (as in DiffusionDPO and Flow-DPO). The squared norm of Eq. 7 is taken as a
mean (choice 13): with 2,257,920 elements a gap of 1e-3 gives beta / 2 * gap = 0.25 by mean, 564,480 by sum, where the
logistic is flat.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from tavr_model.shapes import LatentPlane, Latents, PairValues, Scalar

REDUCTIONS = ("mean", "masked_mean", "sum")


@dataclass(frozen=True)
class PreferenceErrors:
    """|| m * (y - f) ||^2 of winner and loser under the trained and the frozen model, each [pairs]."""

    winner: PairValues
    loser: PairValues
    frozen_winner: PairValues
    frozen_loser: PairValues


@dataclass(frozen=True)
class PreferenceLoss:
    """`loss` (scalar), `reward_margin` [pairs]: -beta / 2 (Delta^w - Delta^l), positive where the winner gained."""

    loss: Scalar
    reward_margin: PairValues


def masked_error(prediction: Latents, velocity: Latents, foreground_mask: LatentPlane | None, reduction: str) -> Scalar:
    """The squared error inside the mask, a scalar.

    Args:
        prediction: f, [C, T, h, w].
        velocity: y, of the same shape.
        foreground_mask: [h, w], true on the person, the same for all frames; None for the unmasked variant.
        reduction: `mean` over all elements, `masked_mean` over those inside the mask, or `sum`.

    Raises:
        ValueError: an unknown reduction.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is {reduction!r}; choose one of {', '.join(REDUCTIONS)}")
    squared = (prediction.float() - velocity).square()
    if foreground_mask is not None:
        squared = squared * foreground_mask.to(squared.dtype)
    if reduction == "sum":
        return squared.sum()
    if reduction == "mean" or foreground_mask is None:
        return squared.mean()
    inside = foreground_mask.sum() * (squared.numel() // foreground_mask.numel())
    return squared.sum() / inside.clamp(min=1)


def preference_loss(errors: PreferenceErrors, beta: float) -> PreferenceLoss:
    """-log sigmoid(-beta / 2 (Delta^w - Delta^l)), mean over pairs; ln 2 when trained and frozen model are equal."""
    delta_winner = errors.winner - errors.frozen_winner
    delta_loser = errors.loser - errors.frozen_loser
    reward_margin = -0.5 * beta * (delta_winner - delta_loser)
    return PreferenceLoss(-F.logsigmoid(reward_margin).mean(), reward_margin)
