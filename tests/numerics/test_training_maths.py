"""Identities of flow matching, and the direction and place of the gradient of masked DPO."""

import math

import pytest
import torch
from tavr_model.conditions import SampleInputs
from tavr_training.flow_matching import TIMESTEP_SCALE, draw_time, flow_point, timesteps, velocity_errors
from tavr_training.masked_dpo import PreferenceErrors, masked_error, preference_loss
from tiny_models import sample, tavr


def test_path_identities():
    latents, noise = torch.randn(4, 2, 3, 3), torch.randn(4, 2, 3, 3)
    for t in (0.0, 0.25, 1.0):
        point = flow_point(latents, noise, t)
        assert torch.allclose(point.latents, latents, atol=1e-6)
        assert torch.allclose(point.noise, noise, atol=1e-6)
    assert torch.equal(flow_point(latents, noise, 0.0).z_t, latents)
    assert torch.equal(flow_point(latents, noise, 1.0).z_t, noise)


def test_velocity_is_the_derivative_of_the_path():
    latents, noise = torch.randn(4, 2, 3, 3, dtype=torch.float64), torch.randn(4, 2, 3, 3, dtype=torch.float64)
    ahead, behind = flow_point(latents, noise, 0.5 + 1e-6), flow_point(latents, noise, 0.5 - 1e-6)
    assert torch.allclose((ahead.z_t - behind.z_t) / 2e-6, ahead.velocity, atol=1e-6)


def test_the_true_velocity_has_no_error_and_times_are_scaled():
    point = flow_point(torch.randn(2, 1, 2, 2), torch.randn(2, 1, 2, 2), 0.3)
    assert float(velocity_errors([point.velocity], [point])) == 0.0
    assert float(timesteps([point])) == pytest.approx(0.3 * TIMESTEP_SCALE)


def test_times_are_logit_normal():
    g = torch.Generator().manual_seed(0)
    t = torch.tensor([draw_time(g, 0.0, 1.0) for _ in range(4000)])
    logits = torch.log(t / (1 - t))
    assert abs(float(logits.mean())) < 0.06
    assert abs(float(logits.std()) - 1) < 0.05


@pytest.mark.parametrize("reduction", ["mean", "masked_mean", "sum"])
def test_reductions(reduction):
    prediction, velocity = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[1:3, 1:3] = True
    inside = (prediction - velocity).square()[..., 1:3, 1:3]
    expected = {"mean": inside.sum() / 96, "masked_mean": inside.mean(), "sum": inside.sum()}[reduction]
    assert torch.allclose(masked_error(prediction, velocity, mask, reduction), expected)


def test_equal_models_lose_ln_2_whatever_beta():
    errors = torch.rand(5), torch.rand(5)
    loss = preference_loss(PreferenceErrors(*errors, *errors), 500.0)
    assert float(loss.loss) == pytest.approx(math.log(2), abs=1e-7)
    assert torch.equal(loss.reward_margin, torch.zeros(5))


def test_gradient_pushes_winner_up_and_loser_down():
    winner, loser = torch.tensor([0.5], requires_grad=True), torch.tensor([0.5], requires_grad=True)
    frozen = torch.tensor([0.5])
    preference_loss(PreferenceErrors(winner, loser, frozen, frozen), 500.0).loss.backward()
    assert float(winner.grad) > 0  # descending lowers the winner's error
    assert float(loser.grad) < 0


def test_gradient_is_zero_outside_the_mask():
    mask = torch.zeros(4, 6, dtype=torch.bool)
    mask[2:, :3] = True
    predictions = [torch.randn(3, 2, 4, 6, requires_grad=True) for _ in range(2)]
    velocity = torch.randn(3, 2, 4, 6)
    errors = [masked_error(p, velocity, mask, "mean")[None] for p in predictions]
    frozen = torch.zeros(1)
    preference_loss(PreferenceErrors(*errors, frozen, frozen), 5.0).loss.backward()
    for prediction in predictions:
        assert prediction.grad[..., ~mask].abs().max() == 0
        assert prediction.grad[..., mask].abs().min() > 0


def test_one_step_raises_the_reward_margin_of_a_network():
    model = tavr().train()
    c = sample(1)
    noise = torch.randn_like(c.latents)
    points = [flow_point(torch.randn_like(c.latents), noise, 0.5) for _ in range(2)]
    inputs = [SampleInputs(p.z_t, c.conditions) for p in points]
    mask = torch.ones(4, 6, dtype=torch.bool)

    def errors():
        out = model(inputs, timesteps(points))
        return [masked_error(o, p.velocity, mask, "mean")[None] for o, p in zip(out, points, strict=True)]

    with torch.no_grad():
        frozen = errors()
    loss = preference_loss(PreferenceErrors(*errors(), *frozen), 500.0)
    loss.loss.backward()
    with torch.no_grad():
        for p in model.parameters():
            if p.grad is not None:
                p -= 1e-5 * p.grad
        after = preference_loss(PreferenceErrors(*errors(), *frozen), 500.0)
    assert float(after.reward_margin) > 0
    assert float(after.loss) < float(loss.loss.detach())
