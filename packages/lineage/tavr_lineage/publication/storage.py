"""The bucket that models are published to: small objects, conditional writes, and errors in the user's words.

Where it lies is a fact of the machine: `TAVR_S3_URL` (`s3://bucket/prefix`), `TAVR_S3_ENDPOINT` for anything but AWS,
`TAVR_S3_RETENTION_DAYS`, and the usual `AWS_*` variables.
"""

import base64
import datetime as dt
import hashlib
import os
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from tavr_records.errors import InputError

URL, ENDPOINT, RETENTION = "TAVR_S3_URL", "TAVR_S3_ENDPOINT", "TAVR_S3_RETENTION_DAYS"
ABSENT = "*"
_CONNECT_SECONDS, _READ_SECONDS, _ATTEMPTS = 5, 60, 4
_NOT_THERE = {"NoSuchKey", "404", "NotFound"}
_CONFLICT = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}
_CREDENTIALS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
_DENIED = {"AccessDenied", "403", "Forbidden", "AllAccessDisabled", "AccountProblem"}
_UNSUPPORTED = {"NotImplemented", "501", "MethodNotAllowed", "405"}
_CLOCK = {"RequestTimeTooSkewed"}


class ConflictError(Exception):
    """The object is not what a conditional write expected: somebody else wrote first."""


class UnsupportedError(InputError):
    """This server does not know the operation."""


@dataclass(frozen=True)
class Storage:
    """A place in a bucket; paths of objects are relative to `prefix`.

    Attributes:
        client: a boto3 S3 client; safe to share between threads.
        retention_days: how long evidence is kept under Object Lock where the bucket has it; 0: as the bucket says.
    """

    client: Any
    bucket: str
    prefix: str
    endpoint: str | None = None
    retention_days: int = 0

    def key(self, path: str) -> str:
        """The object's key in the bucket."""
        return f"{self.prefix}/{path}" if self.prefix else path

    def url(self, path: str = "") -> str:
        """The object as `s3://bucket/key`."""
        return f"s3://{self.bucket}/{self.key(path)}".rstrip("/")


@dataclass(frozen=True)
class Stored:
    """A small object's bytes and the tag that a conditional write names it by."""

    data: bytes
    etag: str


@dataclass(frozen=True)
class Listed:
    """An object in a listing; `modified` is the server's clock."""

    path: str
    size: int
    modified: dt.datetime


