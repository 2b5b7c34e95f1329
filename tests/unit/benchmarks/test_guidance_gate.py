"""The counters behind the gate: FLOPs, and that the drift is none without a gate and some with one."""

import math

import pytest
import torch
from tavr_model.cost import meta_sample, meta_transformer
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.guidance_gate import gate_drift, gate_speedup
from benchmarks.scale_model import SELECTED, STEPS, full_step, guided_step, scale_clip, scale_config


def flops(work):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        work()
    return counter.get_total_flops()


def test_the_gate_saves_the_flops_it_should():
    model = meta_transformer(scale_config())
    sample = meta_sample(model, scale_clip(20), SELECTED)
    (reference,) = model.encode_references([sample.conditions])
    encode = flops(lambda: model.encode_references([sample.conditions]))
    guided, full = (flops(lambda step=step: step(model, sample, reference)) for step in (guided_step, full_step))
    half = STEPS // 2
    counted = (STEPS * guided + encode) / (half * guided + half * full + encode)
    assert gate_speedup(half) == pytest.approx(counted, rel=1e-3)
    assert 1.48 <= counted <= 1.5
    assert gate_speedup(STEPS) == 1


def test_drift():
    none, some = (gate_drift(4, share, range(1)) for share in (1.0, 0.5))
    assert (none.latents, none.psnr) == (0.0, math.inf)
    assert some.latents > 1e-3
    assert 5 < some.psnr < 60
