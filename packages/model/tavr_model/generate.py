"""Sampling latents: UniPC over the guided velocity (paper A.1: 24 steps, text 5.0, audio 1.8), window by window."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import torch
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from tavr_model.audio import audio_windows
from tavr_model.conditions import Conditions, SampleInputs
from tavr_model.guidance import combine_guidance, guidance_branches
from tavr_model.long_video import continue_video, plan_windows
from tavr_model.reference_cache import ReferenceCache
from tavr_model.shapes import AudioFeatures, Latents
from tavr_model.transformer import TAVRTransformer3DModel

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all) after every step of the solver."""


@dataclass(frozen=True)
class Sampling:
    """Steps of the solver and the scales of form A; `reference_cache` trades memory for the reference's passes.

    The cache takes 2 * layers * reference tokens * width values a clip.
    """

    steps: int
    text_guidance: float
    audio_guidance: float
    reference_cache: bool = True


@torch.inference_mode()
def generate_latents(  # noqa: PLR0913 - network, solver and what to draw
    model: TAVRTransformer3DModel,
    scheduler: UniPCMultistepScheduler,
    conditions: Conditions,
    shape: tuple[int, int, int, int],
    seed: int,
    sampling: Sampling,
    progress: Progress | None = None,
) -> Latents:
    """Draw one window's latents.

    Args:
        model: the velocity network.
        scheduler: its configuration is used, its state is not touched.
        conditions: the full context; the guidance branches are made from it.
        shape: [C, latent frames, height / 8, width / 8] of the new frames.
        seed: of the initial noise, drawn on the CPU so that it is the same everywhere.
        sampling: how.
        progress: told of every step.

    Returns:
        Normalised latents, float32, of the given shape.
    """
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    conditions = conditions.to(model.device)
    reference = _encode_reference(model, conditions, sampling)
    return _solve(model, scheduler, conditions, noise, reference, sampling, progress)


@torch.inference_mode()
def generate_long_latents(  # noqa: PLR0913 - network, solver, what to draw, and the windows
    model: TAVRTransformer3DModel,
    scheduler: UniPCMultistepScheduler,
    conditions: Conditions,
    features: AudioFeatures,
    shape: tuple[int, int, int, int],
    seed: int,
    sampling: Sampling,
    window: int,
    motion: int,
    progress: Progress | None = None,
) -> Latents:
    """Draw a video of any length (`long_video`); one window's worth is exactly `generate_latents`.

    Args:
        model: the velocity network.
        scheduler: its configuration is used, its state is not touched.
        conditions: the context; its `driving_audio` is not read.
        features: speech features of the whole video, one row a pixel frame.
        shape: [C, latent frames, height / 8, width / 8] of the whole video.
        seed: of the one stream from which the windows draw their noise in turn.
        sampling: how.
        window: latents that the network sees at once, motion included.
        motion: latents by which a window continues the one before it.
        progress: told of every step of all windows.

    Raises:
        ValueError: of `plan_windows`.
    """
    channels, frames, height, width = shape
    generator = torch.Generator().manual_seed(seed)
    conditions, features = conditions.to(model.device), features.to(model.device)
    reference = _encode_reference(model, conditions, sampling)
    windows = plan_windows(frames, window, motion)
    video = torch.empty(channels, 0, height, width, device=model.device)
    for index, part in enumerate(windows):
        audio = audio_windows(features, part.motion + part.frames, part.first - part.motion)
        context = replace(conditions, driving_audio=audio)
        if part.motion:
            context = continue_video(conditions, video[:, :1], video[:, -part.motion :], audio)
        noise = torch.randn(channels, part.frames, height, width, generator=generator)
        told = progress and _shifted(progress, index * sampling.steps, len(windows) * sampling.steps)
        drawn = _solve(model, scheduler, context, noise, reference, sampling, told)
        video = torch.cat([video, drawn], dim=1)
    return video


def _shifted(progress: Progress, done: int, total: int) -> Progress:
    return lambda step, _steps: progress(done + step, total)


def _encode_reference(
    model: TAVRTransformer3DModel, conditions: Conditions, sampling: Sampling
) -> ReferenceCache | None:
    if not sampling.reference_cache or conditions.ref_latents is None:
        return None
    return model.encode_references([conditions])[0]


def _solve(  # noqa: PLR0913 - the network, its input, and the solver's settings
    model: TAVRTransformer3DModel,
    scheduler: UniPCMultistepScheduler,
    conditions: Conditions,
    noise: Latents,
    reference: ReferenceCache | None,
    sampling: Sampling,
    progress: Progress | None,
) -> Latents:
    """Follow the guided velocity from noise to latents."""
    solver = cast("UniPCMultistepScheduler", UniPCMultistepScheduler.from_config(scheduler.config))
    solver.set_timesteps(sampling.steps)
    latents = noise.to(model.device)
    branches = guidance_branches(conditions)
    text_guidance, audio_guidance = sampling.text_guidance, sampling.audio_guidance
    # A branch whose weight is zero is not computed; at guidance 1 / 1 only the full one is left.
    weights = (1 - text_guidance, text_guidance - audio_guidance, audio_guidance)
    contexts = (branches.null, branches.text, branches.full)
    needed = [context for context, weight in zip(contexts, weights, strict=True) if weight != 0]
    for index, timestep in enumerate(solver.timesteps):
        times = timestep.expand(len(needed)).to(model.device)
        velocities = iter(model([SampleInputs(latents, context, reference) for context in needed], times))
        zero = torch.zeros_like(latents)
        null, text, full = (next(velocities).float() if weight != 0 else zero for weight in weights)
        guided = combine_guidance(null, text, full, text_guidance, audio_guidance)
        latents = solver.step(guided, timestep, latents, return_dict=False)[0]
        if progress is not None:
            progress(index + 1, sampling.steps)
    return latents.clone()
