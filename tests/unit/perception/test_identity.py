"""Faces are found, told apart across scenes, and compared by the Chamfer similarity's definition."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tavr_perception.identity import FaceEmbeddings, FaceIdentity, chamfer_similarity
from tavr_records.errors import InputError


@pytest.fixture(scope="module")
def identity(zoo):
    return FaceIdentity(zoo / "identity")


@pytest.fixture(scope="module")
def faces(identity, heads):
    people, scenes = heads.clips.shape[:2]
    return [[identity.embed(heads.clips[person, scene]) for scene in range(scenes)] for person in range(people)]


@pytest.mark.xfail(reason="box overlap 0.744 of the committed detector, bar 0.75; see docs/log.md", strict=True)
def test_every_face_is_found_where_it_is(faces, heads):
    found = np.stack([[clip.found for clip in person] for person in faces])
    assert found.mean() >= 0.95
    boxes = np.stack([[clip.boxes for clip in person] for person in faces])
    truth = np.stack([[clip.face_box for clip in person] for person in heads.truth])
    low, high = np.maximum(boxes[..., :2], truth[..., :2]), np.minimum(boxes[..., 2:], truth[..., 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=-1)
    areas = [np.prod(b[..., 2:] - b[..., :2], axis=-1) for b in (boxes, truth)]
    assert np.nanmean(shared / (areas[0] + areas[1] - shared)) >= 0.75


def test_people_are_told_apart_across_scenes(faces):
    people = len(faces)
    similarity = np.array(
        [[chamfer_similarity(faces[i][0], faces[j][1]).value for j in range(people)] for i in range(people)]
    )
    same, different = np.diag(similarity), similarity[~np.eye(people, dtype=bool)]
    area = np.mean(same[:, None] > different[None, :])
    assert area >= 0.96
    assert same.mean() - different.mean() >= 0.3


def test_vectors_are_unit_or_zero(faces):
    for clip in (clip for person in faces for clip in person):
        lengths = np.linalg.norm(clip.vectors, axis=-1)
        np.testing.assert_allclose(lengths, clip.found.astype(float), atol=1e-5)
        assert np.isfinite(clip.boxes[clip.found]).all()


def test_an_empty_room_has_no_face(identity, heads):
    faces = identity.embed(heads.rooms)
    assert faces.found.mean() <= 0.05
    assert np.isnan(faces.boxes[~faces.found]).all()
    assert not faces.vectors[~faces.found].any()


def test_the_same_frames_give_the_same_bytes(identity, zoo, heads):
    again = FaceIdentity(zoo / "identity").embed(heads.clips[0, 0])
    assert identity.embed(heads.clips[0, 0]).vectors.tobytes() == again.vectors.tobytes()


@pytest.mark.parametrize("missing", ["config.json", "models"])
def test_a_missing_file_is_named(zoo, tmp_path, missing):
    shutil.copytree(zoo / "identity", tmp_path / "identity")
    path = tmp_path / "identity" / missing
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    with pytest.raises(InputError, match=missing):
        FaceIdentity(tmp_path / "identity")


def test_a_pack_without_recogniser_is_refused(zoo, tmp_path):
    shutil.copytree(zoo / "identity", tmp_path / "identity")
    next((tmp_path / "identity").rglob("w600k.onnx")).unlink()
    with pytest.raises(InputError, match="ArcFace"):
        FaceIdentity(tmp_path / "identity")


def test_a_pack_without_detector_is_refused(zoo, tmp_path):
    shutil.copytree(zoo / "identity", tmp_path / "identity")
    next((tmp_path / "identity").rglob("det.onnx")).unlink()
    with pytest.raises(InputError, match="detector"):
        FaceIdentity(tmp_path / "identity")


def test_a_bad_config_is_refused(zoo, tmp_path):
    shutil.copytree(zoo / "identity", tmp_path / "identity")
    (tmp_path / "identity" / "config.json").write_text(json.dumps({"pack": "tiny"}))
    with pytest.raises(InputError, match="det_size"):
        FaceIdentity(tmp_path / "identity")


def _faces(seed: int, count: int) -> FaceEmbeddings:
    """`count` frames of unit vectors in five dimensions, about a third of them without a face."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 5)).astype(np.float32)
    found = rng.random(count) < 0.7
    unit = np.where(found[:, None], vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), 0).astype(np.float32)
    return FaceEmbeddings(unit, found, np.zeros((count, 4), np.float32))


embeddings = st.builds(_faces, st.integers(0, 2**32 - 1), st.integers(1, 6))


@settings(deadline=None)
@given(embeddings, embeddings)
def test_chamfer_is_symmetric_and_bounded(a, b):
    forth, back = chamfer_similarity(a, b), chamfer_similarity(b, a)
    assert forth.value == pytest.approx(back.value, abs=1e-9)
    assert (forth.a_to_b, forth.b_to_a) == pytest.approx((back.b_to_a, back.a_to_b), abs=1e-9)
    assert -1 <= forth.value <= 1
    assert forth.value == pytest.approx((forth.a_to_b + forth.b_to_a) / 2)


@settings(deadline=None)
@given(embeddings)
def test_a_clip_is_its_own_twin(a):
    expected = 1.0 if a.found.any() else 0.0
    assert chamfer_similarity(a, a).value == pytest.approx(expected, abs=1e-5)


@settings(deadline=None)
@given(embeddings, embeddings, st.randoms(use_true_random=False))
def test_chamfer_ignores_order_and_faceless_frames(a, b, random):
    order = list(range(len(a.found)))
    random.shuffle(order)
    order = [index for index in order if a.found[index]]
    shuffled = FaceEmbeddings(a.vectors[order], a.found[order], a.boxes[order])
    if order:
        assert chamfer_similarity(shuffled, b).value == pytest.approx(chamfer_similarity(a, b).value, abs=1e-9)


@settings(deadline=None)
@given(embeddings, embeddings)
def test_more_references_never_lower_one_direction(a, b):
    both = FaceEmbeddings(
        np.concatenate([a.vectors, b.vectors]), np.concatenate([a.found, b.found]), np.concatenate([a.boxes, b.boxes])
    )
    if a.found.any() and b.found.any():
        assert chamfer_similarity(b, both).a_to_b >= chamfer_similarity(b, a).a_to_b - 1e-6
