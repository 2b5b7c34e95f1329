"""The padded anchor computes what the packed block computes; its FLOPs are the formula's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tavr_model.transformer import TAVRTransformer3DModel

from benchmarks.case import same_output
from benchmarks.packing import (
    MIXED,
    REFERENCE_ONLY,
    StreamFrames,
    flop_bound,
    packed_batch,
    packed_block,
    padded_batch,
    padded_block,
    padding,
    unpadded,
)
from benchmarks.scale_model import scale_config, scale_model

MODEL = scale_model()
FRAMES = st.builds(StreamFrames, st.integers(2, 3), st.integers(1, 3))
STREAMS = st.lists(FRAMES, min_size=1, max_size=3) | st.lists(
    st.builds(StreamFrames, st.just(0), st.integers(1, 3)), min_size=1, max_size=4
)


def formula(main, reference, rows):
    """FLOPs of one sample of m main and r reference tokens in `rows` rows (paper Eq. 2 and the FFN)."""
    d, ffn = 256, 691
    return 4 * main * (main + reference) * d + 4 * reference**2 * d + rows * (8 * d**2 + 4 * d * ffn)


@settings(max_examples=15, deadline=None)
@given(STREAMS, st.integers(0, 99))
@torch.inference_mode()
def test_padded_equals_packed(frames, seed):
    packed = packed_batch(MODEL, frames, seed)
    outputs = unpadded(padded_block(MODEL.blocks[0], padded_batch(packed)), packed)
    assert (outputs - packed_block(MODEL.blocks[0], packed)).abs().max() <= 1e-5


@torch.inference_mode()
def test_the_packed_block_is_the_models_own_attention():
    """Without modulation, text and audio the model's block has these two residuals; a changed weight shows in both."""
    model = TAVRTransformer3DModel(**scale_config()).eval()
    packed = packed_batch(model, [StreamFrames(2, 1), StreamFrames(3, 2)])
    before = packed_block(model.blocks[0], packed)
    model.blocks[0].attn1.to_v.weight.mul_(2)
    after = packed_block(model.blocks[0], packed)
    assert (before - after).abs().max() > 1e-3
    assert (unpadded(padded_block(model.blocks[0], padded_batch(packed)), packed) - after).abs().max() <= 1e-5


@pytest.mark.parametrize(("frames", "share", "bound"), [(REFERENCE_ONLY, 0.548, 1.785), (MIXED, 1.4, 3.078)])
def test_padding_and_flop_bound(frames, share, bound):
    """Torch's counter on what is timed agrees with the formula."""
    packed = packed_batch(MODEL, frames)
    padded = padded_batch(packed)
    assert padding(packed) == pytest.approx(share, abs=1e-3)
    longest = max(f.main for f in frames) * 84, max(f.reference for f in frames) * 84
    sums = [(f.main * 84, f.reference * 84) for f in frames]
    expected_packed = sum(formula(m, r, m + r) for m, r in sums)
    expected_padded = len(frames) * formula(*longest, sum(longest))
    with torch.inference_mode():
        counted = flop_bound(MODEL.blocks[0], packed, padded)
    assert counted == pytest.approx(expected_padded / expected_packed, rel=1e-9)
    assert counted == pytest.approx(bound, abs=1e-3)


def test_different_outputs_are_refused():
    with pytest.raises(ValueError, match="differ by 1"):
        same_output(torch.zeros(2), torch.ones(2))
    with pytest.raises(ValueError, match="differ by nan"):
        same_output(torch.zeros(1), torch.full((1,), float("nan")))
