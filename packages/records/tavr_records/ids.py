"""Stable identifiers. Every id is a digest of what it names, so that two runs agree without talking."""

import datetime as dt
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def canonical_json(value: Any) -> bytes:
    """Encode as JSON with sorted keys, no spaces, UTF-8 and no NaN: one value, one byte string.

    Raises:
        ValueError: the value holds NaN or an infinity.
        TypeError: the value holds something JSON has no form for.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def sha256_bytes(data: bytes) -> str:
    """The lower-case hex SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """The lower-case hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def clip_id(source_key: str, start_ms: int, end_ms: int) -> str:
    """Name the section [start_ms, end_ms) of one source: 64 hex digits."""
    return sha256_bytes(canonical_json({"source_key": source_key, "start_ms": start_ms, "end_ms": end_ms}))


def clip_ids(source_keys: Iterable[str], starts_ms: Iterable[int], ends_ms: Iterable[int]) -> Iterator[str]:
    """`clip_id` of many sections: a source's key is encoded once, which is a few times quicker."""
    encoded: dict[str, str] = {}
    for key, start_ms, end_ms in zip(source_keys, starts_ms, ends_ms, strict=True):
        name = encoded.get(key)
        if name is None:
            name = encoded[key] = canonical_json(key).decode()
        text = f'{{"end_ms":{end_ms},"source_key":{name},"start_ms":{start_ms}}}'
        yield hashlib.sha256(text.encode()).hexdigest()


def pair_id(ref_clip_id: str, target_clip_id: str) -> str:
    """Name an ordered pair (reference, target): 64 hex digits."""
    return sha256_bytes(f"{ref_clip_id}|{target_clip_id}".encode("ascii"))


def person_id(key: bytes, dataset: str, person: str) -> str:
    """Pseudonym of a person: HMAC-SHA-256 under a key that can be destroyed."""
    return hmac.new(key, canonical_json({"dataset": dataset, "person": person}), hashlib.sha256).hexdigest()


def new_run_id(today: dt.date | None = None) -> str:
    """A fresh run id, `YYYYMMDD-<8 hex>`."""
    day = today or dt.datetime.now(dt.UTC).date()
    return f"{day:%Y%m%d}-{secrets.token_hex(4)}"
