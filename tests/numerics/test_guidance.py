"""Guidance in form A, and sampling: deterministic, and exact where the answer is known."""

import pytest
import torch
from diffusers import UniPCMultistepScheduler
from tavr_model.generate import Sampling, generate_latents
from tavr_model.guidance import combine_guidance, guidance_branches
from tiny_models import sample, tavr


def _scheduler():
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)


def test_form_a():
    null, text, full = (torch.randn(3) for _ in range(3))
    assert torch.allclose(combine_guidance(null, text, full, 1.0, 1.0), full)
    expected = null + 5.0 * (text - null) + 1.8 * (full - text)
    assert torch.equal(combine_guidance(null, text, full, 5.0, 1.8), expected)


def test_branches_null_text_and_driving_audio_only():
    c = sample(1).conditions
    branches = guidance_branches(c)
    assert len(branches.null.text_embeds) == 0
    assert not branches.null.driving_audio.any()
    assert torch.equal(branches.text.text_embeds, c.text_embeds)
    assert not branches.text.driving_audio.any()
    assert branches.full is c
    for branch in (branches.null, branches.text):
        assert branch.ref_audio is c.ref_audio
        assert branch.ref_latents is c.ref_latents
        assert branch.bg_latents is c.bg_latents


def test_same_seed_same_latents():
    model, c = tavr(), sample(1).conditions
    scheduler = _scheduler()
    one, same, other = (
        generate_latents(model, scheduler, c, (16, 3, 4, 6), seed, Sampling(4, 5.0, 1.8)) for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_branch_without_weight_is_not_computed():
    model, c = tavr(), sample(1).conditions
    sizes: list[int] = []
    model.register_forward_pre_hook(lambda _m, args: sizes.append(len(args[0])))
    generate_latents(model, _scheduler(), c, (16, 3, 4, 6), 1, Sampling(3, 1.0, 1.0, False))
    generate_latents(model, _scheduler(), c, (16, 3, 4, 6), 1, Sampling(3, 5.0, 1.8, False))
    assert sizes == [1] * 3 + [3] * 3


def test_a_known_velocity_field_leads_to_its_latents():
    """For one clean point the optimal velocity is (z_t - z_0) / t; UniPC then ends at z_0."""
    truth = torch.randn(16, 2, 4, 4)

    class Field(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.device = torch.device("cpu")

        def forward(self, samples, times):
            return [(s.latents - truth) / (t / 1000) for s, t in zip(samples, times, strict=True)]

    got = generate_latents(
        Field(), _scheduler(), sample(1).conditions, tuple(truth.shape), 3, Sampling(12, 1.0, 1.0, False)
    )
    assert torch.allclose(got, truth, atol=0.05)


def test_progress_is_told():
    told = []
    generate_latents(
        tavr(), _scheduler(), sample(1).conditions, (16, 3, 4, 6), 1, Sampling(2, 1.0, 1.0), lambda *a: told.append(a)
    )
    assert told == [(1, 2), (2, 2)]


@pytest.mark.parametrize("audio", [0.0, 2.0])
def test_scales_of_zero_and_more_run(audio):
    out = generate_latents(tavr(), _scheduler(), sample(1).conditions, (16, 3, 4, 6), 1, Sampling(2, 0.0, audio))
    assert out.isfinite().all()
