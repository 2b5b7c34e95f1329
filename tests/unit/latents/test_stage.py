"""The stage `latents` as a whole, and what its check refuses."""

import dataclasses
import json
import shutil

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from tavr_latents import encode
from tavr_latents.checks import KEYS, check_latents
from tavr_latents.config import CheckLatentsConfig
from tavr_latents.encode import read_tensors
from tavr_latents.stage import latents
from tavr_records.errors import InputError, RefusedError
from tavr_records.manifest import read_manifest, write_manifest
from tavr_records.schemas import CachedClip, Refused
from tavr_records.shards import shard_name, write_shard
from tavr_records.verdict import require_passed

from .conftest import CONFIG

CHECK = CheckLatentsConfig(
    num_frames=9,
    max_abs_mean=2.0,
    min_std=0.01,
    max_std=3.0,
    max_abs=5.0,
    min_face_tokens=0.1,
    min_clips=1,
    max_refused_share=0.9,
)


def index(root):
    return read_manifest(root / "data/latents/manifest.parquet", CachedClip)


def refusals(root):
    return {row.record_id: row.rule for row in read_manifest(root / "data/latents/quarantine.parquet", Refused)}


def files(root):
    return {path.name: path.read_bytes() for path in (root / "data/latents").iterdir()}


def test_every_tensor_is_where_the_index_says(clips):
    names = [clips.add(caption=f"Person {n}.") for n in range(5)]
    clips.write()
    latents(CONFIG, clips.root)
    rows = index(clips.root)
    assert [(row.clip_id, row.key) for row in rows] == [(name, key) for name in sorted(names) for key in sorted(KEYS)]
    frames = {"target0": (0, 9), "ref0": (9, 5), "long0": (0, 13), "clip": (0, 16)}
    for row in rows:
        assert row.shard == shard_name(row.clip_id, 2)
        assert (row.start_frame, row.frames) == frames[row.key.split("/")[0]]
        with safe_open(clips.root / "data/latents" / row.shard, "pt") as shard:
            tensor = shard.get_tensor(f"{row.clip_id}/{row.key}")
        data = (clips.root / "data/latents" / row.shard).read_bytes()[row.offset : row.offset + row.nbytes]
        assert data == tensor.contiguous().view(-1).view(dtype=__import__("torch").uint8).numpy().tobytes()
    shapes = {
        row.key: tuple(
            read_tensors((clips.root / "data/latents" / row.shard).read_bytes())[f"{row.clip_id}/{row.key}"].shape
        )
        for row in rows
    }
    assert shapes == {
        "target0/latents": (16, 3, 4, 6),
        "target0/face_tokens": (3, 2, 3),
        "target0/bg_latents": (16, 1, 4, 6),
        "target0/bg_tokens": (2, 3),
        "target0/foreground": (4, 6),
        "ref0/latents": (16, 2, 4, 6),
        "ref0/face_tokens": (2, 2, 3),
        "long0/latents": (16, 4, 4, 6),
        "clip/text": (9, 4),
        "clip/audio": (16, 3, 2),
    }


def test_clips_that_cannot_be_encoded_are_refused(clips):
    good, short, empty = clips.add(), clips.add(frames=9), clips.add(person=False)
    clips.write()
    latents(CONFIG, clips.root)
    assert {row.clip_id for row in index(clips.root)} == {good}
    assert refusals(clips.root) == {short: "too_short", empty: "no_face"}


def test_a_face_without_a_person_is_refused(clips, monkeypatch):
    name = clips.add()
    clips.write()
    monkeypatch.setattr(
        encode, "_people", lambda _: type("Blind", (), {"masks": lambda _, f: np.zeros(f.shape[:3], bool)})()
    )
    latents(CONFIG, clips.root)
    assert refusals(clips.root) == {name: "no_person"}


def test_a_supplied_box_stands_in_for_the_search(clips):
    name = clips.add(person=False)
    clips.write()
    (clips.root / "boxes.json").write_text(json.dumps({name: [16, 0, 32, 16]}))
    latents(CONFIG, clips.root)
    assert refusals(clips.root) == {}
    tensors = read_tensors((clips.root / "data/latents" / shard_name(name, 2)).read_bytes())
    assert tensors[f"{name}/ref0/face_tokens"].tolist() == [[[False, True, False], [False] * 3]] * 2
    assert tensors[f"{name}/target0/foreground"].any()


