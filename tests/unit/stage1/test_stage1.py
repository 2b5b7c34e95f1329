"""Stage1 as a process: no compiler on PATH, killed at any moment, its outputs and its refusals."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tavr_model.transformer import TAVRTransformer3DModel
from tavr_records.errors import InputError
from tavr_records.manifest import read_manifest, write_manifest
from tavr_records.schemas import ClipSplit, Consumed, Refused
from tavr_stage1.stage import same_scene_examples
from tavr_training.dataset import LatentStore
from training_world import build_world, clip_name, read_params, write_machine, write_params

OUTPUTS = ("model/diffusion_pytorch_model.safetensors", "model/config.json", "ledger.parquet", "losses.csv")


def _start(root: Path, work: str, **environment: str) -> subprocess.Popen:
    bare = root / "bin"
    bare.mkdir(exist_ok=True)
    machine = write_machine(root, "machine", 4, 3, zero_optimization={"stage": 0})
    return subprocess.Popen(
        [sys.executable, "-m", "tavr_stage1"], cwd=root, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={"PATH": str(bare), "HOME": str(root), "OMP_NUM_THREADS": "1", "TAVR_WORK": str(root / work),
             "TAVR_DEEPSPEED": str(machine), **environment},
    )  # fmt: skip


def _finish(process: subprocess.Popen, code: int = 0) -> str:
    _, errors = process.communicate(timeout=600)
    assert process.returncode == code, errors[-3000:]
    return errors


def _outputs(root: Path) -> list[bytes]:
    return [(root / "data/stage1" / name).read_bytes() for name in OUTPUTS]


def _wait_for_step(root: Path, work: str, step: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        for path in (root / work).glob("stage1/*/losses.jsonl"):
            if len(path.read_bytes().splitlines()) > step:
                return
        time.sleep(0.02)
    raise AssertionError(f"never reached step {step}")


def test_killed_and_interrupted_it_ends_like_an_undisturbed_run(tmp_path):
    root = build_world(tmp_path)
    params = read_params(root)
    params["stage1"]["optimizer"]["steps"] = 40
    write_params(root, params)
    _finish(_start(root, "whole"))
    whole = _outputs(root)

    killed = _start(root, "disturbed")
    _wait_for_step(root, "disturbed", 5, killed)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    stopped = _start(root, "disturbed")
    _wait_for_step(root, "disturbed", 12, stopped)
    os.kill(stopped.pid, signal.SIGINT)
    assert "run again to carry on" in _finish(stopped, 130)
    assert _outputs(root) == whole  # the old output stands until the new one is whole
    (root / "data/stage1/losses.csv").unlink()
    _finish(_start(root, "disturbed"))
    assert _outputs(root) == whole

    rows = read_manifest(root / "data/stage1/ledger.parquet", Consumed)
    assert len(rows) == 40 * 4
    benchmark = {clip_name(3, s) for s in range(2)}
    assert not benchmark & {clip for row in rows for clip in row.clip_ids}
    model = TAVRTransformer3DModel.from_pretrained(root / "data/stage1/model")
    assert model.config.audio_layers == 3
    assert 'name_or_path": ""' in (root / "data/stage1/model/config.json").read_text()


def test_a_users_mistake_is_one_line(tmp_path):
    root = build_world(tmp_path)
    (root / "data/weights/base/config.json").unlink()
    (root / "data/weights/base/diffusion_pytorch_model.safetensors").unlink()
    (root / "data/weights/base").rmdir()
    errors = _finish(_start(root, "work"), 2)
    assert "data/weights/base: no such" in errors
    assert "Traceback" not in errors


def test_examples_are_training_clips_outside_quarantine(tmp_path):
    root = build_world(tmp_path)
    clips = read_manifest(root / "data/pairs/clips.parquet", ClipSplit)
    store = LatentStore(root / "data/latents")
    excluded = {clip_name(0, 0)}
    examples = same_scene_examples(clips, store, excluded)
    assert {e.target_clip for e in examples} == {clip_name(p, s) for p in range(3) for s in range(2)} - excluded
    assert all(e.ref_clip == e.target_clip for e in examples)
    with pytest.raises(InputError, match="no clip of split train"):
        same_scene_examples([c for c in clips if c.split == "benchmark"], store, set())


def test_a_failed_check_refuses_the_start(tmp_path):
    root = build_world(tmp_path)
    verdict = root / "reports/latents/verdict.json"
    verdict.write_text(
        '{"checks":[{"id":"finite","limit":0,"observed":2,"passed":false,"severity":"critical"}],'
        '"critical":true,"schema_version":1,"stage":"latents"}'
    )
    write_manifest(root / "reports/latents/quarantine.parquet", Refused, [], sort_by=("record_id",))
    errors = _finish(_start(root, "work"), 3)
    assert "refused by finite" in errors
