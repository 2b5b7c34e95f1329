"""Templates of withdrawn faces: near faces stay near, others far, nothing without the key; bad lines are named."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tavr_records.errors import InputError
from tavr_records.withdrawn_faces import BITS, WithdrawnFace, face_template, read_withdrawn_faces, similarities


def unit(seed: int, dimension: int = 64) -> np.ndarray:
    vector = np.random.default_rng(seed).normal(size=dimension)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def at_angle(face: np.ndarray, cosine: float, seed: int) -> np.ndarray:
    """A unit vector at a given cosine to `face`."""
    other = unit(seed, len(face)).astype(np.float64)
    other -= (other @ face) * face
    other /= np.linalg.norm(other)
    return (cosine * face + math.sqrt(1 - cosine**2) * other).astype(np.float32)


def withdrawn(face: np.ndarray, key: bytes = b"key") -> WithdrawnFace:
    return WithdrawnFace(face_template(face, key), "n" * 64, 0.6, "2026-01-01T00:00:00Z")


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.floats(-1, 1))
def test_the_cosine_can_be_told(seed: int, cosine: float) -> None:
    face = unit(seed)
    found = similarities(at_angle(face, cosine, seed + 1), [withdrawn(face)], b"key")[0]
    # The angle's standard error is pi sqrt(p (1 - p) / BITS) <= 0.035; five of them.
    assert abs(math.acos(np.clip(found, -1, 1)) - math.acos(cosine)) <= 5 * math.pi * 0.5 / math.sqrt(BITS)


def test_another_key_sees_nothing() -> None:
    faces = [withdrawn(unit(seed), b"other key") for seed in range(50)]
    found = [similarities(unit(seed), faces, b"key")[seed] for seed in range(50)]
    assert max(map(abs, found)) < 0.25
    assert similarities(unit(0), [], b"key").shape == (0,)


def test_the_template_is_the_same_bytes_everywhere() -> None:
    template = face_template(np.eye(4, dtype=np.float32)[0], b"key")
    assert template == face_template(np.eye(4, dtype=np.float32)[0], b"key")
    assert template[:16] == "4ae9e7c5ee47c083"
    assert len(template) * 4 == BITS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"template": "00"}, "needs 512 hex digits"),
        ({"template": "zz"}, "not a withdrawn face"),
        ({"least_similarity": 0}, "least_similarity"),
        ({"least_similarity": "much"}, "not a withdrawn face"),
        ({"nonsense": 1}, "not a withdrawn face"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "faces.jsonl"
    good = asdict(withdrawn(unit(0)))
    path.write_text(json.dumps(good) + "\n\n" + json.dumps({**good, **change}) + "\n")
    with pytest.raises(InputError, match=message) as caught:
        read_withdrawn_faces(path)
    assert "faces.jsonl:3" in str(caught.value)
    path.write_text(json.dumps(good) + "\n")
    assert read_withdrawn_faces(path) == [WithdrawnFace(**good)]
    with pytest.raises(InputError, match="no such file"):
        read_withdrawn_faces(tmp_path / "none")
