"""Windows, boxes and the hole in the background."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tavr_latents.encode import read_tensors, to_bfloat16
from tavr_latents.windows import cut_windows, fill_boxes, person_hole
from tavr_model.token_selection import (
    GREY,
    background_tokens,
    covered_frames,
    foreground_mask,
    latent_frames,
    mask_background,
)


@given(frames=st.integers(0, 200), target=st.integers(0, 30).map(lambda k: 4 * k + 1), most=st.integers(1, 60))
def test_target_and_reference_never_share_a_frame_and_have_the_vae_length(frames, target, most):
    windows = cut_windows(frames, target, most, 2 * most)
    if frames <= target:
        assert windows == []
        return
    first, ref, long = windows
    assert (first.name, first.start, first.frames) == ("target0", 0, target)
    assert (ref.name, ref.start) == ("ref0", target)
    assert ref.frames % 4 == 1
    assert ref.frames <= min(most, frames - target) < ref.frames + 4
    assert ref.span.stop <= frames
    assert (long.name, long.start, long.frames % 4) == ("long0", 0, 1)
    assert target <= long.frames <= frames
    assert long.frames <= max(target, 2 * most)


def test_the_profiles_windows():
    assert [(w.start, w.frames) for w in cut_windows(44, 21, 17, 37)] == [(0, 21), (21, 17), (0, 37)]
    assert [(w.start, w.frames) for w in cut_windows(130, 81, 49, 157)] == [(0, 81), (81, 49), (0, 129)]
    assert [(w.start, w.frames) for w in cut_windows(125, 81, 49, 157)] == [(0, 81), (81, 41), (0, 125)]


@given(stride=st.sampled_from([1, 2, 4]), frames=st.integers(0, 12).map(lambda k: 4 * k + 1))
def test_every_latent_frame_is_looked_at(stride, frames):
    positions = np.arange(0, frames, stride)
    boxes = fill_boxes(np.zeros((len(positions), 4)), positions, frames)
    for latent in range(latent_frames(frames)):
        assert np.isfinite(boxes[list(covered_frames(latent))]).any()


def test_the_hole_is_the_union_over_time_and_grows():
    masks = np.zeros((2, 32, 32), bool)
    masks[0, 10, 10] = masks[1, 20, 20] = True
    hole = person_hole(masks, np.full((1, 4), np.nan), 0)
    assert np.argwhere(hole).tolist() == [[10, 10], [20, 20]]
    grown = person_hole(masks, np.full((1, 4), np.nan), 2)
    assert grown[8, 10]
    assert grown[10, 12]
    assert not grown[8, 8], "the brush is round"


@pytest.mark.parametrize("box", [(2.5, 3.5, 6.0, 7.0), (-5, -5, 3, 3), (30, 30, 90, 90)])
def test_a_face_belongs_to_the_hole(box):
    hole = person_hole(np.zeros((1, 32, 32), bool), np.array([box]), 0)
    x0, y0, x1, y1 = box
    for y in range(32):
        for x in range(32):
            assert hole[y, x] == (x + 1 > x0 and x < x1 and y + 1 > y0 and y < y1)


@given(seed=st.integers(0, 500))
def test_tokens_and_mask_follow_the_hole(seed):
    rng = np.random.default_rng(seed)
    hole = np.kron(rng.random((4, 6)) < 0.5, np.ones((8, 8), bool))
    hole[rng.integers(0, 32), rng.integers(0, 48)] ^= True
    tokens, mask = background_tokens(hole), foreground_mask(hole)
    for row in range(2):
        for column in range(3):
            patch = hole[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
            assert tokens[row, column] == (not patch.all())
    for row in range(4):
        for column in range(6):
            assert mask[row, column] == hole[8 * row : 8 * row + 8, 8 * column : 8 * column + 8].any()


def test_the_background_image_shows_nothing_of_the_person():
    frame = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    hole = np.zeros((16, 16), bool)
    hole[4:9, 4:9] = True
    image = mask_background(frame, hole)
    assert image.shape == (1, 16, 16, 3)
    assert (image[0][hole] == GREY).all()
    assert np.array_equal(image[0][~hole], frame[~hole])


def test_bfloat16_survives_the_file():
    from safetensors.numpy import save
    from safetensors.torch import load

    values = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    data = save({"a": to_bfloat16(values), "b": np.array([[True, False]])})
    assert torch.equal(load(data)["a"], values.to(torch.bfloat16))
    back = read_tensors(data)
    assert np.array_equal(back["a"].astype(np.float32), values.to(torch.bfloat16).float().numpy())
    assert back["b"].tolist() == [[True, False]]
