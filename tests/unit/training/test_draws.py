"""Samples that continue a video: what is known, what is to be generated, and how often."""

from dataclasses import replace

import pytest
import torch
from tavr_model.conditions import SampleInputs
from tavr_records.errors import InputError
from tavr_training.config import ConditionsConfig
from tavr_training.draws import draw_continuation
from tiny_models import sample, tavr
from training_world import flow_section

CONFIG = ConditionsConfig(**flow_section()["conditions"])


def always(motion: int) -> ConditionsConfig:
    return replace(CONFIG, motion_probability=1.0, motion_latent_frames=motion)


def test_a_continuation_knows_the_anchor_and_the_motion_and_generates_the_rest():
    inputs = sample(1, frames=6)
    given, latents = draw_continuation(inputs.conditions, inputs.latents, always(2), torch.Generator())
    assert torch.equal(given.bg_latents, inputs.latents[:, :1])
    assert given.bg_tokens is None
    assert torch.equal(given.motion_latents, inputs.latents[:, 1:3])
    assert torch.equal(latents, inputs.latents[:, 3:])
    assert torch.equal(given.driving_audio, inputs.conditions.driving_audio[1:])
    assert given.ref_latents is inputs.conditions.ref_latents
    assert tavr()([SampleInputs(latents, given)], torch.tensor([500.0]))[0].shape == latents.shape


def test_it_happens_as_often_as_asked():
    inputs, generator = sample(1, frames=4), torch.Generator().manual_seed(0)
    config = replace(CONFIG, motion_probability=0.2)
    drawn = [draw_continuation(inputs.conditions, inputs.latents, config, generator) for _ in range(1000)]
    assert 150 < sum(given.motion_latents is not None for given, _ in drawn) < 250
    never = replace(CONFIG, motion_probability=0.0)
    assert draw_continuation(inputs.conditions, inputs.latents, never, generator) == (inputs.conditions, inputs.latents)


@pytest.mark.parametrize("motion", [0, 3, 9])
def test_motion_that_does_not_fit_is_refused(motion):
    inputs = sample(1, frames=4)
    with pytest.raises(InputError, match=f"motion_latent_frames is {motion}, the target window has 4 latents"):
        draw_continuation(inputs.conditions, inputs.latents, always(motion), torch.Generator())
