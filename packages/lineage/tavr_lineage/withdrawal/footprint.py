"""Whom a withdrawal is about: every id, digest and name under which something of it can be stored."""

import json
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from tavr_records.ids import clip_id, sha256_file
from tavr_records.memo import KEY_FILE
from tavr_records.withdrawals import Withdrawal, find_withdrawn

from tavr_lineage.git import git, read_file
from tavr_lineage.withdrawal.inventory import Stored, stored

_READABLE = {".json", ".jsonl", ".yaml", ".csv", ".html", ".md", ".txt", ".log", ".lock", ".dir", ".parquet"}
_HEX = re.compile(r"[0-9a-f]{12,}")
_PREFIX = 12
"""Messages and pages shorten ids to so many digits; two ids with the same beginning are not to be expected."""
_WORD_END = r"(?![\w-]|\.(?!mp4\b|wav\b)\w)"  # `a.1` is another record than `a`, but `a.mp4` is the file of `a`
_CLIP_COLUMNS = {"source_key", "source_sha256", "start_ms", "end_ms"}
_TABLES = ("/manifest.parquet", "/clips.parquet")
_DIGESTS = ("source_sha256", "clip_sha256")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Footprint:
    """The clips of a withdrawal and every name of theirs.

    Attributes:
        withdrawals: the tombstones.
        clips: rows of every known clip they cover, one for each clip id.
        names: ids, digests and record names; of generated videos with another pair's reference `<method>/<pair id>`.
    """

    withdrawals: tuple[Withdrawal, ...]
    clips: Mapping[str, Row]
    names: frozenset[str]

    @cached_property
    def _hex(self) -> frozenset[str]:
        return frozenset(name[:_PREFIX] for name in self.names if len(name) >= 32 and _HEX.fullmatch(name))

    @cached_property
    def _words(self) -> re.Pattern[str] | None:
        # Long hexadecimal names are found by their beginning; `<method>/<pair id>` too, once cut.
        words = {
            f"{name.rsplit('/', 1)[0]}/{name.rsplit('/', 1)[1][:_PREFIX]}" if "/" in name else name
            for name in self.names
            if not (len(name) >= 32 and _HEX.fullmatch(name))
        }
        if not words:
            return None
        listed = "|".join(
            re.escape(word) + ("" if "/" in word else _WORD_END) for word in sorted(words, key=len, reverse=True)
        )
        return re.compile(rf"(?<![\w-])(?:{listed})")

    def named_in(self, text: str) -> bool:
        """Whether a text mentions the subject."""
        if any(found[:_PREFIX] in self._hex for found in _HEX.findall(text)):
            return True
        return self._words is not None and self._words.search(text) is not None

    def is_in(self, item: Stored) -> bool:
        """Whether something stored is about the subject, by its name, by what it says, or by its digest."""
        if item.path.is_dir():
            return self._is_in_folder(item)
        return self.named_in(item.name) or self.named_in(text_of(item.path, Path(item.name).suffix))

    def _is_in_folder(self, item: Stored) -> bool:
        files = [path for path in sorted(item.path.rglob("*")) if path.is_file()]
        if item.place == "memo" and (item.path / KEY_FILE).is_file():
            return self.named_in((item.path / KEY_FILE).read_text(encoding="utf-8"))
        if any(self.named_in(text_of(path, path.suffix)) for path in files):
            return True
        if item.place == "reproduction" and any(self.named_in(path.name) for path in files):
            return True
        # Half-written folders and entries that do not say whose they are: nobody can tell, so they count.
        return item.place in ("leftover", "memo") and not any(path.suffix in (".json", ".jsonl") for path in files)


def read_footprint(root: Path, withdrawals: Sequence[Withdrawal]) -> Footprint:
    """Collect the subject's names from every manifest there is, in checkouts, in DVC's cache and in git."""
    tables = list(manifests(root))
    clips: dict[str, Row] = {}
    others: set[str] = set()  # digests that clips outside the withdrawal have too
    names = {item.value for item in withdrawals if item.start_ms is None}
    for row in known_clips(root, tables):
        if find_withdrawn([row], withdrawals):
            clips.setdefault(row["clip_id"], row)
            names |= {str(row[column]) for column in ("clip_id", "record_id", *_DIGESTS) if row.get(column)}
        else:
            others |= {str(row[column]) for column in _DIGESTS if row.get(column)}
    names = {name for name in names if name not in others}
    for rows in tables:
        names |= _pair_names(rows, names)
    return Footprint(tuple(withdrawals), clips, frozenset(names | set(_borrowed(root, names))))


