"""Samples that continue a video: what is known, what is to be generated, and how often."""

from dataclasses import replace

import pytest
import torch
from tavr_model.audio import audio_windows
from tavr_model.conditions import SampleInputs
from tavr_model.long_video import plan_windows
from tavr_records.errors import InputError
from tavr_training.config import ConditionsConfig, TimesConfig
from tavr_training.dataset import LatentStore
from tavr_training.draws import Example, continue_target, draw_flow_sample
from tavr_training.streams import stream
from tiny_models import sample, tavr
from training_world import AUDIO, clip_name, flow_section, write_latents

CONFIG = ConditionsConfig(**flow_section()["conditions"])
TIMES = TimesConfig(0.0, 1.0)
ONE, OTHER = clip_name(0, 0), clip_name(0, 1)


@pytest.fixture
def store(tmp_path):
    write_latents(tmp_path, {ONE: "person-0", OTHER: "person-0"})
    return LatentStore(tmp_path)


def draw(store, example, probability, slot=0):
    config = replace(CONFIG, motion_probability=probability)
    return draw_flow_sample(store, example, config, TIMES, stream(0, "stage2", 0, slot), ("stage2", 0, slot))


def test_a_continuation_is_the_second_window_of_a_long_video():
    inputs, whole, features = sample(1, frames=6), torch.randn(16, 11, 4, 6), torch.randn(44, *AUDIO)
    second = plan_windows(11, 6, 2)[1]
    given, latents = continue_target(inputs.conditions, whole, features, 6, 2)
    assert torch.equal(given.bg_latents, whole[:, :1])
    assert given.bg_tokens is None
    assert torch.equal(given.motion_latents, whole[:, second.first - 2 : second.first])
    assert torch.equal(latents, whole[:, second.first : second.first + second.frames])
    assert torch.equal(given.driving_audio, audio_windows(features, 6, first_latent=second.first - 2))
    assert given.ref_latents is inputs.conditions.ref_latents
    assert tavr()([SampleInputs(latents, given)], torch.tensor([500.0]))[0].shape == latents.shape


def test_of_a_shorter_clip_what_there_is_is_generated():
    inputs, whole = sample(1, frames=6), torch.randn(16, 8, 4, 6)
    given, latents = continue_target(inputs.conditions, whole, torch.randn(29, *AUDIO), 6, 2)
    assert torch.equal(latents, whole[:, 6:])
    assert len(given.driving_audio) == 4


@pytest.mark.parametrize("motion", [0, 6, 9])
def test_motion_that_does_not_fit_is_refused(motion):
    inputs = sample(1, frames=6)
    with pytest.raises(InputError, match=f"motion_latent_frames is {motion}, the target window has 6 latents"):
        continue_target(inputs.conditions, torch.randn(16, 10, 4, 6), torch.randn(37, *AUDIO), 6, motion)


def test_it_happens_as_often_as_asked_and_the_ledger_says_so(store):
    drawn = [draw(store, Example(ONE, OTHER), 0.2, slot) for slot in range(500)]
    later = [one for one in drawn if one.conditions.motion_latents is not None]
    assert 70 < len(later) < 130
    assert {one.consumed.segment for one in later} == {"long0"}
    assert all(one.consumed.segment == "target0" for one in drawn if one.conditions.motion_latents is None)
    assert draw(store, Example(ONE, OTHER), 0.0).conditions.motion_latents is None


def test_dropped_audio_stays_dropped_in_a_continuation(store):
    config = replace(CONFIG, motion_probability=1.0, audio_dropout=1.0)
    drawn = draw_flow_sample(store, Example(ONE, OTHER), config, TIMES, stream(0, "x"), ("stage2", 0, 0))
    assert drawn.conditions.motion_latents is not None
    assert not drawn.conditions.driving_audio.any()


def test_a_clip_is_not_continued_into_its_own_reference(store):
    with pytest.raises(InputError, match=r"motion_probability is 1\.0, but the reference is the later part"):
        draw(store, Example(ONE, ONE), 1.0)


def test_a_clip_that_is_no_longer_than_its_target_is_not_continued(store, monkeypatch):
    lengths = {"long0": 3, "target0": 3, "ref0": 3}
    monkeypatch.setattr(store, "window_latents", lambda _clip, window: lengths[window])
    assert draw(store, Example(ONE, OTHER), 1.0).consumed.segment == "target0"
