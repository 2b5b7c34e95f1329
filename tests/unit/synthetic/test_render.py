"""The renderer: same seeds same bytes, truth that fits the picture, people that differ, rooms that stand still."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy._core._multiarray_umath import __cpu_dispatch__
from tavr_synthetic.motion import sample_motion
from tavr_synthetic.people import BEARD_STYLES, GLASSES_STYLES, HAIR_STYLES, dressed, sample_person
from tavr_synthetic.render import KEYPOINT_NAMES, render_clip, render_room
from tavr_synthetic.scenes import KINDS, sample_scene

HEIGHT, WIDTH, FRAMES = 64, 112, 4


def render(person=1, scene=1, motion=1, opening=0.3, **kwargs):
    mouth = np.full(FRAMES, opening, dtype=np.float32)
    return render_clip(
        sample_person(person), sample_scene(scene), sample_motion(motion, FRAMES, 5.0), mouth, HEIGHT, WIDTH, **kwargs
    )


def test_same_seeds_give_the_same_bytes():
    first, truth = render()
    again, truth_again = render()
    assert first.tobytes() == again.tobytes()
    assert truth.keypoints.tobytes() == truth_again.keypoints.tobytes()


def test_bytes_are_the_known_ones():
    digest = hashlib.sha256()
    for seed in range(6):
        digest.update(render(seed, seed, seed)[0].tobytes())
    assert digest.hexdigest()[:16] == "705a772b2c99e7ce", (
        "the look of the world changed: the zoo has to be trained again"
    )


def test_bytes_do_not_depend_on_the_cpu():
    program = (
        "import hashlib, numpy as np;"
        "from tavr_synthetic.world import WorldConfig, plan_world, render;"
        "rendered = [render(c) for c in plan_world(WorldConfig(2, 1, 1, 5, 25.0, 48, 80, 1, True))];"
        "print(hashlib.sha256(b''.join(r.frames.tobytes() for r in rendered)).hexdigest());"
        "print(hashlib.sha256(b''.join(r.waveform.tobytes() for r in rendered if r.waveform is not None)).hexdigest())"
    )

    def run(disabled):
        environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(disabled)}
        command = [sys.executable, "-W", "ignore", "-c", program]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    assert run([]) == run(__cpu_dispatch__), "with and without AVX2 / AVX-512 in numpy"


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**40), st.integers(0, 2**40), st.floats(0, 1), st.floats(0.42, 0.58))
def test_truth_fits_the_picture(person, scene, opening, across):
    frames, truth = render(person, scene, motion=person, opening=opening, center=(across, 0.48))
    assert frames.shape == (FRAMES, HEIGHT, WIDTH, 3)
    assert frames.dtype == np.uint8
    assert truth.person_mask.shape == (FRAMES, HEIGHT, WIDTH)
    assert 0.1 < truth.person_mask.mean() < 0.7
    x0, y0, x1, y1 = truth.face_box.T
    assert min(x0.min(), y0.min()) >= 0
    assert x1.max() <= WIDTH
    assert y1.max() <= HEIGHT
    assert (y1 - y0).min() > 0.40 * HEIGHT
    assert (y1 - y0).max() < 0.66 * HEIGHT
    assert truth.keypoints.shape == (FRAMES, len(KEYPOINT_NAMES), 2)
    assert (truth.keypoints > 0).all()
    assert (truth.keypoints < (WIDTH, HEIGHT)).all()
    columns, rows = truth.keypoints[:, :5, 0].astype(int), truth.keypoints[:, :5, 1].astype(int)
    for frame in range(FRAMES):
        assert truth.person_mask[frame, rows[frame], columns[frame]].all(), "eyes, nose and mouth are on the person"


def test_alignment_points_come_first_and_are_ordered():
    _, truth = render()
    points = {name: truth.keypoints[0, i] for i, name in enumerate(KEYPOINT_NAMES)}
    assert KEYPOINT_NAMES[:5] == ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
    assert points["left_eye"][0] < points["right_eye"][0]
    assert points["left_eye"][1] < points["nose"][1] < points["mouth_left"][1] < points["chin"][1]
    assert len(KEYPOINT_NAMES) == len(set(KEYPOINT_NAMES)) >= 17


def test_background_is_static_and_the_person_is_over_it():
    frames, truth = render(motion=5)
    room = render_room(sample_scene(1), FRAMES, HEIGHT, WIDTH)
    # One pixel beside the mask may be blended with the person.
    far = ~truth.person_mask.copy()
    for axis in (1, 2):
        for shift in (-1, 1):
            far &= ~np.roll(truth.person_mask, shift, axis=axis)
    assert (frames[far] == room[far]).mean() > 0.99
    assert (frames[truth.person_mask] != room[truth.person_mask]).any(axis=-1).mean() > 0.9


def test_mouth_opens_where_the_keypoints_say():
    shut, before = render(opening=0.0)
    wide, after = render(opening=1.0)
    gap = KEYPOINT_NAMES.index("inner_lip_bottom"), KEYPOINT_NAMES.index("inner_lip_top")
    opened = after.keypoints[:, gap[0], 1] - after.keypoints[:, gap[1], 1]
    assert (opened > 0.08 * HEIGHT).all()
    assert np.allclose(before.keypoints[:, gap[0], 1], before.keypoints[:, gap[1], 1])
    changed = np.abs(wide.astype(int) - shut).sum(axis=-1) > 30
    x0, y0, x1, y1 = after.face_box[0].astype(int)
    assert changed[0, (y0 + y1) // 2 : y1 + 1, x0:x1].sum() > 0.9 * changed[0].sum()


def test_eyes_blink():
    motion = sample_motion(3, 75, 25.0)
    assert motion.eye_open.min() < 0.1
    assert (motion.eye_open > 0.9).mean() > 0.6
    shut = int(np.argmin(motion.eye_open))
    person, scene = sample_person(12), sample_scene(12)
    frames, truth = render_clip(person, scene, motion, np.zeros(75, np.float32), HEIGHT, WIDTH)
    eye = truth.keypoints[:, 0].astype(int)

    def brightest(frame):
        x, y = eye[frame]
        return int(frames[frame, y - 2 : y + 3, x - 3 : x + 4].min(axis=-1).max())

    open_frame = int(np.argmax(motion.eye_open * (np.abs(np.arange(75) - shut) < 15)))
    assert brightest(open_frame) > brightest(shut) + 25


def test_different_people_look_different():
    faces = [render(person=seed, scene=3, motion=2)[0].astype(int) for seed in range(12)]
    _, truth = render(person=0, scene=3, motion=2)
    x0, y0, x1, y1 = truth.face_box[0].astype(int)
    crops = [face[0, y0:y1, x0:x1] for face in faces]
    distances = [np.abs(a - b).mean() for i, a in enumerate(crops) for b in crops[:i]]
    assert min(distances) > 4
    assert np.median(distances) > 20


def test_a_thousand_people_use_every_style():
    people = [sample_person(seed) for seed in range(1000)]
    assert {p.hair.style for p in people} == set(HAIR_STYLES)
    assert {p.beard.style for p in people} == set(BEARD_STYLES)
    assert {p.glasses.style for p in people} == set(GLASSES_STYLES)
    looks = {
        (
            p.ethnicity,
            p.gender,
            p.hair.style,
            p.hair.colour_name,
            p.beard.style,
            p.glasses.style,
            p.clothing.colour_name,
        )
        for p in people
    }
    assert len(looks) > 950
    assert {sample_scene(seed).kind for seed in range(300)} == set(KINDS)


def test_other_clothes_leave_the_face_alone():
    person = sample_person(4)
    other = dressed(person, 9)
    assert other.clothing != person.clothing
    assert (other.face, other.hair, other.voice) == (person.face, person.hair, person.voice)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="3 frames, motion 4"):
        render_clip(sample_person(0), sample_scene(0), sample_motion(0, 4, 5.0), np.zeros(3, np.float32), 64, 112)
