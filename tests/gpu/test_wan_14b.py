"""For whoever has a GPU (`make test-gpu`): the 14B network with random weights. Nobody has run this here.

Blocks are equal, so a few of them at full width show what all of them do; the whole network runs where it fits.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from tavr_model.conditions import Conditions, SampleInputs
from tavr_model.cost import Clip, Selection, meta_sample, meta_transformer, spec_config
from tavr_model.memory import count_activations
from tavr_model.specs import WAN_T2V_14B
from tavr_model.transformer import TAVRTransformer3DModel
from torch.nn.attention import SDPBackend, sdpa_kernel

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="needs a CUDA device; nothing of this has run without one"
    ),
]
CONFIG = {**spec_config(WAN_T2V_14B), "audio_layers": 13}
CLIP = Clip(frames=81, height=480, width=896, ref_frames=20, text_tokens=110)
SELECTION = Selection(background=0.6, face=0.2)
GIB = 2**30


def random_model(layers: int) -> TAVRTransformer3DModel:
    """So many blocks of the 14B network, bfloat16 on the GPU, drawn from a seed."""
    torch.manual_seed(0)
    model = meta_transformer({**CONFIG, "num_layers": layers}).to_empty(device="cuda")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.02)
    rope = TAVRTransformer3DModel(**{**CONFIG, "num_layers": 0, "ffn_dim": 8}).rope
    model.rope = rope.to("cuda")
    for module in model.blocks:
        module.attn1.norm_q.weight.data.fill_(1)
        module.attn1.norm_k.weight.data.fill_(1)
    return model.to(torch.bfloat16).eval()


def real(shape: SampleInputs) -> SampleInputs:
    """A sample of these shapes with random content on the GPU; every third reference token is kept."""

    def fill(tensor: torch.Tensor | None) -> torch.Tensor | None:
        if tensor is None:
            return None
        if tensor.dtype == torch.bool:
            return torch.arange(tensor.numel(), device="cuda").remainder(3).eq(0).view(tensor.shape)
        return torch.randn(tensor.shape, device="cuda", dtype=torch.bfloat16)

    c = shape.conditions
    parts = {name: fill(getattr(c, name)) for name in Conditions.__dataclass_fields__}
    return SampleInputs(fill(shape.latents), Conditions(**parts))


@pytest.fixture(scope="module")
def model() -> Iterator[TAVRTransformer3DModel]:
    made = random_model(2)
    yield made
    made.to("meta")
    torch.cuda.empty_cache()


@pytest.fixture(scope="module")
def inputs(model: TAVRTransformer3DModel) -> SampleInputs:
    return real(meta_sample(meta_transformer({**CONFIG, "num_layers": 1}), CLIP, SELECTION))


@torch.no_grad()
def test_attention_backends_agree(model, inputs):
    t = torch.tensor([700.0], device="cuda")
    outputs = []
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION):
        with sdpa_kernel([backend, SDPBackend.MATH]):
            outputs.append(model([inputs], t)[0].float())
    for other in outputs[1:]:
        assert (other - outputs[0]).norm() <= 2e-2 * outputs[0].norm()


@torch.no_grad()
def test_cached_reference_stream_equals_the_uncached_one(model, inputs):
    t = torch.tensor([700.0], device="cuda")
    (cache,) = model.encode_references([inputs.conditions])
    plain, cached = model([inputs], t)[0].float(), model([replace(inputs, reference=cache)], t)[0].float()
    assert (plain - cached).norm() <= 2e-2 * plain.norm()


@torch.no_grad()
def test_peak_memory_is_what_tavr_cost_says(model, inputs):
    shapes = meta_sample(meta_transformer({**CONFIG, "num_layers": 1}), CLIP, SELECTION)
    told = count_activations({**CONFIG, "num_layers": 2}, [shapes], [shapes]).inference
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    model([inputs], torch.tensor([700.0], device="cuda"))
    measured = torch.cuda.max_memory_allocated() - before
    assert 0.5 * told <= measured <= 1.5 * told, f"measured {measured / GIB:.2f} GiB, tavr cost {told / GIB:.2f} GiB"


@torch.no_grad()
def test_group_offloading_gives_the_same(inputs):
    resident = random_model(2)
    t = torch.tensor([700.0], device="cuda")
    expected = resident([inputs], t)[0].float()
    resident.to("cpu").enable_group_offload(
        torch.device("cuda"), torch.device("cpu"), offload_type="block_level", num_blocks_per_group=1, use_stream=True
    )
    assert (resident([inputs], t)[0].float() - expected).norm() <= 1e-3 * expected.norm()


@torch.no_grad()
def test_all_forty_blocks_run_where_they_fit(inputs):
    if torch.cuda.get_device_properties(0).total_memory < 70 * GIB:
        pytest.skip("the whole network and its activations need a device of 80 GB")
    velocity = random_model(WAN_T2V_14B.num_layers)([inputs], torch.tensor([700.0], device="cuda"))[0]
    assert velocity.shape == inputs.latents.shape
    assert velocity.isfinite().all()
