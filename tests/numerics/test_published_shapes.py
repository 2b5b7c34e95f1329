"""The 14B model is Wan2.1-T2V-14B, name by name and shape by shape, and the audio layers; nothing else."""

import pytest
import torch
from diffusers import WanTransformer3DModel
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from tavr_model.cost import meta_transformer, spec_config
from tavr_model.specs import WAN_T2V_1_3B, WAN_T2V_14B
from tavr_model.transformer import is_audio_parameter

AUDIO_PROJECTOR = {
    f"{layer}.{kind}" for layer in ("linear_1", "linear_2", "linear_3", "norm") for kind in ("weight", "bias")
}
AUDIO_BLOCK = {
    "norm_audio.weight", "norm_audio.bias", "audio_cross_attn.norm_q.weight", "audio_cross_attn.norm_k.weight",
    *(f"audio_cross_attn.{name}.{kind}" for name in ("to_q", "to_k", "to_v", "to_out.0") for kind in ("weight", "bias")),
}  # fmt: skip


def shapes(model):
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def original_wan_names(layers):
    """State dict names of the original Wan2.1 repository's WanModel for text to video (wan/modules/model.py)."""
    linears = ["text_embedding.0", "text_embedding.2", "time_embedding.0", "time_embedding.2", "time_projection.1"]
    names = {"head.modulation"}
    names |= {f"{name}.{kind}" for name in ["patch_embedding", "head.head", *linears] for kind in ("weight", "bias")}
    for block in (f"blocks.{index}" for index in range(layers)):
        names.add(f"{block}.modulation")
        names |= {f"{block}.{name}.{kind}" for name in ("norm3", "ffn.0", "ffn.2") for kind in ("weight", "bias")}
        for attention in ("self_attn", "cross_attn"):
            names |= {f"{block}.{attention}.{name}.{kind}" for name in "qkvo" for kind in ("weight", "bias")}
            names |= {f"{block}.{attention}.{name}.weight" for name in ("norm_q", "norm_k")}
    return names


@pytest.mark.parametrize("spec", [WAN_T2V_1_3B, WAN_T2V_14B], ids=lambda spec: spec.name)
def test_parameters_are_the_published_ones_and_the_audio_layers(spec):
    with torch.device("meta"):
        published = shapes(WanTransformer3DModel(**spec_config(spec)))
    ours = shapes(meta_transformer(spec_config(spec)))
    assert {name: shape for name, shape in ours.items() if not is_audio_parameter(name)} == published
    added = {name for name in ours if is_audio_parameter(name)}
    expected = {f"audio_projector.{name}" for name in AUDIO_PROJECTOR}
    expected |= {f"blocks.{index}.{name}" for index in range(spec.num_layers) for name in AUDIO_BLOCK}
    assert added == expected
    assert len(added) == 8 + 12 * spec.num_layers


def test_counts_of_the_14b_model():
    """14,288,491,584 is Wan2.1-T2V-14B; 488 audio tensors beside its 1,095."""
    ours = {name: p.numel() for name, p in meta_transformer(spec_config(WAN_T2V_14B)).named_parameters()}
    published = {name: count for name, count in ours.items() if not is_audio_parameter(name)}
    assert (len(published), sum(published.values())) == (1095, 14_288_491_584)
    assert len(ours) - len(published) == 488


def test_original_wan_keys_convert_to_ours_without_audio():
    ours = {name for name in shapes(meta_transformer(spec_config(WAN_T2V_14B))) if not is_audio_parameter(name)}
    original = {name: torch.empty(0, device="meta") for name in original_wan_names(WAN_T2V_14B.num_layers)}
    assert set(convert_wan_transformer_to_diffusers(original)) == ours
