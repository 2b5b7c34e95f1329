"""Drawing one training sample: reference length, dropped conditions, time and noise, all from the sample's stream."""

from dataclasses import dataclass

import torch
from tavr_model.audio import audio_windows
from tavr_model.conditions import Conditions, SampleInputs
from tavr_model.long_video import continue_video
from tavr_model.shapes import AudioFeatures, Latents, Scalar
from tavr_records.errors import InputError
from tavr_records.schemas import Consumed
from torch import nn

from tavr_training.config import ConditionsConfig, TimesConfig
from tavr_training.dataset import LatentStore, build_conditions
from tavr_training.flow_matching import FlowPoint, draw_time, flow_point, timesteps, velocity_errors


@dataclass(frozen=True)
class Example:
    """What a slot of a flow-matching batch is made from: a reference clip and a target clip (stage1: the same)."""

    ref_clip: str
    target_clip: str


@dataclass(frozen=True)
class FlowSample:
    """One drawn sample and its row of the consumption ledger."""

    conditions: Conditions
    point: FlowPoint
    consumed: Consumed


def draw_reference(store: LatentStore, ref_clip: str, config: ConditionsConfig, generator: torch.Generator) -> int:
    """Latent frames of reference: uniform between min and max, not above what the clip has."""
    longest = min(config.ref_latent_frames_max, store.window_latents(ref_clip, "ref0"))
    shortest = min(config.ref_latent_frames_min, longest)
    return int(torch.randint(shortest, longest + 1, (), generator=generator))


def draw_dropout(conditions: Conditions, config: ConditionsConfig, generator: torch.Generator) -> Conditions:
    """Null the prompt and, independently, the driving audio."""
    text, audio = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
    return conditions.drop(text=text < config.text_dropout, audio=audio < config.audio_dropout)


def draws_continuation(config: ConditionsConfig, generator: torch.Generator) -> bool:
    """Whether this sample is a later window of a long video."""
    return float(torch.rand((), generator=generator, dtype=torch.float64)) < config.motion_probability


def continue_target(
    conditions: Conditions, whole: Latents, features: AudioFeatures, window: int, motion: int
) -> tuple[Conditions, Latents]:
    """The second window of a long video: (conditions, latents [C, T, h, w] to be generated).

    The motion latents lie as deep in their encoding as they do at generation: a causal VAE gives the first latents of
    a clip other statistics than those that follow, and a network that has learnt to go from the ones to the others
    does so again in every window (decision 8). Latent 0 is the anchor.

    Args:
        conditions: of the target window.
        whole: latents of the long window [C, L, h, w], L > `window`.
        features: speech features of the clip, one row a pixel frame.
        window: latents of a window, motion included.
        motion: latents by which a window continues the one before it.

    Raises:
        InputError: a window without motion, or without a new latent.
    """
    if not 0 < motion < window:
        raise InputError(
            f"motion_latent_frames is {motion}, the target window has {window} latents; "
            "give at least 1 and fewer than the window has, or motion_probability 0"
        )
    latents = whole[:, window : 2 * window - motion]
    audio = audio_windows(features, motion + latents.shape[1], first_latent=window - motion)
    return continue_video(conditions, whole[:, :1], whole[:, window - motion : window], audio), latents


def draw_path(latents: Latents, times: TimesConfig, generator: torch.Generator) -> FlowPoint:
    """A time and a noise for clean latents [C, T, h, w]."""
    t = draw_time(generator, times.logit_mean, times.logit_std)
    return flow_point(latents, torch.randn(latents.shape, generator=generator), t)


def ref_window(ref_latent_frames: int) -> str:
    """How the ledger writes which latent frames of the reference window were read."""
    return f"ref0[0:{ref_latent_frames}]"


def draw_flow_sample(  # noqa: PLR0913 - where the sample goes and how it is drawn
    store: LatentStore,
    example: Example,
    config: ConditionsConfig,
    times: TimesConfig,
    generator: torch.Generator,
    place: tuple[str, int, int],
) -> FlowSample:
    """Draw the sample of `place` = (stage, step, slot) from its own generator.

    Raises:
        InputError: a tensor is missing, or a sample that may not or cannot continue a video is asked to.
    """
    stage, step, slot = place
    ref_frames = draw_reference(store, example.ref_clip, config, generator)
    conditions = build_conditions(
        store,
        example.ref_clip,
        example.target_clip,
        ref_frames,
        token_selection=config.token_selection,
        ref_audio=config.ref_audio,
    )
    segment, latents = "target0", store.tensor(example.target_clip, "target0/latents").float()
    longer = store.window_latents(example.target_clip, "long0") > latents.shape[1]
    if draws_continuation(config, generator) and longer:
        if example.ref_clip == example.target_clip:
            raise InputError(
                f"{stage}: motion_probability is {config.motion_probability}, but the reference is the later part of "
                "the same clip, which continues the target; give 0"
            )
        segment, whole = "long0", store.tensor(example.target_clip, "long0/latents").float()
        features = store.tensor(example.target_clip, "clip/audio").float()
        conditions, latents = continue_target(
            conditions, whole, features, latents.shape[1], config.motion_latent_frames
        )
    conditions = draw_dropout(conditions, config, generator)
    point = draw_path(latents, times, generator)
    clips = sorted({example.ref_clip, example.target_clip})
    consumed = Consumed(stage, step, slot, clips, segment, ref_window(ref_frames), used=True, reason="")
    return FlowSample(conditions, point, consumed)


def flow_loss(model: nn.Module, batch: list[FlowSample]) -> dict[str, Scalar]:
    """L_MSE of Eq. 6, mean over the batch."""
    device = next(model.parameters()).device
    points = [sample.point.to(device) for sample in batch]
    contexts = [sample.conditions.to(device) for sample in batch]
    inputs = [SampleInputs(point.z_t, context) for point, context in zip(points, contexts, strict=True)]
    return {"loss": velocity_errors(model(inputs, timesteps(points)), points).mean()}
