"""Git as a subprocess: nothing but the command `git` is assumed, neither an identity nor a signing key nor hooks."""

import os
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from tavr_records.errors import InputError

NAME, EMAIL = "TAVR", "tavr@localhost"
# What a run may change without the tree counting as dirty: it writes them itself, and the record says what they are.
GENERATED = ("dvc.lock", "params.yaml", "reports/", "record.json", "attestation.json", "model.sig", ".work")
_OURS = ("-c", "core.hooksPath=/dev/null", "-c", "commit.gpgSign=false", "-c", "tag.gpgSign=false", "-c", "gc.auto=0")


class GitError(RuntimeError):
    """Git refused; the message is its own."""


def git_bytes(
    root: Path, *arguments: str, stdin: bytes | None = None, environment: Mapping[str, str] | None = None
) -> bytes:
    """Run git in `root` and return its standard output.

    Raises:
        GitError: git's exit code is not 0.
        InputError: there is no git on this machine.
    """
    values = {**os.environ, **identity(root), **(environment or {})} if arguments[0] != "config" else None
    try:
        result = subprocess.run(
            ["git", *_OURS, *arguments], cwd=root, input=stdin, capture_output=True, env=values, check=False
        )
    except FileNotFoundError as error:
        raise InputError(f"git: no such command, or no such folder {root}; install git") from error
    if result.returncode != 0:
        message = result.stderr.decode(errors="replace").strip() or f"exit {result.returncode}"
        raise GitError(f"git {arguments[0]}: {message}")
    return result.stdout


def git(root: Path, *arguments: str, stdin: bytes | None = None, environment: Mapping[str, str] | None = None) -> str:
    """As `git_bytes`, as text without the last newline."""
    return git_bytes(root, *arguments, stdin=stdin, environment=environment).decode().rstrip("\n")


@cache
def identity(root: Path) -> Mapping[str, str]:
    """Author and committer for our commits and tags where the machine names none."""
    try:
        if os.environ.get("GIT_COMMITTER_EMAIL") or (
            git(root, "config", "user.name") and git(root, "config", "user.email")
        ):
            return {}
    except GitError:
        pass
    return {
        "GIT_AUTHOR_NAME": NAME,
        "GIT_AUTHOR_EMAIL": EMAIL,
        "GIT_COMMITTER_NAME": NAME,
        "GIT_COMMITTER_EMAIL": EMAIL,
    }


def repository_root(path: Path = Path()) -> Path:
    """The top folder of the checkout that holds `path`.

    Raises:
        InputError: `path` is in no git repository, or in one without a commit.
    """
    try:
        top = Path(git(path, "rev-parse", "--show-toplevel"))
    except GitError as error:
        raise InputError(f"{path.resolve()}: no git repository; clone the project with git and run there") from error
    try:
        git(top, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    except GitError as error:
        raise InputError(f"{top}: the repository has no commit yet; commit first") from error
    return top


def common_directory(root: Path) -> Path:
    """The `.git` folder that all worktrees of the repository share."""
    return Path(git(root, "rev-parse", "--path-format=absolute", "--git-common-dir"))


def main_checkout(root: Path) -> Path:
    """The first worktree of the repository, which holds the shared cache and all runs."""
    line = git(root, "worktree", "list", "--porcelain").splitlines()[0]
    return Path(line.removeprefix("worktree "))


def dirty_paths(root: Path) -> list[str]:
    """Changed and untracked files that a commit would miss, less what runs generate."""
    entries = git(root, "status", "--porcelain", "-z", "--untracked-files=all", "--no-renames").split("\0")
    paths = [entry[3:] for entry in entries if entry]
    return sorted(path for path in paths if not path.startswith(GENERATED))


def read_file(root: Path, commit: str, path: str) -> bytes | None:
    """The bytes of a file in a commit, None when it is not there."""
    try:
        return git_bytes(root, "cat-file", "blob", f"{commit}:{path}")
    except GitError:
        return None


def resolve(root: Path, name: str) -> str:
    """The commit a branch, tag or abbreviated id names.

    Raises:
        InputError: it names none.
    """
    try:
        return git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    except GitError as error:
        raise InputError(f"{name!r}: no such commit, branch, tag or run; `tavr status` lists the runs") from error
