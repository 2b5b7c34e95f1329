"""Stage `sources`: the exact files that `sources.lock` names, or a failure that names the rows."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from tavr_records import ids
from tavr_records.atomic import write_bytes
from tavr_records.errors import InputError
from tavr_records.fan_out import fan_out
from tavr_records.ids import sha256_file
from tavr_records.manifest import write_manifest
from tavr_records.memo import Memo, open_memo, stage_output
from tavr_records.schemas import Refused, Source
from tavr_records.withdrawals import Withdrawal, find_withdrawn, read_withdrawals
from tavr_synthetic.world import PlannedClip

from tavr_sources.config import SourcesConfig
from tavr_sources.fetch import FetchError, fetch, metadata_bytes, planned_clips
from tavr_sources.lock import Lock, LockedSource, read_lock

METADATA = "metadata.json"
WITHDRAWN = "audit/withdrawn.jsonl"
_FILE = "file"
_SHOWN = 5


@dataclass(frozen=True)
class Job:
    """One row to fetch; `clip` is the plan behind a rendered one."""

    row: LockedSource
    clip: PlannedClip | None
    memo: Memo
    root: Path


@dataclass(frozen=True)
class Fetched:
    """The remembered file of a row and its digest, or why there is none."""

    path: Path
    sha256: str
    error: str


def sources(config: SourcesConfig, root: Path = Path()) -> None:
    """Write `data/sources/{manifest.parquet, quarantine.parquet, metadata.json, media/}`; see the package's README.

    A withdrawn row is not fetched again; one that turns out to have withdrawn bytes is forgotten. Neither is in the
    metadata.

    Raises:
        InputError: a bad lock, or rows whose files are gone or changed.
    """
    lock = read_lock(root / config.lock)
    withdrawals = read_withdrawals(root / WITHDRAWN)
    wanted = [row for row in lock.rows if not is_withdrawn(row, row.sha256, withdrawals)]
    left_out = {row.record_id for row in lock.rows} - {row.record_id for row in wanted}
    clips = planned_clips(lock.world)
    memo = open_memo("sources", {}, ("tavr_sources", "tavr_synthetic"), [], root)
    jobs = [Job(row, clips.get(row.origin), memo, root) for row in wanted]
    with stage_output(root / "data" / "sources") as output:
        (output / "media").mkdir()
        rows: list[Source] = []
        failures: list[str] = []
        for row, fetched in zip(wanted, fan_out(obtain, jobs, "sources", "file"), strict=True):
            if fetched.error:
                failures.append(f"{row.record_id} ({row.origin}): {fetched.error}")
                continue
            if is_withdrawn(row, fetched.sha256, withdrawals):
                shutil.rmtree(fetched.path.parent)
                left_out.add(row.record_id)
                continue
            source = _source(row, fetched.sha256)
            shutil.copyfile(fetched.path, output / source.path)
            rows.append(source)
        _demand_none(failures, root / config.lock, len(lock.rows))
        write_bytes(output / METADATA, _metadata(lock, clips, root, left_out))
        write_manifest(output / "manifest.parquet", Source, rows, ("record_id",))
        refused = [Refused(name, "withdrawn", f"named in {WITHDRAWN}") for name in left_out]
        write_manifest(output / "quarantine.parquet", Refused, refused, ("record_id",))


def is_withdrawn(row: LockedSource, sha256: str | None, withdrawals: Sequence[Withdrawal]) -> bool:
    """Whether a row of the lock is withdrawn by its source, its section, its clip, or the bytes it is known to have."""
    start, end = row.section
    columns = {
        "clip_id": ids.clip_id(row.source_key, start, end),
        "source_key": row.source_key,
        "source_sha256": sha256,
        "start_ms": start,
        "end_ms": end,
    }
    return bool(find_withdrawn([columns], withdrawals))


def obtain(job: Job) -> Fetched:
    """Fetch one row, once for each row; what was fetched stays, so that an interrupted stage carries on."""
    key: dict[str, Any] = {"row": asdict(job.row), "clip": None if job.clip is None else asdict(job.clip)}
    try:
        folder = job.memo.entry(key, lambda empty: _fetch_into(empty, job))
    except FetchError as error:
        return Fetched(Path(), "", str(error))
    return Fetched(folder / _FILE, sha256_file(folder / _FILE), "")


def _fetch_into(folder: Path, job: Job) -> None:
    row = job.row
    fetch(row.origin, row.section, folder / _FILE, job.root, job.clip)
    digest = sha256_file(folder / _FILE)
    if row.sha256 not in (None, digest):
        raise FetchError(f"sha256 is {digest}, the lock says {row.sha256}")


def _metadata(lock: Lock, clips: dict[str, PlannedClip], root: Path, left_out: set[str]) -> bytes:
    """TalkVid's list, as fetched but for what is `left_out`: bad records included, `ingest` explains those."""
    if lock.world is not None:
        names = {row.origin for row in lock.rows if row.record_id in left_out}
        return metadata_bytes([clip for origin, clip in clips.items() if origin not in names])
    name = root / "data" / f".{METADATA}.download"
    name.parent.mkdir(parents=True, exist_ok=True)
    try:
        fetch(lock.metadata.origin, (0, 0), name, root, None)
        if lock.metadata.sha256 not in (None, sha256_file(name)):
            raise InputError(f"{lock.metadata.origin}: sha256 is {sha256_file(name)}, the lock says otherwise")
        return _without(name.read_bytes(), left_out)
    except FetchError as error:
        raise InputError(f"{lock.metadata.origin}: metadata cannot be fetched ({error})") from error
    finally:
        name.unlink(missing_ok=True)


def _without(metadata: bytes, left_out: set[str]) -> bytes:
    """A list of records less some; untouched when none is to go, or when it is no list (`ingest` says so)."""
    if not left_out:
        return metadata
    try:
        records: Any = json.loads(metadata)
    except ValueError:
        return metadata
    if not isinstance(records, list):
        return metadata
    items = cast("list[Any]", records)
    kept = [item for item in items if not (isinstance(item, dict) and item.get("id") in left_out)]
    return json.dumps(kept, indent=1).encode() + b"\n"


def _source(row: LockedSource, sha256: str) -> Source:
    return Source(
        record_id=row.record_id,
        source_key=row.source_key,
        source_sha256=sha256,
        path=f"media/{row.record_id}.mp4",
        start_ms=row.section[0],
        end_ms=row.section[1],
        rights=row.rights,
        retrieved_at=row.retrieved_at,
        metadata=METADATA,
    )


def _demand_none(failures: Sequence[str], lock: Path, total: int) -> None:
    if failures:
        shown = "; ".join(failures[:_SHOWN]) + (
            f"; and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else ""
        )
        raise InputError(
            f"{lock}: {len(failures)} of {total} rows cannot be had: {shown}. "
            "Restore the files, or drop the rows with `tavr sources refresh`"
        )
