"""The person's pixels are found, a room's are not, and ultralytics leaves the process as it was."""

import numpy as np
import pytest
import torch
from tavr_perception.people import PersonSegmenter
from tavr_records.errors import InputError


@pytest.fixture(scope="module")
def segmenter(zoo):
    return PersonSegmenter(zoo / "people")


def test_masks_match_the_truth(segmenter, heads):
    frames = heads.clips[:, :, 0].reshape(-1, *heads.clips.shape[3:])
    truth = np.stack([clip.person_mask[0] for person in heads.truth for clip in person])
    found = segmenter.masks(frames)
    assert found.shape == truth.shape
    assert found.dtype == np.bool_
    overlap = (found & truth).sum(axis=(1, 2)) / (found | truth).sum(axis=(1, 2))
    assert overlap.mean() >= 0.85


def test_an_empty_room_has_no_person(segmenter, heads):
    assert segmenter.masks(heads.rooms).mean() <= 0.02


def test_any_frame_size_works(segmenter, heads):
    frame = heads.clips[0, 0, :1]
    large = frame.repeat(3, axis=1).repeat(3, axis=2)
    small, big = segmenter.masks(frame)[0], segmenter.masks(large)[0, 1::3, 1::3]
    assert (small == big).mean() >= 0.97


def test_it_is_deterministic_and_keeps_the_thread_count(segmenter, zoo, heads):
    threads = torch.get_num_threads()
    again = PersonSegmenter(zoo / "people")
    assert torch.get_num_threads() == threads
    np.testing.assert_array_equal(again.masks(heads.clips[0, 0]), segmenter.masks(heads.clips[0, 0]))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"model\.onnx: missing"):
        PersonSegmenter(tmp_path)
