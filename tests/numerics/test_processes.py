"""Two processes under DeepSpeed (gloo) train to what one trains to, with and without gradient checkpointing."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tavr_records.manifest import read_manifest
from tavr_records.schemas import Consumed
from training_world import build_world, read_params, write_machine, write_params


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _run(root: Path, machine: Path, launcher: list[str], work: str) -> tuple[dict, list[Consumed]]:
    environment = {**os.environ, "TAVR_DEEPSPEED": str(machine), "TAVR_WORK": str(root / work), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *launcher, "-m", "tavr_stage1"], cwd=root, env=environment,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    rows = read_manifest(root / "data/stage1/ledger.parquet", Consumed)
    return load_file(root / "data/stage1/model/diffusion_pytorch_model.safetensors"), rows


@pytest.mark.parametrize("zero", [0, 2])
def test_two_processes_equal_one(tmp_path, zero):
    root = build_world(tmp_path)
    params = read_params(root)
    params["stage1"]["optimizer"].update(steps=3, learning_rate=1e-4)
    write_params(root, params)
    machine = write_machine(root, f"zero{zero}", 2, 100, zero_optimization={"stage": zero})
    one, one_ledger = _run(root, machine, [], "one")
    machine = write_machine(
        root, "less-memory", 2, 100, gradient_checkpointing=zero == 2, zero_optimization={"stage": zero}
    )
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={_free_port()}"]
    two, two_ledger = _run(root, machine, launcher, "two")
    assert one_ledger == two_ledger
    for name, weight in one.items():
        assert (weight - two[name]).norm() <= 1e-5 * weight.norm() + 1e-7, name
