"""Training needs Python and nothing else: no compiler, no ninja, no ffmpeg on the PATH."""

import shutil

import pytest
from tavr_records.manifest import read_manifest
from tavr_records.schemas import Consumed

pytestmark = pytest.mark.xdist_group("clone")


def test_stage1_with_a_stripped_path(finished, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("git", "make", "sh", "env", "uname"):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    work = tmp_path / "work"
    before = (finished.path / "data/stage1/ledger.parquet").read_bytes()
    python = str(finished.path / ".venv/bin/python")
    finished.run(python, "-m", "tavr_stage1", PATH=str(tools), TAVR_WORK=str(work), TORCH_EXTENSIONS_DIR=str(work))
    assert (finished.path / "data/stage1/ledger.parquet").read_bytes() == before
    assert read_manifest(finished.path / "data/stage1/ledger.parquet", Consumed)
