"""The counters behind the cache's ratios: FLOPs, passes and bytes on the scale model. Nothing is timed."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from tavr_model.cost import Clip, clip_cost, meta_sample, meta_transformer, spec_config
from tavr_model.specs import WAN_T2V_14B
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.reference_cache import OF_ANALYTIC, SELECTION_TARGETS, analytic_cost, cached_clip, check_cached
from benchmarks.scale_model import (
    SCALE_SPEC,
    SELECTED,
    STEPS,
    WHOLE,
    guided_step,
    scale_clip,
    scale_config,
    scale_model,
    scale_sample,
)


def flops(work):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        work()
    return counter.get_total_flops()


def counted_clips(ref_frames, selection):
    """FLOPs of an uncached and of a cached clip that torch counts on the meta device."""
    model = meta_transformer(scale_config())
    sample = meta_sample(model, scale_clip(ref_frames), selection)
    encode = flops(lambda: model.encode_references([sample.conditions]))
    (reference,) = model.encode_references([sample.conditions])
    plain, cached = (flops(partial(guided_step, model, sample, given)) for given in (None, reference))
    return STEPS * plain, STEPS * cached + encode


@pytest.mark.parametrize(("ref_frames", "least"), [(20, 1.115), (48, 1.31)])
def test_the_cache_saves_the_flops_it_should(ref_frames, least):
    plain, cached = counted_clips(ref_frames, WHOLE)
    analytic = analytic_cost(ref_frames, WHOLE)
    assert plain == pytest.approx(analytic.clip, rel=1e-3)
    assert cached == pytest.approx(analytic.cached_clip, rel=1e-3)
    assert plain / cached >= least


@pytest.mark.parametrize("ref_frames", [20, 48])
def test_selection_and_cache_save_the_flops_they_should(ref_frames):
    plain, _ = counted_clips(ref_frames, WHOLE)
    _, cached = counted_clips(ref_frames, SELECTED)
    assert plain / cached >= SELECTION_TARGETS[ref_frames]


def test_a_longer_reference_costs_little():
    (_, short), (_, long) = (counted_clips(ref_frames, SELECTED) for ref_frames in (20, 48))
    assert long / short <= 1.035


@pytest.mark.parametrize("selection", [WHOLE, SELECTED])
@pytest.mark.parametrize("ref_frames", [20, 48])
def test_the_scale_model_has_the_ratios_of_14b(ref_frames, selection):
    model, clip = meta_transformer(spec_config(WAN_T2V_14B)), Clip(81, 480, 896, ref_frames, text_tokens=512)
    full, scaled = clip_cost(model, clip, selection, STEPS), analytic_cost(ref_frames, selection)
    assert scaled.cache_speedup == pytest.approx(full.cache_speedup, rel=0.005)
    blocks = [cost.forward.block.total for cost in (full, scaled)]
    assert blocks[0] / blocks[1] == pytest.approx(20**3, rel=0.01)
    assert scaled.tokens.total * 20 == pytest.approx(full.tokens.total, rel=1e-3)


@pytest.mark.parametrize(("ref_frames", "latents"), [(20, 5), (48, 12)])
def test_selection_keeps_sixteen_tokens_a_reference_frame(ref_frames, latents):
    tokens = analytic_cost(ref_frames, SELECTED).tokens
    assert tokens.grid == (21, 7, 12)
    assert (tokens.target, tokens.background) == (21 * 84, 42)
    assert tokens.reference == 16 * latents


def test_bytes_of_the_cache():
    model = scale_model()
    (cache,) = model.encode_references([scale_sample(model, 20, SELECTED).conditions])
    keys_and_values = 2 * SCALE_SPEC.num_layers * 5 * 16 * SCALE_SPEC.width
    assert cache.nbytes == 4 * keys_and_values
    assert analytic_cost(20, SELECTED).cache_bytes == 2 * keys_and_values


@torch.inference_mode()
def test_a_round_is_one_encoding_and_a_pass_a_branch():
    model = scale_model()
    sample = scale_sample(model, 20, SELECTED)
    short = replace(
        sample,
        latents=sample.latents[:, :1],
        conditions=replace(sample.conditions, driving_audio=sample.conditions.driving_audio[:1]),
    )
    check_cached(model, short)
    run = cached_clip(model, short)
    passes = []
    model.register_forward_hook(lambda _model, given, _out: passes.append([s.latents.shape[1] for s in given[0]]))
    assert run() > 0
    assert passes == [[0], [1], [1], [1]]


def test_the_targets_are_below_what_the_flops_allow():
    assert OF_ANALYTIC < 1
    for ref_frames, target in SELECTION_TARGETS.items():
        assert target <= analytic_cost(ref_frames, WHOLE).clip / analytic_cost(ref_frames, SELECTED).cached_clip
