"""Backgrounds: only what is free of people in both clips counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tavr_pairs.appearance import Appearance, background_psnr, pool_background, spread
from tavr_perception.identity import FaceEmbeddings


def appearance(colours, valid, vectors=((1.0, 0.0),), found=(True,)):
    found = np.array(found)
    faces = FaceEmbeddings(np.array(vectors, np.float32), found, np.zeros((len(found), 4), np.float32))
    return Appearance(faces, np.asarray(colours, np.uint8), np.asarray(valid, bool))


@given(seed=st.integers(0, 1000))
def test_psnr_is_that_of_the_common_background(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 256, (2, 2, 6, 8, 3), dtype=np.uint8)
    valid_a, valid_b = rng.random((2, 2, 6, 8)) < 0.7
    psnr, share = background_psnr(appearance(a, valid_a), appearance(b, valid_b))
    errors = [
        (float(a[t, y, x, c]) - float(b[t, y, x, c])) ** 2
        for t in range(2)
        for y in range(6)
        for x in range(8)
        for c in range(3)
        if valid_a[t, y, x] and valid_b[t, y, x]
    ]
    assert share == pytest.approx(len(errors) / 3 / 96)
    assert psnr == pytest.approx(10 * np.log10(255**2 / np.mean(errors)))


def test_the_person_does_not_count():
    room = np.full((1, 4, 4, 3), 50, np.uint8)
    with_person = room.copy()
    with_person[:, :2] = 255
    free = np.ones((1, 4, 4), bool)
    masked = free.copy()
    masked[:, :2] = False
    assert background_psnr(appearance(room, free), appearance(with_person, masked)) == (100.0, 0.5)
    assert background_psnr(appearance(room, ~free), appearance(room, free)) == (0.0, 0.0)


def test_a_block_with_any_person_is_no_background():
    frames = np.arange(1 * 4 * 4 * 3, dtype=np.uint8).reshape(1, 4, 4, 3)
    people = np.zeros((1, 4, 4), bool)
    people[0, 0, 3] = True
    colours, valid = pool_background(frames, people, 2)
    assert valid.tolist() == [[[True, False], [True, True]]]
    assert colours[0, 0, 0].tolist() == np.round(frames[0, :2, :2].reshape(4, 3).mean(axis=0)).tolist()
    whole, _ = pool_background(frames, people, 1)
    assert np.array_equal(whole, frames)


def test_the_mean_face_is_a_direction_or_nothing():
    none = np.zeros((1, 2, 2), bool)
    two = appearance(np.zeros((1, 2, 2, 3)), none, ((1, 0), (0, 1), (5, 5)), (True, True, False))
    assert two.mean_face == pytest.approx([2**-0.5, 2**-0.5])
    assert two.face_share == pytest.approx(2 / 3)
    nobody = appearance(np.zeros((1, 2, 2, 3)), none, ((1, 0),), (False,))
    assert nobody.mean_face.tolist() == [0, 0]


def test_few_frames_are_repeated():
    assert spread(2, 4).tolist() == [0, 0, 1, 1]
    assert spread(9, 3).tolist() == [0, 4, 8]
