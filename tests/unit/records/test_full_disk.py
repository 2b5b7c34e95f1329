"""A disk without room is one kind of error that names the final file; /dev/full is such a disk for anyone."""

import errno
import os
import pickle
import uuid
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from tavr_records import atomic
from tavr_records.atomic import atomic_directory, atomic_file, full_disk_named, write_bytes
from tavr_records.manifest import write_manifest
from tavr_records.media import write_video, write_wav
from tavr_records.memo import Memo
from tavr_records.process import run_stage
from tavr_records.schemas import Refused
from tavr_records.shards import write_shard

PICTURES = np.random.default_rng(0).integers(0, 255, (8, 32, 48, 3), np.uint8)
WRITERS = {
    "bytes.json": lambda path: write_bytes(path, b"{}"),
    "rows.parquet": lambda path: write_manifest(path, Refused, [Refused("a", "b", "c")], ("record_id",)),
    "shard-0.safetensors": lambda path: write_shard(path, {"a": np.zeros(4, np.float32)}),
    "clip.mp4": lambda path: write_video(path, PICTURES, 25, np.zeros(5120, np.float32)),
    "clip.wav": lambda path: write_wav(path, np.zeros(5120, np.float32), 16000),
}


@pytest.fixture
def full(monkeypatch, tmp_path):
    """A folder in which there is no room: every temporary file is /dev/full."""
    unique = iter(range(100))

    def next_name():
        name = uuid.UUID(int=next(unique))
        for final in WRITERS:
            path = tmp_path / final
            path.with_name(f".{path.stem}.{name.hex[:8]}{path.suffix}").symlink_to("/dev/full")
        return name

    monkeypatch.setattr(atomic, "uuid", SimpleNamespace(uuid4=next_name))
    return tmp_path


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_names_the_final_file(full, name):
    with pytest.raises(OSError) as caught:
        WRITERS[name](full / name)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(full / name))
    assert caught.value.strerror == os.strerror(errno.ENOSPC)
    assert not (full / name).exists()
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.errno, again.filename) == (errno.ENOSPC, str(full / name)), "as a worker process hands it over"


def test_a_file_of_a_folder_is_named_as_it_will_be_called(tmp_path):
    target = tmp_path / "data/ingest"
    with pytest.raises(OSError) as caught, atomic_directory(target) as folder:
        raise OSError(errno.ENOSPC, "full", "memo/clip.mp4", None, str(folder / "clips/a.mp4"))  # as a copy fails
    assert caught.value.filename == str(target / "clips/a.mp4")
    with pytest.raises(OSError) as caught, atomic_directory(target) as folder, atomic_file(folder / "b.txt"):
        raise OSError(errno.ENOSPC, "full")  # as Python's own writes fail: without a name
    assert caught.value.filename == str(target / "b.txt")
    assert list((tmp_path / "data").iterdir()) == []


def test_a_memo_keeps_no_entry_without_room(tmp_path):
    def build(folder):
        (folder / "file").symlink_to("/dev/full")
        (folder / "file").write_bytes(b"x")

    memo = Memo(tmp_path, "context")
    with pytest.raises(OSError, match="No space left on device"):
        memo.entry({"sha256": "a"}, build)
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("make", [OSError, lambda code, text: RuntimeError(f"I/O error: {text} (os error {code})")])
def test_a_quota_is_a_full_disk_too_and_so_is_what_rust_says(tmp_path, code, make):
    with pytest.raises(OSError) as caught, full_disk_named(tmp_path / "final", tmp_path / "temporary"):
        raise make(code, os.strerror(code))
    assert (caught.value.errno, caught.value.filename) == (code, str(tmp_path / "final"))


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "no", "file"), ValueError("(os error 5)")])
def test_other_errors_stay_what_they_are(tmp_path, error):
    with pytest.raises(type(error)) as caught, atomic_file(tmp_path / "file"):
        raise error
    assert caught.value is error


def test_torch_blames_its_writer_only_on_a_full_disk(tmp_path, monkeypatch):
    failure = RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 576 vs 534")
    with pytest.raises(RuntimeError), full_disk_named(tmp_path / "final", tmp_path / "temporary"):
        raise failure
    monkeypatch.setattr(atomic.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(OSError, match="No space left"), full_disk_named(tmp_path / "final", tmp_path / "temporary"):
        raise failure


@dataclass
class Nothing:
    """A stage without parameters."""


def test_a_stage_says_it_in_one_line(full, monkeypatch, capsys):
    (full / "params.yaml").write_text("toy: {}")
    monkeypatch.setattr("sys.argv", ["toy", "--params", str(full / "params.yaml")])
    with pytest.raises(SystemExit) as caught:
        run_stage("toy", Nothing, lambda _: WRITERS["clip.mp4"](full / "clip.mp4"))
    assert caught.value.code == 2
    expected = (
        f"toy: {full}/clip.mp4: No space left on device (ENOSPC); free space, then run again: finished work is kept"
    )
    assert capsys.readouterr().err.splitlines() == [expected]
