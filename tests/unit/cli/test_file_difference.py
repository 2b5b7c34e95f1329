"""Where two files part, to the byte, and what that means in tensors, tables and JSON."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tavr_cli import file_difference
from tavr_cli.file_difference import compare_files, differing_bytes


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=20), st.integers(1, 9))
def test_the_first_differing_run_is_found(tmp_path_factory, head: bytes, one: bytes, other: bytes, chunk: int) -> None:
    folder = tmp_path_factory.mktemp("pair", numbered=True)
    a, b = folder / "a", folder / "b"
    a.write_bytes(head + one)
    b.write_bytes(head + other)
    left, right = a.read_bytes(), b.read_bytes()
    longest = max(len(left), len(right))
    unequal = [left[i : i + 1] != right[i : i + 1] for i in range(longest)]
    expected = None
    if any(unequal):
        first = unequal.index(True)
        last = unequal.index(False, first) - 1 if False in unequal[first:] else longest - 1
        expected = (first, last)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_difference, "_CHUNK", chunk)
        assert differing_bytes(a, b) == expected


def pair(folder: Path, suffix: str) -> tuple[Path, Path]:
    return folder / f"one{suffix}", folder / f"other{suffix}"


def test_tensors_tell_the_first_that_differs_and_how_far(tmp_path: Path) -> None:
    a, b = pair(tmp_path, ".safetensors")
    same = torch.ones(4)
    save_file({"a": same, "b": torch.tensor([1.0, 2.0], dtype=torch.bfloat16)}, a)
    save_file({"a": same, "b": torch.tensor([1.0, 2.015625], dtype=torch.bfloat16)}, b)
    found = compare_files("m.safetensors", a, b)
    assert found is not None
    assert found.detail == "tensor b: largest absolute difference 0.0156"
    assert found.distance == pytest.approx(0.0078125)
    assert found.first_byte == found.last_byte == a.stat().st_size - 2
    save_file({"a": same}, b)
    assert compare_files("m.safetensors", a, b).distance is None
    b.write_bytes(b"not tensors")
    assert "cannot be read as .safetensors" in compare_files("m.safetensors", a, b).detail


def test_tables_tell_the_first_column_and_row(tmp_path: Path) -> None:
    a, b = pair(tmp_path, ".parquet")
    pq.write_table(pa.table({"id": ["x", "y"], "score": [1.0, 2.0], "twin": [1.0, float("nan")]}), a)
    pq.write_table(pa.table({"id": ["x", "y"], "score": [1.0, 2.002], "twin": [1.0, float("nan")]}), b)
    found = compare_files("t.parquet", a, b)
    assert found.detail == "column score, row 1: 2.0 and 2.002"
    assert found.distance == pytest.approx(0.001)
    pq.write_table(pa.table({"id": ["x", "z"], "score": [1.0, 2.0], "twin": [1.0, float("nan")]}), b)
    found = compare_files("t.parquet", a, b)
    assert (found.detail, found.distance) == ("column id, row 1: 'y' and 'z'", None)


@pytest.mark.parametrize(
    ("one", "other", "detail", "distance"),
    [
        ({"m": [1, {"x": 2.0}]}, {"m": [1, {"x": 2.5}]}, "m[1].x: 2.0 and 2.5", 0.2),
        ({"m": 0}, {"m": 0.0}, "m: 0 and 0.0", 0.0),
        ({"m": "a"}, {"m": "b"}, "m: 'a' and 'b'", None),
        ({"m": 1}, {"n": 1}, "value: {'m': 1} and {'n': 1}", None),
        ({"m": True}, {"m": 1}, "m: True and 1", None),
    ],
)
def test_json_tells_the_place(tmp_path: Path, one: object, other: object, detail: str, distance: float | None) -> None:
    a, b = pair(tmp_path, ".json")
    a.write_text(json.dumps(one))
    b.write_text(json.dumps(other))
    found = compare_files("x.json", a, b)
    assert found.detail == detail
    assert found.distance == (None if distance is None else pytest.approx(distance))


def test_bytes_of_an_unknown_format_and_equal_files(tmp_path: Path) -> None:
    a, b = pair(tmp_path, ".mp4")
    a.write_bytes(bytes(np.arange(100, dtype=np.uint8)))
    b.write_bytes(a.read_bytes())
    assert compare_files("v.mp4", a, b) is None
    b.write_bytes(a.read_bytes()[:50])
    found = compare_files("v.mp4", a, b)
    assert (found.first_byte, found.last_byte, found.sizes, found.distance) == (50, 99, (100, 50), None)
