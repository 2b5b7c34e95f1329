"""The cached reference stream against the one computed in every pass."""

from dataclasses import replace

import pytest
import torch
from diffusers import UniPCMultistepScheduler
from tavr_model.generate import Sampling, generate_latents
from tavr_model.packing import RopeOffsets, plan_packing
from tiny_models import sample, tavr

OFFSETS = RopeOffsets(0, 30, 31)


@torch.no_grad()
def test_cached_equals_uncached_for_every_time_branch_and_batch():
    model = tavr()
    batch = [sample(1), sample(2, ref=3), sample(3, ref=0), sample(5, motion=2)]
    caches = iter(
        model.encode_references([inputs.conditions for inputs in batch if inputs.conditions.ref_latents is not None])
    )
    cached = [
        inputs if inputs.conditions.ref_latents is None else replace(inputs, reference=next(caches)) for inputs in batch
    ]
    for times in ([10.0, 300.0, 500.0, 999.0], [700.0, 700.0, 1.0, 20.0]):
        for text, audio in ((False, False), (False, True), (True, True)):
            plain = [replace(i, conditions=i.conditions.drop(text=text, audio=audio)) for i in batch]
            shared = [replace(i, conditions=i.conditions.drop(text=text, audio=audio)) for i in cached]
            for one, two in zip(model(plain, torch.tensor(times)), model(shared, torch.tensor(times)), strict=True):
                assert (one - two).abs().max() <= 1e-5


@torch.no_grad()
def test_reference_tokens_leave_the_sequence_and_their_size_is_told():
    model, inputs = tavr(), sample(1)
    (cache,) = model.encode_references([inputs.conditions])
    layout = plan_packing([inputs, replace(inputs, reference=cache)], (1, 2, 2), OFFSETS)
    full, short = layout.samples
    assert full.reference > 0
    assert (short.reference, short.main) == (0, full.main)
    heads, size = model.config.num_attention_heads, model.config.attention_head_dim
    assert [tuple(key.shape) for key in cache.keys] == [(full.reference, heads, size)] * len(model.blocks)
    assert cache.nbytes == 2 * len(model.blocks) * full.reference * heads * size * 4


def test_conditions_without_a_reference_are_refused():
    with pytest.raises(ValueError, match="without ref_latents"):
        tavr().encode_references([sample(1, ref=0).conditions])


def test_sampling_gives_the_same_clip_with_and_without_the_cache():
    model, inputs = tavr(), sample(1)
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    batches: list[int] = []
    model.register_forward_hook(lambda _model, given, _out: batches.append(len(given[0])))
    clips = [
        generate_latents(
            model, scheduler, inputs.conditions, tuple(inputs.latents.shape), 3, Sampling(4, 5.0, 1.8, cached)
        )
        for cached in (False, True)
    ]
    assert batches == [1] * 12 + [1] + [1] * 12, "one pass more, over the reference alone"
    assert (clips[0] - clips[1]).abs().max() <= 1e-4


def test_a_cache_that_is_given_is_taken_as_it_is():
    """Several draws of one condition encode its reference once; each is what it is alone, to the last bit."""
    model, inputs = tavr(), sample(1)
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    shape, sampling = tuple(inputs.latents.shape), Sampling(2, 5.0, 1.8)
    alone = [generate_latents(model, scheduler, inputs.conditions, shape, seed, sampling) for seed in (1, 2)]
    passes = []
    model.register_forward_hook(lambda _model, given, _out: passes.append(given[0][0].latents.shape[1]))
    with torch.inference_mode():
        (cache,) = model.encode_references([inputs.conditions])
    for seed, expected in zip((1, 2), alone, strict=True):
        got = generate_latents(model, scheduler, inputs.conditions, shape, seed, sampling, reference=cache)
        assert torch.equal(got, expected)
    assert passes == [0] + [3] * 12
