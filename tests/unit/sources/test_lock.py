"""The lock: what it says is what is fetched, or the failure names the row."""

import dataclasses
import functools
import hashlib
import http.server
import json
import threading
from pathlib import Path

import pytest
from tavr_records.errors import InputError, RefusedError
from tavr_records.ids import clip_id, pair_id
from tavr_records.manifest import read_manifest
from tavr_records.schemas import Source
from tavr_records.verdict import require_passed
from tavr_sources import fetch as fetching
from tavr_sources import refresh as refreshing
from tavr_sources.checks import check_sources
from tavr_sources.config import CheckSourcesConfig, SourcesConfig
from tavr_sources.fetch import FetchError, fetch, put
from tavr_sources.lock import Lock, LockedFile, LockedSource, read_lock, write_lock
from tavr_sources.refresh import refresh
from tavr_sources.stage import sources

CONFIG = SourcesConfig("sources.lock")
WORLD = {
    "people": 2,
    "scenes_per_person": 2,
    "clips_per_scene": 1,
    "clip_frames": 8,
    "fps": 25.0,
    "height": 32,
    "width": 56,
    "seed": 9,
    "rejects": 1,
}


def row(name, data, **changes):
    digest = hashlib.sha256(data).hexdigest()
    values = {
        "record_id": name,
        "source_key": f"video-{name}",
        "origin": f"file:files/{name}.mp4",
        "section": (0, 1000),
        "sha256": digest,
        "retrieved_at": "2026-01-01T00:00:00Z",
        "rights": "CC0-1.0",
    }
    return LockedSource(**(values | changes))


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Two local files and a lock that names them."""
    monkeypatch.setenv("TAVR_WORKERS", "1")
    monkeypatch.delenv("TAVR_WORK", raising=False)
    (tmp_path / "files").mkdir()
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit/withdrawn.jsonl").touch()
    for name in ("a", "b"):
        (tmp_path / f"files/{name}.mp4").write_bytes(name.encode())
    (tmp_path / "files/metadata.json").write_text('[{"id": "a"}, {"broken": true}]')
    write(tmp_path, row("a", b"a"), row("b", b"b"))
    return tmp_path


def write(root, *rows, world=None, store=None):
    write_lock(root / "sources.lock", Lock(LockedFile("file:files/metadata.json", None), world, store, rows))


def manifest(root):
    return read_manifest(root / "data/sources/manifest.parquet", Source)


def test_exactly_the_locked_bytes_are_fetched(checkout):
    sources(CONFIG, checkout)
    rows = manifest(checkout)
    assert [(r.record_id, r.source_key, r.start_ms, r.end_ms, r.rights) for r in rows] == [
        ("a", "video-a", 0, 1000, "CC0-1.0"),
        ("b", "video-b", 0, 1000, "CC0-1.0"),
    ]
    for r in rows:
        assert (checkout / "data/sources" / r.path).read_bytes() == r.record_id.encode()
        assert r.source_sha256 == hashlib.sha256(r.record_id.encode()).hexdigest()
    assert json.loads((checkout / "data/sources/metadata.json").read_text()) == [{"id": "a"}, {"broken": True}]
    assert list((checkout / "data").glob(".*")) == []


def test_changed_and_missing_files_are_named(checkout):
    (checkout / "files/a.mp4").write_bytes(b"something else")
    (checkout / "files/b.mp4").unlink()
    with pytest.raises(InputError) as error:
        sources(CONFIG, checkout)
    for part in ("2 of 2 rows", "a (file:files/a.mp4): sha256 is", "b (file:files/b.mp4): no such file", "refresh"):
        assert part in str(error.value)
    assert not (checkout / "data/sources").exists()


def test_an_unknown_digest_is_taken_and_recorded(checkout):
    write(checkout, row("a", b"a", sha256=None))
    sources(CONFIG, checkout)
    assert manifest(checkout)[0].source_sha256 == hashlib.sha256(b"a").hexdigest()


def test_an_interrupted_fetch_is_carried_on(checkout, monkeypatch):
    from tavr_sources import stage

    asked = []

    def stop_at_b(origin, *rest):
        asked.append(origin)
        if "b.mp4" in origin and asked.count(origin) == 1:
            raise KeyboardInterrupt
        fetch(origin, *rest)

    monkeypatch.setattr(stage, "fetch", stop_at_b)
    with pytest.raises(KeyboardInterrupt):
        sources(CONFIG, checkout)
    assert not (checkout / "data/sources").exists()
    sources(CONFIG, checkout)
    assert sum("a.mp4" in origin for origin in asked) == 1
    assert len(manifest(checkout)) == 2


def test_a_lock_survives_writing(tmp_path):
    lock = Lock(
        LockedFile("https://x.invalid/m.json", "0" * 64), WORLD, "s3://bucket/p", (row("b", b"b"), row("a", b"a"))
    )
    write_lock(tmp_path / "lock", lock)
    assert read_lock(tmp_path / "lock") == dataclasses.replace(lock, rows=(lock.rows[1], lock.rows[0]))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"record_id": "../a"}, "record_id"),
        ({"record_id": ""}, "record_id"),
        ({"sha256": "xyz"}, "sha256"),
        ({"section": (5, 5)}, "section"),
        ({"section": (-1, 5)}, "section"),
        ({"rights": ""}, "rights"),
        ({"source_key": 7}, "source_key"),
    ],
)
def test_a_bad_row_is_named(tmp_path, change, named):
    write(tmp_path, dataclasses.replace(row("a", b"a"), **change))
    with pytest.raises(InputError, match=f"row 0: .*{named}"):
        read_lock(tmp_path / "sources.lock")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": 2}', '{"schema_version": 1, "rows": 3}'])
def test_what_is_no_lock_is_one_clear_error(tmp_path, text):
    (tmp_path / "sources.lock").write_text(text)
    with pytest.raises(InputError, match=r"sources\.lock"):
        read_lock(tmp_path / "sources.lock")
    (tmp_path / "sources.lock").unlink()
    with pytest.raises(InputError, match="tavr sources refresh"):
        read_lock(tmp_path / "sources.lock")


def test_equal_record_ids_are_refused(tmp_path):
    write(tmp_path, row("a", b"a"), row("a", b"b"))
    with pytest.raises(InputError, match="two rows"):
        read_lock(tmp_path / "sources.lock")


def test_http_is_fetched_and_its_absence_explained(checkout):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(checkout / "files"))
    handler.func.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        fetch(f"{address}/a.mp4", (0, 1), checkout / "got", checkout, None)
        assert (checkout / "got").read_bytes() == b"a"
        with pytest.raises(FetchError, match="404"):
            fetch(f"{address}/lost.mp4", (0, 1), checkout / "got", checkout, None)
        server.shutdown()


def test_s3_is_fetched_and_stored(checkout, monkeypatch):
    kept = {("bucket", "deep/a.mp4"): b"from s3"}

    class Client:
        def download_file(self, bucket, key, target):
            Path(target).write_bytes(kept[bucket, key])

        def upload_file(self, source, bucket, key):
            kept[bucket, key] = Path(source).read_bytes()

    import boto3

    monkeypatch.setattr(boto3, "client", lambda _: Client())
    fetch("s3://bucket/deep/a.mp4", (0, 1), checkout / "got", checkout, None)
    assert (checkout / "got").read_bytes() == b"from s3"
    assert put("s3://bucket/other/", "x.mp4", checkout / "got", checkout) == "s3://bucket/other/x.mp4"
    assert kept["bucket", "other/x.mp4"] == b"from s3"


def test_an_unknown_origin_is_refused(checkout):
    with pytest.raises(FetchError, match="unknown origin"):
        fetch("gopher://x", (0, 1), checkout / "got", checkout, None)
    with pytest.raises(FetchError, match="unknown origin"):
        fetch("synthetic:nobody", (0, 1), checkout / "got", checkout, None)


def test_yt_dlp_is_needed_only_where_asked_for(checkout, monkeypatch):
    monkeypatch.setattr(fetching, "find_spec", lambda _: None)
    with pytest.raises(FetchError, match="yt-dlp is not installed"):
        fetch("ytdlp:https://video.invalid/1", (0, 1), checkout / "got", checkout, None)


def test_a_world_is_locked_rendered_and_truly_reviewed(checkout):
    write(checkout, world=WORLD)
    path = checkout / "world.lock.json"
    (checkout / "sources.lock").rename(path)
    first = refresh(path, checkout, today="2026-01-02T00:00:00Z")
    assert len(first.added) == 5
    again = refresh(path, checkout, today="2026-02-02T00:00:00Z")
    assert (again.added, again.removed) == ([], [])
    lock = read_lock(path)
    assert {r.retrieved_at for r in lock.rows} == {"2026-01-02T00:00:00Z"}, "rows that stand keep their time"
    assert {r.sha256 for r in lock.rows} == {None}
    sources(SourcesConfig("world.lock.json"), checkout)
    rows = manifest(checkout)
    assert len(rows) == 5
    records = {r["id"]: r for r in json.loads((checkout / "data/sources/metadata.json").read_text())}
    for r in rows:
        assert (r.start_ms, r.end_ms) == tuple(
            round(1000 * records[r.record_id][f"{end}-time"]) for end in ("start", "end")
        )
        assert (checkout / "data/sources" / r.path).stat().st_size > 500
    decisions = json.loads((checkout / "world.review.json").read_text())["decisions"]
    assert {(d["decision"], d["reviewer"], d["assurance"]) for d in decisions} == {
        ("accepted", "ground-truth", "automatic")
    }
    person = {r.record_id: records[r.record_id]["info"]["Person ID"] for r in rows}
    ids = {clip_id(r.source_key, r.start_ms, r.end_ms): person[r.record_id] for r in rows}
    possible = {pair_id(*sorted((a, b))) for a in ids for b in ids if a != b and ids[a] == ids[b]}
    assert {d["pair_id"] for d in decisions} <= possible
    assert len(decisions) == 2


def test_a_bad_world_is_one_clear_error(checkout):
    write(checkout, world={"people": 3})
    with pytest.raises(InputError, match="world"):
        sources(CONFIG, checkout)


def test_refreshing_talkvid_keeps_adds_drops_and_reports(checkout, monkeypatch):
    def record(name, start=0):
        return {
            "id": name,
            "start-time": start,
            "end-time": start + 5,
            "info": {"Video Link": f"https://y.invalid/watch?v={name}X"},
        }

    listing = [record("a"), record("new"), record("dead", 1.5), {"id": "unusable"}, record("../x"), record("late")]
    (checkout / "files/metadata.json").write_text(json.dumps(listing))
    write(checkout, row("a", b"a"), row("b", b"b"), store="store")

    def download(address, section, target):
        if "dead" in address:
            raise FetchError("gone")
        target.write_bytes(f"{address} {section}".encode())

    monkeypatch.setattr(fetching, "_with_ytdlp", download)
    result = refresh(checkout / "sources.lock", checkout, limit=2, today="2026-03-01T00:00:00Z")
    assert (result.added, result.removed, result.failed) == (["new"], ["b"], {"dead": "gone"})
    lock = read_lock(checkout / "sources.lock")
    assert [r.record_id for r in lock.rows] == ["a", "new"]
    new = lock.rows[1]
    assert (new.source_key, new.section, new.rights) == ("newX", (0, 5000), refreshing.TALKVID_RIGHTS)
    assert new.origin == f"file:store/{new.sha256}.mp4"
    sources(CONFIG, checkout)
    assert len(manifest(checkout)) == 2


def test_refreshing_needs_a_store(checkout):
    with pytest.raises(InputError, match="store"):
        refresh(checkout / "sources.lock", checkout)


def test_the_check_leaves_withdrawn_records_out_and_refuses_lost_files(checkout):
    sources(CONFIG, checkout)
    (checkout / "audit").mkdir(exist_ok=True)
    (checkout / "audit/baseline.json").write_text('{"sources": {"records": 100}}')
    withdrawn = {"kind": "source_key", "value": "video-a", "reason": "asked", "withdrawn_at": "2026-01-01"}
    (checkout / "audit/withdrawn.jsonl").write_text(json.dumps(withdrawn))
    limits = CheckSourcesConfig(min_records=1, max_section_seconds=60.0)
    check_sources(limits, checkout)
    assert require_passed("sources", checkout / "reports") == {"a"}
    verdict = json.loads((checkout / "reports/sources/verdict.json").read_text())
    assert not next(c for c in verdict["checks"] if c["id"] == "records_near_baseline")["passed"]
    (checkout / "data/sources/media/b.mp4").unlink()
    check_sources(dataclasses.replace(limits, min_records=3), checkout)
    with pytest.raises(RefusedError, match=r"enough_records.*file_present"):
        require_passed("sources", checkout / "reports")
