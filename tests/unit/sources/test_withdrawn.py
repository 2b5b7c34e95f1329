"""What is withdrawn is not fetched again, whatever it is called, and leaves neither bytes nor words in the snapshot."""

import json
from pathlib import Path

import pandas as pd
import pytest
from tavr_records.ids import clip_id, sha256_bytes, sha256_file
from tavr_records.manifest import read_manifest
from tavr_records.schemas import Refused, Source
from tavr_records.verdict import require_passed
from tavr_sources import stage as sources_stage
from tavr_sources.checks import check_sources
from tavr_sources.config import CheckSourcesConfig, SourcesConfig
from tavr_sources.lock import Lock, LockedFile, LockedSource, write_lock
from tavr_sources.stage import sources

CONFIG = SourcesConfig("sources.lock")


def row(name: str, key: str, start: int = 0, *, known: bool = True) -> LockedSource:
    digest = sha256_bytes(f"bytes of {key}".encode()) if known else None
    return LockedSource(
        name, key, f"file:files/{name}.mp4", (start, start + 1000), digest, "2026-01-01T00:00:00Z", "CC0-1.0"
    )


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock of three files: `b2` has the bytes of `b` under another key, which the lock does not know."""
    monkeypatch.setenv("TAVR_WORKERS", "1")
    monkeypatch.delenv("TAVR_WORK", raising=False)
    (tmp_path / "files").mkdir()
    for name, key in (("a", "video-a"), ("b", "video-b"), ("b2", "video-b")):
        (tmp_path / "files" / f"{name}.mp4").write_bytes(f"bytes of {key}".encode())
    records = [{"id": name, "description": f"words on {name}"} for name in ("a", "b", "b2")]
    (tmp_path / "files/metadata.json").write_text(json.dumps(records))
    rows = (row("a", "video-a"), row("b", "video-b"), row("b2", "another", known=False))
    write_lock(tmp_path / "sources.lock", Lock(LockedFile("file:files/metadata.json", None), None, None, rows))
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit/baseline.json").write_text("{}")
    withdraw(tmp_path)
    return tmp_path


def withdraw(root: Path, *lines: dict[str, object]) -> None:
    told = {"reason": "asked", "withdrawn_at": "2026-02-01T00:00:00Z"}
    (root / "audit/withdrawn.jsonl").write_text("".join(json.dumps({**told, **line}) + "\n" for line in lines))


def fetched(root: Path) -> list[str]:
    sources(CONFIG, root)
    return [source.record_id for source in read_manifest(root / "data/sources/manifest.parquet", Source)]


WHOLE = {"kind": "source_key", "value": "video-b"}
SECTION = {**WHOLE, "start_ms": 900, "end_ms": 5000}
BESIDE = {**WHOLE, "start_ms": 1000, "end_ms": 5000}
CLIP = {"kind": "clip_id", "value": clip_id("video-b", 0, 1000)}
BYTES = {"kind": "sha256", "value": sha256_bytes(b"bytes of video-b")}


@pytest.mark.parametrize(
    ("line", "left"),
    [(WHOLE, ["a", "b2"]), (SECTION, ["a", "b2"]), (BESIDE, ["a", "b", "b2"]), (CLIP, ["a", "b2"]), (BYTES, ["a"])],
)
def test_source_section_clip_and_bytes_block(checkout: Path, line: dict[str, object], left: list[str]) -> None:
    withdraw(checkout, line)
    assert fetched(checkout) == left
    snapshot = checkout / "data/sources"
    assert {path.stem for path in (snapshot / "media").iterdir()} == set(left)
    assert [record["id"] for record in json.loads((snapshot / "metadata.json").read_text())] == left
    refused = read_manifest(snapshot / "quarantine.parquet", Refused)
    assert {(one.record_id, one.rule) for one in refused} == {(n, "withdrawn") for n in {"a", "b", "b2"} - set(left)}


def test_the_withdrawn_bytes_are_not_even_remembered(checkout: Path) -> None:
    withdraw(checkout, BYTES)
    assert fetched(checkout) == ["a"]
    remembered = [path for path in (checkout / ".work").rglob("*") if path.is_file()]
    assert remembered
    assert [path for path in remembered if b"video-b" in path.read_bytes()] == []


def test_a_row_known_by_its_digest_is_not_fetched(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    withdraw(checkout, BYTES, {"kind": "source_key", "value": "another"})
    asked: list[str] = []
    real = sources_stage.fetch
    monkeypatch.setattr(sources_stage, "fetch", lambda origin, *rest: (asked.append(origin), real(origin, *rest)))
    assert fetched(checkout) == ["a"]
    assert sorted(asked) == ["file:files/a.mp4", "file:files/metadata.json"]


def test_a_fresh_and_an_incremental_snapshot_are_equal(checkout: Path, tmp_path: Path) -> None:
    def digests() -> dict[str, str]:
        files = sorted(path for path in (checkout / "data/sources").rglob("*") if path.is_file())
        return {path.name: sha256_file(path) for path in files}

    fetched(checkout)
    withdraw(checkout, BYTES)
    fetched(checkout)
    incremental = digests()
    for name in ("data", ".work"):
        (checkout / name).rename(tmp_path / f"old-{name}")
    fetched(checkout)
    assert digests() == incremental


def test_without_withdrawals_the_metadata_is_as_fetched(checkout: Path) -> None:
    fetched(checkout)
    assert (checkout / "data/sources/metadata.json").read_bytes() == (checkout / "files/metadata.json").read_bytes()


def test_the_check_blocks_the_same_bytes_under_another_key(checkout: Path) -> None:
    """The second line of defence: a snapshot that holds withdrawn bytes all the same loses them to quarantine."""
    fetched(checkout)
    rows = pd.read_parquet(checkout / "data/sources/manifest.parquet")
    assert set(rows["record_id"]) == {"a", "b", "b2"}
    withdraw(checkout, BYTES)
    check_sources(CheckSourcesConfig(min_records=1, max_section_seconds=60.0), checkout)
    assert require_passed("sources", checkout / "reports") == {"b", "b2"}
