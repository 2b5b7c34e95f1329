"""Sampling latents: UniPC over the guided velocity (paper A.1: 24 steps, text 5.0, audio 1.8)."""

from collections.abc import Callable
from typing import cast

import torch
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from tavr_model.conditions import Conditions, SampleInputs
from tavr_model.guidance import combine_guidance, guidance_branches
from tavr_model.shapes import Latents
from tavr_model.transformer import TAVRTransformer3DModel


@torch.inference_mode()
def generate_latents(  # noqa: PLR0913 - a sampling run has this many choices
    model: TAVRTransformer3DModel,
    scheduler: UniPCMultistepScheduler,
    conditions: Conditions,
    shape: tuple[int, int, int, int],
    seed: int,
    steps: int,
    text_guidance: float,
    audio_guidance: float,
    progress: Callable[[int, int], None] | None = None,
    *,
    reference_cache: bool = True,
) -> Latents:
    """Draw one clip's latents.

    Args:
        model: the velocity network.
        scheduler: its configuration is used, its state is not touched.
        conditions: the full context; the guidance branches are made from it.
        shape: [C, latent frames, height / 8, width / 8] of the new frames.
        seed: of the initial noise, drawn on the CPU so that it is the same everywhere.
        steps: of the solver.
        text_guidance: s_t of form A.
        audio_guidance: s_a of form A.
        progress: called with (steps done, steps) after every step.
        reference_cache: compute the reference stream once, for its memory of 2 * layers * tokens * width values.

    Returns:
        Normalised latents, float32, of the given shape.
    """
    solver = cast("UniPCMultistepScheduler", UniPCMultistepScheduler.from_config(scheduler.config))
    solver.set_timesteps(steps)
    generator = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    latents = torch.randn(shape, generator=generator).to(device)
    conditions = conditions.to(device)
    cached = reference_cache and conditions.ref_latents is not None
    reference = model.encode_references([conditions])[0] if cached else None
    branches = guidance_branches(conditions)
    # A branch whose weight is zero is not computed; at guidance 1 / 1 only the full one is left.
    weights = (1 - text_guidance, text_guidance - audio_guidance, audio_guidance)
    contexts = (branches.null, branches.text, branches.full)
    needed = [context for context, weight in zip(contexts, weights, strict=True) if weight != 0]
    for index, timestep in enumerate(solver.timesteps):
        times = timestep.expand(len(needed)).to(device)
        velocities = iter(model([SampleInputs(latents, context, reference) for context in needed], times))
        zero = torch.zeros_like(latents)
        null, text, full = (next(velocities).float() if weight != 0 else zero for weight in weights)
        guided = combine_guidance(null, text, full, text_guidance, audio_guidance)
        latents = solver.step(guided, timestep, latents, return_dict=False)[0]
        if progress is not None:
            progress(index + 1, steps)
    return latents.clone()