def open_storage(environment: Mapping[str, str] = os.environ) -> Storage | None:
    """The configured storage, or None when `TAVR_S3_URL` is not set. Nothing is asked of the server yet.

    Raises:
        InputError: a variable is not of its form.
    """
    url = environment.get(URL, "")
    if not url:
        return None
    found = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*?))?/*", url)
    if found is None:
        raise InputError(f"{URL}: {url!r} is no place in a bucket; write it as s3://bucket/prefix")
    days = environment.get(RETENTION, "0")
    if not days.isdecimal():
        raise InputError(f"{RETENTION}: {days!r} is no number of days; use 0 to leave it to the bucket")
    endpoint = environment.get(ENDPOINT) or None
    if endpoint is not None and not re.match(r"https?://[^/]", endpoint):
        raise InputError(f"{ENDPOINT}: {endpoint!r} is no address; write it as http://host:port or https://host")
    return Storage(_client(endpoint), found[1], (found[2] or "").strip("/"), endpoint, int(days))


def need_storage() -> Storage:
    """As `open_storage`, for commands that make no sense without.

    Raises:
        InputError: there is none.
    """
    storage = open_storage()
    if storage is None:
        raise InputError(f"{URL} is not set, so models stay on this machine; set it to s3://bucket/prefix")
    return storage


def _client(endpoint: str | None) -> Any:
    """A client with bounded retries and time-outs; anything but AWS is addressed by path."""
    from boto3.session import Session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        retries={"mode": "standard", "max_attempts": _ATTEMPTS},
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        s3={"addressing_style": "path" if endpoint else "auto"},
        request_checksum_calculation="when_required",  # we send SHA-256 ourselves; other servers stumble over CRC
        response_checksum_validation="when_required",
    )
    try:
        session = Session()
        region = session.region_name or "us-east-1"
        return cast("Any", session).client("s3", endpoint_url=endpoint, region_name=region, config=config)
    except (BotoCoreError, ValueError) as error:
        raise InputError(
            f"the AWS configuration cannot be used ({error}); look at AWS_PROFILE and AWS_REGION"
        ) from error


def read_object(storage: Storage, path: str) -> Stored | None:
    """A small object whole; None when it is not there."""
    try:
        with explained(storage, f"read {storage.url(path)}"):
            found = storage.client.get_object(Bucket=storage.bucket, Key=storage.key(path))
            return Stored(found["Body"].read(), found["ETag"])
    except FileNotFoundError:
        return None


def write_object(storage: Storage, path: str, data: bytes, expect: str | None = None, *, keep: bool = False) -> None:
    """Write a small object whole.

    Args:
        storage: where.
        path: which object.
        data: its bytes.
        expect: `ABSENT`, or the etag of the version to replace; None overwrites whatever is there.
        keep: evidence: kept under Object Lock for the configured days where the bucket has it.

    Raises:
        ConflictError: the object is not the expected one (on servers that enforce it).
    """
    condition: dict[str, Any] = {}
    if expect is not None:
        condition = {"IfNoneMatch": "*"} if expect == ABSENT else {"IfMatch": expect}
    with explained(storage, f"write {storage.url(path)}"):
        storage.client.put_object(
            Bucket=storage.bucket,
            Key=storage.key(path),
            Body=data,
            ChecksumSHA256=base64_sha256(data),
            **condition,
            **(retention(storage) if keep else {}),
        )


def retention(storage: Storage) -> dict[str, Any]:
    """The arguments that lock evidence; none without configured days or in a bucket without Object Lock."""
    if not storage.retention_days or object_lock(storage) is None:
        return {}
    until = dt.datetime.now(dt.UTC) + dt.timedelta(days=storage.retention_days)
    return {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": until}


def object_lock(storage: Storage) -> str | None:
    """What Object Lock does by default in this bucket, in words; None when the bucket has none.

    Without the permission to ask it counts as none, unless evidence is to be kept.
    """
    from botocore.exceptions import ClientError

    doing = f"read the Object Lock configuration of {storage.bucket}"
    try:
        with explained(storage, doing):
            found = _object_lock_configuration(storage)
    except (FileNotFoundError, UnsupportedError):
        return None
    except InputError as error:
        denied = isinstance(error.__cause__, ClientError) and error.__cause__.response["Error"]["Code"] in _DENIED
        if denied and not storage.retention_days:
            return None
        raise
    if found.get("ObjectLockEnabled") != "Enabled":
        return None
    rule = found.get("Rule", {}).get("DefaultRetention", {})
    if not rule:
        return "no default"
    return f"{rule['Mode']} for {rule.get('Days', rule.get('Years'))} {'days' if 'Days' in rule else 'years'}"


def _object_lock_configuration(storage: Storage) -> dict[str, Any]:
    from botocore.exceptions import ClientError

    try:
        return storage.client.get_object_lock_configuration(Bucket=storage.bucket).get("ObjectLockConfiguration", {})
    except ClientError as error:
        if error.response["Error"]["Code"] in ("ObjectLockConfigurationNotFoundError", "InvalidBucketState"):
            return {}
        raise


def list_objects(storage: Storage, under: str) -> list[Listed]:
    """Every object whose path starts with `under`, by path."""
    return sorted(_list(storage, under), key=lambda listed: listed.path)


def _list(storage: Storage, under: str) -> Iterator[Listed]:
    with explained(storage, f"list {storage.url(under)}"):
        pages = storage.client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=storage.bucket, Prefix=storage.key(under)):
            for entry in page.get("Contents", []):
                path = entry["Key"][len(storage.key("")) :]
                yield Listed(path, entry["Size"], entry["LastModified"])


def delete_object(storage: Storage, path: str) -> None:
    """Delete the current version of an object; one that is not there is no error."""
    with explained(storage, f"delete {storage.url(path)}"):
        storage.client.delete_object(Bucket=storage.bucket, Key=storage.key(path))


def base64_sha256(data: bytes) -> str:
    """SHA-256 in the form of S3's headers."""
    return base64.b64encode(hashlib.sha256(data).digest()).decode("ascii")


@contextmanager
def explained(storage: Storage, doing: str) -> Generator[None]:
    """Turn boto3's errors into one line with a remedy.

    Raises:
        FileNotFoundError: no such object.
        ConflictError: a condition did not hold.
        InputError: everything else.
    """
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

    try:
        yield
    except ClientError as error:
        raise _client_error(storage, doing, error.response) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise InputError(
            f"no credentials to {doing}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        ) from error
    except BotoCoreError as error:
        place = storage.endpoint or "AWS"
        raise InputError(
            f"cannot {doing}: no answer from {place} ({type(error).__name__}); look at {ENDPOINT} and the network"
        ) from error


def _client_error(storage: Storage, doing: str, response: Mapping[str, Any]) -> Exception:
    told = cast("dict[str, Any]", response.get("Error", {}))
    code = str(told.get("Code", ""))
    if code in _NOT_THERE:
        return FileNotFoundError(doing)
    if code in _CONFLICT:
        return ConflictError(doing)
    if code in _UNSUPPORTED:
        return UnsupportedError(f"cannot {doing}: this server does not know the operation")
    return InputError(f"cannot {doing}: {_remedy(storage, code, str(told.get('Message', '')))}")


def _remedy(storage: Storage, code: str, message: str) -> str:
    if code == "NoSuchBucket":
        return f"there is no bucket {storage.bucket!r}; create it, or mend {URL}"
    if code in _CREDENTIALS:
        return f"wrong credentials ({code}); look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if code in _DENIED:
        return f"no permission ({code}); ask for it for these credentials, or use others"
    if code in _CLOCK:
        return "this machine's clock is wrong; set it"
    return f"the server says {code or 'nothing'}: {message}; try again"
