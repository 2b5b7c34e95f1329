"""Sampling latents: UniPC over the guided velocity (paper A.1: 24 steps, text 5.0, audio 1.8), window by window."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from torch import Tensor

from tavr_model.attention_map import AttentionProbe
from tavr_model.audio import audio_windows
from tavr_model.conditions import Conditions, SampleInputs
from tavr_model.guidance import branch_weights, combine_guidance, guidance_branches
from tavr_model.long_video import continue_video, plan_windows
from tavr_model.reference_cache import ReferenceCache
from tavr_model.shapes import AudioFeatures, FrameMap, Latents
from tavr_model.transformer import TAVRTransformer3DModel

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all) after every step of the solver."""


@dataclass(frozen=True)
class Sampling:
    """How to sample.

    Attributes:
        steps: of the solver.
        text_guidance: s_t of form A.
        audio_guidance: s_a of form A.
        reference_cache: keep the reference stream, in 2 * layers * reference tokens * width values a clip.
        packed_branches: compute the guidance branches of a step in one pass instead of one after the other: as many
            FLOPs, three times the activations, and on a CPU slower. The result is the same but for rounding.
        guided_share: share of the steps, the first ones, that compute all branches; the others compute the last branch
            only and add the guidance of the last guided step (as FastVideo's gate). Below 1 it is lossy.

    Raises:
        ValueError: `guided_share` is not within (0, 1], or there is no step.
    """

    steps: int
    text_guidance: float
    audio_guidance: float
    reference_cache: bool = True
    packed_branches: bool = False
    guided_share: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.guided_share <= 1:
            raise ValueError(
                f"steps {self.steps}, guided_share {self.guided_share}: give steps >= 1 and a share in (0, 1]"
            )

    @property
    def guided_steps(self) -> int:
        """Steps that compute all branches, at least the first."""
        return math.ceil(self.guided_share * self.steps)


@dataclass(frozen=True)
class VideoRequest:
    """One video to draw, of any length.

    Attributes:
        conditions: the context; its `driving_audio` is not read.
        features: speech features of the whole video, one row a pixel frame.
        shape: [C, latent frames, height / 8, width / 8] of the whole video.
        generator: of the initial noise, on the CPU so that it is the same everywhere; windows draw from it in turn.
    """

    conditions: Conditions
    features: AudioFeatures
    shape: tuple[int, int, int, int]
    generator: torch.Generator


@dataclass(frozen=True)
class _Draw:
    """One sample of a batch that is solved together."""

    conditions: Conditions
    noise: Latents
    reference: ReferenceCache | None


