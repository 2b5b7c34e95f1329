"""Stage `sources`: the exact files that `sources.lock` names, or a failure that names the rows."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tavr_records.atomic import write_bytes
from tavr_records.errors import InputError
from tavr_records.fan_out import fan_out
from tavr_records.ids import sha256_file
from tavr_records.manifest import write_manifest
from tavr_records.memo import Memo, open_memo, stage_output
from tavr_records.schemas import Source
from tavr_synthetic.world import PlannedClip

from tavr_sources.config import SourcesConfig
from tavr_sources.fetch import FetchError, fetch, metadata_bytes, planned_clips
from tavr_sources.lock import Lock, LockedSource, read_lock

METADATA = "metadata.json"
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
    """Write `data/sources/{manifest.parquet, metadata.json, media/}`; see the package's README.

    Raises:
        InputError: a bad lock, or rows whose files are gone or changed.
    """
    lock = read_lock(root / config.lock)
    clips = planned_clips(lock.world)
    memo = open_memo("sources", {}, ("tavr_sources", "tavr_synthetic"), [], root)
    jobs = [Job(row, clips.get(row.origin), memo, root) for row in lock.rows]
    with stage_output(root / "data" / "sources") as output:
        write_bytes(output / METADATA, _metadata(lock, clips, root))
        (output / "media").mkdir()
        rows: list[Source] = []
        failures: list[str] = []
        for row, fetched in zip(lock.rows, fan_out(obtain, jobs, "sources", "file"), strict=True):
            if fetched.error:
                failures.append(f"{row.record_id} ({row.origin}): {fetched.error}")
                continue
            source = _source(row, fetched.sha256)
            shutil.copyfile(fetched.path, output / source.path)
            rows.append(source)
        _demand_none(failures, root / config.lock, len(lock.rows))
        write_manifest(output / "manifest.parquet", Source, rows, ("record_id",))


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


def _metadata(lock: Lock, clips: dict[str, PlannedClip], root: Path) -> bytes:
    """TalkVid's list, as fetched: bad records included, `ingest` explains those."""
    if lock.world is not None:
        return metadata_bytes(list(clips.values()))
    name = root / "data" / f".{METADATA}.download"
    name.parent.mkdir(parents=True, exist_ok=True)
    try:
        fetch(lock.metadata.origin, (0, 0), name, root, None)
        if lock.metadata.sha256 not in (None, sha256_file(name)):
            raise InputError(f"{lock.metadata.origin}: sha256 is {sha256_file(name)}, the lock says otherwise")
        return name.read_bytes()
    except FetchError as error:
        raise InputError(f"{lock.metadata.origin}: metadata cannot be fetched ({error})") from error
    finally:
        name.unlink(missing_ok=True)


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
