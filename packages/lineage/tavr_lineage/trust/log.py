"""The audit log: append-only, hash-chained, signed JSON lines in `audit/log.jsonl` on the git branch `audit`.

The branch has no worktree: lines are appended with git's plumbing and the branch is moved by compare-and-swap, so that
promoting never touches the operator's files and two promotions at once lose no line. Every line carries the fingerprint
of its `key` and a `signature` over the rest of it; the first line adds the first key (`keyring.py`).
"""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tavr_records.errors import InputError
from tavr_records.ids import canonical_json, sha256_bytes

from tavr_lineage.git import GitError, git, read_file
from tavr_lineage.trust.keyring import ADDED, PATH, BrokenChainError, Keyring, replay_keys
from tavr_lineage.trust.keys import VARIABLE, SigningKey, signing_key

BRANCH = "refs/heads/audit"
GENESIS = "0" * 64
_OURS = ("seq", "previous", "event", "at", "key", "signature")
_ATTEMPTS = 20


@dataclass(frozen=True)
class Log:
    """A whole log whose chain and signatures hold: its bytes, its entries, and whose word it takes."""

    data: bytes
    entries: list[dict[str, Any]]
    keyring: Keyring

    def trusted(self) -> Iterator[dict[str, Any]]:
        """The entries that no later revocation took the trust from, oldest first."""
        return (entry for entry in self.entries if entry["seq"] not in self.keyring.untrusted)

    @property
    def head(self) -> str:
        """The digest of the last line; 64 zeros of an empty log."""
        return line_digest(self.data, len(self.entries))


def read_log(root: Path, ref: str = BRANCH) -> list[dict[str, Any]]:
    """Every entry, oldest first, after checking chain and signatures.

    Raises:
        BrokenChainError: a line was changed, removed, inserted or re-ordered, or its signature does not count.
    """
    return open_log(root, ref).entries


def open_log(root: Path, ref: str = BRANCH) -> Log:
    """As `read_log`, with the keys.

    Raises:
        BrokenChainError: as `read_log`.
        InputError: this clone has the log of its remote only.
    """
    head = _head(root) if ref == BRANCH else ref
    return parse_log((read_file(root, head, PATH) or b"") if head else b"")


def check_chain(data: bytes) -> list[dict[str, Any]]:
    """As `parse_log`, the entries alone."""
    return parse_log(data).entries


def parse_log(data: bytes) -> Log:
    """Parse and check log lines: entry n holds `seq` n, and `previous`, the sha256 of line n - 1 without its newline.

    Raises:
        BrokenChainError: names the first line at which the chain or a signature fails.
    """
    entries: list[dict[str, Any]] = []
    previous = GENESIS
    lines = data.split(b"\n")
    if lines.pop():
        raise BrokenChainError(len(lines) + 1, "the last line is cut off")
    for number, line in enumerate(lines, start=1):
        entry = _parse_line(number, line)
        if entry.get("previous") != previous or type(entry.get("seq")) is not int or entry["seq"] != number:
            raise BrokenChainError(number, "does not follow from the line before it")
        previous = sha256_bytes(line)
        entries.append(entry)
    return Log(data, entries, replay_keys(entries))


def line_digest(data: bytes, number: int) -> str:
    """The sha256 of a log's line, counted from 1, without its newline; 64 zeros of line 0."""
    return sha256_bytes(data.split(b"\n")[number - 1]) if number else GENESIS


