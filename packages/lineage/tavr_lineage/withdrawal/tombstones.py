"""Withdrawing: tombstones in `audit/withdrawn.jsonl`, a line in the log, and what has to happen to every model.

The tombstones are an ordinary commit on the branch that is checked out, of that one file: runs start from a commit, so
only what is committed there blocks the next run. A withdrawal writes more lines than it was asked for: with a person or
a source also the clips known of it, by id, by section of their source and by bytes, so that the same footage does not
come back under another name.
"""

import fcntl
import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tavr_records.atomic import write_bytes
from tavr_records.errors import InputError
from tavr_records.ids import canonical_json, sha256_bytes
from tavr_records.withdrawals import Withdrawal, find_withdrawn, read_withdrawals

from tavr_lineage.candidates import read_record
from tavr_lineage.closure import find_withdrawn_clips, read_consumption
from tavr_lineage.git import GitError, common_directory, git, main_checkout, read_file, repository_root
from tavr_lineage.outputs import stored_files
from tavr_lineage.promotion import actor
from tavr_lineage.trust.keys import PublicKey, SigningKey
from tavr_lineage.trust.log import append, read_log
from tavr_lineage.withdrawal.certificate import read_certificates
from tavr_lineage.withdrawal.footprint import known_clips
from tavr_lineage.withdrawal.inventory import shown

