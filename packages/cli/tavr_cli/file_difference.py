"""How two files differ: where their bytes part, and what that means for tensors, tables and JSON."""

import json
import math
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_CHUNK = 2**20


@dataclass(frozen=True)
class FileDifference:
    """The first difference between a recorded and a reproduced file.

    Attributes:
        path: in the checkout.
        first_byte: offset where they part.
        last_byte: offset of the last byte of that first differing run, inclusive.
        sizes: bytes of the recorded and of the reproduced file.
        detail: what differs there, for formats that can be read.
        distance: largest difference of numbers, relative to the largest number beside it; None when anything else
            than numbers differs, or the format cannot be read.
    """

    path: str
    first_byte: int
    last_byte: int
    sizes: tuple[int, int]
    detail: str
    distance: float | None


def compare_files(path: str, recorded: Path, reproduced: Path) -> FileDifference | None:
    """The difference of two files, None when they are equal to the byte."""
    span = differing_bytes(recorded, reproduced)
    if span is None:
        return None
    sizes = recorded.stat().st_size, reproduced.stat().st_size
    detail, distance = _meaning(recorded, reproduced, Path(path).suffix)
    return FileDifference(path, *span, sizes, detail, distance)


def differing_bytes(recorded: Path, reproduced: Path) -> tuple[int, int] | None:
    """Offsets of the first and last byte of the first run of differing bytes; the longer file's rest differs."""
    shorter, longer = sorted((recorded.stat().st_size, reproduced.stat().st_size))
    start: int | None = None
    for offset, unequal in _unequal(recorded, reproduced, shorter):
        found = np.flatnonzero(unequal if start is None else ~unequal)
        if found.size and start is None:
            start = offset + int(found[0])
            found = found[0] + np.flatnonzero(~unequal[found[0] :])
        if found.size and start is not None:
            return start, offset + int(found[0]) - 1
    if start is None and shorter == longer:
        return None
    return (shorter if start is None else start), longer - 1


def _unequal(one: Path, other: Path, size: int) -> Iterator[tuple[int, np.ndarray]]:
    if size == 0:
        return
    with one.open("rb") as a, other.open("rb") as b:
        views = [mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) for file in (a, b)]
        for offset in range(0, size, _CHUNK):
            end = min(offset + _CHUNK, size)
            left, right = (np.frombuffer(view[offset:end], np.uint8) for view in views)
            yield offset, left != right
        for view in views:
            view.close()


def _meaning(recorded: Path, reproduced: Path, suffix: str) -> tuple[str, float | None]:
    readers = {".safetensors": _tensors, ".parquet": _tables, ".json": _documents}
    if suffix not in readers:
        return "", None
    try:
        return readers[suffix](recorded, reproduced)
    except Exception as error:  # noqa: BLE001 - a broken file is a difference, whatever its reader raises
        return f"cannot be read as {suffix} ({type(error).__name__})", None


def _tensors(recorded: Path, reproduced: Path) -> tuple[str, float | None]:
    """The first tensor, by name, that differs, with the largest absolute difference; distance over all of them."""
    import torch
    from safetensors import safe_open

    with safe_open(recorded, "pt") as one, safe_open(reproduced, "pt") as other:
        names = sorted(one.keys())
        if missing := sorted(set(names) ^ set(other.keys())):
            return f"tensor {missing[0]} is in one of them only", None
        detail, distance = "", 0.0
        for name in names:
            left, right = one.get_tensor(name), other.get_tensor(name)
            if left.shape != right.shape or left.dtype != right.dtype:
                return f"tensor {name}: {left.dtype} {tuple(left.shape)} and {right.dtype} {tuple(right.shape)}", None
            if torch.equal(left, right):
                continue
            left, right = left.to(torch.float64), right.to(torch.float64)
            apart = float((left - right).abs().max())
            relative = apart / max(float(left.abs().max()), 1e-300)
            detail = detail or f"tensor {name}: largest absolute difference {apart:.3g}"
            distance = max(distance, relative if math.isfinite(relative) else math.inf)
    return detail or "equal tensors, another header", distance


def _tables(recorded: Path, reproduced: Path) -> tuple[str, float | None]:
    """The first column, in file order, that differs, and its first differing row."""
    one, other = pq.read_table(recorded), pq.read_table(reproduced)
    if one.schema != other.schema or len(one) != len(other):
        return f"{len(one)} rows of {one.schema.names} and {len(other)} rows of {other.schema.names}", None
    detail, distance = "", 0.0
    for name in one.column_names:
        left, right = one[name], other[name]
        if left.equals(right):
            continue
        row = next(at for at, (a, b) in enumerate(zip(left.to_pylist(), right.to_pylist(), strict=True)) if a != b)
        detail = detail or f"column {name}, row {row}: {left[row].as_py()!r} and {right[row].as_py()!r}"
        if not pa.types.is_floating(left.type):
            return detail, None
        distance = max(distance, _relative(left.to_numpy(), right.to_numpy()))
    return detail or "equal tables, written differently", distance


def _relative(left: np.ndarray, right: np.ndarray) -> float:
    """Largest difference relative to the largest value; NaN equals NaN."""
    both = np.isnan(left) & np.isnan(right)
    apart, scale = np.abs(left - right)[~both], np.abs(left[~both])
    if not apart.size:
        return 0.0
    value = float(apart.max()) / max(float(scale.max()), 1e-300)
    return value if math.isfinite(value) else math.inf


def _documents(recorded: Path, reproduced: Path) -> tuple[str, float | None]:
    found = list(_values(json.loads(recorded.read_bytes()), json.loads(reproduced.read_bytes()), ""))
    if not found:
        return "equal values, written differently", 0.0
    where, left, right = found[0]
    detail = f"{where or 'value'}: {left!r} and {right!r}"
    if any(not _is_number(a) or not _is_number(b) for _, a, b in found):
        return detail, None
    apart = [abs(a - b) / max(abs(a), abs(b), 1e-300) for _, a, b in found]
    return detail, max(value if math.isfinite(value) else math.inf for value in apart)


def _values(one: Any, other: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
    """Every pair of values at the same place that differ."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for name, value in sorted(cast("dict[str, Any]", one).items()):
            yield from _values(value, other[name], f"{where}.{name}".lstrip("."))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (left, right) in enumerate(zip(cast("list[Any]", one), cast("list[Any]", other), strict=True)):
            yield from _values(left, right, f"{where}[{index}]")
    elif one != other or type(one) is not type(other):
        yield where, one, other


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
