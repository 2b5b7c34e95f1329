"""The arithmetic of cost against the paper's Table 4 and against figures counted before."""

from dataclasses import replace

import pytest
from tavr_model.cost import (
    Clip,
    Selection,
    clip_cost,
    meta_sample,
    meta_transformer,
    ref_self_attention_range,
    spec_config,
    split_selected,
    transformer_shape,
)
from tavr_model.gpu_time import Machine, TrainingPlan, gpu_hours, mean_forward_flops, training_flops
from tavr_model.specs import WAN_T2V_14B
from tavr_records.errors import InputError

PAPER = Clip(81, 480, 896, ref_frames=20, text_tokens=512)
LONG_REF_PROMPT = replace(PAPER, ref_text_tokens=512)
GIB = 2**30


@pytest.fixture(scope="module")
def model():
    return meta_transformer(spec_config(WAN_T2V_14B))


@pytest.fixture(scope="module")
def plain(model):
    return clip_cost(model, PAPER, Selection(), 24)


def test_table_4_without_selection(plain):
    assert plain.tokens.total == 45_360
    assert (plain.tokens.target, plain.tokens.background, plain.tokens.reference) == (35_280, 1_680, 8_400)
    assert plain.forward.block.ref_self_attention == 45_292_584_960_000
    assert plain.forward.block.ref_self_attention == pytest.approx(45.30e12, rel=1e-3)


def test_table_4_with_selection_by_the_stated_reading(model, plain):
    selection = split_selected(plain.tokens, 37_715)
    cost = clip_cost(model, PAPER, selection, 24)
    assert cost.tokens.total == 37_715
    assert (cost.tokens.background, cost.tokens.reference) == (1_680, 755)
    assert cost.forward.block.ref_self_attention == pytest.approx(36.56e12, rel=0.01)
    low, high = ref_self_attention_range(transformer_shape(model), plain.tokens, 37_715)
    assert (round(low / 1e12, 2), round(high / 1e12, 2)) == (35.28, 36.47)
    assert high == cost.forward.block.ref_self_attention < 36.56e12


@pytest.mark.parametrize(
    ("ref_frames", "selection", "tokens", "share", "speedup", "cache"),
    [
        (20, Selection(), 45_360, 0.109, 1.121, 6.41),
        (20, Selection(0.5, 1595 / 8400), 37_715, 0.022, 1.022, 1.22),
        (48, Selection(), 57_120, 0.246, 1.321, 15.38),
        (48, Selection(0.5, 3828 / 20160), 39_948, 0.052, 1.054, 2.92),
    ],
)
def test_the_reference_stream_once_a_clip(model, ref_frames, selection, tokens, share, speedup, cache):
    """Counted before, apart from this code, with a reference prompt of 512 tokens and half as many audio tokens."""
    cost = clip_cost(model, replace(LONG_REF_PROMPT, ref_frames=ref_frames), selection, 24)
    assert cost.tokens.total == tokens
    assert cost.reference.total / cost.forward.total == pytest.approx(share, abs=2e-3)
    assert cost.cache_speedup == pytest.approx(speedup, abs=1.5e-3)
    assert cost.cache_bytes / GIB == pytest.approx(cache, abs=0.005)


@pytest.mark.parametrize(
    ("ref_frames", "selection", "flops", "clip", "cached"),
    [
        (20, Selection(), 2.721e15, 195.9e15, 174.8e15),
        (20, Selection(0.5, 1595 / 8400), 2.193e15, 157.9e15, 154.5e15),
        (48, Selection(), 3.688e15, 265.5e15, 201.0e15),
        (48, Selection(0.5, 3828 / 20160), 2.333e15, 168.0e15, 159.4e15),
    ],
)
def test_flops_of_a_clip(model, ref_frames, selection, flops, clip, cached):
    """Likewise; the audio tokens and the null branch's single text token differ by less than 0.4 %."""
    cost = clip_cost(model, replace(LONG_REF_PROMPT, ref_frames=ref_frames), selection, 24)
    assert cost.forward.total == pytest.approx(flops, rel=4e-3)
    assert cost.clip == pytest.approx(clip, rel=4e-3)
    assert cost.cached_clip == pytest.approx(cached, rel=4e-3)


def test_guidance_without_a_branch_saves_its_pass(model, plain):
    two = clip_cost(model, PAPER, Selection(), 24, ("text", "full"))
    assert two.clip == pytest.approx(2 / 3 * plain.clip, rel=0.01)


def test_training_time_of_the_paper(model):
    """Stages 1 and 2 on A100: about 18.2 thousand GPU-hours at 45 % with the selection of 37,715 tokens."""
    a100 = Machine(312e12, 80, 0.45, 0.6, "data sheet")
    forward = mean_forward_flops(model, PAPER, Selection(0.5, 1595 / 8400), (3, 4, 5))
    hours = gpu_hours(training_flops(TrainingPlan(33_000, 32, (3, 4, 5)), forward), a100, a100.training_mfu)
    assert hours == pytest.approx(18_200, rel=0.01)
    pairs = training_flops(TrainingPlan(400, 32, (5,), trained_passes=2, frozen_passes=2), forward)
    assert gpu_hours(pairs, a100, a100.training_mfu) == pytest.approx(555, rel=0.02)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 481}, "height is 481; give a multiple of 16"),
        ({"ref_frames": 0}, "ref_frames is 0"),
        ({"ref_frames": 4000}, "ref_frames is 4000; the rotary table holds at most 3972"),
        ({"text_tokens": 513}, "text_tokens is 513; give 0 to text_len, 512"),
    ],
)
def test_a_size_that_cannot_be_is_refused(model, changes, message):
    with pytest.raises(InputError, match=message):
        meta_sample(model, replace(PAPER, **changes), Selection())


def test_the_longest_reference_fits(model):
    assert clip_cost(model, replace(PAPER, ref_frames=3972), Selection(), 1).tokens.reference == 993 * 1680


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_a_share_outside_is_refused(model, share):
    with pytest.raises(InputError, match="face share"):
        meta_sample(model, PAPER, Selection(face=share))


@pytest.mark.parametrize("selected", [35_281, 45_361])
def test_too_few_or_too_many_selected_tokens_are_refused(plain, selected):
    with pytest.raises(InputError, match="give 35282 to 45360"):
        split_selected(plain.tokens, selected)


@pytest.mark.parametrize("selected", [35_282, 36_000, 37_715, 45_360])
def test_a_split_makes_exactly_the_selected_tokens(model, plain, selected):
    assert clip_cost(model, PAPER, split_selected(plain.tokens, selected), 1).tokens.total == selected
