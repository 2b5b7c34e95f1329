"""Face keypoints land on the face, score low without one, and span the face box."""

import shutil

import numpy as np
import pytest
from tavr_perception.keypoints import (
    FACE_KEYPOINTS,
    KeypointEstimator,
    Keypoints,
    blur_kernel,
    face_boxes,
    whole_frame_box,
)
from tavr_records.errors import InputError
from tavr_synthetic.render import KEYPOINT_NAMES
from tavr_synthetic.zoo.keypoints import NO_FACE_BELOW


@pytest.fixture(scope="module")
def estimator(zoo):
    return KeypointEstimator(zoo / "keypoints")


@pytest.fixture(scope="module")
def found(estimator, heads):
    return estimator.estimate(heads.clips.reshape(-1, *heads.clips.shape[3:]))


def test_keypoints_are_where_the_renderer_put_them(estimator, found, heads):
    truth = np.concatenate([clip.keypoints for person in heads.truth for clip in person])
    assert estimator.names == KEYPOINT_NAMES
    assert found.xy.shape == truth.shape
    assert np.linalg.norm(found.xy - truth, axis=-1).mean() <= 1.8


def test_scores_tell_a_face_from_an_empty_room(estimator, found, heads):
    empty = estimator.estimate(heads.rooms)
    assert found.scores.mean() >= empty.scores.mean() + 0.3
    assert np.isfinite(face_boxes(found, NO_FACE_BELOW, 1.0)).all(axis=1).mean() >= 0.97
    assert np.isfinite(face_boxes(empty, NO_FACE_BELOW, 1.0)).any(axis=1).mean() <= 0.3


def test_the_face_box_matches_the_truth(found, heads):
    boxes = face_boxes(found, NO_FACE_BELOW, 1.0)
    truth = np.concatenate([clip.face_box for person in heads.truth for clip in person])
    assert np.nanmean(np.abs(boxes - truth)) <= 2.0


def test_other_frame_sizes_scale(estimator, found, heads):
    frame = heads.clips[0, 0, :1]
    large = estimator.estimate(frame.repeat(4, axis=1).repeat(4, axis=2))
    assert np.abs(large.xy[0] / 4 - found.xy[0]).mean() <= 0.6


def test_it_is_deterministic(estimator, zoo, heads):
    again = KeypointEstimator(zoo / "keypoints").estimate(heads.clips[0, 0])
    assert again.xy.tobytes() == estimator.estimate(heads.clips[0, 0]).xy.tobytes()


def test_face_boxes_by_hand():
    xy = np.array([[[10, 20], [30, 20], [20, 40], [90, 90]]] * 2, np.float32)
    scores = np.array([[0.9, 0.8, 0.7, 0.1], [0.9, 0.1, 0.1, 0.1]], np.float32)
    boxes = face_boxes(Keypoints(xy, scores), min_score=0.5, expand=1.5)
    np.testing.assert_allclose(boxes[0], [5, 15, 35, 45])
    assert np.isnan(boxes[1]).all()


def test_the_crop_is_the_frame():
    left, top, width, height = whole_frame_box(480, 896)
    assert (left + width / 2, top + height / 2) == pytest.approx((447.5, 239.5))
    assert (width * 1.25, height * 1.25) == pytest.approx((895, 479))


def test_facts_of_published_checkpoints():
    assert blur_kernel(6.0) == 11
    assert all(max(face) < count for count, face in FACE_KEYPOINTS.items())
    assert len(FACE_KEYPOINTS[308]) == 241


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "preprocessor_config.json"])
def test_a_missing_file_is_named(zoo, tmp_path, missing):
    shutil.copytree(zoo / "keypoints", tmp_path / "keypoints")
    (tmp_path / "keypoints" / missing).unlink()
    with pytest.raises(InputError, match=missing):
        KeypointEstimator(tmp_path / "keypoints")
