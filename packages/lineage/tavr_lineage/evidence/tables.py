"""What the evidence holds besides files of git: the closure as SQLite, and licences as one short document."""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from tavr_records.errors import VerificationError
from tavr_records.ids import canonical_json
from tavr_records.manifest import arrow_schema

from tavr_lineage.closure import Consumption

pc: Any = pyarrow.compute  # its functions are made when it is imported

DATABASE = "consumption.sqlite"
COLUMNS = tuple(field.name for field in fields(Consumption))
_NUMBERS = frozenset(field.name for field in fields(Consumption) if field.type is int)
_KINDS = {name: "integer" if name in _NUMBERS else "text" for name in COLUMNS}
_BATCH = 10_000


def write_closure(table: pa.Table) -> bytes:
    """The consumption table as an SQLite database that any reader opens; equal tables give equal bytes."""
    kinds = ", ".join(f"{name} {_KINDS[name].upper()} NOT NULL" for name in COLUMNS)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE consumption ({kinds})")
        marks = ", ".join("?" * len(COLUMNS))
        for batch in table.select(list(COLUMNS)).to_batches(_BATCH):
            rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
            connection.executemany(f"INSERT INTO consumption VALUES ({marks})", rows)  # noqa: S608 - marks only
        connection.commit()
        return connection.serialize()


def read_closure(data: bytes) -> pa.Table:
    """The consumption table out of such a database, sorted by clip and stage.

    Raises:
        VerificationError: no such database, something else in it, or a value of a wrong type.
    """
    with closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.deserialize(data)
            content = connection.execute("SELECT type, name FROM sqlite_master").fetchall()
            if content != [("table", "consumption")]:
                raise VerificationError(f"{DATABASE}: holds more than the agreed table")
            found = connection.execute("SELECT * FROM consumption LIMIT 0")
            if tuple(column[0] for column in found.description) != COLUMNS:
                raise VerificationError(f"{DATABASE}: other columns than agreed")
            wrong = " OR ".join(f"typeof({name}) != '{_KINDS[name]}'" for name in COLUMNS)
            bad = connection.execute(f"SELECT count(*) FROM consumption WHERE {wrong}").fetchone()  # noqa: S608 - ours
            if bad != (0,):
                raise VerificationError(f"{DATABASE}: a value of a wrong type")
            joined = " || char(9) || ".join(COLUMNS)  # one text a row: a fifth of the time of its thirteen values
            rows = [text for (text,) in connection.execute(f"SELECT {joined} FROM consumption")]  # noqa: S608 - ours
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise VerificationError(f"{DATABASE}: not a database ({error})") from error
    return _table(rows)


def write_licences(record: Mapping[str, Any]) -> bytes:
    """How many clips and weight files there are under each licence, and the licence of every weight file."""
    files = [{name: row[name] for name in ("path", "licence", "sha256")} for row in record["weights"]]
    return canonical_json({**record["licences"], "weight_files": files}) + b"\n"


def _table(rows: Sequence[str]) -> pa.Table:
    values, width, schema = pc.split_pattern(pa.array(rows, pa.string()), "\t"), len(COLUMNS), arrow_schema(Consumption)
    if pc.any(pc.not_equal(pc.list_value_length(values), width)).as_py():
        raise VerificationError(f"{DATABASE}: a tab in a value")
    flat = values.flatten()
    columns = [flat.take(pa.array(np.arange(at, len(flat), width))) for at in range(width)]
    arrays = [column.cast(field.type) for column, field in zip(columns, schema, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=schema)
    order = pc.sort_indices(table, [("clip_id", "ascending"), ("stage", "ascending")]).to_numpy()
    return table if (np.diff(order) == 1).all() else table.take(pa.array(order))
