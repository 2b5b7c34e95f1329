"""A run's folder `.runs/<id>/`: its request, its worktree while it runs, its logs, and what stays afterwards."""

import fcntl
import getpass
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tavr_lineage.clock import now
from tavr_lineage.git import GitError, dirty_paths, git, repository_root
from tavr_records.atomic import write_bytes
from tavr_records.errors import InputError
from tavr_records.ids import canonical_json, new_run_id

from tavr_flows.parameters import RetrainParameters


@dataclass(frozen=True)
class Request:
    """What a run was asked for; two requests that are equal in `key` make the same candidate.

    Attributes:
        commit: the commit the run is made from.
        start: the commit its worktree checks out; differs from `commit` when uncommitted changes were let in.
        base: run whose lock file and cache are taken over, empty for none.
    """

    run_id: str
    profile: str
    overrides: tuple[str, ...]
    reason: str
    requested_by: str
    created_at: str
    commit: str
    start: str
    dirty: tuple[str, ...]
    base: str

    @property
    def key(self) -> tuple[Any, ...]:
        """What decides the candidate's content, leaving out who asked, why and when."""
        return (self.profile, self.overrides, self.commit, self.dirty)


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run."""

    root: Path
    request: Request

    @property
    def folder(self) -> Path:
        """`.runs/<id>`."""
        return runs_folder(self.root) / self.request.run_id

    @property
    def tree(self) -> Path:
        """The worktree; gone once the run is finished."""
        return self.folder / "tree"

    @property
    def work(self) -> Path:
        """Resumable state and memos of the stages, shared by all runs of the checkout."""
        return self.root / ".work"

    @property
    def cache(self) -> Path:
        """DVC's cache, shared by all runs of the checkout."""
        return self.root / ".dvc" / "cache"

    @property
    def branch(self) -> str:
        """The branch that holds the candidate."""
        return f"run/{self.request.run_id}"


def runs_folder(root: Path) -> Path:
    """Where all runs of a checkout live."""
    return root / ".runs"


def check_checkout(root: Path, allow_dirty: bool) -> Path:
    """The top of a checkout that can be retrained.

    Raises:
        InputError: no git repository; or uncommitted changes, which would not be what the commit says.
    """
    root = repository_root(root)
    changed = dirty_paths(root)
    if changed and not allow_dirty:
        listed = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
        remedy = "commit them, or pass --allow-dirty for a run that cannot be promoted"
        raise InputError(f"{root}: uncommitted changes ({listed}); {remedy}")
    return root


def open_run(root: Path, parameters: RetrainParameters) -> tuple[RunFolder, int]:
    """Carry on an interrupted run of the same request, or make a new one; returns it with the lock that holds it.

    The lock is a file descriptor: it is let go when the process ends, however it ends.
    """
    root = check_checkout(root, parameters.allow_dirty)
    commit = git(root, "rev-parse", "HEAD")
    request = Request(
        run_id=new_run_id(),
        profile=parameters.profile,
        overrides=tuple(parameters.overrides),
        reason=parameters.reason,
        requested_by=_requester(root),
        created_at=now(),
        commit=commit,
        start=commit,
        dirty=tuple(dirty_paths(root)),
        base=_base(root, parameters),
    )
    for unfinished in _unfinished(root):
        if unfinished.request.key == request.key and not request.dirty and (held := _hold(unfinished)) is not None:
            return unfinished, held
    if request.dirty:
        request = replace(request, start=_snapshot(root, commit))
    run = RunFolder(root, request)
    held = _hold(run)
    assert held is not None, "a fresh run id is nobody else's"
    write_bytes(run.folder / "request.json", canonical_json(asdict(request)) + b"\n")
    return run, held


def list_runs(root: Path) -> list[RunFolder]:
    """Every run of the checkout, oldest first."""
    found: list[RunFolder] = []
    for path in runs_folder(root).glob("*/request.json"):
        values: dict[str, Any] = json.loads(path.read_bytes())
        values |= {name: tuple(values[name]) for name in ("overrides", "dirty")}
        found.append(RunFolder(root, Request(**values)))
    return sorted(found, key=lambda run: (run.request.created_at, run.request.run_id))


def read_summary(run: RunFolder) -> dict[str, Any] | None:
    """The summary of a finished run."""
    path = run.folder / "summary.json"
    return json.loads(path.read_bytes()) if path.is_file() else None


def _unfinished(root: Path) -> list[RunFolder]:
    return [run for run in reversed(list_runs(root)) if read_summary(run) is None]


def _hold(run: RunFolder) -> int | None:
    """Lock the run for this process; None when another process has it."""
    run.folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(run.folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _base(root: Path, parameters: RetrainParameters) -> str:
    """The run to take finished stages from.

    Raises:
        InputError: a run was named that has no branch here.
    """
    if parameters.base_run == "none":
        return ""
    if parameters.base_run != "latest":
        if not _has_branch(root, parameters.base_run):
            raise InputError(f"base_run: no branch run/{parameters.base_run}; `tavr status` lists the runs")
        return parameters.base_run
    for run in reversed(list_runs(root)):
        if run.request.profile == parameters.profile and read_summary(run) and _has_branch(root, run.request.run_id):
            return run.request.run_id
    return ""


def _has_branch(root: Path, run_id: str) -> bool:
    try:
        git(root, "cat-file", "-e", f"run/{run_id}:dvc.lock")
    except GitError:
        return False
    return True


def _snapshot(root: Path, commit: str) -> str:
    """A commit on top of `commit` with every uncommitted change, made without touching index or files."""
    with TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git(root, "read-tree", commit, environment=index)
        git(root, "add", "--all", environment=index)
        tree = git(root, "write-tree", environment=index)
    return git(root, "commit-tree", tree, "-p", commit, "-m", "Uncommitted changes of a run")


def _requester(root: Path) -> str:
    """Who asks: git's identity where there is one, else the machine's user name."""
    try:
        return f"{git(root, 'config', 'user.name')} <{git(root, 'config', 'user.email')}>"
    except GitError:
        return getpass.getuser()
