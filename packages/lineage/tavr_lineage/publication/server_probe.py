"""What an S3 server holds to, found out with a throw-away object: some take a header and ignore it."""

import uuid
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from tavr_lineage.publication.storage import (
    ABSENT,
    ConflictError,
    Storage,
    UnsupportedError,
    base64_sha256,
    delete_object,
    explained,
    object_lock,
    read_object,
    write_object,
)


@dataclass(frozen=True)
class Server:
    """What was found.

    Attributes:
        conditional_writes: both `If-None-Match: *` and `If-Match` are enforced in this bucket (Ceph 16 enforces the
            first only in buckets without versions).
        bare_etags: `If-Match` compares etags without their quotes (Ceph).
        checksums: an upload whose SHA-256 does not fit is refused, so that a stored checksum proves the bytes.
        object_lock: what Object Lock does by default here; None when the bucket has none.
    """

    conditional_writes: bool
    bare_etags: bool
    checksums: bool
    object_lock: str | None

    def expected(self, etag: str | None) -> str | None:
        """What a write that replaces `etag` (None: nothing) is to expect; None where the server cannot be asked to."""
        if not self.conditional_writes:
            return None
        if etag is None:
            return ABSENT
        return etag.strip('"') if self.bare_etags else etag

    def describe(self) -> list[str]:
        """The findings in words."""
        return [
            "conditional writes are enforced: of two publications at once the server lets one win"
            if self.conditional_writes
            else "conditional writes are NOT enforced: publications take turns by lock objects, and git decides",
            "SHA-256 is checked by the server on upload"
            if self.checksums
            else "SHA-256 is NOT checked by the server: every byte is read back after upload",
            f"Object Lock: {self.object_lock}" if self.object_lock else "the bucket has no Object Lock",
        ]


def probe(storage: Storage) -> Server:
    """Ask the server by doing; its object is deleted again (a bucket with versions keeps them, a few bytes each).

    Raises:
        InputError: no bucket, no permission, wrong credentials, no answer.
    """
    path = f".probe/{uuid.uuid4().hex}"
    write_object(storage, path, b"first")
    try:
        refuses, bare = _conditional(storage, path)
        return Server(refuses, bare, _checksums(storage, path), object_lock(storage))
    finally:
        delete_object(storage, path)


def _conditional(storage: Storage, path: str) -> tuple[bool, bool]:
    """Whether a wrong condition is refused and a right one is not, and whether the right one must be without quotes."""
    for bare in (False, True):
        quote = "" if bare else '"'
        stored = read_object(storage, path)
        etag = stored.etag.strip('"') if stored is not None else ""
        if not _refused(storage, path, ABSENT) or not _refused(storage, path, f"{quote}{'0' * 32}{quote}"):
            return False, False
        if not _refused(storage, path, f"{quote}{etag}{quote}"):
            return True, bare
    return False, False


def _refused(storage: Storage, path: str, expect: str) -> bool:
    try:
        write_object(storage, path, b"second", expect)
    except ConflictError:
        return True
    except UnsupportedError:
        return False
    return False


def _checksums(storage: Storage, path: str) -> bool:
    try:
        with explained(storage, "probe the server"):
            _put_with_wrong_checksum(storage, path)
    except _WrongChecksumError:
        return True
    return False


class _WrongChecksumError(Exception):
    """The server noticed."""


def _put_with_wrong_checksum(storage: Storage, path: str) -> None:
    place: dict[str, Any] = {"Bucket": storage.bucket, "Key": storage.key(path)}
    try:
        storage.client.put_object(**place, Body=b"third", ChecksumSHA256=base64_sha256(b"another"))
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in (
            "BadDigest",
            "XAmzContentChecksumMismatch",
            "InvalidRequest",
        ):
            raise _WrongChecksumError from error
        raise
