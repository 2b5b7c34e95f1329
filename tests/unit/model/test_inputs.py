"""Token selection, audio windows, packing and the VAE wrapper."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from hypothesis import given, settings
from hypothesis import strategies as st
from tavr_model.audio import audio_windows
from tavr_model.conditions import Conditions, SampleInputs
from tavr_model.packing import RopeOffsets, patchify, plan_packing, unpatchify
from tavr_model.rms_norm import rms_norm
from tavr_model.specs import VAE_LATENTS_MEAN, VAE_LATENTS_STD, WAN_T2V_1_3B, WAN_T2V_14B
from tavr_model.token_selection import (
    background_tokens,
    covered_frames,
    face_tokens,
    foreground_mask,
    latent_frames,
)
from tavr_model.vae import decode_latents, encode_video


@pytest.mark.parametrize(("pixels", "latents"), [(1, 1), (12, 3), (16, 4), (20, 5), (21, 6), (48, 12), (81, 21)])
def test_latent_frames(pixels, latents):
    assert latent_frames(pixels) == latents


def test_latent_frames_cover_all_pixel_frames_once():
    assert [f for k in range(6) for f in covered_frames(k)] == list(range(21))


def test_face_tokens_are_the_union_over_a_latents_frames():
    boxes = np.full((9, 4), np.nan)
    boxes[1] = [17, 0, 30, 15]
    boxes[4] = [40, 20, 47.5, 31]
    kept = face_tokens(boxes, 64, 112)
    assert kept.shape == (3, 4, 7)
    assert not kept[0].any()
    assert kept[1, 0:2, 1:3].all()
    assert kept[1].sum() == 4
    assert not kept[2].any()


@given(x=st.floats(-20, 120), y=st.floats(-20, 70), w=st.floats(1, 60), h=st.floats(1, 60))
@settings(max_examples=60)
def test_a_token_is_kept_exactly_when_the_box_meets_it(x, y, w, h):
    kept = face_tokens(np.array([[x, y, x + w, y + h]]), 64, 112)[0]
    for row in range(4):
        for column in range(7):
            meets = x < 16 * (column + 1) and x + w > 16 * column and y < 16 * (row + 1) and y + h > 16 * row
            assert kept[row, column] == meets


def test_background_and_foreground():
    hole = np.zeros((32, 48), bool)
    hole[0:16, 0:20] = True
    assert background_tokens(hole).tolist() == [[False, True, True], [True, True, True]]
    mask = foreground_mask(hole)
    assert mask.shape == (4, 6)
    assert mask[:2, :3].all()
    assert mask.sum() == 6


def test_audio_windows_follow_the_latent_frames():
    features = torch.arange(1, 45, dtype=torch.float32).view(44, 1, 1)  # frame f holds f + 1
    windows = audio_windows(features, 6)[..., 0, 0]
    assert windows.shape == (6, 8)
    assert windows[0].tolist() == [0, 0, 0, 0, 0, 1, 2, 3]
    assert windows[1].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert windows[3].tolist() == [8, 9, 10, 11, 12, 13, 14, 15]
    ref = audio_windows(features, 5, start_frame=21)[..., 0, 0]
    assert ref[0].tolist() == [17, 18, 19, 20, 21, 22, 23, 24]
    later = audio_windows(features, 2, first_latent=4)[..., 0, 0]
    assert torch.equal(later, windows[4:6])
    assert audio_windows(features, 12)[11, :, 0, 0].tolist() == [40, 41, 42, 43, 44, 0, 0, 0]


def test_windows_do_not_drift_over_a_minute():
    features = torch.arange(1500, dtype=torch.float32).view(1500, 1, 1)
    windows = audio_windows(features, 375)
    assert torch.equal(windows[1:, 5, 0, 0], 4.0 * torch.arange(1, 375))


def test_patches_go_back_where_they_came_from():
    latents = torch.randn(16, 3, 4, 6)
    tokens = patchify(latents, (1, 2, 2))
    assert tokens.shape == (18, 64)
    wan_order = tokens.view(18, 16, 4).transpose(1, 2).reshape(18, 64)
    assert torch.equal(unpatchify(wan_order, (3, 2, 3), (1, 2, 2)), latents)


def test_the_plan_of_a_sample():
    bg, faces = torch.ones(2, 3, dtype=torch.bool), torch.zeros(2, 2, 3, dtype=torch.bool)
    bg[0, 0] = False
    faces[1, 0, :2] = True
    conditions = Conditions(
        torch.zeros(0, 4), torch.zeros(5, 8, 1, 1), torch.zeros(16, 2, 4, 6), faces, torch.zeros(2, 8, 1, 1),
        torch.zeros(16, 1, 4, 6), bg, torch.zeros(16, 2, 4, 6),
    )  # fmt: skip
    plan = plan_packing([SampleInputs(torch.zeros(16, 3, 4, 6), conditions)], (1, 2, 2), RopeOffsets(0, 30, 31))
    (layout,) = plan.samples
    assert (layout.target, layout.motion, layout.background, layout.reference) == (18, 12, 5, 2)
    t = plan.positions[:, 0].tolist()
    assert t == [2] * 6 + [3] * 6 + [4] * 6 + [0] * 6 + [1] * 6 + [30] * 5 + [32] * 2
    assert plan.segments == [(18, 0), (19, 1)]
    dense, ragged = plan.audio_groups
    assert (dense.frames, dense.width, dense.gather) == (5, 6, None)
    assert (ragged.frames, ragged.width) == (1, 2)
    assert len(plan.audio_windows) == 6


def test_a_token_mask_of_the_wrong_size_is_refused():
    conditions = Conditions(torch.zeros(0, 4), bg_latents=torch.zeros(16, 1, 4, 6), bg_tokens=torch.ones(3, 3) > 0)
    with pytest.raises(ValueError, match=r"\(3, 3\) does not fit the token grid \(1, 2, 3\)"):
        plan_packing([SampleInputs(torch.zeros(16, 1, 4, 6), conditions)], (1, 2, 2), RopeOffsets(0, 30, 31))


def test_too_few_audio_windows_are_refused():
    conditions = Conditions(torch.zeros(0, 4), driving_audio=torch.zeros(2, 8, 1, 1))
    with pytest.raises(ValueError, match="2 audio windows for 3 latent frames"):
        plan_packing([SampleInputs(torch.zeros(16, 3, 4, 6), conditions)], (1, 2, 2), RopeOffsets(0, 30, 31))


def test_rms_norm_and_its_gradient():
    x = torch.randn(5, 12, dtype=torch.float32, requires_grad=True)
    weight = torch.randn(12, requires_grad=True)
    upstream = torch.randn(5, 12)
    grads = []
    for norm in (lambda: rms_norm(x, weight, 1e-6), lambda: torch.nn.functional.rms_norm(x, (12,), weight, 1e-6)):
        out = norm()
        grads.append((out.detach(), *torch.autograd.grad(out, (x, weight), upstream)))
    for ours, torchs in zip(*grads, strict=True):
        assert torch.allclose(ours, torchs, atol=1e-5)


def test_the_vae_goes_there_and_back():
    torch.manual_seed(0)
    vae = AutoencoderKLWan(base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1).eval()
    frames = torch.randint(0, 256, (9, 32, 48, 3), dtype=torch.uint8)
    latents = encode_video(vae, frames)
    assert latents.shape == (16, 3, 4, 6)
    raw = vae.encode(frames.permute(3, 0, 1, 2)[None] / 127.5 - 1).latent_dist.mode()[0].detach()
    mean, std = (torch.tensor(v).view(16, 1, 1, 1) for v in (VAE_LATENTS_MEAN, VAE_LATENTS_STD))
    assert torch.allclose(latents, (raw - mean) / std, atol=1e-5)
    back = decode_latents(vae, latents)
    assert back.shape == frames.shape
    assert back.dtype == torch.uint8
    prefix = encode_video(vae, frames[:5])
    assert torch.allclose(prefix, latents[:, :2], atol=1e-5)  # causal: a shorter reference is a prefix


def test_published_widths():
    assert (WAN_T2V_1_3B.width, WAN_T2V_14B.width) == (1536, 5120)
