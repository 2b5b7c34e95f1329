"""From FLOPs to GPU-hours: a machine's peak, and the share of it that a network reaches (model FLOPs utilisation)."""

from collections.abc import Sequence
from dataclasses import dataclass

from tavr_model.cost import Clip, Selection, clip_cost
from tavr_model.transformer import TAVRTransformer3DModel

CHECKPOINTED_PASSES = 4
"""Passes' worth of FLOPs to train on a sample with every block checkpointed: forward, again, and backward for two."""


@dataclass(frozen=True)
class Machine:
    """One GPU.

    Attributes:
        peak_flops: dense bfloat16 FLOP/s of its data sheet.
        memory_gib: GiB.
        training_mfu, inference_mfu: share of the peak that is reached, in (0, 1].
        source: where the figures come from.
    """

    peak_flops: float
    memory_gib: float
    training_mfu: float
    inference_mfu: float
    source: str


@dataclass(frozen=True)
class TrainingPlan:
    """One training.

    Attributes:
        steps: optimizer steps. global_batch: samples (stage3: pairs) a step.
        ref_latent_frames: those the reference is drawn from, all equally likely.
        trained_passes: forward passes with a gradient for each of a batch. frozen_passes: likewise without.
    """

    steps: int
    global_batch: int
    ref_latent_frames: Sequence[int]
    trained_passes: int = 1
    frozen_passes: int = 0


def mean_forward_flops(
    model: TAVRTransformer3DModel, clip: Clip, selection: Selection, ref_latent_frames: Sequence[int]
) -> float:
    """FLOPs of one pass with text and audio, mean over reference lengths in latent frames."""
    clips = [Clip(clip.frames, clip.height, clip.width, 4 * k, clip.text_tokens) for k in ref_latent_frames]
    return sum(clip_cost(model, given, selection, 1).forward.total for given in clips) / len(clips)


def training_flops(plan: TrainingPlan, forward: float) -> float:
    """FLOPs of a whole training whose passes take `forward` FLOPs each; every block is checkpointed."""
    passes = CHECKPOINTED_PASSES * plan.trained_passes + plan.frozen_passes
    return plan.steps * plan.global_batch * passes * forward


def gpu_hours(flops: float, machine: Machine, mfu: float) -> float:
    """Hours of one GPU that reaches `mfu` of its peak."""
    return flops / (machine.peak_flops * mfu) / 3600
