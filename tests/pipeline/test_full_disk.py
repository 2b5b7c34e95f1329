"""A disk that fills up while a stage writes: a real one, a small tmpfs in a mount namespace of the test's own.

Root needs no more than `unshare --mount`; anyone else needs unprivileged user namespaces. Where neither is to be had the
tests fail and say so: they are never skipped. tests/unit/records/test_full_disk.py needs no rights at all.
"""

import hashlib
import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from tavr_records.ids import sha256_bytes
from tavr_sources.lock import Lock, LockedFile, LockedSource, write_lock

NAMES, BYTES = ("a", "b", "c", "d"), 100_000
ROOM_FOR_TWO = 260
FULL = "No space left on device (ENOSPC); free space, then run again: finished work is kept"
LIVES = """
mount -t tmpfs -o size=4096k tmpfs "$2" || exit 99
head -c "$((4096 - $1))k" /dev/zero > "$2/ballast"
shift; disk=$1; shift
"$@" 2> first.log; echo $? > first.code
find . -type f ! -name 'first.*' ! -name ballast | sort > first.files
rm "$disk/ballast"
"$@" 2> second.log; echo $? > second.code
mkdir kept && cp -a "$disk"/. kept/
"""
CHECKPOINT = """
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from tavr_records.memo import stage_output
from tavr_records.process import run_stage
from tavr_training.checkpoint import Checkpoints

@dataclass
class Config:
    pass

def train(config):
    weights = {"weights": torch.zeros(100_000)}
    checkpoints = Checkpoints(Path(".work/train"), 0, lambda: None)
    with stage_output(Path(".work/out")) as out:
        if checkpoints.latest() is None:
            checkpoints.save(1, lambda folder: torch.save(weights, folder / "engine.pt"))
        save_file(weights, out / "model.safetensors")

run_stage("train", Config, train)
"""


@dataclass(frozen=True)
class Run:
    """One run of a command: exit code, and the lines it printed that are no progress bar."""

    code: int
    lines: list[str]


def read_run(root: Path, name: str) -> Run:
    text = (root / f"{name}.log").read_text()
    assert "Traceback" not in text, text
    lines = [line for line in text.replace("\r", "\n").splitlines() if line.strip() and "%|" not in line]
    return Run(int((root / f"{name}.code").read_text()), lines)


def environment(workers: int) -> dict[str, str]:
    dropped = ("TAVR_WORK", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if name not in dropped} | {"TAVR_WORKERS": str(workers)}


def live_twice(root: Path, disk: str, room: int, command: list[str], workers: int = 1) -> tuple[Run, Run]:
    """Run a command with the folder `disk` on a disk with `room` KiB left, then after space was freed.

    The folder `kept` holds what is on the disk in the end.
    """
    (root / disk).mkdir(parents=True)
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    result = subprocess.run(
        [*unshare, "sh", "-c", LIVES, "sh", str(room), disk, *command],
        cwd=root,
        env=environment(workers),
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        pytest.fail(f"no small disk can be mounted here; run as root or allow user namespaces: {result.stderr}")
    return read_run(root, "first"), read_run(root, "second")


def checkout(root: Path) -> Path:
    """Four files, their lock and params.yaml: what the stage `sources` reads."""
    (root / "files").mkdir(parents=True)
    (root / "audit").mkdir()
    (root / "audit/withdrawn.jsonl").touch()
    rows = []
    for name in NAMES:
        data = random.Random(name).randbytes(BYTES)
        (root / f"files/{name}.mp4").write_bytes(data)
        rows.append(
            LockedSource(
                name, f"video-{name}", f"file:files/{name}.mp4", (0, 1000), sha256_bytes(data), "2026-01-01", "CC0-1.0"
            )
        )
    (root / "files/metadata.json").write_text("[]")
    write_lock(root / "sources.lock", Lock(LockedFile("file:files/metadata.json", None), None, None, tuple(rows)))
    (root / "params.yaml").write_text(json.dumps({"sources": {"lock": "sources.lock"}}))
    return root


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


STAGE = [sys.executable, "-m", "tavr_sources"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the stage writes when there is room from the start."""
    root = checkout(tmp_path_factory.mktemp("disk") / "undisturbed")
    subprocess.run(STAGE, cwd=root, env=environment(1), capture_output=True, check=True)
    return digests(root / "data/sources")


def test_the_output_is_on_a_full_disk(tmp_path, undisturbed):
    root = checkout(tmp_path / "checkout")
    first, second = live_twice(root, "data", ROOM_FOR_TWO, STAGE)
    assert first == Run(2, [f"sources: data/sources/media/c.mp4: {FULL}"])
    left = (root / "first.files").read_text().split()
    assert [name for name in left if name.startswith("./data")] == []
    assert second == Run(0, [])
    assert digests(root / "kept/sources") == undisturbed


def test_the_memo_is_on_a_full_disk(tmp_path, undisturbed):
    """Two workers, as on any machine; what was finished before the disk was full is not done again."""
    root = checkout(tmp_path / "checkout")
    first, second = live_twice(root, ".work", ROOM_FOR_TWO, STAGE, workers=2)
    assert first.code == 2
    (line,) = first.lines
    assert line.startswith(f"sources: {root}/.work/sources/memo/")
    assert line.endswith(f"/file: {FULL}")
    left = (root / "first.files").read_text().split()
    finished = [name for name in left if name.startswith("./.work") and not name.endswith("/key.json")]
    assert 1 <= len(finished) <= 2
    assert {name.replace("/key.json", "/file") for name in left if name.startswith("./.work")} == set(finished)
    assert [name for name in left if "/." in name.removeprefix("./.work")] == [], "no entry under a temporary name"
    assert not any(name.startswith("./data") for name in left)
    assert second == Run(0, [])
    assert digests(root / "data/sources") == undisturbed
    entries = list((root / "kept").rglob("file"))
    assert len(entries) == len(NAMES)
    assert all(path.stat().st_size == BYTES for path in entries)
    since = (root / "first.code").stat().st_mtime_ns
    old = {f"./.work/{path.relative_to(root / 'kept')}" for path in entries if path.stat().st_mtime_ns <= since}
    assert old == set(finished)


@pytest.mark.parametrize(("room", "named"), [(200, "train/step-00000001"), (600, "out")])
def test_a_training_without_room_for_its_checkpoint_or_model(tmp_path, room, named):
    """PyTorch's writer says nothing of the disk and safetensors' error is no OSError; the line is the same."""
    (tmp_path / "train.py").write_text(CHECKPOINT)
    (tmp_path / "params.yaml").write_text("train: {}")
    first, second = live_twice(tmp_path, ".work", room, [sys.executable, "train.py"])
    assert first == Run(2, [f"train: .work/{named}: {FULL}"])
    left = (tmp_path / "first.files").read_text()
    assert ".work/out" not in left
    assert ("step-00000001/engine.pt" in left) == (room == 600)
    assert second == Run(0, [])
    assert (tmp_path / "kept/out/model.safetensors").stat().st_size > 400_000
    assert (tmp_path / "kept/train/step-00000001/seal.json").is_file()