@torch.inference_mode()
def generate_latents(  # noqa: PLR0913 - network, solver and what to draw
    model: TAVRTransformer3DModel,
    scheduler: UniPCMultistepScheduler,
    conditions: Conditions,
    shape: tuple[int, int, int, int],
    seed: int,
    sampling: Sampling,
    progress: Progress | None = None,
    reference: ReferenceCache | None = None,
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
        reference: the reference stream of these very conditions, for callers that draw from them more than once.

    Returns:
        Normalised latents, float32, of the given shape.
    """
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    conditions = conditions.to(model.device)
    if reference is None:
        (reference,) = _encode_references(model, [conditions], sampling)
    return _solve(model, scheduler, [_Draw(conditions, noise, reference)], sampling, progress)[0]


@torch.inference_mode()
def generate_videos(  # noqa: PLR0913 - network, solver, what to draw, and the windows
    model: TAVRTransformer3DModel,
    scheduler: UniPCMultistepScheduler,
    requests: Sequence[VideoRequest],
    sampling: Sampling,
    window: int,
    motion: int,
    device: torch.device | None = None,
    progress: Progress | None = None,
    explained: list[FrameMap] | None = None,
) -> list[Latents]:
    """Draw videos of any length, as long as each other or not, window by window (`long_video`) in one packed batch.

    A video of one window is what `generate_latents` draws.

    Args:
        model: the velocity network.
        scheduler: its configuration is used, its state is not touched.
        requests: what to draw.
        sampling: how.
        window: latents that the network sees at once, motion included.
        motion: latents by which a window continues the one before it.
        device: where the network computes, when that is not where its weights lie (offloading).
        progress: told of every step of all windows.
        explained: gets, for each request, which reference frame each latent frame looked at; one pass more a window.

    Returns:
        Normalised latents, float32, of the requested shapes.

    Raises:
        ValueError: of `plan_windows`; `explained` for a request without a reference.
    """
    device = device or model.device
    contexts = [request.conditions.to(device) for request in requests]
    features = [request.features.to(device) for request in requests]
    plans = [plan_windows(request.shape[1], window, motion) for request in requests]
    references = _encode_references(model, contexts, sampling)
    videos = [torch.empty(r.shape[0], 0, *r.shape[2:], device=device) for r in requests]
    maps: list[list[FrameMap]] = [[] for _ in requests]
    if explained is not None and any(context.ref_latents is None for context in contexts):
        raise ValueError("explained: a request without a reference looks at none; give every request a reference")
    rounds = max(len(plan) for plan in plans)
    for index in range(rounds):
        running = [which for which, plan in enumerate(plans) if index < len(plan)]
        draws: list[_Draw] = []
        for which in running:
            part, request, context = plans[which][index], requests[which], contexts[which]
            audio = audio_windows(features[which], part.motion + part.frames, part.first - part.motion)
            context = replace(context, driving_audio=audio)
            if part.motion:
                context = continue_video(context, videos[which][:, :1], videos[which][:, -part.motion :], audio)
            size = (request.shape[0], part.frames, *request.shape[2:])
            noise = torch.randn(size, generator=request.generator).to(device)
            draws.append(_Draw(context, noise, references[which]))
        probes = None if explained is None else [AttentionProbe(0) for _ in running]
        told = progress and _shifted(progress, index * sampling.steps, rounds * sampling.steps)
        for which, drawn in zip(running, _solve(model, scheduler, draws, sampling, told, probes), strict=True):
            videos[which] = torch.cat([videos[which], drawn], dim=1)
        for which, probe in zip(running, probes or (), strict=probes is not None):
            maps[which].append(probe.map())
    if explained is not None:
        explained.extend(torch.cat(rows) for rows in maps)
    return videos


def _shifted(progress: Progress, done: int, total: int) -> Progress:
    return lambda step, _steps: progress(done + step, total)


def _encode_references(
    model: TAVRTransformer3DModel, contexts: Sequence[Conditions], sampling: Sampling
) -> list[ReferenceCache | None]:
    found: list[ReferenceCache | None] = [None] * len(contexts)
    having = [which for which, context in enumerate(contexts) if context.ref_latents is not None]
    if sampling.reference_cache and having:
        for which, cache in zip(having, model.encode_references([contexts[w] for w in having]), strict=True):
            found[which] = cache
    return found


def _solve(  # noqa: PLR0913 - the network, its input, and who watches
    model: TAVRTransformer3DModel,
    scheduler: UniPCMultistepScheduler,
    draws: Sequence[_Draw],
    sampling: Sampling,
    progress: Progress | None,
    probes: Sequence[AttentionProbe] | None = None,
) -> list[Latents]:
    """Follow the guided velocity of every draw from noise to latents; each has a solver of its own.

    `probes`, one a draw, watch the fully conditioned branch half-way.
    """
    solvers = [cast("UniPCMultistepScheduler", UniPCMultistepScheduler.from_config(scheduler.config)) for _ in draws]
    for solver in solvers:
        solver.set_timesteps(sampling.steps)
    latents = [draw.noise for draw in draws]
    needed = tuple(branch_weights(sampling.text_guidance, sampling.audio_guidance))
    contexts = [guidance_branches(draw.conditions) for draw in draws]
    held: list[Latents] = []
    for index, timestep in enumerate(solvers[0].timesteps):
        if probes is not None and index == sampling.steps // 2:
            for draw, z_t, probe in zip(draws, latents, probes, strict=True):
                inputs = SampleInputs(z_t, draw.conditions, draw.reference)
                model([inputs], timestep[None].to(z_t.device), probe=probe)
        is_guided = index < sampling.guided_steps
        batches = {
            name: [
                SampleInputs(z_t, context[name], draw.reference)
                for z_t, context, draw in zip(latents, contexts, draws, strict=True)
            ]
            for name in (needed if is_guided else needed[-1:])
        }
        found = _velocities(model, batches, timestep, packed=sampling.packed_branches)
        alone = [velocities[needed[-1]] for velocities in found]
        if is_guided:
            guided = [combine_guidance(v, sampling.text_guidance, sampling.audio_guidance) for v in found]
            held = [whole - last for whole, last in zip(guided, alone, strict=True)]
        else:
            guided = [last + guidance for last, guidance in zip(alone, held, strict=True)]
        for which, (solver, velocity) in enumerate(zip(solvers, guided, strict=True)):
            latents[which] = solver.step(velocity, timestep, latents[which], return_dict=False)[0]
        if progress is not None:
            progress(index + 1, sampling.steps)
    return [z_t.clone() for z_t in latents]


def _velocities(
    model: TAVRTransformer3DModel, batches: Mapping[str, list[SampleInputs]], timestep: Tensor, *, packed: bool
) -> list[dict[str, Latents]]:
    """The velocity of every draw in every branch of `batches`, float32; one pass a branch, or one for all."""
    groups = [[sample for batch in batches.values() for sample in batch]] if packed else list(batches.values())
    outputs: list[Latents] = []
    for group in groups:
        times = timestep.expand(len(group)).to(group[0].latents.device)
        outputs += [velocity.float() for velocity in model(group, times)]
    draws = len(outputs) // len(batches)
    return [dict(zip(batches, outputs[which::draws], strict=True)) for which in range(draws)]
