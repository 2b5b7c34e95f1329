"""Manifests: parquet files of typed rows, sorted, zstd, without writer metadata, equal bytes for equal rows."""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from tavr_records.atomic import atomic_file
from tavr_records.errors import InputError

Row = TypeVar("Row")
_DICTIONARY_BYTES = 64 << 20
"""Ids repeat: with parquet's own limit of 1 MiB the ledger of a full training is six times as large."""
_ARROW_TYPES: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    list[str]: pa.list_(pa.string()),
    list[float]: pa.list_(pa.float32()),
}


def arrow_schema(row_type: type[Any]) -> pa.Schema:
    """The parquet schema of a row dataclass; every column is required."""
    hints = get_type_hints(row_type)
    fields = [pa.field(f.name, _ARROW_TYPES[hints[f.name]], nullable=False) for f in dataclasses.fields(row_type)]
    return pa.schema(fields)


def write_manifest(path: Path, row_type: type[Row], rows: Iterable[Row], sort_by: Sequence[str]) -> None:
    """Write rows sorted by the columns `sort_by`; two rows with the same sort key are refused.

    Raises:
        InputError: a duplicate key.
    """
    ordered = sorted(rows, key=lambda row: tuple(getattr(row, name) for name in sort_by))
    keys = [tuple(getattr(row, name) for name in sort_by) for row in ordered]
    for previous, current in itertools.pairwise(keys):
        if previous == current:
            raise InputError(f"{path}: duplicate {'+'.join(sort_by)} {current!r}; every row needs its own id")
    names = [field.name for field in dataclasses.fields(row_type)]  # type: ignore[arg-type]
    columns = {name: [getattr(row, name) for row in ordered] for name in names}
    write_table(path, pa.table(columns, schema=arrow_schema(row_type)))


def write_table(path: Path, table: pa.Table) -> None:
    """Write a sorted table in the one form all manifests have: equal bytes for equal tables."""
    with atomic_file(path) as temporary:
        pq.write_table(
            table,
            temporary,
            compression="zstd",
            store_schema=False,
            version="2.6",
            dictionary_pagesize_limit=_DICTIONARY_BYTES,
        )


def read_manifest(path: Path, row_type: type[Row]) -> list[Row]:
    """Read a manifest back as rows.

    Raises:
        InputError: as `read_table`.
    """
    return [row_type(**row) for row in read_table(path, row_type).to_pylist()]


def read_table(
    path: Path, row_type: type[Any], columns: Sequence[str] | None = None, encoded: Sequence[str] = ()
) -> pa.Table:
    """Read the columns of a manifest, in field order, without making rows of them; `columns` reads some of them.

    The lists of strings named in `encoded` stay codes into a dictionary, which is many times faster where ids repeat.

    Raises:
        InputError: the file is missing, is no parquet file, or lacks a column of `row_type`.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such manifest; run the stage that writes it (`dvc repro`)")
    names = [field.name for field in dataclasses.fields(row_type) if columns is None or field.name in columns]
    try:
        table = pq.read_table(path, columns=names, read_dictionary=[f"{name}.list.element" for name in encoded])
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: not a readable manifest ({error}); run its stage again") from error
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise InputError(f"{path}: no column {', '.join(missing)}; run its stage again")
    return table.select(names)
