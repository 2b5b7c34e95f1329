"""A run's own worktree: its files, its environment, its parameters; only DVC's cache and `.work` are shared."""

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from tavr_lineage.git import GitError, git
from tavr_records.errors import InputError
from tavr_records.process import OFFLINE

from tavr_flows.process import Command, run_supervised
from tavr_flows.runs import RunFolder

_PYTHON_VARIABLES = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "UV_PROJECT_ENVIRONMENT")
Tell = Callable[[str], None]


def open_worktree(run: RunFolder, tell: Tell) -> None:
    """Make the worktree ready to run stages; what an earlier try finished is kept.

    Raises:
        InputError: the environment cannot be made offline, or the parameters cannot be composed.
    """
    fresh = not (run.tree / ".git").exists()
    if fresh:
        tell(f"run {run.request.run_id}: worktree {run.tree} on branch {run.branch}")
        _add_worktree(run)
    share_state(run)
    _make_environment(run, tell)
    _compose(run)
    if fresh and run.request.base:
        tell(f"finished stages of run {run.request.base} are taken over where nothing changed")
        git(run.tree, "checkout", f"run/{run.request.base}", "--", "dvc.lock")
        with suppress(GitError):  # the base may have stopped before its first check
            git(run.tree, "checkout", f"run/{run.request.base}", "--", "reports")
        git(run.tree, "reset", "--quiet")


def close_worktree(run: RunFolder) -> None:
    """Remove the worktree; the branch and the run's folder stay."""
    git(run.root, "worktree", "remove", "--force", str(run.tree))


def stage_environment(run: RunFolder) -> dict[str, str]:
    """The environment of the run's processes: the worktree's own interpreter first, telemetry off."""
    values = {name: value for name, value in os.environ.items() if name not in _PYTHON_VARIABLES}
    own = run.tree / ".venv"
    if own.is_dir():
        values["PATH"] = f"{own / 'bin'}{os.pathsep}{values.get('PATH', os.defpath)}"
        values["VIRTUAL_ENV"] = str(own)
    else:  # a repository without an environment of its own: this process's
        values["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{values.get('PATH', os.defpath)}"
    return {
        **values,
        **OFFLINE,
        "TAVR_WORK": str(run.work),
        "DVC_SITE_CACHE_DIR": str(run.work / "dvc"),
        "TQDM_MININTERVAL": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _add_worktree(run: RunFolder) -> None:
    git(run.root, "worktree", "prune")
    run.folder.mkdir(parents=True, exist_ok=True)
    git(run.root, "worktree", "add", "--quiet", "--force", "-B", run.branch, str(run.tree), run.request.start)


def share_state(run: RunFolder) -> None:
    """Point DVC in the worktree at the run's cache, and `.work` at its resumable state."""
    run.cache.mkdir(parents=True, exist_ok=True)
    local = run.tree / ".dvc" / "config.local"
    local.parent.mkdir(exist_ok=True)
    shared = run.root / ".dvc" / "config.local"
    text = shared.read_text(encoding="utf-8") if shared.is_file() else ""
    local.write_text(f"{text}\n[cache]\n    dir = {run.cache}\n", encoding="utf-8")
    work = run.tree / ".work"
    if not work.is_symlink():
        run.work.mkdir(parents=True, exist_ok=True)
        work.symlink_to(run.work, target_is_directory=True)


def _make_environment(run: RunFolder, tell: Tell) -> None:
    """The worktree's own environment, from the resolution the main checkout was set up with, without network.

    Raises:
        InputError: uv is missing, or a package is not in its cache.
    """
    done = run.tree / ".venv" / ".synced"
    if not (run.tree / "pyproject.toml").is_file() or done.is_file():
        return
    tell("making the worktree's environment")
    if (run.root / "uv.lock").is_file():
        shutil.copyfile(run.root / "uv.lock", run.tree / "uv.lock")
    command = [find_uv(run.root), "sync", "--all-packages", "--offline", "--quiet"]
    lines: list[str] = []
    if run_in_worktree(run, command, lines) != 0:
        told = lines[-1] if lines else "no message"
        raise InputError(f"{run.tree}: its environment cannot be made offline ({told}); run `make setup` with network")
    done.touch()


def find_uv(root: Path) -> str:
    """The command uv: of the process that started us, on the path, or the one `make` fetched.

    Raises:
        InputError: there is none.
    """
    found = os.environ.get("UV") or shutil.which("uv") or str(root / ".tools" / "uv" / "bin" / "uv")
    if not Path(found).is_file():
        raise InputError(f"{root}: no command uv; run `make setup`")
    return found


def _compose(run: RunFolder) -> None:
    """Write params.yaml from the worktree's own conf/, by the worktree's own code.

    Raises:
        InputError: an unknown profile or key, or a wrong value.
    """
    if not (run.tree / "conf" / "config.yaml").is_file():
        return
    lines: list[str] = []
    command = ["tavr", "params", "--profile", run.request.profile, *run.request.overrides]
    if run_in_worktree(run, command, lines) != 0:
        raise InputError(lines[-1] if lines else "params: cannot be composed; run `tavr params` to see why")


def run_in_worktree(run: RunFolder, command: list[str], lines: list[str]) -> int:
    """Run a command with the worktree's own environment; its output goes to `lines`, its exit code comes back."""

    def keep(line: str, progress: bool) -> None:
        if not progress:
            lines.append(line)

    environment: Mapping[str, str] = stage_environment(run)
    found = shutil.which(command[0], path=environment["PATH"]) or command[0]
    return run_supervised(Command([found, *command[1:]], run.tree, environment), keep)