def append(root: Path, event: str, at: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Sign and append one entry and return it; the first entry of an empty log adds this process's key before it.

    An entry is never dated before its predecessor: whoever read the clock first may well append last.

    Raises:
        BrokenChainError: the log as it stands is broken; nothing is appended.
        InputError: this process's key is not an active key of the log, or what it says of keys makes no sense.
        GitError: the branch could not be moved.
    """
    if reserved := sorted(set(facts) & set(_OURS)):
        raise ValueError(f"facts {', '.join(reserved)} are the log's own")
    key = signing_key(root)
    for attempt in range(_ATTEMPTS):
        head = _head(root)
        log = parse_log((read_file(root, head, PATH) or b"") if head else b"")
        data = log.data or _line(b"", ADDED, at, {"public_key": key.public, "use": "log"}, key)
        data = _line(data, event, max(at, log.entries[-1]["at"]) if log.entries else at, facts, key)
        check_signer(log, key)
        if event.startswith("key "):
            _check_keys(data)
        commit = _commit(root, data, head, f"audit: {event}")
        try:
            git(root, "update-ref", "-m", f"audit: {event}", BRANCH, commit, head or GENESIS[:40])
        except GitError:
            if attempt == _ATTEMPTS - 1:
                raise
            continue  # somebody else appended first: take their line in and try again
        return json.loads(data.split(b"\n")[-2])
    raise AssertionError("unreachable")


def check_signer(log: Log, key: SigningKey) -> None:
    """Refuse a key that may not sign the log's next line; any key may begin a log.

    Raises:
        InputError: names the key and the remedy.
    """
    if not log.entries:
        return
    known = log.keyring.find(key.fingerprint)
    if known is None:
        raise InputError(
            f"{key.path}: {key.fingerprint} is not on the audit log; let a holder of an active key run "
            f"`tavr keys add {key.path.name}.pub`, or name an active key in {VARIABLE}"
        )
    if not known.active_at(len(log.entries) + 1):
        raise InputError(
            f"{key.path}: {key.fingerprint} may sign no line from {known.revoked_from_seq} on ({known.reason}); "
            f"name an active key in {VARIABLE} (`tavr keys list` shows them)"
        )


def _check_keys(data: bytes) -> None:
    """What later readers would refuse is never written."""
    try:
        parse_log(data)
    except BrokenChainError as error:
        raise InputError(f"the log would refuse this: {error}; see `tavr keys list`") from error


def _parse_line(number: int, line: bytes) -> dict[str, Any]:
    try:
        entry: Any = json.loads(line.decode("utf-8"))
        if not isinstance(entry, dict) or canonical_json(entry) != line:
            raise BrokenChainError(number, "not a log entry in canonical JSON")
    except (ValueError, RecursionError) as error:
        raise BrokenChainError(number, f"not a log entry ({error!r})") from error
    return cast("dict[str, Any]", entry)


def _line(data: bytes, event: str, at: str, facts: Mapping[str, Any], key: SigningKey) -> bytes:
    """The log with one more signed line."""
    seq = data.count(b"\n") + 1
    entry = {"seq": seq, "previous": line_digest(data, seq - 1), "event": event, "at": at, "key": key.fingerprint}
    entry |= facts
    signature = base64.b64encode(key.sign(canonical_json(entry))).decode("ascii")
    return data + canonical_json({**entry, "signature": signature}) + b"\n"


def _head(root: Path) -> str:
    """The commit of the log, "" when there is none yet.

    Raises:
        InputError: only a remote's log is here, and a second one must not begin beside it.
    """
    try:
        return git(root, "rev-parse", "--verify", "--quiet", BRANCH)
    except GitError:
        pass
    remote = git(root, "for-each-ref", "--count=1", "--format=%(refname:short)", "refs/remotes/*/audit")
    if remote:
        raise InputError(f"{remote}: the log is on the remote only; take it with `git branch audit {remote}`")
    return ""


def _commit(root: Path, data: bytes, parent: str, message: str) -> str:
    """A commit whose only file is the log."""
    blob = git(root, "hash-object", "-w", "--stdin", stdin=data)
    folder, name = PATH.split("/")
    inner = git(root, "mktree", stdin=f"100644 blob {blob}\t{name}\n".encode())
    tree = git(root, "mktree", stdin=f"040000 tree {inner}\t{folder}\n".encode())
    parents = ["-p", parent] if parent else []
    return git(root, "commit-tree", tree, *parents, "-m", message)
