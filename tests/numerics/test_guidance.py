"""Guidance in form A, and sampling: deterministic, and exact where the answer is known."""

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline
from tavr_model.conditions import Conditions, SampleInputs
from tavr_model.generate import Sampling, generate_latents
from tavr_model.guidance import BRANCHES, branch_weights, combine_guidance, guidance_branches
from tavr_model.transformer import TAVRTransformer3DModel
from tiny_models import sample, tavr, wan
from training_world import AUDIO, TEXT_DIM, TRANSFORMER


def _scheduler():
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)


def test_form_a():
    null, text, full = (torch.randn(3, 1, 2, 2) for _ in range(3))
    found = {"null": null, "text": text, "full": full}
    assert torch.allclose(combine_guidance(found, 1.0, 1.0), full)
    expected = null + 5.0 * (text - null) + 1.8 * (full - text)
    assert torch.equal(combine_guidance(found, 5.0, 1.8), expected)


@pytest.mark.parametrize("scales", [(5.0, 1.8), (1.0, 1.0), (1.0, 0.0), (0.0, 0.0), (3.0, 3.0), (0.0, 2.0)])
def test_a_branch_of_weight_zero_may_be_left_out(scales):
    found = {name: torch.randn(3, 1, 2, 2) for name in BRANCHES}
    weights = branch_weights(*scales)
    some = {name: found[name] for name in weights}
    assert torch.allclose(combine_guidance(some, *scales), combine_guidance(found, *scales), atol=1e-5)
    summed = sum(weight * found[name] for name, weight in weights.items())
    assert torch.allclose(combine_guidance(some, *scales), summed, atol=1e-5)


def test_branches_null_text_and_driving_audio_only():
    c = sample(1).conditions
    branches = guidance_branches(c)
    assert tuple(branches) == BRANCHES
    assert len(branches["null"].text_embeds) == 0
    assert not branches["null"].driving_audio.any()
    assert torch.equal(branches["text"].text_embeds, c.text_embeds)
    assert not branches["text"].driving_audio.any()
    assert branches["full"] is c
    for branch in (branches["null"], branches["text"]):
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
    assert sizes == [1] * 3 + [1] * 9


def test_packed_branches_give_the_same_in_a_third_of_the_passes():
    model, c = tavr(), sample(1).conditions
    sizes: list[int] = []
    model.register_forward_pre_hook(lambda _m, args: sizes.append(len(args[0])))
    one, packed = (
        generate_latents(model, _scheduler(), c, (16, 3, 4, 6), 1, Sampling(4, 5.0, 1.8, True, packed))
        for packed in (False, True)
    )
    assert sizes == [1] + [1] * 12 + [1] + [3] * 4
    assert (one - packed).abs().max() <= 1e-4


@pytest.mark.parametrize(("share", "guided"), [(1.0, 24), (0.5, 12), (0.51, 13), (0.01, 1)])
def test_gated_guidance_takes_fewer_passes(share, guided):
    model, c = tavr(), sample(1).conditions
    passes: list[int] = []
    model.register_forward_pre_hook(lambda _m, args: passes.append(len(args[0][0].conditions.text_embeds)))
    sampling = Sampling(24, 5.0, 1.8, guided_share=share)
    generate_latents(model, _scheduler(), c, (16, 3, 4, 6), 1, sampling)
    prompt = len(c.text_embeds)
    assert passes[1:] == [0, prompt, prompt] * guided + [prompt] * (24 - guided)
    assert sampling.guided_steps == guided


def test_gated_guidance_holds_the_last_difference_and_one_is_exact():
    """By hand: after the gate the full branch alone, and what guidance last added to it."""
    model, c, steps = tavr(), sample(1).conditions, 4
    exact, whole, gated = (
        generate_latents(model, _scheduler(), c, (16, 3, 4, 6), 7, Sampling(steps, 5.0, 1.8, **changes))
        for changes in ({}, {"guided_share": 1.0}, {"guided_share": 0.5})
    )
    assert torch.equal(exact, whole)
    solver = _scheduler()
    solver.set_timesteps(steps)
    z_t = torch.randn((16, 3, 4, 6), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        for index, timestep in enumerate(solver.timesteps):
            null, text, full = (
                model([SampleInputs(z_t, branch)], timestep[None])[0] for branch in guidance_branches(c).values()
            )
            if index < 2:
                added = null + 5.0 * (text - null) + 1.8 * (full - text) - full
            z_t = solver.step(full + added, timestep, z_t, return_dict=False)[0]
    assert (gated - z_t).abs().max() <= 1e-4
    assert (gated - exact).abs().max() > 1e-3, "it is lossy"


@pytest.mark.parametrize(
    "changes", [{"guided_share": 0.0}, {"guided_share": 1.1}, {"guided_share": float("nan")}, {"steps": 0}]
)
def test_a_sampling_that_cannot_be_is_refused(changes):
    with pytest.raises(ValueError, match=r"give steps >= 1 and a share in \(0, 1\]"):
        Sampling(**{"steps": 4, "text_guidance": 5.0, "audio_guidance": 1.8, **changes})


@torch.no_grad()
def test_sampling_is_diffusers_own_pipeline(tmp_path):
    """Without TAVR's conditions: 24 steps of UniPC under text guidance as WanPipeline takes them, same weights."""
    base = wan()
    base.save_pretrained(tmp_path)
    audio = {"audio_layers": AUDIO[0], "audio_features": AUDIO[1]}
    model = TAVRTransformer3DModel.from_base(tmp_path, **audio, **TRANSFORMER)
    vae = AutoencoderKLWan(base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    pipeline = WanPipeline(tokenizer=None, text_encoder=None, vae=vae, scheduler=_scheduler(), transformer=base)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(16, 3, 4, 6, generator=torch.Generator().manual_seed(5))
    prompt = torch.randn(5, TEXT_DIM)
    padded = F.pad(prompt, (0, 0, 0, TRANSFORMER["text_len"] - 5))[None]
    given = {
        "prompt_embeds": padded,
        "negative_prompt_embeds": torch.zeros_like(padded),
        "latents": noise[None].clone(),
    }
    size = {"height": 32, "width": 48, "num_frames": 9, "num_inference_steps": 24, "guidance_scale": 5.0}
    expected = pipeline(**given, **size, output_type="latent").frames[0]
    got = generate_latents(model, _scheduler(), Conditions(prompt), (16, 3, 4, 6), 5, Sampling(24, 5.0, 1.8))
    assert (got - expected).abs().max() <= 1e-4


@pytest.mark.parametrize(
    ("shift", "first", "last"),
    [(5.0, [999, 991, 982, 972], [501, 418, 315, 182]), (3.0, [999, 985, 970], [376, 301, 216, 117])],
)
def test_the_solvers_times_are_wans(shift, first, last):
    """24 steps with the shifts that Wan2.1 and the embedded world use."""
    solver = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)
    solver.set_timesteps(24)
    times = solver.timesteps.tolist()
    assert (times[: len(first)], times[-len(last) :], len(times)) == (first, last, 24)


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
