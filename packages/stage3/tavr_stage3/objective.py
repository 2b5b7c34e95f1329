"""L_RL = mse_weight L_MSE + dpo_weight L_DPO (paper Eq. 7 and the line below it)."""

import math
from collections.abc import Callable, Sequence

import torch
from tavr_model.conditions import SampleInputs
from tavr_records.errors import InputError
from tavr_training.flow_matching import FlowPoint, timesteps, velocity_errors
from tavr_training.masked_dpo import REDUCTIONS, PreferenceErrors, masked_error, preference_loss
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tavr_stage3.config import PreferenceConfig
from tavr_stage3.pairs import PreferenceSample

VARIANTS = ("masked", "unmasked", "real_winner")
ANCHORS = ("winner", "target")
START_TOLERANCE = 1e-3


def check_choices(config: PreferenceConfig) -> None:
    """Refuse unknown variants, anchors and reductions.

    Raises:
        InputError: names the parameter and its choices.
    """
    for name, value, choices in (
        ("variant", config.variant, VARIANTS),
        ("anchor", config.anchor, ANCHORS),
        ("reduction", config.reduction, REDUCTIONS),
    ):
        if value not in choices:
            raise InputError(f"stage3.preference.{name} is {value!r}; choose one of {', '.join(choices)}")


def preference_objective(
    frozen_model: nn.Module, config: PreferenceConfig, *, split_backward: bool = False
) -> Callable[[nn.Module, list[PreferenceSample]], dict[str, Tensor]]:
    """The loss function of the training loop.

    Args:
        frozen_model: f_ref of the paper.
        config: the variant and its weights.
        split_backward: hold the graph of one generation at a time; exact, for one forward pass more of each.
    """
    predict = _predict_one_by_one if split_backward else _predict

    def loss(model: nn.Module, batch: list[PreferenceSample]) -> dict[str, Tensor]:
        device = next(model.parameters()).device
        contexts = [sample.conditions.to(device) for sample in batch]
        points = [point.to(device) for sample in batch for point in (sample.winner, sample.loser)]
        inputs = [SampleInputs(point.z_t, contexts[index // 2]) for index, point in enumerate(points)]
        with torch.no_grad():
            frozen = _errors(frozen_model(inputs, timesteps(points)), points, batch, config)
        predictions = predict(model, inputs, timesteps(points))
        trained = _errors(predictions, points, batch, config)
        preference = preference_loss(
            PreferenceErrors(trained[0::2], trained[1::2], frozen[0::2], frozen[1::2]), config.beta
        )
        if config.anchor == "winner":  # its prediction is already there
            mse = velocity_errors(predictions[0::2], points[0::2]).mean()
        else:
            anchors = [sample.anchor.to(device) for sample in batch]
            inputs = [SampleInputs(point.z_t, context) for point, context in zip(anchors, contexts, strict=True)]
            mse = velocity_errors(predict(model, inputs, timesteps(anchors)), anchors).mean()
        _require_equal_start(preference.loss, batch)
        return {
            "loss": config.mse_weight * mse + config.dpo_weight * preference.loss,
            "dpo": preference.loss,
            "mse": mse,
            "reward_margin": preference.reward_margin.mean(),
            "accuracy": (preference.reward_margin > 0).float().mean(),
        }

    return loss


def _predict(model: nn.Module, inputs: list[SampleInputs], times: Tensor) -> list[Tensor]:
    return model(inputs, times)


def _predict_one_by_one(model: nn.Module, inputs: list[SampleInputs], times: Tensor) -> list[Tensor]:
    """The same velocities; the backward pass computes each sample's graph when it gets there, and frees it."""

    def predict(index: int) -> Tensor:
        return model([inputs[index]], times[index : index + 1])[0]

    return [checkpoint(predict, index, use_reentrant=False) for index in range(len(inputs))]


def _errors(
    predictions: Sequence[Tensor], points: Sequence[FlowPoint], batch: list[PreferenceSample], config: PreferenceConfig
) -> Tensor:
    """Masked errors, [2 * pairs], winner and loser in turn."""
    masks = [sample.foreground_mask for sample in batch for _ in range(2)]
    rows = zip(predictions, points, masks, strict=True)
    return torch.stack(
        [masked_error(prediction, point.velocity, mask, config.reduction) for prediction, point, mask in rows]
    )


def _require_equal_start(loss: Tensor, batch: list[PreferenceSample]) -> None:
    """Before the first step trained and frozen model are one, so the loss must be ln 2 despite beta / 2 = 250.

    Raises:
        InputError: it is not; the two models differ.
    """
    if batch[0].consumed.step == 0 and abs(float(loss.detach()) - math.log(2)) > START_TOLERANCE:
        raise InputError(
            f"stage3: L_DPO before the first step is {float(loss.detach()):.6f}, not ln 2 = {math.log(2):.6f}; the "
            "trained and the frozen model differ: check stage3.start and numerics.dtype"
        )
