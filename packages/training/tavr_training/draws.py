"""Drawing one training sample: reference length, dropped conditions, time and noise, all from the sample's stream."""

from dataclasses import dataclass

import torch
from tavr_model.conditions import Conditions, SampleInputs
from tavr_model.long_video import continue_video
from tavr_model.shapes import Latents, Scalar
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


def draw_continuation(
    conditions: Conditions, latents: Latents, config: ConditionsConfig, generator: torch.Generator
) -> tuple[Conditions, Latents]:
    """Now and then the sample of a later window of a long video: (conditions, latents [C, T, h, w]).

    Latent 0, which encodes one frame and not four, is the anchor and no motion latent: the motion latents are 1 to m,
    and the rest is to be generated (choice 11).

    Raises:
        InputError: the window has no latent left to generate.
    """
    share = float(torch.rand((), generator=generator, dtype=torch.float64))
    if share >= config.motion_probability:
        return conditions, latents
    first = 1 + config.motion_latent_frames
    if not 1 < first < latents.shape[1]:
        raise InputError(
            f"motion_latent_frames is {config.motion_latent_frames}, the target window has {latents.shape[1]} latents; "
            "give at least 1 and at most the window's latents less 2, or motion_probability 0"
        )
    assert conditions.driving_audio is not None
    anchor, motion, audio = latents[:, :1], latents[:, 1:first], conditions.driving_audio[1:]
    return continue_video(conditions, anchor, motion, audio), latents[:, first:]


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
    """Draw the sample of `place` = (stage, step, slot) from its own generator."""
    ref_frames = draw_reference(store, example.ref_clip, config, generator)
    conditions = build_conditions(
        store,
        example.ref_clip,
        example.target_clip,
        ref_frames,
        token_selection=config.token_selection,
        ref_audio=config.ref_audio,
    )
    conditions = draw_dropout(conditions, config, generator)
    latents = store.tensor(example.target_clip, "target0/latents").float()
    conditions, latents = draw_continuation(conditions, latents, config, generator)
    point = draw_path(latents, times, generator)
    clips = sorted({example.ref_clip, example.target_clip})
    stage, step, slot = place
    consumed = Consumed(stage, step, slot, clips, "target0", ref_window(ref_frames), used=True, reason="")
    return FlowSample(conditions, point, consumed)


def flow_loss(model: nn.Module, batch: list[FlowSample]) -> dict[str, Scalar]:
    """L_MSE of Eq. 6, mean over the batch."""
    device = next(model.parameters()).device
    points = [sample.point.to(device) for sample in batch]
    contexts = [sample.conditions.to(device) for sample in batch]
    inputs = [SampleInputs(point.z_t, context) for point, context in zip(points, contexts, strict=True)]
    return {"loss": velocity_errors(model(inputs, timesteps(points)), points).mean()}
