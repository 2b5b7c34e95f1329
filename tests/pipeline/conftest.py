"""One run of the whole pipeline at its smallest, in a fresh clone with an environment of its own."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from tavr_cli.compose import write_params


@dataclass(frozen=True)
class Clone:
    """A clean clone whose commands run in its own environment."""

    path: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a user's shell would have, with the clone's own interpreter first."""
        dropped = ("VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "TAVR_WORK", "OMP_NUM_THREADS")
        kept = {name: value for name, value in os.environ.items() if name not in dropped}
        return {
            **kept,
            "PATH": f"{self.path / '.venv/bin'}{os.pathsep}{kept['PATH']}",
            "DVC_SITE_CACHE_DIR": str(self.path / ".work/dvc"),
        }

    def run(self, *command: str, check: bool = True, **changed: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the clone; on failure show what it printed."""
        result = subprocess.run(
            command, cwd=self.path, env={**self.environment, **changed}, capture_output=True, text=True, check=False
        )
        assert not check or result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
        return result

    def copy_of(self, folder: Path, *names: str) -> Path:
        """A root with copies of some of the clone's files and folders, for a test to break."""
        for name in names:
            source, target = self.path / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)
        return folder


def make_clone(root: Path, path: Path) -> Clone:
    """Clone HEAD and install it from uv's cache into an environment of its own."""
    subprocess.run(["git", "clone", "--quiet", str(root), str(path)], check=True)
    shutil.copyfile(root / "uv.lock", path / "uv.lock")
    uv = shutil.which("uv") or str(root / ".tools/uv/bin/uv")
    made = Clone(path)
    made.run(uv, "sync", "--all-packages", "--frozen", "--offline", "--quiet")
    return made


@pytest.fixture(scope="session")
def clone(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A fresh clone of this checkout's HEAD, set up offline with the same resolution."""
    return make_clone(root, tmp_path_factory.mktemp("clone") / "tavr")


@pytest.fixture(scope="session")
def finished(clone: Clone) -> Clone:
    """The clone after `dvc repro` of the profile micro."""
    write_params("micro", root=clone.path)
    clone.run("dvc", "repro")
    return clone
