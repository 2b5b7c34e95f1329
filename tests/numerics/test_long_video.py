"""Long videos against their definition, window by window, and their audio against the clock."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import UniPCMultistepScheduler
from hypothesis import given
from hypothesis import strategies as st
from tavr_model.audio import audio_windows
from tavr_model.conditions import Conditions
from tavr_model.generate import Sampling, VideoRequest, generate_latents, generate_videos
from tavr_model.long_video import continue_video, joins, measure_seams, plan_windows
from tiny_models import sample, tavr
from training_world import AUDIO

SCHEDULER = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
SAMPLING = Sampling(2, 3.0, 1.5)


@given(st.integers(1, 400), st.integers(3, 30), st.integers(1, 6))
def test_windows_make_every_latent_once_and_fit(frames, window, motion):
    if window <= 2 * motion:
        with pytest.raises(ValueError, match=f"window {window}, motion {motion}"):
            plan_windows(frames, window, motion)
        return
    plan = plan_windows(frames, window, motion)
    assert [place for part in plan for place in range(part.first, part.first + part.frames)] == list(range(frames))
    assert all(part.motion + part.frames <= window for part in plan)
    assert plan[0].motion == 0
    assert all(part.motion == motion <= part.first - 1 for part in plan[1:]), "never the latent of one frame"


def test_the_papers_windows():
    plan = plan_windows(59, 21, 2)
    assert [(part.first, part.frames) for part in plan] == [(0, 21), (21, 19), (40, 19)]


@pytest.fixture
def clip():
    inputs = sample(3)
    return tavr(), inputs.conditions, torch.randn(80, *AUDIO)


def request(clip, frames, seed):
    _, conditions, features = clip
    return VideoRequest(conditions, features, (16, frames, 4, 6), torch.Generator().manual_seed(seed))


def test_a_long_video_equals_its_definition(clip):
    model, conditions, features = clip
    told = []
    (got,) = generate_videos(
        model, SCHEDULER, [request(clip, 9, 5)], SAMPLING, 5, 1, progress=lambda *step: told.append(step)
    )
    generator = torch.Generator().manual_seed(5)
    noise = [torch.randn(16, frames, 4, 6, generator=generator) for frames in (5, 4)]

    first = replace(conditions, driving_audio=audio_windows(features, 5))
    video = solve(model, first, noise[0])
    heard = audio_windows(features, 5, first_latent=4)
    second = continue_video(conditions, video[:, :1], video[:, 4:5], heard)
    video = torch.cat([video, solve(model, second, noise[1])], dim=1)
    assert (got - video).abs().max() <= 1e-4
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def solve(model, conditions, noise):
    """`generate_latents` from given noise: a scheduler's own loop over the guided velocity, uncached."""
    solver = UniPCMultistepScheduler.from_config(SCHEDULER.config)
    solver.set_timesteps(SAMPLING.steps)
    branches = [conditions.drop(text=True, audio=True), conditions.drop(audio=True), conditions]
    with torch.no_grad():
        for timestep in solver.timesteps:
            inputs = [replace(sample(3), latents=noise, conditions=branch) for branch in branches]
            null, text, full = model(inputs, timestep.expand(3))
            guided = null + SAMPLING.text_guidance * (text - null) + SAMPLING.audio_guidance * (full - text)
            noise = solver.step(guided, timestep, noise, return_dict=False)[0]
    return noise


def test_one_window_is_a_plain_generation(clip):
    model, conditions, features = clip
    plain = replace(conditions, driving_audio=audio_windows(features, 4))
    expected = generate_latents(model, SCHEDULER, plain, (16, 4, 4, 6), 9, SAMPLING)
    (got,) = generate_videos(model, SCHEDULER, [request(clip, 4, 9)], SAMPLING, 5, 1)
    assert torch.equal(got, expected)


def test_a_batch_of_different_lengths_equals_its_videos_alone(clip):
    sizes = ((9, 1), (3, 2), (6, 3))
    alone = [generate_videos(clip[0], SCHEDULER, [request(clip, *size)], SAMPLING, 5, 1)[0] for size in sizes]
    batch = generate_videos(clip[0], SCHEDULER, [request(clip, *size) for size in sizes], SAMPLING, 5, 1)
    for one, two in zip(alone, batch, strict=True):
        assert one.shape == two.shape
        assert (one - two).abs().max() <= 1e-4


def test_a_later_window_sees_the_anchor_and_no_mask(clip):
    _, conditions, features = clip
    anchor, motion = torch.randn(16, 1, 4, 6), torch.randn(16, 2, 4, 6)
    later = continue_video(conditions, anchor, motion, audio_windows(features, 4))
    assert later.bg_latents is anchor
    assert later.bg_tokens is None
    assert later.motion_latents is motion
    assert later.ref_latents is conditions.ref_latents


class Listener:
    """A network that writes down the audio of every pass."""

    device = torch.device("cpu")

    def __init__(self):
        self.heard = []

    def __call__(self, samples, times):
        (inputs,) = samples
        self.heard.append(inputs.conditions.driving_audio)
        return [torch.zeros_like(inputs.latents)]


@pytest.mark.parametrize(("window", "motion"), [(21, 2), (6, 2), (6, 1)])
def test_audio_does_not_drift_over_a_minute(window, motion):
    """Each latent of a 60 s video hears the frames of its own place, whichever window it is made in."""
    frames = 60 * 25
    features = torch.arange(frames, dtype=torch.float32).view(-1, 1, 1) + 1
    latents = 1 + (frames - 1) // 4
    network, generator = Listener(), torch.Generator().manual_seed(0)
    asked = VideoRequest(Conditions(torch.zeros(0, 4)), features, (1, latents, 2, 2), generator)
    generate_videos(network, SCHEDULER, [asked], Sampling(1, 1.0, 1.0), window, motion)
    plan = plan_windows(latents, window, motion)
    assert len(plan) == len(network.heard) > 1
    made = []
    for part, heard in zip(plan, network.heard, strict=True):
        assert len(heard) == part.motion + part.frames
        for row, windows in enumerate(heard):
            place = part.first - part.motion + row
            expected = [4 * place - 5 + lead for lead in range(8)]
            assert windows.flatten().tolist() == [float(f + 1) if 0 <= f < frames else 0.0 for f in expected]
            made += [place] if row >= part.motion else []
    assert made == list(range(latents))


def test_joins_are_the_first_frames_of_later_windows():
    assert joins(59, 21, 2) == [81, 157]
    assert joins(21, 21, 2) == []


def test_seams_are_measured_against_all_neighbours_and_against_latent_boundaries():
    changes = np.tile([6, 2, 2, 2], 10)[:32]
    changes[[12, 28]] = (9, 12)
    levels = np.concatenate([[0], np.cumsum(changes * (-1) ** np.arange(32))]) + 100
    frames = np.broadcast_to(levels[:, None, None, None], (33, 4, 4, 3)).astype(np.uint8)
    found = measure_seams(frames, [13, 29, 45])
    assert (found.ratio, found.mean_ratio, found.ratio_to_boundaries) == (6.0, 5.25, 2.0)
    assert measure_seams(frames, []) is None
    assert measure_seams(frames, [45]) is None
