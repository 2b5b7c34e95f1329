"""The index of all candidates' consumption: one SQLite file that answers in milliseconds and can be thrown away.

It is filled from the consumption tables that lie in git, each held against its record first. A clip with its parents is
stored once, however many models used it.
"""

import sqlite3
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tavr_records.ids import sha256_bytes

from tavr_lineage.git import main_checkout, read_file

_VERSION = 1
_PARENTS = ("clip_id", "person_id", "identity", "source_key", "source_sha256", "clip_sha256")
_OF_CLIP = (*_PARENTS, "start_ms", "end_ms", "rights")
_OF_USE = ("stage", "first_step", "last_step", "samples")
_SCHEMA = f"""
CREATE TABLE candidates (
  id INTEGER PRIMARY KEY, commit_id TEXT UNIQUE NOT NULL, run_id TEXT NOT NULL, profile TEXT NOT NULL,
  finished_at TEXT NOT NULL, record_sha256 TEXT NOT NULL);
CREATE TABLE clips (id INTEGER PRIMARY KEY, {", ".join(_OF_CLIP)}, UNIQUE ({", ".join(_OF_CLIP)}));
CREATE TABLE uses (
  clip INTEGER NOT NULL REFERENCES clips, candidate INTEGER NOT NULL REFERENCES candidates, stage TEXT NOT NULL,
  first_step INTEGER NOT NULL, last_step INTEGER NOT NULL, samples INTEGER NOT NULL,
  PRIMARY KEY (clip, candidate, stage)) WITHOUT ROWID;
CREATE INDEX uses_of_candidate ON uses (candidate);
{"".join(f"CREATE INDEX clips_{column} ON clips ({column});" for column in _PARENTS[1:])}
PRAGMA user_version = {_VERSION};
"""


def index_path(root: Path) -> Path:
    """Where the index lies: in `.work` of the main checkout, which all worktrees share."""
    return main_checkout(root) / ".work/lineage/index.sqlite"


@contextmanager
def open_index(root: Path, artifact: str) -> Generator[sqlite3.Connection]:
    """The index, brought up to date with the candidates that git holds now.

    Raises:
        InputError: a consumption table that is not the one its record names.
    """
    path = index_path(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(_connect(path)) as database:
        _refresh(database, root, artifact)
        yield database


def _connect(path: Path) -> sqlite3.Connection:
    """An index of this code's shape; one of another shape, or a broken one, is made anew."""
    try:
        database = sqlite3.connect(path, timeout=60)
        if database.execute("PRAGMA user_version").fetchone()[0] == _VERSION:
            return database
        database.close()
    except sqlite3.DatabaseError:
        pass
    path.unlink(missing_ok=True)
    database = sqlite3.connect(path, timeout=60)
    database.executescript(_SCHEMA)
    return database


def _refresh(database: sqlite3.Connection, root: Path, artifact: str) -> None:
    """Add the candidates that are new, drop those that are gone."""
    from tavr_lineage.candidates import candidate_commits

    known = {commit for (commit,) in database.execute("SELECT commit_id FROM candidates")}
    found = set(candidate_commits(root, artifact))
    if known == found:
        return
    with database:
        for commit in sorted(known - found):
            _forget(database, commit)
        for commit in sorted(found - known):
            _add(database, root, commit)
        database.execute("DELETE FROM clips WHERE id NOT IN (SELECT clip FROM uses)")


def _forget(database: sqlite3.Connection, commit: str) -> None:
    (number,) = database.execute("SELECT id FROM candidates WHERE commit_id = ?", (commit,)).fetchone()
    database.execute("DELETE FROM uses WHERE candidate = ?", (number,))
    database.execute("DELETE FROM candidates WHERE id = ?", (number,))


def _add(database: sqlite3.Connection, root: Path, commit: str) -> None:
    from tavr_lineage.candidates import read_record
    from tavr_lineage.closure import read_consumption
    from tavr_lineage.record import RECORD

    record = read_record(root, commit)
    if record is None:
        _add_candidate(database, commit, {"run_id": "", "finished_at": ""}, "", b"")
        return
    table = read_consumption(root, commit, record)
    profile = str(record["params"].get("_compose", {}).get("profile", ""))
    number = _add_candidate(database, commit, record["run"], profile, read_file(root, commit, RECORD) or b"")
    columns = table.to_pydict()
    clips = list(zip(*(columns[name] for name in _OF_CLIP), strict=True))
    marks = ", ".join("?" * len(_OF_CLIP))
    database.executemany(f"INSERT OR IGNORE INTO clips ({', '.join(_OF_CLIP)}) VALUES ({marks})", dict.fromkeys(clips))  # noqa: S608
    numbers = _numbers(database, clips)
    uses = zip(*(columns[name] for name in _OF_USE), strict=True)
    rows = ((numbers[clip], number, *use) for clip, use in zip(clips, uses, strict=True))
    database.executemany("INSERT INTO uses VALUES (?, ?, ?, ?, ?, ?)", rows)


def _numbers(database: sqlite3.Connection, clips: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], int]:
    """The number of each clip in the index."""
    wanted = set(clips)
    found = database.execute(f"SELECT id, {', '.join(_OF_CLIP)} FROM clips")  # noqa: S608
    return {tuple(row): number for number, *row in found if tuple(row) in wanted}


def _add_candidate(
    database: sqlite3.Connection, commit: str, run: Mapping[str, Any], profile: str, record: bytes
) -> int:
    values = (commit, run["run_id"], profile, run["finished_at"], sha256_bytes(record))
    insert = "INSERT INTO candidates (commit_id, run_id, profile, finished_at, record_sha256) VALUES (?, ?, ?, ?, ?)"
    number = database.execute(insert, values).lastrowid
    assert number is not None, "an insert has a row id"
    return number