@pytest.mark.parametrize("text", ["", "[]", '{"a": [1, 2]}', '{"a": [5, 0, 1, 1]}', '{"a": "box"}'])
def test_bad_boxes_are_one_clear_error(clips, text):
    clips.add()
    clips.write()
    (clips.root / "boxes.json").write_text(text)
    with pytest.raises(InputError, match="box"):
        latents(CONFIG, clips.root)


def test_clips_of_another_size_are_one_clear_error(clips):
    clips.add()
    clips.write()
    with pytest.raises(InputError, match="height 32 and width 48"):
        latents(dataclasses.replace(CONFIG, width=64), clips.root)


def test_incremental_and_fresh_runs_give_the_same_bytes(clips, monkeypatch):
    for _ in range(4):
        clips.add()
    clips.write()
    latents(CONFIG, clips.root)
    new = clips.add()
    dropped = clips.rows.pop(1)
    clips.write()
    worked = []
    tensors = encode._tensors
    monkeypatch.setattr(encode, "_tensors", lambda job: worked.append(job.media.stem) or tensors(job))
    latents(CONFIG, clips.root)
    assert worked == [new]
    assert dropped.clip_id not in {row.clip_id for row in index(clips.root)}
    incremental = files(clips.root)
    shutil.rmtree(clips.root / ".work")
    latents(CONFIG, clips.root)
    assert files(clips.root) == incremental


def test_a_box_or_a_caption_makes_new_tensors(clips, monkeypatch):
    name = clips.add()
    clips.write()
    latents(CONFIG, clips.root)
    worked = []
    tensors = encode._tensors
    monkeypatch.setattr(encode, "_tensors", lambda job: worked.append(job.media.stem) or tensors(job))
    latents(dataclasses.replace(CONFIG, shard_bits=0), clips.root)
    assert worked == []
    clips.rows[0] = dataclasses.replace(clips.rows[0], caption="Another.")
    clips.write()
    latents(CONFIG, clips.root)
    assert worked == [name]


def judge(root):
    (root / "audit").mkdir(exist_ok=True)
    (root / "audit/withdrawn.jsonl").touch()
    (root / "audit/baseline.json").write_text("{}")
    check_latents(CHECK, root)
    try:
        return require_passed("latents", root / "reports")
    except RefusedError as error:
        return str(error)


def spoil(root, name, key, change):
    """Rewrite one tensor of a clip, index and all."""
    path = root / "data/latents" / shard_name(name, 2)
    tensors = {key: array.copy() for key, array in read_tensors(path.read_bytes()).items()}
    tensors[f"{name}/{key}"] = change(tensors[f"{name}/{key}"])
    places = write_shard(path, tensors)
    rows = [
        dataclasses.replace(
            row, offset=places[f"{row.clip_id}/{row.key}"][0], nbytes=places[f"{row.clip_id}/{row.key}"][1]
        )
        if row.shard == path.name
        else row
        for row in index(root)
    ]
    write_manifest(root / "data/latents/manifest.parquet", CachedClip, rows, ("clip_id", "key"))


def test_the_check_passes_good_latents_and_refuses_broken_ones(clips):
    name, other = clips.add(), clips.add()
    clips.write()
    latents(CONFIG, clips.root)
    assert judge(clips.root) == set()
    good = files(clips.root)

    def restore():
        for file, data in good.items():
            (clips.root / "data/latents" / file).write_bytes(data)

    def with_nan(array):
        array[0, 0, 0, 0] = ml_dtypes.bfloat16(np.nan)
        return array

    spoil(clips.root, name, "ref0/latents", with_nan)
    assert "values_finite (observed 1" in judge(clips.root)
    restore()
    spoil(clips.root, name, "target0/latents", lambda array: (array.astype(np.float32) * 50).astype(array.dtype))
    assert "target_max_abs" in judge(clips.root)
    restore()
    spoil(clips.root, name, "ref0/face_tokens", lambda array: array & False)
    assert judge(clips.root) == {name}, "a warning quarantines the clip"
    restore()
    path = clips.root / "data/latents" / shard_name(other, 2)
    path.write_bytes(path.read_bytes()[:-8])
    assert "index_matches_shards" in judge(clips.root)
