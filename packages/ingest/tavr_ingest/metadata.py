"""TalkVid's metadata, read record by record, and its published filters.

A bad record becomes a refusal that names rule and value, never a crash. The file is a JSON list of hundreds of
megabytes, so it is streamed. Field names are TalkVid's own.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import ijson
from tavr_records.errors import InputError
from tavr_records.schemas import Refused

from tavr_ingest.config import Filters

SAFE_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
"""What may name a file; no separators, no leading dot."""
HEAD_SCORES = tuple(
    f"{statistic}_{score}"
    for score in ("movement", "rotation", "completeness", "resolution", "orientation")
    for statistic in ("avg", "min")
)
_MAX_SECONDS = 7 * 24 * 3600.0
_SHOWN = 120


@dataclass(frozen=True)
class TalkVidRecord:
    """One record of TalkVid. Times are milliseconds in the source video; scores are as published."""

    record_id: str
    start_ms: int
    end_ms: int
    person: str
    ethnicity: str
    age_group: str
    gender: str
    language: str
    description: str
    dover: float
    cotracker: float
    head: dict[str, float]


class _BadRecordError(Exception):
    """Why one record is refused; never leaves this module."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(rule, reason)
        self.rule, self.reason = rule, reason


def read_records(path: Path) -> tuple[list[TalkVidRecord], list[Refused]]:
    """Every good record of a TalkVid metadata file, and a refusal for every other.

    A refused record is named by its id, or by `#<position in the file>` when its id cannot be used. Of several records
    with one id the first stands.

    Raises:
        InputError: no such file, or the file as a whole is not a JSON list.
    """
    records: list[TalkVidRecord] = []
    refused: list[Refused] = []
    seen: set[str] = set()
    for position, item in enumerate(_stream(path)):
        name = f"#{position}"
        try:
            record_id = _record_id(item, seen)
            name = record_id
            records.append(_parse(item, record_id))
        except _BadRecordError as error:
            refused.append(Refused(name, error.rule, error.reason))
    return records, refused


def broken_filters(record: TalkVidRecord, filters: Filters) -> list[Refused]:
    """One refusal for each filter the record breaks; none when it passes."""
    return [Refused(record.record_id, rule, reason) for rule, reason in _failures(record, filters)]


def _failures(record: TalkVidRecord, filters: Filters) -> Iterator[tuple[str, str]]:
    seconds = (record.end_ms - record.start_ms) / 1000
    if seconds <= filters.min_seconds:
        yield "duration", f"{seconds:g} s, not above {filters.min_seconds:g} s"
    if record.dover < filters.min_dover:
        yield "dover", f"dover_scores {record.dover:g} below {filters.min_dover:g}"
    if not filters.min_cotracker <= record.cotracker <= filters.max_cotracker:
        limits = f"{filters.min_cotracker:g}..{filters.max_cotracker:g}"
        yield "cotracker", f"cotracker_ratio {record.cotracker:g} not within {limits}"
    for name, least in asdict(filters.head).items():
        if record.head[name] < least:
            yield name, f"head_detail.scores.{name} {record.head[name]:g} below {least:g}"


def _stream(path: Path) -> Iterator[Any]:
    """The items of the list in the file, one at a time."""
    if not path.is_file():
        raise InputError(f"{path}: no such metadata file; run the stage `sources`")
    with path.open("rb") as file:
        if not file.read(64).lstrip().startswith(b"["):
            raise InputError(f"{path}: not a JSON list of records; give TalkVid's metadata file")
        file.seek(0)
        try:
            # Numbers arrive as int or Decimal of any size, so that one absurd number spoils its record only.
            yield from ijson.items(file, "item")
        except (ijson.JSONError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{path}: not valid JSON ({reason}); fetch the metadata again") from error


def _record_id(item: Any, seen: set[str]) -> str:
    """The record's id, added to those `seen`."""
    if not isinstance(item, dict):
        raise _BadRecordError("wrong_type", f"record is {_show(item)}, not an object")
    record_id = _text(cast("dict[str, Any]", item), "id")
    if not SAFE_ID.fullmatch(record_id) or ".." in record_id:
        raise _BadRecordError("unsafe_id", f"id {_show(record_id)} cannot name a file")
    if record_id in seen:
        raise _BadRecordError("duplicate_id", f"id {record_id!r} stands in an earlier record")
    seen.add(record_id)
    return record_id


def _parse(item: dict[str, Any], record_id: str) -> TalkVidRecord:
    start, end = _number(item, "start-time", 0.0, _MAX_SECONDS), _number(item, "end-time", 0.0, _MAX_SECONDS)
    start_ms, end_ms = round(1000 * start), round(1000 * end)
    if start_ms >= end_ms:
        raise _BadRecordError("bad_value", f"end-time {end:g} is not after start-time {start:g}")
    for name in ("height", "width", "fps"):
        if _number(item, name, 0.0, 1e6) == 0.0:
            raise _BadRecordError("bad_value", f"{name} is 0")
    info = _object(item, "info")
    scores = _object(_object(item, "head_detail"), "scores", "head_detail.scores")
    _text(info, "Video Link", "info.Video Link")
    return TalkVidRecord(
        record_id=record_id,
        start_ms=start_ms,
        end_ms=end_ms,
        person=_text(info, "Person ID", "info.Person ID"),
        ethnicity=_text(info, "Ethnicity", "info.Ethnicity"),
        age_group=_text(info, "Age Group", "info.Age Group"),
        gender=_text(info, "Gender", "info.Gender"),
        language=_text(info, "Language", "info.Language"),
        description=_text(item, "description"),
        dover=_number(item, "dover_scores", -1e6, 1e6),
        cotracker=_number(item, "cotracker_ratio", -1e6, 1e6),
        head={name: _number(scores, name, -1e6, 1e6, f"head_detail.scores.{name}") for name in HEAD_SCORES},
    )


def _field(item: dict[str, Any], name: str, shown: str) -> Any:
    """A field that is there; 0 is there, null is not."""
    value = item.get(name)
    if value is None:
        raise _BadRecordError("missing_field", f"{shown} is missing")
    return value


def _object(item: dict[str, Any], name: str, shown: str | None = None) -> dict[str, Any]:
    value = _field(item, name, shown or name)
    if not isinstance(value, dict):
        raise _BadRecordError("wrong_type", f"{shown or name} is {_show(value)}, not an object")
    return cast("dict[str, Any]", value)


def _text(item: dict[str, Any], name: str, shown: str | None = None) -> str:
    value = _field(item, name, shown or name)
    if not isinstance(value, str):
        raise _BadRecordError("wrong_type", f"{shown or name} is {_show(value)}, not text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _BadRecordError("bad_value", f"{shown or name} is {_show(value)}, not Unicode text") from error
    if not value.strip():
        raise _BadRecordError("missing_field", f"{shown or name} is empty")
    return value


def _number(item: dict[str, Any], name: str, low: float, high: float, shown: str | None = None) -> float:
    """A finite number within [low, high]; true and "5" are no numbers."""
    value = _field(item, name, shown or name)
    if isinstance(value, (bool, str, dict, list)):
        raise _BadRecordError("wrong_type", f"{shown or name} is {_show(value)}, not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not low <= number <= high:
        raise _BadRecordError("bad_value", f"{shown or name} is {_show(value)}, not within {low:g}..{high:g}")
    return number


def _show(value: Any) -> str:
    """A value for a reason: plain ASCII of bounded length, numbers without `Decimal(...)`."""
    text = ascii(value) if isinstance(value, (str, bool, dict, list)) else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
