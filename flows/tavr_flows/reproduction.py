"""A second making of a candidate: its code, its parameters and its pinned packages, and nothing of what the first left.

It is a run with a cache, a `.work` and a worktree of its own below `.work/reproduce/<run id>`, and without a branch.
"""

import fcntl
import shutil
import sys
import tomllib
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tavr_lineage.git import GitError, git
from tavr_records.errors import InputError

from tavr_flows.runs import Request, RunFolder
from tavr_flows.worktree import find_uv, run_in_worktree, share_state

Tell = Callable[[str], None]
PARAMS = "params.yaml"


@dataclass(frozen=True)
class Reproduction(RunFolder):
    """Paths of one reproduction."""

    @property
    def folder(self) -> Path:
        """`.work/reproduce/<run id>`."""
        return self.root / ".work" / "reproduce" / self.request.run_id

    @property
    def work(self) -> Path:
        """Memos and resumable state, empty at first: nothing may come from the first making."""
        return self.folder / "work"

    @property
    def cache(self) -> Path:
        """DVC's cache, empty at first."""
        return self.folder / "cache"


def plan_reproduction(root: Path, run_id: str, profile: str, start: str) -> Reproduction:
    """The reproduction of a run from the commit `start`.

    Args:
        root: the main checkout.
        run_id: of the run to be made again.
        profile: its profile.
        start: the commit whose code ran.
    """
    request = Request(run_id, profile, (), "reproduce", "", "", start, start, (), "")
    return Reproduction(root, request)


@contextmanager
def holding(run: Reproduction) -> Generator[None]:
    """Keep other processes from reproducing the same run at the same time.

    Raises:
        InputError: one does.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    with (run.folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{run.folder}: another process reproduces this run; wait for it") from error
        yield


def open_reproduction(run: Reproduction, params: bytes, tell: Tell) -> None:
    """Make a fresh worktree ready; what an earlier reproduction of the run left is removed.

    Raises:
        InputError: the environment cannot be made, or an input not be pulled.
    """
    close_reproduction(run)
    tell(f"checking out {run.request.start[:12]}")
    git(run.root, "worktree", "add", "--quiet", "--detach", str(run.tree), run.request.start)
    (run.tree / "dvc.lock").unlink(missing_ok=True)
    (run.tree / PARAMS).write_bytes(params)
    share_state(run)
    make_pinned_environment(run, tell)
    _pull_inputs(run, tell)


def close_reproduction(run: Reproduction) -> None:
    """Remove the worktree, its cache and its logs."""
    with suppress(GitError):
        git(run.root, "worktree", "remove", "--force", "--force", str(run.tree))
    for path in (run.tree, run.work, run.cache, run.folder / "logs"):
        shutil.rmtree(path, ignore_errors=True)
    git(run.root, "worktree", "prune")


def make_pinned_environment(run: RunFolder, tell: Tell) -> None:
    """An environment of exactly the packages of the worktree's requirements.lock, each held against its sha256.

    uv's cache is tried first; what is not there is fetched.

    Raises:
        InputError: a package cannot be had, or is not what its hash says.
    """
    if not (run.tree / "pyproject.toml").is_file():
        return
    tell("making the environment from requirements.lock, by hash")
    uv, place = find_uv(run.root), str(run.tree / ".venv")
    own = [argument for folder in _members(run.tree) for argument in ("-e", str(folder))]
    with TemporaryDirectory() as outside:  # inside a project uv would add the project's own constraints, without hashes
        install = [uv, "--directory", outside, "pip", "install", "--quiet", "--python", place, "--no-deps"]
        pinned = ["--require-hashes", "-r", str(run.tree / "requirements.lock")]
        _demand(run, [uv, "--directory", outside, "venv", "--quiet", "--offline", "--python", sys.executable, place])
        if run_in_worktree(run, [*install, "--offline", *pinned], []) != 0:
            tell("not every package is in uv's cache: fetching the rest")
            _demand(run, [*install, *pinned])
        _demand(run, [*install, "--offline", *own])


def _demand(run: RunFolder, command: list[str]) -> None:
    lines: list[str] = []
    if run_in_worktree(run, command, lines) != 0:
        told = lines[-1] if lines else "no message"
        raise InputError(f"{run.tree}: its environment cannot be made ({told}); run `make setup` with network")


def _members(tree: Path) -> list[Path]:
    """The packages of the checkout itself."""
    document = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = document.get("tool", {}).get("uv", {}).get("workspace", {}).get("members", [])
    return sorted(path for pattern in patterns for path in tree.glob(pattern) if (path / "pyproject.toml").is_file())


def _pull_inputs(run: RunFolder, tell: Tell) -> None:
    """Fetch inputs that DVC tracks by themselves, where a remote is configured; stages fetch what sources.lock names.

    Raises:
        InputError: the remote does not give them.
    """
    tracked = git(run.tree, "ls-files", "--", "*.dvc").split()
    remotes: list[str] = []
    if not tracked or run_in_worktree(run, ["dvc", "remote", "list"], remotes) != 0 or not remotes:
        return
    tell(f"pulling {len(tracked)} inputs")
    lines: list[str] = []
    if run_in_worktree(run, ["dvc", "pull", "--quiet", *tracked], lines) != 0:
        raise InputError(f"{tracked[0]}: cannot be pulled ({lines[-1] if lines else 'no message'}); mend the remote")