WITHDRAWN = "audit/withdrawn.jsonl"
_KINDS = {"clip": "clip_id", "person": "person_id", "source": "source_key"}


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Attributes:
        kind: clip, person or source.
        value: its id; the key of a source.
        reason: on the record for ever, so without a name in it.
        start_ms: beginning of a section of a source, None for all of it; `end_ms` likewise.
        unknown: withdraw also what no manifest and no ledger here names, to block it from now on.
    """

    kind: str
    value: str
    reason: str
    start_ms: int | None = None
    end_ms: int | None = None
    unknown: bool = False

    @property
    def subject(self) -> dict[str, Any]:
        """What the log says of it."""
        section = {"start_ms": self.start_ms, "end_ms": self.end_ms} if self.start_ms is not None else {}
        return {"kind": _KINDS[self.kind], "value": self.value, **section}


@dataclass(frozen=True)
class Tombstones:
    """What stands in `audit/withdrawn.jsonl` for one request.

    Attributes:
        lines: every line, also those that were there before.
        added: how many are new.
        clips: ids of the clips they cover here.
        commit: the commit that holds them.
        seq: the line of the log that says so.
        withdrawn_at: when it was first asked for.
    """

    lines: tuple[Withdrawal, ...]
    added: int
    clips: tuple[str, ...]
    commit: str
    seq: int
    withdrawn_at: str


@dataclass(frozen=True)
class WithdrawnInput:
    """One thing a candidate was made from that is withdrawn.

    Attributes:
        what: `clip`, in a ledger of the candidate; `file`, an output of it that a purge removed.
        name: the clip's id; the file's name as in a checkout.
        at: when it was withdrawn, or purged.
        certificate: sha256 of the certificate of the purge.
    """

    what: str
    name: str
    at: str
    certificate: str = ""


def withdraw(root: Path, request: Request, at: str) -> Tombstones:
    """Write and commit the tombstones of a request and log it; asking again changes nothing.

    Raises:
        InputError: a bad request, an id that nothing here knows, or a file with changes that are not committed.
    """
    _demand_sense(request)
    root = repository_root(root)
    with _alone(root):
        standing = _clean_withdrawals(root)
        first = Withdrawal(**request.subject, reason=request.reason, withdrawn_at=at)
        rows = [row for row in known_clips(root) if find_withdrawn([row], [first])]
        if not rows and not request.unknown and not any(_same(first, line) for line in standing):
            raise InputError(
                f"--{request.kind} {request.value}: no snapshot, clip or ledger here names it; look it up with "
                "`tavr who-used` or `tavr find-person`, or pass --unknown to block it all the same"
            )
        wanted = [first, *_footage(root, rows, first)]
        fresh = [line for line in wanted if not any(_same(line, old) for old in standing)]
        lines = [next((old for old in standing if _same(line, old)), line) for line in wanted]
        commit = _commit_lines(root, [*standing, *fresh], request) if fresh else git(root, "rev-parse", "HEAD")
        entry = None if fresh else _logged(root, request)
        if entry is None:  # new lines, or an earlier try that ended between its commit and the log
            entry = _log(root, request, lines, commit, at if fresh else lines[0].withdrawn_at)
    clips = tuple(sorted({str(row["clip_id"]) for row in rows}))
    return Tombstones(tuple(lines), len(fresh), clips, commit, int(entry["seq"]), str(entry["at"]))


def withdrawn_inputs(root: Path, commit: str, keys: Sequence[PublicKey | SigningKey] = ()) -> list[WithdrawnInput]:
    """What a candidate was made from that has been withdrawn or purged since; empty: nothing.

    A check that finds such a file missing, or such a clip in a ledger, has met a withdrawal and no damage. With `keys`
    only certificates that one of them signed count.

    Raises:
        InputError: the consumption table is not the one the record names; with `keys`, a certificate that none of
            them signed.
    """
    root = repository_root(root)
    withdrawals = read_withdrawals(root / WITHDRAWN)
    record = read_record(root, commit)
    used = read_consumption(root, commit, record) if record is not None else None
    clips = set() if used is None else set(find_withdrawn_clips(used, withdrawals))
    rows = {str(row["clip_id"]): row for row in used.to_pylist() if row["clip_id"] in clips} if used and clips else {}
    found = [
        WithdrawnInput("clip", name, min(line.withdrawn_at for line in withdrawals if line.covers(row)))
        for name, row in sorted(rows.items())
    ]
    purged = {
        trace["path"]: (digest, statement["purged_at"])
        for digest, statement in read_certificates(root, keys).items()
        for trace in statement["removed"]
    }
    main = main_checkout(root)
    for name, path in stored_files(read_file(root, commit, "dvc.lock") or b"", main / ".dvc/cache"):
        digest, at = purged.get(shown(main, path), ("", ""))
        if digest and not path.is_file():
            found.append(WithdrawnInput("file", name, at, digest))
    return found


def withdrawn_digest(root: Path) -> str:
    """sha256 of `audit/withdrawn.jsonl` as it lies in the checkout."""
    return sha256_bytes((root / WITHDRAWN).read_bytes())


def _demand_sense(request: Request) -> None:
    if request.kind not in _KINDS:
        raise InputError(f"{request.kind}: withdraw a clip, a person or a source")
    if not request.value.strip() or not request.reason.strip():
        raise InputError(f"--{request.kind} and --reason: may not be empty")
    if (request.start_ms is None) != (request.end_ms is None):
        raise InputError("--section: give both START and END, in milliseconds of the source")
    if request.start_ms is not None and request.end_ms is not None:
        if request.kind != "source":
            raise InputError(f"--section: narrows a source, not a {request.kind}")
        if not 0 <= request.start_ms < request.end_ms:
            raise InputError(f"--section {request.start_ms} {request.end_ms}: give 0 <= START < END, in milliseconds")


def _footage(root: Path, rows: Sequence[Mapping[str, Any]], first: Withdrawal) -> Iterable[Withdrawal]:
    """The same clips by id, by section of their source, and by bytes that are theirs alone."""
    mine = {str(row["clip_id"]) for row in rows}
    foreign = {
        str(row[column])
        for row in known_clips(root)
        if str(row["clip_id"]) not in mine
        for column in ("source_sha256", "clip_sha256")
        if row.get(column)
    }
    told = {"reason": first.reason, "withdrawn_at": first.withdrawn_at}
    wanted: set[tuple[str, str, int | None, int | None]] = {("clip_id", name, None, None) for name in mine}
    for row in rows:
        if first.kind != "source_key":
            wanted.add(("source_key", str(row["source_key"]), int(row["start_ms"]), int(row["end_ms"])))
        digests = {str(row[column]) for column in ("source_sha256", "clip_sha256") if row.get(column)}
        wanted |= {("sha256", digest, None, None) for digest in digests - foreign}
    keys = sorted(wanted, key=lambda key: (key[0], key[1], key[2] or 0))
    lines = (Withdrawal(kind, value, start_ms=start, end_ms=end, **told) for kind, value, start, end in keys)
    return [line for line in lines if not _same(line, first)]


def _same(a: Withdrawal, b: Withdrawal) -> bool:
    return (a.kind, a.value, a.start_ms, a.end_ms) == (b.kind, b.value, b.start_ms, b.end_ms)


def _clean_withdrawals(root: Path) -> list[Withdrawal]:
    demand_committed(root, WITHDRAWN)
    return read_withdrawals(root / WITHDRAWN)


def _commit_lines(root: Path, lines: Sequence[Withdrawal], request: Request) -> str:
    documents = ({name: value for name, value in asdict(line).items() if value is not None} for line in lines)
    data = b"".join(canonical_json(document) + b"\n" for document in documents)
    return commit_alone(root, WITHDRAWN, data, f"Withdraw {_KINDS[request.kind]} {request.value[:12]}", request.reason)


def demand_committed(root: Path, name: str) -> None:
    """Refuse to write a file that differs from the commit.

    Raises:
        InputError: it does.
    """
    if git(root, "status", "--porcelain", "--", name):
        raise InputError(f"{root / name}: has changes that are not committed; commit or undo them")


def commit_alone(root: Path, name: str, data: bytes, title: str, body: str) -> str:
    """Write a file and commit it on the branch that is checked out; whatever else is staged stays staged.

    Raises:
        InputError: git refuses; the file is as before.
    """
    path = root / name
    before = path.read_bytes() if path.is_file() else None
    write_bytes(path, data)
    try:
        git(root, "add", "--", name)
        git(root, "commit", "--quiet", "--only", "-m", title, "-m", body, "--", name)
    except GitError as error:
        if before is not None:
            write_bytes(path, before)
        raise InputError(f"{path}: cannot be committed ({error}); nothing was withdrawn") from error
    return git(root, "rev-parse", "HEAD")


def _logged(root: Path, request: Request) -> dict[str, Any] | None:
    subject = request.subject
    for entry in read_log(root):
        if entry["event"] == "withdrawn" and _told(entry) == subject:
            return entry
    return None


def _told(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: entry[name] for name in ("kind", "value", "start_ms", "end_ms") if entry.get(name) is not None}


def _log(root: Path, request: Request, lines: Sequence[Withdrawal], commit: str, at: str) -> dict[str, Any]:
    facts = {
        **request.subject,
        "reason": request.reason,
        "tombstones": len(lines),
        "withdrawn_sha256": withdrawn_digest(root),
        "commit": commit,
        "actor": actor(root),
    }
    return append(root, "withdrawn", at, facts)


@contextmanager
def _alone(root: Path) -> Generator[None]:
    """One withdrawal at a time in a repository: two that read the file at once would lose a line."""
    path = common_directory(root) / "tavr" / "withdraw.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
