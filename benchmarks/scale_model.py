"""A model and clips of a twentieth of the 14B sizes, on which a CPU's ratios are those of the 14B FLOPs.

Width, FFN, heads, tokens a latent frame, prompt and audio lengths are the 14B ones over 20, so that every product of
three of them, and with it every FLOP term of a block, is 8,000 times smaller and their shares stay what they are. What
does not divide is rounded: 32 audio tokens a latent frame become 2, 16 latent channels become 1. Two of 40 blocks are
kept; ratios of equal blocks do not depend on their number.
"""

from dataclasses import replace
from typing import Any

import torch
from tavr_model.conditions import Conditions, SampleInputs
from tavr_model.cost import Clip, Selection, meta_sample
from tavr_model.guidance import guidance_branches
from tavr_model.reference_cache import ReferenceCache
from tavr_model.specs import WAN_T2V_14B, WanSpec
from tavr_model.transformer import TAVRTransformer3DModel
from torch import nn

STEPS = 24
TIMESTEP = 500.0

SCALE_SPEC = WanSpec(
    name="Wan2.1-T2V-14B / 20",
    num_attention_heads=WAN_T2V_14B.num_attention_heads // 20,
    attention_head_dim=128,
    num_layers=2,
    ffn_dim=round(WAN_T2V_14B.ffn_dim / 20),
    in_channels=1,
    out_channels=1,
    text_dim=round(WAN_T2V_14B.text_dim / 20),
    text_len=round(WAN_T2V_14B.text_len / 20),
)
AUDIO: dict[str, int] = {"audio_layers": 12, "audio_features": 38, "audio_hidden": 26, "audio_tokens": 2}

# 112x192 pixels are 7x12 tokens a latent frame, a twentieth of 480x896's 30x56; 81 frames are 21 latents.
SELECTED = Selection(background=0.5, face=0.19)
WHOLE = Selection()


def scale_config() -> dict[str, Any]:
    """Arguments of `TAVRTransformer3DModel` at a twentieth of 14B."""
    names = ("num_attention_heads", "attention_head_dim", "num_layers", "ffn_dim", "in_channels", "out_channels",
             "text_dim", "text_len", "freq_dim", "patch_size", "rope_max_seq_len")  # fmt: skip
    return {name: getattr(SCALE_SPEC, name) for name in names} | AUDIO


def scale_clip(ref_frames: int) -> Clip:
    """81 frames with `ref_frames` pixel frames of reference (20 are 5 latents, 48 are 12) and a full prompt."""
    return Clip(81, 112, 192, ref_frames, text_tokens=SCALE_SPEC.text_len)


def scale_model(seed: int = 0) -> TAVRTransformer3DModel:
    """Random float32 weights of `seed`; the audio attention is not silent, so that outputs depend on everything."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TAVRTransformer3DModel(**scale_config())
        for block in model.blocks:
            nn.init.normal_(block.audio_cross_attn.to_out[0].weight, std=0.02)  # type: ignore[union-attr]
    return model.eval()


def scale_sample(model: TAVRTransformer3DModel, ref_frames: int, selection: Selection, seed: int = 0) -> SampleInputs:
    """The sample of these sizes that `tavr_model.cost` counts, filled with normal values of `seed`.

    Latents [1, 21, 14, 24], reference latents [1, 5 or 12, 14, 24], background latents [1, 1, 14, 24].
    """
    empty, generator = meta_sample(model, scale_clip(ref_frames), selection), torch.Generator().manual_seed(seed)

    def filled(value: torch.Tensor) -> torch.Tensor:
        return torch.randn(value.shape, generator=generator) if value.is_meta else value

    fields: dict[str, torch.Tensor | None] = vars(empty.conditions)
    given = {name: value if value is None else filled(value) for name, value in fields.items()}
    conditions: dict[str, Any] = given
    return SampleInputs(filled(empty.latents), Conditions(**conditions))


def guided_step(
    model: TAVRTransformer3DModel, sample: SampleInputs, reference: ReferenceCache | None
) -> list[torch.Tensor]:
    """One solver step's passes: the three branches' velocities, each of the latents' shape, one after the other."""
    contexts = guidance_branches(sample.conditions).values()
    return [full_step(model, replace(sample, conditions=context), reference) for context in contexts]


def full_step(model: TAVRTransformer3DModel, sample: SampleInputs, reference: ReferenceCache | None) -> torch.Tensor:
    """One pass under the sample's own conditions: its velocity."""
    times = torch.full((1,), TIMESTEP, device=sample.latents.device)
    return model([replace(sample, reference=reference)], times)[0]
