"""Guidance gated after half of the steps (`Sampling.guided_share`), against all branches in every step. Lossy.

Seconds of a clip are those of the scale model: its steps with all branches, and with the last one only. What the gate
changes in a video cannot be told by random weights, so the drift is of the embedded base, which was trained: the same
seeds drawn with and without the gate. Its audio layers are silent, so that is the drift of text guidance alone.
"""

import math
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler
from tavr_model.conditions import Conditions
from tavr_model.cost import clip_cost, meta_transformer
from tavr_model.generate import Sampling, generate_latents
from tavr_model.text import encode_prompt
from tavr_model.transformer import TAVRTransformer3DModel
from tavr_model.vae import decode_latents
from transformers import AutoTokenizer, UMT5EncoderModel

from benchmarks.case import Case, Drift, seconds
from benchmarks.method import Target
from benchmarks.scale_model import (
    SELECTED,
    STEPS,
    full_step,
    guided_step,
    scale_clip,
    scale_config,
    scale_model,
    scale_sample,
)

ZOO = Path(__file__).resolve().parents[1] / "packages/synthetic/zoo"
SHARE = 0.5
TEXT_GUIDANCE, AUDIO_GUIDANCE = 5.0, 1.8
PROMPT = "A woman with brown hair talks in a kitchen."
SHAPE = (16, 6, 8, 14)
OF_ANALYTIC = 0.97


def gate_speedup(guided_steps: int) -> float:
    """FLOPs of a clip with the reference cached, all steps guided over `guided_steps` of them."""
    model, clip = meta_transformer(scale_config()), scale_clip(20)
    whole = clip_cost(model, clip, SELECTED, STEPS)
    gated = clip_cost(model, clip, SELECTED, guided_steps).cached_clip
    if guided_steps < STEPS:
        rest = clip_cost(model, clip, SELECTED, STEPS - guided_steps, ("full",))
        gated += rest.cached_clip - (rest.reference.total if rest.reference else 0)
    return whole.cached_clip / gated


def gate_case() -> Case:
    """72 passes a clip against 48."""
    model = scale_model()
    sample = scale_sample(model, 20, SELECTED)
    (reference,) = model.encode_references([sample.conditions])
    guided = Sampling(STEPS, TEXT_GUIDANCE, AUDIO_GUIDANCE, guided_share=SHARE).guided_steps
    analytic = gate_speedup(guided)

    def clip(guided_steps: int) -> float:
        encode = seconds(lambda: model.encode_references([sample.conditions]))
        gated = 0.0
        if guided_steps < STEPS:
            gated = (STEPS - guided_steps) * seconds(lambda: full_step(model, sample, reference))
        return encode + guided_steps * seconds(lambda: guided_step(model, sample, reference)) + gated

    return Case(
        what=f"clip with guidance in {guided} of {STEPS} steps, then held: {3 * guided + STEPS - guided} passes",
        anchor=f"guidance in every step: {3 * STEPS} passes",
        analytic=analytic,
        target=Target(OF_ANALYTIC * analytic),
        run_anchor=lambda: clip(STEPS),
        run_ours=lambda: clip(guided),
        drift=gate_drift(STEPS, SHARE, range(4)),
    )


@torch.inference_mode()
def gate_drift(steps: int, share: float, seeds: range) -> Drift:
    """What the gate changes in clips of the embedded base, in the mean over `seeds`."""
    model = TAVRTransformer3DModel.from_base(ZOO / "base", text_len=96)
    scheduler: Any = UniPCMultistepScheduler.from_pretrained(ZOO / "scheduler")
    vae = AutoencoderKLWan.from_pretrained(ZOO / "vae")
    encoder = UMT5EncoderModel.from_pretrained(ZOO / "text_encoder", dtype=torch.float32).eval()
    prompt = encode_prompt(encoder, AutoTokenizer.from_pretrained(ZOO / "tokenizer"), PROMPT, 96)
    latents, decibels = [], []
    for seed in seeds:
        exact, gated = (
            generate_latents(
                model,
                scheduler,
                Conditions(prompt),
                SHAPE,
                seed,
                Sampling(steps, TEXT_GUIDANCE, AUDIO_GUIDANCE, guided_share=kept),
            )
            for kept in (1.0, share)
        )
        latents.append(float((gated - exact).norm() / exact.norm()))
        shown = [decode_latents(vae, z).float() for z in (exact, gated)]
        error = float((shown[0] - shown[1]).square().mean())
        decibels.append(20 * math.log10(255) - 10 * math.log10(error) if error else math.inf)
    return Drift(sum(latents) / len(latents), sum(decibels) / len(decibels))
