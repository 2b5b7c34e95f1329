"""Discovering what a data set holds today and rewriting its lock: the only code that looks for new sources."""

import datetime as dt
import itertools
import json
import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tavr_records import ids
from tavr_records.atomic import write_bytes
from tavr_records.errors import InputError
from tavr_records.withdrawals import read_withdrawals
from tavr_synthetic.world import PlannedClip
from tqdm import tqdm

from tavr_sources.fetch import FetchError, fetch, planned_clips, put
from tavr_sources.lock import SAFE_ID, Lock, LockedFile, LockedSource, read_lock, write_lock
from tavr_sources.stage import WITHDRAWN, is_withdrawn

TALKVID_RIGHTS = "CC-BY-NC-4.0"
WORLD_RIGHTS = "Apache-2.0"
"""Rendered clips are this project's own work and show nobody."""


@dataclass(frozen=True)
class Refreshed:
    """Record ids that are new, that are gone from the data set, and that could not be fetched with the reason."""

    added: list[str]
    removed: list[str]
    failed: dict[str, str]


def refresh(path: Path, root: Path = Path(), limit: int | None = None, today: str | None = None) -> Refreshed:
    """Rewrite the lock at `path` from what its own head names, keeping the rows that still stand.

    With a `world`, every clip of it becomes a row, and `<name>.review.json` beside `<name>.lock.json` gets the
    decisions its truth gives. Otherwise every usable record of the TalkVid metadata at `metadata.origin` that has no
    row yet is downloaded through yt-dlp, kept in `store` under its digest, and locked there.

    Args:
        path: the lock; a new one needs `metadata`, `world`, `store` and empty `rows`.
        root: the repository.
        limit: download at most so many new records.
        today: retrieval time to write, ISO 8601; by default now.

    Raises:
        InputError: the lock is bad, has neither world nor store, or its metadata cannot be had.
    """
    lock = read_lock(path)
    now = today or dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    known = {row.record_id: row for row in lock.rows}
    failed: dict[str, str] = {}
    if lock.world is not None:
        found = {row.record_id: row for row in locked_rows(lock.world, now)}
        rows = {name: replace(row, retrieved_at=known.get(name, row).retrieved_at) for name, row in found.items()}
        _write_truth(path, lock.world, now)
    else:
        rows, failed, lock = _discover(path, lock, root, limit, now)
    write_lock(path, replace(lock, rows=tuple(rows.values())))
    return Refreshed(sorted(set(rows) - set(known)), sorted(set(known) - set(rows)), failed)


def _write_truth(path: Path, world: dict[str, Any], now: str) -> None:
    target = path.with_name(path.name.removesuffix(".lock.json") + ".review.json")
    decided = now
    if target.is_file():
        earlier = json.loads(target.read_bytes())["decisions"]
        decided = earlier[0]["decided_at"] if earlier else now
    lines = ",\n".join(json.dumps(row, sort_keys=True) for row in true_decisions(world, decided))
    write_bytes(target, f'{{\n"schema_version": 1,\n"decisions": [\n{lines}\n]\n}}\n'.encode())


