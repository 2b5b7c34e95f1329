"""One file to one object: in parts, carried on after an interruption, and held against its SHA-256 afterwards.

What a killed process left is found on the server (its unfinished upload's parts), so any machine can carry on. A part
is taken over when its MD5, the etag of a part, is that of our bytes; a server that says something else gets it again.
"""

import base64
import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tavr_records.errors import VerificationError

from tavr_lineage.publication.storage import Storage, base64_sha256, explained

PART = 8 * 2**20
_MOST_PARTS = 9_000
_THREADS = 4
_READ_ATTEMPTS = 3
_UPLOADS = (
    3  # a server may drop an unfinished upload under us: another process completed it, or it gives up on a cut part
)
SHA256 = "sha256"
Told = Callable[[int], None]


@dataclass(frozen=True)
class Part:
    """A slice of the file; `number` starts at 1."""

    number: int
    offset: int
    size: int


def part_size(size: int) -> int:
    """Bytes a part: 8 MiB, or as many whole MiB as keep S3's limit of 10 000 parts far."""
    needed = -(-size // _MOST_PARTS)
    return max(PART, -(-needed // 2**20) * 2**20)


def split(size: int) -> list[Part]:
    """The parts of a file of `size` bytes; an empty file is one empty part."""
    step = part_size(size)
    offsets = range(0, max(size, 1), step)
    return [Part(number, offset, min(step, size - offset)) for number, offset in enumerate(offsets, start=1)]


def upload(storage: Storage, path: str, source: Path, sha256: str, told: Told) -> int:
    """Upload a file and return how many of its bytes were sent; parts that are there already are not sent again.

    Raises:
        InputError: the server refuses, or does not answer.
    """
    parts = split(source.stat().st_size)
    place = {"Bucket": storage.bucket, "Key": storage.key(path)}
    with explained(storage, f"upload {storage.url(path)}"):
        if len(parts) == 1:
            data = source.read_bytes()
            checksum = base64_sha256(data)
            storage.client.put_object(**place, Body=data, Metadata={SHA256: sha256}, ChecksumSHA256=checksum)
            told(len(data))
            return len(data)
        for _ in range(_UPLOADS - 1):
            with contextlib.suppress(storage.client.exceptions.NoSuchUpload):
                return _upload_parts(storage.client, place, source, sha256, parts, told)
        return _upload_parts(storage.client, place, source, sha256, parts, told)


def _upload_parts(  # noqa: PLR0913 - one call site; a record of these six would only hide them
    client: Any, place: Mapping[str, str], source: Path, sha256: str, parts: list[Part], told: Told
) -> int:
    upload_id, there = _unfinished(client, place)
    if upload_id is None:
        created = client.create_multipart_upload(**place, Metadata={SHA256: sha256}, ChecksumAlgorithm="SHA256")
        upload_id = created["UploadId"]

    def send(part: Part) -> tuple[dict[str, Any], int]:
        with source.open("rb") as file:
            file.seek(part.offset)
            data = file.read(part.size)
        checksum, md5 = base64_sha256(data), hashlib.md5(data, usedforsecurity=False).hexdigest()
        known = there.get(part.number)
        sent = 0
        if known is None or (known["ETag"].strip('"'), known["Size"]) != (md5, part.size):
            known = client.upload_part(
                **place, UploadId=upload_id, PartNumber=part.number, Body=data, ChecksumSHA256=checksum
            )
            sent = part.size
        told(part.size)
        done = {"PartNumber": part.number, "ETag": known["ETag"]}
        return (done | {"ChecksumSHA256": checksum} if "ChecksumSHA256" in known else done), sent

    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            done = list(pool.map(send, parts))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    client.complete_multipart_upload(
        **place, UploadId=upload_id, MultipartUpload={"Parts": [entry for entry, _ in done]}
    )
    return sum(sent for _, sent in done)


def _unfinished(client: Any, place: Mapping[str, str]) -> tuple[str | None, dict[int, dict[str, Any]]]:
    """The newest unfinished upload of the object and its parts by number; (None, {}) when there is none."""
    found = [entry for entry in list_uploads(client, place["Bucket"], place["Key"]) if entry["Key"] == place["Key"]]
    if not found:
        return None, {}
    upload_id = max(found, key=lambda entry: entry["Initiated"])["UploadId"]
    pages = client.get_paginator("list_parts").paginate(**place, UploadId=upload_id)
    parts = [cast("dict[str, Any]", part) for page in pages for part in page.get("Parts", [])]
    return upload_id, {part["PartNumber"]: part for part in parts}


def list_uploads(client: Any, bucket: str, prefix: str) -> list[dict[str, Any]]:
    """The unfinished uploads of a bucket whose key starts with `prefix`."""
    try:
        pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)
        return [entry for page in pages for entry in page.get("Uploads", [])]
    except client.exceptions.NoSuchUpload:  # rclone's word for a bucket that never had one
        return []


def is_there(storage: Storage, path: str, size: int, sha256: str) -> bool:
    """Whether the server says it has these bytes. That is a reason not to send them, no proof: see `verify`."""
    try:
        found = _head(storage, path)
    except FileNotFoundError:
        return False
    claimed = {name.lower(): value for name, value in found["Metadata"].items()}.get(SHA256)
    return (found["ContentLength"], claimed) == (size, sha256)


def verify(storage: Storage, path: str, source: Path, sha256: str, *, checksums: bool) -> str:
    """Hold an object against its file; returns how: `checksum` or `read back`.

    Args:
        storage: where.
        path: which object.
        source: the file it was made of.
        sha256: of that file.
        checksums: the server checks SHA-256 on upload (`server_probe`); a checksum it keeps is proof only then.

    Raises:
        VerificationError: the object holds something else.
    """
    size = source.stat().st_size
    try:
        found = _head(storage, path)
    except FileNotFoundError:
        raise VerificationError(f"{storage.url(path)}: gone right after its upload; publish again") from None
    stored = found.get("ChecksumSHA256")
    if found["ContentLength"] != size:
        raise VerificationError(f"{storage.url(path)}: {found['ContentLength']} bytes, the file has {size}")
    if checksums and stored is not None:
        if stored not in (_composite(source), base64.b64encode(bytes.fromhex(sha256)).decode("ascii")):
            raise VerificationError(f"{storage.url(path)}: its SHA-256 is not the file's; delete it and publish again")
        return "checksum"
    if _read_back(storage, path, size) != sha256:
        raise VerificationError(f"{storage.url(path)}: its bytes are not the file's; delete it and publish again")
    return "read back"


def _composite(source: Path) -> str:
    """The checksum S3 keeps of an object uploaded in parts: of the parts' digests, with their number."""
    parts, digests = split(source.stat().st_size), b""
    with source.open("rb") as file:
        for part in parts:
            digests += hashlib.sha256(file.read(part.size)).digest()
    return f"{base64_sha256(digests)}-{len(parts)}"


def _head(storage: Storage, path: str) -> dict[str, Any]:
    with explained(storage, f"look at {storage.url(path)}"):
        return storage.client.head_object(Bucket=storage.bucket, Key=storage.key(path), ChecksumMode="ENABLED")


def read_ranges(storage: Storage, path: str, start: int, size: int) -> Iterator[bytes]:
    """An object's bytes from `start` on, a part at a time, so that a broken connection costs one part."""
    for offset in range(start, size, PART):
        with explained(storage, f"read {storage.url(path)}"):
            data = _read_range(storage, path, f"bytes={offset}-{min(offset + PART, size) - 1}")
        yield data


def _read_range(storage: Storage, path: str, wanted: str) -> bytes:
    """One range; boto3 retries a request, not a body that breaks off."""
    from botocore.exceptions import BotoCoreError

    for _ in range(_READ_ATTEMPTS - 1):
        with contextlib.suppress(BotoCoreError):
            return _get_range(storage, path, wanted)
    return _get_range(storage, path, wanted)


def _get_range(storage: Storage, path: str, wanted: str) -> bytes:
    found = storage.client.get_object(Bucket=storage.bucket, Key=storage.key(path), Range=wanted)
    return found["Body"].read()


def _read_back(storage: Storage, path: str, size: int) -> str:
    digest = hashlib.sha256()
    for data in read_ranges(storage, path, 0, size):
        digest.update(data)
    return digest.hexdigest()
