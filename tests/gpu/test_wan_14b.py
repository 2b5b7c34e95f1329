"""For whoever has a GPU (`make test-gpu`): the 14B network with random weights. Nobody has run this here.

Blocks are equal, so a few of them at full width show what all of them do; the whole network runs where it fits.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler
from diffusers.models import attention_dispatch
from tavr_model.conditions import Conditions, SampleInputs
from tavr_model.cost import Clip, Selection, meta_sample, meta_transformer, spec_config
from tavr_model.memory import count_activations
from tavr_model.pipeline import TAVRPipeline
from tavr_model.specs import WAN_T2V_14B
from tavr_model.transformer import TAVRTransformer3DModel
from transformers import AutoTokenizer, UMT5EncoderModel, Wav2Vec2FeatureExtractor, Wav2Vec2Model

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
    for name, parameter in model.named_parameters():
        if not any(part in name for part in model._keep_in_fp32_modules):  # as from_pretrained does
            parameter.data = parameter.data.to(torch.bfloat16)
    return model.eval()


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


@pytest.fixture
def _default_backend():
    yield
    attention_dispatch._AttentionBackendRegistry.set_active_backend(attention_dispatch.AttentionBackendName.NATIVE)


@torch.no_grad()
@pytest.mark.usefixtures("_default_backend")
@pytest.mark.parametrize(
    "backend",
    [
        "_native_flash",
        "_native_efficient",
        "_native_cudnn",
        "_native_math",
        "flex",
        "flash",
        "flash_varlen",
        "_flash_3",
    ],
)
def test_attention_backends_agree(model, inputs, backend):
    """The math kernel holds all weights of an attention at once: a short clip is enough for it, and for all."""
    t = torch.tensor([700.0], device="cuda")
    c = inputs.conditions
    short = replace(inputs, latents=inputs.latents[:, :2], conditions=replace(c, driving_audio=c.driving_audio[:2]))
    model.reset_attention_backend()
    expected = model([short], t)[0].float()
    try:
        model.set_attention_backend(backend)
    except RuntimeError as missing:
        pytest.skip(str(missing))
    got = model([short], t)[0].float()
    model.reset_attention_backend()
    assert (got - expected).norm() <= 2e-2 * expected.norm()


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


def test_model_cpu_offload_gives_the_same_video(pipeline_parts):
    """The embedded world's pipeline: every part on the GPU while it is needed, and not before or after."""
    resident, offloaded = (TAVRPipeline(**pipeline_parts()) for _ in range(2))
    resident.to("cuda")
    offloaded.enable_model_cpu_offload()
    rng = np.random.default_rng(0)
    given = {
        "reference_video": rng.integers(0, 256, (9, 32, 48, 3), np.uint8),
        "driving_audio": rng.uniform(-0.5, 0.5, 9 * 640).astype(np.float32),
        "background": rng.integers(0, 256, (32, 48, 3), np.uint8),
        "num_inference_steps": 2,
    }
    expected, got = (
        made(**given, generator=torch.Generator().manual_seed(1)).frames[0].astype(int)
        for made in (resident, offloaded)
    )
    assert np.abs(expected - got).max() <= 1
    assert offloaded.transformer.device.type == "cpu"


@pytest.fixture
def pipeline_parts(zoo):
    def parts():
        torch.manual_seed(0)
        audio = {"audio_layers": 5, "audio_features": 64, "audio_tokens": 2, "audio_hidden": 16}
        return {
            "transformer": TAVRTransformer3DModel.from_base(zoo / "base", text_len=96, **audio),
            "vae": AutoencoderKLWan.from_pretrained(zoo / "vae"),
            "scheduler": UniPCMultistepScheduler.from_pretrained(zoo / "scheduler"),
            "text_encoder": UMT5EncoderModel.from_pretrained(zoo / "text_encoder", dtype=torch.float32).eval(),
            "tokenizer": AutoTokenizer.from_pretrained(zoo / "tokenizer"),
            "speech_encoder": Wav2Vec2Model.from_pretrained(zoo / "speech", dtype=torch.float32).eval(),
            "feature_extractor": Wav2Vec2FeatureExtractor.from_pretrained(zoo / "speech"),
        }

    return parts


@torch.no_grad()
def test_all_forty_blocks_run_where_they_fit(inputs):
    if torch.cuda.get_device_properties(0).total_memory < 70 * GIB:
        pytest.skip("the whole network and its activations need a device of 80 GB")
    velocity = random_model(WAN_T2V_14B.num_layers)([inputs], torch.tensor([700.0], device="cuda"))[0]
    assert velocity.shape == inputs.latents.shape
    assert velocity.isfinite().all()