def _discover(
    path: Path, lock: Lock, root: Path, limit: int | None, now: str
) -> tuple[dict[str, LockedSource], dict[str, str], Lock]:
    """Rows of the TalkVid records that are still listed, with new ones downloaded."""
    if not lock.store:
        raise InputError(f"{path}: store is null; name the folder or s3:// prefix that keeps downloaded files")
    records, digest = _read_metadata(lock.metadata.origin, root)
    known = {row.record_id: row for row in lock.rows}
    rows = {name: row for name, row in known.items() if name in records}
    failed: dict[str, str] = {}
    withdrawals = read_withdrawals(root / WITHDRAWN)

    def row(name: str, origin: str, sha256: str | None) -> LockedSource:
        address, section = records[name]
        return LockedSource(name, _source_key(address), origin, section, sha256, now, TALKVID_RIGHTS)

    fresh = [name for name in records if name not in known and not is_withdrawn(row(name, "", None), None, withdrawals)]
    fresh = fresh[:limit]
    for name in tqdm(fresh, desc="refresh", unit="record"):
        address, section = records[name]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "clip.mp4"
            try:
                fetch(f"ytdlp:{address}", section, file, root, None)
                sha256 = ids.sha256_file(file)
                blocked = is_withdrawn(row(name, "", None), sha256, withdrawals)
                origin = "" if blocked else put(lock.store, f"{sha256}.mp4", file, root)
            except FetchError as error:
                failed[name] = str(error)
                continue
        if blocked:
            failed[name] = f"its bytes are named in {WITHDRAWN}"
            continue
        rows[name] = row(name, origin, sha256)
    return rows, failed, replace(lock, metadata=LockedFile(lock.metadata.origin, digest))


def _read_metadata(origin: str, root: Path) -> tuple[dict[str, tuple[str, tuple[int, int]]], str]:
    """Address and section of each usable record by id (the first of equal ids), and the digest of the list."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "metadata.json"
        try:
            fetch(origin, (0, 0), file, root, None)
        except FetchError as error:
            raise InputError(f"{origin}: metadata cannot be fetched ({error})") from error
        data = file.read_bytes()
    try:
        items: Any = json.loads(data)
    except ValueError as error:
        raise InputError(f"{origin}: not valid JSON ({error}); fetch the metadata again") from error
    found: dict[str, tuple[str, tuple[int, int]]] = {}
    for item in items:
        try:
            # `start-time` may be 0, which is as good a time as any.
            section = (round(1000 * float(item["start-time"])), round(1000 * float(item["end-time"])))
            address, name = str(item["info"]["Video Link"]), str(item["id"])
        except (KeyError, TypeError, ValueError, OverflowError):
            continue  # `ingest` reads the same list and explains what is wrong with the record
        if SAFE_ID.fullmatch(name) and ".." not in name and 0 <= section[0] < section[1]:
            found.setdefault(name, (address, section))
    return found, ids.sha256_bytes(data)


def _source_key(address: str) -> str:
    """The platform's id within an address."""
    found = re.search(r"(?:watch\?v=|youtu\.be/|/shorts/)([A-Za-z0-9_-]+)", address)
    return found.group(1) if found else address


def locked_rows(world: dict[str, Any], retrieved_at: str) -> list[LockedSource]:
    """A row for every clip of a world."""
    return [
        LockedSource(
            clip.key, clip.video, origin, section(clip), sha256=None, retrieved_at=retrieved_at, rights=WORLD_RIGHTS
        )
        for origin, clip in planned_clips(world).items()
    ]


def true_decisions(world: dict[str, Any], decided_at: str) -> list[dict[str, str]]:
    """Review decisions that the renderer's truth gives: same person, different scene, nothing wrong with either clip.

    They say `reviewer: ground-truth, assurance: automatic`, since nobody looked.
    """
    clips = [clip for clip in planned_clips(world).values() if clip.reject is None]
    rows: list[dict[str, str]] = []
    for a, b in itertools.combinations(clips, 2):
        if a.person_seed == b.person_seed and a.scene_seed != b.scene_seed:
            first, second = sorted(ids.clip_id(clip.video, *section(clip)) for clip in (a, b))
            rows.append(
                {
                    "pair_id": ids.pair_id(first, second),
                    "decision": "accepted",
                    "reviewer": "ground-truth",
                    "assurance": "automatic",
                    "decided_at": decided_at,
                    "reason": "rendered as one person in two scenes",
                }
            )
    return sorted(rows, key=lambda row: row["pair_id"])


def section(clip: PlannedClip) -> tuple[int, int]:
    """Milliseconds of the clip within its source video, as its metadata rounds them."""
    return round(1000 * clip.start_frame / clip.fps), round(1000 * (clip.start_frame + clip.frames) / clip.fps)
