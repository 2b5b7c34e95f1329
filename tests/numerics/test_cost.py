"""`tavr cost`'s FLOPs are those torch counts on the real network on the meta device; its bytes those autograd keeps."""

import json
from dataclasses import replace

import pytest
import torch
from tavr_model.conditions import SampleInputs
from tavr_model.cost import (
    Clip,
    Selection,
    clip_cost,
    forward_flops,
    meta_sample,
    meta_transformer,
    sample_streams,
    spec_config,
    transformer_shape,
)
from tavr_model.guidance import guidance_branches
from tavr_model.memory import count_activations, model_states, saved_bytes
from tavr_model.specs import WAN_T2V_1_3B, WAN_T2V_14B
from torch.utils.flop_counter import FlopCounterMode

PAPER = Clip(81, 480, 896, ref_frames=20, text_tokens=512)
EMBEDDED = Clip(21, 64, 112, ref_frames=16, text_tokens=70)
SELECTIONS = (Selection(), Selection(background=0.5, face=0.19))
TOLERANCE = 1e-3


def shallow(name, root):
    """The network of a profile with two of its blocks, and its clip."""
    specs = {"wan-14b": WAN_T2V_14B, "wan-1.3b": WAN_T2V_1_3B}
    if name in specs:
        return meta_transformer({**spec_config(specs[name]), "num_layers": 2}), PAPER
    config = json.loads((root / "packages/synthetic/zoo/base/config.json").read_text())
    audio = {"audio_layers": 5, "audio_features": 64, "audio_tokens": 4, "audio_hidden": 128, "text_len": 96}
    return meta_transformer({**config, **audio, "num_layers": 2}), EMBEDDED


@torch.no_grad()
def counted(model, samples):
    with FlopCounterMode(display=False) as counter:
        model(samples, torch.empty(len(samples), device="meta"))
    return counter.get_total_flops()


@torch.no_grad()
def counted_step(model, sample, *, cached):
    """FLOPs of one guided step, and of the pass over the reference before it."""
    encoded, reference = 0, None
    if cached:
        with FlopCounterMode(display=False) as counter:
            (reference,) = model.encode_references([sample.conditions])
        encoded = counter.get_total_flops()
    passes = [
        SampleInputs(sample.latents, context, reference) for context in guidance_branches(sample.conditions).values()
    ]
    return encoded, sum(counted(model, [one]) for one in passes)


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("profile", ["tiny", "wan-1.3b", "wan-14b"])
def test_flops_are_those_of_the_real_network(root, profile, selection):
    model, clip = shallow(profile, root)
    sample = meta_sample(model, clip, selection)
    cost = clip_cost(model, clip, selection, steps=10)
    assert cost.forward.total == pytest.approx(counted(model, [sample]), rel=TOLERANCE)
    _, step = counted_step(model, sample, cached=False)
    assert cost.step == pytest.approx(step, rel=TOLERANCE)
    encoded, cached_step = counted_step(model, sample, cached=True)
    assert cost.reference.total == pytest.approx(encoded, rel=TOLERANCE)
    assert cost.cached_clip == pytest.approx(encoded + 10 * cached_step, rel=TOLERANCE)


def test_a_prompt_of_the_reference_stream_is_counted(root):
    model, clip = shallow("tiny", root)
    clip = replace(clip, ref_text_tokens=30)
    sample = meta_sample(model, clip, SELECTIONS[1])
    assert clip_cost(model, clip, SELECTIONS[1], 1).step == pytest.approx(
        counted_step(model, sample, cached=False)[1], rel=TOLERANCE
    )


def test_the_whole_14b_model():
    model = meta_transformer(spec_config(WAN_T2V_14B))
    cost = clip_cost(model, PAPER, Selection(), steps=1)
    assert cost.forward.total == pytest.approx(counted(model, [meta_sample(model, PAPER, Selection())]), rel=TOLERANCE)


def test_one_layer_of_reference_self_attention_is_table_4(root):
    """FLOPs that torch counts inside attn1, and between its projections."""
    model, clip = shallow("wan-14b", root)
    shape, (_, main, ref) = transformer_shape(model), sample_streams(model, meta_sample(model, clip, Selection()))
    block = forward_flops(shape, [main, ref], [main.prompt, ref.prompt], 1).block
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model([meta_sample(model, clip, Selection())], torch.empty(1, device="meta"))
    counts = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items() if ".blocks.1" in name}
    projections = sum(
        counts[f"{type(model).__name__}.blocks.1.attn1.{name}"] for name in ("to_q", "to_k", "to_v", "to_out.0")
    )
    assert block.self_projections == projections
    assert block.ref_self_attention == pytest.approx(45.30e12, rel=TOLERANCE)


def test_cache_bytes_are_the_caches(root):
    model, clip = shallow("tiny", root)
    cost = clip_cost(model, clip, SELECTIONS[1], 1)
    (cache,) = model.encode_references([meta_sample(model, clip, SELECTIONS[1]).conditions])
    values = sum(tensor.numel() for tensor in (*cache.keys, *cache.values))
    assert cost.cache_bytes == 2 * values


def test_activations_grow_with_what_is_kept(root):
    model, clip = shallow("tiny", root)
    sample = meta_sample(model, clip, Selection())
    config = {**model.config, "num_layers": 6}
    one = count_activations(config, [sample], [sample])
    two = count_activations(config, [sample] * 2, [sample] * 3)
    shape = transformer_shape(model)
    tokens = clip_cost(model, clip, Selection(), 1).tokens.total
    assert one.checkpointed > 6 * tokens * shape.width * 2
    assert one.kept > 3 * one.checkpointed
    assert two.checkpointed == pytest.approx(2 * one.checkpointed, rel=0.02)
    assert two.inference == pytest.approx(3 * one.inference, rel=0.1)


def test_autograd_keeps_on_a_cpu_what_was_counted_on_meta(root):
    """One block in float32 on the CPU, whose fused attention keeps query, key, value, output and one number a query."""
    model, clip = shallow("tiny", root)
    sample = meta_sample(model, clip, Selection())
    counted_bytes = saved_bytes(model, [sample])
    real = model.to_empty(device="cpu")
    for tensor in (*real.parameters(), *real.buffers()):
        torch.nn.init.normal_(tensor)
    fields = {
        name: torch.randn(value.shape) if isinstance(value, torch.Tensor) and value.is_meta else value
        for name, value in vars(sample.conditions).items()
    }
    inputs = SampleInputs(torch.randn(sample.latents.shape), type(sample.conditions)(**fields))
    assert saved_bytes(real, [inputs]) == pytest.approx(counted_bytes, rel=0.02)


@pytest.mark.parametrize(("stage", "bytes_a_parameter"), [(0, 16), (1, 4 + 12 / 8), (2, 2 + 14 / 8), (3, 16 / 8)])
def test_zero_divides_what_it_divides(stage, bytes_a_parameter):
    assert model_states(8_000, 8, stage).total == 8_000 * bytes_a_parameter
