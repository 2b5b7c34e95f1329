"""`sources.lock`: which files make the data set, by origin and digest (schema: `docs/schemas/`).

A document holds `metadata` {origin, sha256}, `world` (sizes of a rendered world, or null), `store` (where `refresh`
keeps what it downloads, or null) and `rows`. A `null` sha256 means that nobody has vouched for the bytes: a rendered
world's depend on the processor's vector units, so its lock leaves them open, and the manifest records what they were.
"""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from tavr_records.atomic import write_bytes
from tavr_records.errors import InputError

SCHEMA_VERSION = 1
SAFE_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class LockedFile:
    """Where bytes come from and, when known, their digest."""

    origin: str
    sha256: str | None


@dataclass(frozen=True)
class LockedSource:
    """One record: `section` [start_ms, end_ms] of the source `source_key`; the file at `origin` holds just that."""

    record_id: str
    source_key: str
    origin: str
    section: tuple[int, int]
    sha256: str | None
    retrieved_at: str
    rights: str


@dataclass(frozen=True)
class Lock:
    """The whole lock file."""

    metadata: LockedFile
    world: dict[str, Any] | None
    store: str | None
    rows: tuple[LockedSource, ...]


def read_lock(path: Path) -> Lock:
    """Read and check a lock file.

    Raises:
        InputError: no such file, not a lock, or a bad row, named by its position and field.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such lock file (sources.lock); write it with `tavr sources refresh`")
    try:
        document = cast("dict[str, Any]", json.loads(path.read_bytes()))
        if document["schema_version"] != SCHEMA_VERSION:
            raise InputError(f"{path}: schema_version is {document['schema_version']!r}, not {SCHEMA_VERSION}")
        metadata = LockedFile(str(document["metadata"]["origin"]), document["metadata"]["sha256"])
        rows = [_row(row, f"{path}: row {index}") for index, row in enumerate(document["rows"])]
        lock = Lock(metadata, document["world"], document["store"], tuple(rows))
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a lock file ({error!r}); restore it from git") from error
    seen: set[str] = set()
    for row in lock.rows:
        if row.record_id in seen:
            raise InputError(f"{path}: record_id {row.record_id!r} stands in two rows; keep one")
        seen.add(row.record_id)
    return lock


def _row(row: dict[str, Any], where: str) -> LockedSource:
    for name in ("record_id", "source_key", "origin", "retrieved_at", "rights"):
        if not isinstance(row[name], str) or not row[name]:
            raise InputError(f"{where}: {name} is {row[name]!r}, not text")
    if not SAFE_ID.fullmatch(row["record_id"]) or ".." in row["record_id"]:
        raise InputError(f"{where}: record_id {row['record_id']!r} cannot name a file; remove the row")
    if row["sha256"] is not None and not _SHA256.fullmatch(row["sha256"]):
        raise InputError(f"{where}: sha256 is {row['sha256']!r}; give 64 hex digits, or null when unknown")
    start, end = (int(value) for value in row["section"])
    if not 0 <= start < end:
        raise InputError(f"{where}: section is {row['section']!r}; give [start_ms, end_ms] with 0 <= start < end")
    return LockedSource(
        row["record_id"],
        row["source_key"],
        row["origin"],
        (start, end),
        row["sha256"],
        row["retrieved_at"],
        row["rights"],
    )


def write_lock(path: Path, lock: Lock) -> None:
    """Write a lock file, one row a line, sorted by record id."""
    head = {
        "schema_version": SCHEMA_VERSION,
        "metadata": asdict(lock.metadata),
        "world": lock.world,
        "store": lock.store,
    }
    rows = [json.dumps(asdict(row), sort_keys=True) for row in sorted(lock.rows, key=lambda row: row.record_id)]
    lines = [f"{json.dumps(name)}: {json.dumps(value, sort_keys=True)}," for name, value in head.items()]
    body = ",\n".join(rows)
    write_bytes(path, ("{\n" + "\n".join(lines) + f'\n"rows": [\n{body}\n]\n}}\n').encode())