def known_clips(root: Path, tables: Iterable[Sequence[Row]] | None = None) -> Iterator[Row]:
    """Rows of every clip that a snapshot, an ingest or a ledger names, each with `clip_id`; repeats are possible."""
    for rows in manifests(root) if tables is None else tables:
        if rows and set(rows[0]) >= _CLIP_COLUMNS:
            for row in rows:
                name = row.get("clip_id") or clip_id(row["source_key"], int(row["start_ms"]), int(row["end_ms"]))
                yield {**row, "clip_id": name}


def manifests(root: Path) -> Iterator[list[dict[str, Any]]]:
    """Rows of every different manifest of clips, pairs and scores, and of every run's consumption table."""
    seen: set[str] = set()
    for item in stored(root):
        if item.name.endswith(_TABLES):
            digest = sha256_file(item.path)
            if digest not in seen:
                seen.add(digest)
                yield _rows(item.path.read_bytes())
    for ref in git(root, "for-each-ref", "--format=%(refname)", "refs/heads", "refs/tags").split():
        data = read_file(root, ref, "reports/lineage/consumption.parquet")
        if data is not None:
            yield _rows(data)


def _rows(data: bytes) -> list[dict[str, Any]]:
    try:
        table = pq.read_table(pa.BufferReader(data))
    except pa.ArrowInvalid:
        return []  # a damaged file says nothing; the checks that read it complain
    telling = set(table.column_names) >= _CLIP_COLUMNS or "ref_clip_id" in table.column_names
    return table.to_pylist() if telling else []


def _pair_names(rows: Sequence[Row], names: set[str]) -> set[str]:
    """Ids of the pairs and preference pairs that one of the clips is in."""
    if not rows or "ref_clip_id" not in rows[0]:
        return set()
    mine = [row for row in rows if row["ref_clip_id"] in names or row["target_clip_id"] in names]
    return {str(row[column]) for row in mine for column in ("pair_id", "preference_id") if column in row}


def _borrowed(root: Path, names: set[str]) -> Iterator[str]:
    """`<method>/<pair id>` of benchmark videos that show the subject as the reference of somebody else's pair.

    A method with `reference: other` takes for each pair the reference of the next one (`tavr_benchmark.stage`).
    """
    for ref in git(root, "for-each-ref", "--format=%(refname)", "refs/heads", "refs/tags").split():
        data = read_file(root, ref, "params.yaml")
        params = cast("dict[str, Any]", yaml.safe_load(data) or {}) if data else {}
        methods = params.get("benchmark", {}).get("methods", {})
        borrowing = [name for name, method in methods.items() if method.get("reference") == "other"]
        metrics = read_file(root, ref, "record.json")
        if not borrowing or metrics is None:
            continue
        scores = (json.loads(metrics).get("benchmark") or {}).get("scores", {})
        for method in borrowing:
            pairs = sorted(scores.get(method, {}))
            for index, pair in enumerate(pairs):
                if pairs[(index + 1) % len(pairs)] in names:
                    yield f"{method}/{pair}"


def text_of(path: Path, suffix: str) -> str:
    """As `text_in`, of a file; of a shard only its header is read."""
    if suffix != ".safetensors":
        return text_in(path.read_bytes(), suffix) if suffix in _READABLE else ""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        return file.read(min(length, path.stat().st_size)).decode("utf-8", errors="replace")


def text_in(data: bytes, suffix: str) -> str:
    """What bytes say in words: text as it is, the strings of a table, else nothing."""
    if suffix != ".parquet":
        return data.decode("utf-8", errors="replace") if suffix in _READABLE else ""
    try:
        table = pq.read_table(pa.BufferReader(data))
    except pa.ArrowInvalid:
        return data.decode("utf-8", errors="replace")
    words: list[str] = []
    for field in table.schema:
        column: Any = table.column(field.name)
        if pa.types.is_list(field.type) and pa.types.is_string(field.type.value_type):
            column = column.combine_chunks().flatten()
        elif not pa.types.is_string(field.type):
            continue
        words += [value for value in column.unique().to_pylist() if value is not None]
    return "\n".join(words)
