"""Ceph's S3 gateway: conditional writes that are enforced, versions, Object Lock, and permissions."""

import os
import uuid
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest
from ceph_server import GUEST_KEY, LOCKED, ceph_server, missing_programs
from counting_proxy import counting_proxy
from publishable import BIG, publishable
from racers import race
from s3_server import BUCKET, S3Server
from tavr_lineage.promotion import promote
from tavr_lineage.publication.publish import publish
from tavr_lineage.publication.pull import find_reader, pull
from tavr_lineage.publication.server_probe import probe
from tavr_lineage.publication.storage import (
    ABSENT,
    ConflictError,
    list_objects,
    need_storage,
    read_object,
    write_object,
)
from tavr_lineage.publication.unpublication import delete_published
from tavr_records.errors import InputError, RefusedError

from .conftest import Finish

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(missing_programs()), reason=f"apt install ceph-mon ceph-osd radosgw: no {missing_programs()}"
    ),
]
RUN = "20260101-00000001"
TRIALS = 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[S3Server]:
    with ceph_server(tmp_path_factory.mktemp("ceph")) as running:
        yield running


@pytest.fixture(params=[BUCKET, LOCKED])
def bucket(request: pytest.FixtureRequest, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The configured storage: a plain bucket, and one with versions and Object Lock."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "TAVR_S3_"))]:
        monkeypatch.delenv(name)
    for name, value in server.environment(f"test/{uuid.uuid4().hex[:8]}", request.param).items():
        monkeypatch.setenv(name, value)
    return request.param


def test_the_probe_tells_the_buckets_apart(bucket: str) -> None:
    found = probe(need_storage())
    assert found.conditional_writes == (bucket == BUCKET), "Ceph 16 lets If-None-Match pass where it keeps versions"
    assert not found.checksums
    assert found.object_lock == (None if bucket == BUCKET else "no default")


def test_a_conditional_write_is_refused_when_somebody_was_faster(bucket: str) -> None:
    if bucket == LOCKED:
        pytest.skip("not enforced in a bucket with versions: see the probe")
    storage = need_storage()
    write_object(storage, "x", b"1", ABSENT)
    with pytest.raises(ConflictError):
        write_object(storage, "x", b"2", ABSENT)
    stored = read_object(storage, "x")
    assert stored is not None
    etag = probe(storage).expected(stored.etag)
    write_object(storage, "x", b"3", etag)
    with pytest.raises(ConflictError):
        write_object(storage, "x", b"4", etag)


@pytest.mark.parametrize("kind", ["pointer", "next", "claim"])
def test_of_two_processes_exactly_one_wins(
    kind: str, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = race(tmp_path / "race", kind, {"one": tmp_path, "two": tmp_path}, TRIALS)
    counts = Counter(pair.count("won") for pair in zip(outcomes["one"], outcomes["two"], strict=True))
    with capsys.disabled():
        print(f"\n[{kind} in {bucket}] winners a trial: {dict(counts)}; one: {outcomes['one'].count('won')}")
    assert counts == {1: TRIALS}


def test_an_interrupted_publication_carries_on_and_is_pulled(
    finish: Finish, checkout: Path, bucket: str, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(RUN, spoil=publishable(1, big=BIG))
    promotion = promote(checkout, RUN, "dev")
    with counting_proxy(server.endpoint) as proxy:
        monkeypatch.setenv("TAVR_S3_ENDPOINT", proxy.endpoint)
        proxy.reset(limit=34 * 2**20)
        with pytest.raises(InputError, match="no answer from"):
            publish(checkout, promotion)
        proxy.reset()
        done = publish(checkout, promotion)
    assert done is not None
    assert 0 < done.sent < BIG
    pulled = pull(need_storage(), "dev", tmp_path / "model", find_reader(checkout), lambda *_: None)
    assert pulled.fetched == done.bytes


def test_removal_takes_every_version_and_says_what_the_lock_keeps(
    finish: Finish, checkout: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAVR_S3_RETENTION_DAYS", "1")
    finish(RUN, spoil=publishable(1))
    promotion = promote(checkout, RUN, "dev")
    publish(checkout, promotion)
    storage = need_storage()
    weights = "tavr/v0.0.1/files/data/stage3/model/model.safetensors"
    write_object(storage, weights, b"an earlier attempt leaves one more version")
    pull_path = tmp_path / "model"
    monkeypatch.setenv("TAVR_S3_RETENTION_DAYS", "0")
    removals = delete_published(storage, "tavr", "v0.0.1")
    assert not pull_path.exists()
    versions = [removal for removal in removals if removal.url.endswith(weights)]
    assert len(versions) == (2 if bucket == LOCKED else 1)
    assert all(removal.removed for removal in versions)
    kept = {removal.url.split("/tavr/")[1]: removal.why for removal in removals if not removal.removed}
    assert "claims/v0.0.1.json" in kept
    if bucket == LOCKED:
        assert kept["v0.0.1/manifest.json"].startswith("Object Lock (GOVERNANCE) until ")
    else:
        assert "v0.0.1/manifest.json" not in kept
    assert not [entry.path for entry in list_objects(storage, "tavr/v0.0.1/files/")]
    assert not [entry.path for entry in list_objects(storage, "tavr/stages/")]
    with pytest.raises(RefusedError, match=r"v0\.0\.1 was removed on"):
        publish(checkout, promotion)


def test_without_permission_it_says_so(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", GUEST_KEY)
    with pytest.raises(InputError, match=r"no permission \(AccessDenied\); ask for it for these credentials"):
        probe(need_storage())
