"""What the evidence holds besides files of git: the closure as SQLite, and licences as one short document."""

import sqlite3
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
from tavr_records.errors import VerificationError
from tavr_records.ids import canonical_json
from tavr_records.manifest import arrow_schema

from tavr_lineage.closure import Consumption

DATABASE = "consumption.sqlite"
COLUMNS = tuple(field.name for field in fields(Consumption))
_NUMBERS = frozenset(field.name for field in fields(Consumption) if field.type is int)
_KINDS = {name: "integer" if name in _NUMBERS else "text" for name in COLUMNS}
_BATCH = 10_000


def write_closure(table: pa.Table) -> bytes:
    """The consumption table as an SQLite database that any reader opens; equal tables give equal bytes."""
    kinds = ", ".join(f"{name} {_KINDS[name].upper()} NOT NULL" for name in COLUMNS)
    with TemporaryDirectory() as folder:
        path = Path(folder) / DATABASE
        connection = sqlite3.connect(path)
        try:
            connection.execute(f"CREATE TABLE consumption ({kinds})")
            marks = ", ".join("?" * len(COLUMNS))
            for batch in table.select(list(COLUMNS)).to_batches(_BATCH):
                rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
                connection.executemany(f"INSERT INTO consumption VALUES ({marks})", rows)  # noqa: S608 - marks only
            connection.commit()
        finally:
            connection.close()
        return path.read_bytes()


def read_closure(data: bytes) -> pa.Table:
    """The consumption table out of such a database, sorted by clip and stage.

    Raises:
        VerificationError: no such database, something else in it, or a value of a wrong type.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / DATABASE
        path.write_bytes(data)
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            content = connection.execute("SELECT type, name FROM sqlite_master").fetchall()
            if content != [("table", "consumption")]:
                raise VerificationError(f"{DATABASE}: holds more than the agreed table")
            found = connection.execute("SELECT * FROM consumption")
            if tuple(column[0] for column in found.description) != COLUMNS:
                raise VerificationError(f"{DATABASE}: other columns than agreed")
            wrong = " OR ".join(f"typeof({name}) != '{_KINDS[name]}'" for name in COLUMNS)
            bad = connection.execute(f"SELECT count(*) FROM consumption WHERE {wrong}").fetchone()  # noqa: S608 - ours
            if bad != (0,):
                raise VerificationError(f"{DATABASE}: a value of a wrong type")
            rows = found.fetchall()
        except sqlite3.Error as error:
            raise VerificationError(f"{DATABASE}: not a database ({error})") from error
        finally:
            connection.close()
    return _table(rows)


def write_licences(record: Mapping[str, Any]) -> bytes:
    """How many clips and weight files there are under each licence, and the licence of every weight file."""
    files = [{name: row[name] for name in ("path", "licence", "sha256")} for row in record["weights"]]
    return canonical_json({**record["licences"], "weight_files": files}) + b"\n"


def _table(rows: list[tuple[Any, ...]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, arrow_schema(Consumption), strict=True)]
    table = pa.Table.from_arrays(arrays, schema=arrow_schema(Consumption))
    return table.sort_by([("clip_id", "ascending"), ("stage", "ascending")])
