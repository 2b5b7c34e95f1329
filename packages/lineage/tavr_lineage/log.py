"""The audit log: append-only, hash-chained JSON lines in `audit/log.jsonl` on the git branch `audit`.

The branch has no worktree: lines are appended with git's plumbing and the branch is moved by compare-and-swap, so that
promoting never touches the operator's files and two promotions at once lose no line.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from tavr_records.ids import canonical_json, sha256_bytes

from tavr_lineage.git import GitError, git, read_file

BRANCH = "refs/heads/audit"
PATH = "audit/log.jsonl"
GENESIS = "0" * 64
_ATTEMPTS = 20


class BrokenChainError(ValueError):
    """A line of the log does not follow from the one before it; the message names it."""


def read_log(root: Path, ref: str = BRANCH) -> list[dict[str, Any]]:
    """Every entry, oldest first, after checking the chain.

    Raises:
        BrokenChainError: a line was changed, removed, inserted or re-ordered.
    """
    return check_chain(read_file(root, ref, PATH) or b"")


def check_chain(data: bytes) -> list[dict[str, Any]]:
    """Parse log lines; entry n holds `seq` n and `previous`, the sha256 of line n - 1 without its newline."""
    previous = GENESIS
    entries: list[dict[str, Any]] = []
    if data and not data.endswith(b"\n"):
        raise BrokenChainError(f"{PATH}: the last line is cut off")
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            entry = cast("dict[str, Any]", json.loads(line))
            linked = entry["previous"] == previous and entry["seq"] == number and canonical_json(entry) == line
        except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
            raise BrokenChainError(f"{PATH}:{number}: not a log entry ({error!r})") from error
        if not linked:
            raise BrokenChainError(f"{PATH}:{number}: does not follow from the line before it")
        previous = sha256_bytes(line)
        entries.append(entry)
    return entries


def append(root: Path, event: str, at: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Append one entry and return it.

    Raises:
        BrokenChainError: the log as it stands is broken; nothing is appended.
        GitError: the branch could not be moved.
    """
    for attempt in range(_ATTEMPTS):
        head = _head(root)
        data = (read_file(root, head, PATH) or b"") if head else b""
        entries = check_chain(data)
        previous = sha256_bytes(data.splitlines()[-1]) if entries else GENESIS
        entry = {"seq": len(entries) + 1, "previous": previous, "event": event, "at": at, **facts}
        commit = _commit(root, data + canonical_json(entry) + b"\n", head, f"audit: {event}")
        try:
            git(root, "update-ref", "-m", f"audit: {event}", BRANCH, commit, head or GENESIS[:40])
        except GitError:
            if attempt == _ATTEMPTS - 1:
                raise
            continue  # somebody else appended first: take their line in and try again
        return entry
    raise AssertionError("unreachable")


def _head(root: Path) -> str:
    try:
        return git(root, "rev-parse", "--verify", "--quiet", BRANCH)
    except GitError:
        return ""


def _commit(root: Path, data: bytes, parent: str, message: str) -> str:
    """A commit whose only file is the log."""
    blob = git(root, "hash-object", "-w", "--stdin", stdin=data)
    folder, name = PATH.split("/")
    inner = git(root, "mktree", stdin=f"100644 blob {blob}\t{name}\n".encode())
    tree = git(root, "mktree", stdin=f"040000 tree {inner}\t{folder}\n".encode())
    parents = ["-p", parent] if parent else []
    return git(root, "commit-tree", tree, *parents, "-m", message)
