"""The tiny VAE's trainer: what its loss sees, what it measures, and what the decoder's training leaves alone."""

from dataclasses import replace

import torch
from tavr_synthetic.zoo.corpus import CorpusConfig
from tavr_synthetic.zoo.vae import DECODER, boundary_ratio, build_vae, reconstruction_loss, train


def ramp(steps: list[float]) -> torch.Tensor:
    """A clip [1, 3, T, 8, 8] whose brightness follows `steps`."""
    return torch.tensor(steps).view(1, 1, -1, 1, 1).expand(1, 3, -1, 8, 8)


def test_a_steady_clip_has_no_boundaries_and_a_staircase_nothing_else():
    assert abs(boundary_ratio(ramp([0.01 * place for place in range(21)])) - 1) < 1e-4
    jumps = [0.04 * ((place + 3) // 4) + 0.001 * place for place in range(21)]
    assert boundary_ratio(ramp(jumps)) > 20


def test_the_motion_loss_tells_a_staircase_from_a_steady_error():
    target, weight = ramp([0.01 * place for place in range(9)]), torch.ones(1, 1, 9, 8, 8)
    steady, staircase = target + 0.015, ramp([0.04 * ((place + 3) // 4) for place in range(9)])
    moved = [
        reconstruction_loss(output, target, weight, 1.0) - reconstruction_loss(output, target, weight, 0.0)
        for output in (steady, staircase)
    ]
    assert moved[0] < 1e-6
    assert moved[1] > 0.01


def test_a_single_frame_has_no_motion():
    frame, weight = ramp([0.5]), torch.ones(1, 1, 1, 8, 8)
    assert torch.isfinite(reconstruction_loss(frame * 0.9, frame, weight, 2.0))


def test_the_decoders_training_leaves_every_latent_as_it_is(tmp_path):
    plan = replace(DECODER, corpus=CorpusConfig(2, 5, 64, 112, 8_000_000), batches=((1, 5),), warm_up=1)
    vae = build_vae()
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    assert train(vae, plan, tmp_path, 1e-3, 0) >= 1
    changed = {name.split(".")[0] for name, value in vae.state_dict().items() if not torch.equal(value, before[name])}
    assert changed <= {"decoder", "post_quant_conv"}
    assert "decoder" in changed
