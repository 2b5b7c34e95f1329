"""Publication to a real S3 server: layout, what is sent again, what is refused, and who wins."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import pytest
from counting_proxy import counting_proxy
from hypothesis import given
from hypothesis import strategies as st
from publishable import BIG, PRETRAINED, publishable
from s3_server import ACCESS_KEY, BUCKET, S3Server, free_port
from tavr_lineage.promotion import promote, rollback
from tavr_lineage.publication.pointers import read_pointer
from tavr_lineage.publication.publish import publish, publish_version
from tavr_lineage.publication.published_manifest import read_manifest
from tavr_lineage.publication.server_probe import probe
from tavr_lineage.publication.storage import Storage, list_objects, need_storage, open_storage, write_object
from tavr_lineage.publication.uploads import PART, list_uploads, split, upload, verify
from tavr_lineage.trust.log import read_log
from tavr_records.errors import InputError, RefusedError, VerificationError
from tavr_records.ids import sha256_file

from .conftest import Finish

FIRST, SECOND = "20260101-00000001", "20260102-00000002"
LIMIT = 34 * 2**20  # four parts of 8 MiB travel at once, so one at least is whole after 32 MiB


def storage() -> Storage:
    return need_storage()


def paths() -> list[str]:
    return [entry.path for entry in list_objects(storage(), "")]


def test_a_promotion_without_storage_stays_local(
    finish: Finish, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TAVR_S3_URL", raising=False)
    finish(FIRST, spoil=publishable())
    assert publish(checkout, promote(checkout, FIRST, "dev")) is None
    with pytest.raises(InputError, match="TAVR_S3_URL is not set"):
        publish_version(checkout, "v0.0.1")


def test_a_promotion_lies_in_the_bucket_under_plain_names(finish: Finish, checkout: Path, s3: S3Server) -> None:
    candidate = finish(FIRST, spoil=publishable())
    done = publish(checkout, promote(checkout, FIRST, "dev"))
    assert done is not None
    assert paths() == [
        "tavr/claims/v0.0.1.json",
        "tavr/stages/dev.json",
        "tavr/v0.0.1/files/attestation.json",
        "tavr/v0.0.1/files/data/stage3/model/model.safetensors",
        "tavr/v0.0.1/files/data/weights/vae/model.safetensors",
        "tavr/v0.0.1/files/model.sig",
        "tavr/v0.0.1/files/params.yaml",
        "tavr/v0.0.1/files/record.json",
        "tavr/v0.0.1/manifest.json",
    ]
    manifest, digest = read_manifest(storage(), "tavr", "v0.0.1")
    assert manifest.commit == candidate.commit
    assert manifest.record_sha256 == candidate.record_sha256
    assert digest == done.manifest_sha256
    pointer = read_pointer(storage(), "tavr", "dev")
    assert pointer is not None
    assert (pointer.version, pointer.tag, pointer.counter, pointer.previous) == ("v0.0.1", "tavr#dev#1", 1, "")
    assert done.verified == {"read back": 6}
    assert done.sent == done.bytes
    entry = read_log(checkout)[-1]
    assert (entry["event"], entry["record_sha256"], entry["tags"]) == (
        "published", candidate.record_sha256, ["tavr@v0.0.1", "tavr#dev#1"],
    )  # fmt: skip


def test_a_second_version_sends_only_what_is_new_and_a_rollback_nothing(
    finish: Finish, checkout: Path, s3: S3Server
) -> None:
    finish(FIRST, spoil=publishable(1))
    publish(checkout, promote(checkout, FIRST, "dev"))
    finish(SECOND, gain=0.4, spoil=publishable(2))
    second = publish(checkout, promote(checkout, SECOND, "dev"))
    assert second is not None
    assert second.copied == len(PRETRAINED) + len((checkout / ".runs" / SECOND / "params.yaml").read_bytes())
    assert second.sent == second.bytes - second.copied
    back = publish(checkout, rollback(checkout, "dev", "v0.0.1", "faces flicker"))
    assert back is not None
    assert (back.sent, back.copied) == (0, 0)
    pointer = read_pointer(storage(), "tavr", "dev")
    assert pointer is not None
    assert (pointer.version, pointer.counter, pointer.previous) == ("v0.0.1", 3, "tavr#dev#2")
    again = publish_version(checkout, "v0.0.2")
    assert again.stages == ()
    assert read_pointer(storage(), "tavr", "dev") == pointer


def test_an_older_assignment_never_replaces_a_later_one(finish: Finish, checkout: Path, s3: S3Server) -> None:
    finish(FIRST, spoil=publishable(1))
    first = promote(checkout, FIRST, "dev")
    finish(SECOND, gain=0.4, spoil=publishable(2))
    publish(checkout, promote(checkout, SECOND, "dev"))
    with pytest.raises(RefusedError, match=r"v0\.0\.2 holds the stage since tavr#dev#2"):
        publish(checkout, first)


PUBLISH = """
import sys, pathlib
from tavr_lineage.publication.publish import publish_version
print(publish_version(pathlib.Path(sys.argv[1]), sys.argv[2]).sent)
"""


def test_a_killed_upload_carries_on_where_it_was(
    finish: Finish, checkout: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(FIRST, spoil=publishable(1, big=BIG))
    promote(checkout, FIRST, "dev")
    with counting_proxy(s3.endpoint) as proxy:
        monkeypatch.setenv("TAVR_S3_ENDPOINT", proxy.endpoint)
        command = [sys.executable, "-c", PUBLISH, str(checkout), "v0.0.1"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        proxy.reset(limit=LIMIT, at_limit=lambda: os.kill(process.pid, signal.SIGKILL))
        _, errors = process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL, errors.decode()
        killed_at = proxy.sent
        assert not any(path.endswith(("manifest.json", "stages/dev.json")) for path in paths_at(s3))
        proxy.reset()
        done = publish_version(checkout, "v0.0.1")
        resumed = proxy.sent
    assert done.sent < BIG
    assert done.sent <= resumed < done.sent + 200_000, "requests and headers are all that comes on top"
    whole = done.bytes
    assert killed_at + resumed < whole + 4 * 8 * 2**20 + 300_000, "at most the parts in flight are sent twice"
    with capsys.disabled():
        print(f"\n[resume] {whole} bytes; killed at {killed_at} on the wire; second run sent {done.sent} ({resumed})")
    read_manifest(storage(), "tavr", "v0.0.1")


def paths_at(s3: S3Server) -> list[str]:
    prefix = s3.folder / BUCKET / os.environ["TAVR_S3_URL"].split("/", 3)[3]
    return [path.relative_to(prefix).as_posix() for path in prefix.rglob("*") if path.is_file()]


def test_a_broken_connection_is_one_line_and_the_next_run_carries_on(
    finish: Finish, checkout: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(FIRST, spoil=publishable(1, big=BIG))
    promotion = promote(checkout, FIRST, "dev")
    with counting_proxy(s3.endpoint) as proxy:
        monkeypatch.setenv("TAVR_S3_ENDPOINT", proxy.endpoint)
        proxy.reset(limit=LIMIT)
        with pytest.raises(InputError, match="no answer from") as caught:
            publish(checkout, promotion)
        assert "\n" not in str(caught.value)
        proxy.reset()
        done = publish(checkout, promotion)
    assert done is not None
    assert done.sent < BIG


def test_wrong_credentials_bucket_and_address_are_one_line_each(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def complaint() -> str:
        with pytest.raises(InputError) as caught:
            probe(storage())
        assert "\n" not in str(caught.value)
        return str(caught.value)

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert "wrong credentials (SignatureDoesNotMatch); look at AWS_ACCESS_KEY_ID" in complaint()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody-at-all")
    assert "wrong credentials (InvalidAccessKeyId)" in complaint()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "no credentials" in complaint()
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TAVR_S3_URL", "s3://nowhere/x")
    assert "there is no bucket 'nowhere'; create it, or mend TAVR_S3_URL" in complaint()
    monkeypatch.setenv("TAVR_S3_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    assert "no answer from http://127.0.0.1" in complaint()
    assert ACCESS_KEY not in complaint()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("TAVR_S3_URL", "https://bucket", "TAVR_S3_URL: 'https://bucket' is no place in a bucket"),
        ("TAVR_S3_URL", "s3://UPPER/x", "write it as s3://bucket/prefix"),
        ("TAVR_S3_ENDPOINT", "127.0.0.1:9000", "TAVR_S3_ENDPOINT: '127.0.0.1:9000' is no address"),
        ("TAVR_S3_RETENTION_DAYS", "-1", "TAVR_S3_RETENTION_DAYS: '-1' is no number of days"),
    ],
)
def test_configuration_is_checked(name: str, value: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_storage({"TAVR_S3_URL": "s3://bucket", "TAVR_S3_ENDPOINT": "http://127.0.0.1:1", name: value})


def test_what_rclone_holds_to_is_found_out(s3: S3Server) -> None:
    server = probe(storage())
    assert (server.conditional_writes, server.checksums, server.object_lock) == (False, False, None)
    assert "NOT enforced" in server.describe()[0]
    assert paths() == []


def test_bytes_that_changed_on_the_way_are_found(
    finish: Finish, checkout: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(FIRST, spoil=publishable())
    promotion = promote(checkout, FIRST, "dev")
    url = os.environ["TAVR_S3_URL"].split("/", 3)[3]
    damaged = s3.folder / BUCKET / url / "tavr/v0.0.1/files/data/stage3/model/model.safetensors"
    from tavr_lineage.publication import publish as publication

    real = publication.upload

    def spoiling(*arguments: object) -> int:
        sent = real(*arguments)
        if damaged.exists():
            data = damaged.read_bytes()
            damaged.write_bytes(data[:50] + bytes([data[50] ^ 1]) + data[51:])
        return sent

    monkeypatch.setattr(publication, "upload", spoiling)
    with pytest.raises(VerificationError, match=r"model\.safetensors: its bytes are not the file's"):
        publish(checkout, promotion)
    assert not any(path.endswith("manifest.json") for path in paths())


def test_another_manifest_under_the_version_is_not_overwritten(finish: Finish, checkout: Path, s3: S3Server) -> None:
    finish(FIRST, spoil=publishable())
    promotion = promote(checkout, FIRST, "dev")
    write_object(storage(), "tavr/v0.0.1/manifest.json", json.dumps({"files": []}).encode())
    with pytest.raises(VerificationError, match="differs from what this checkout publishes"):
        publish(checkout, promotion)


def test_an_upload_that_somebody_aborted_is_started_again(s3: S3Server, tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(random.Random(3).randbytes(3 * PART + 5))
    aborted: list[str] = []
    once = threading.Lock()  # parts are sent by several threads

    def told(count: int) -> None:
        if not once.acquire(blocking=False):
            return
        for entry in list_uploads(storage().client, BUCKET, storage().key("")):
            storage().client.abort_multipart_upload(Bucket=BUCKET, Key=entry["Key"], UploadId=entry["UploadId"])
            aborted.append(entry["UploadId"])

    sent = upload(storage(), "tavr/file", source, sha256_file(source), told)
    assert len(aborted) == 1
    assert sent == source.stat().st_size
    assert verify(storage(), "tavr/file", source, sha256_file(source), checksums=False) == "read back"


@given(size=st.integers(0, 60 * 2**30))
def test_parts_cover_a_file_once_within_the_limits_of_s3(size: int) -> None:
    parts = split(size)
    assert len(parts) <= 10_000
    assert parts[0].offset == 0
    assert sum(part.size for part in parts) == size
    assert all(part.size >= 5 * 2**20 for part in parts[:-1])
    assert all(after.offset == part.offset + part.size for part, after in pairwise(parts))
