"""Taking a version out of the bucket: every version of its objects, and an account of what went and what stayed.

The version's claim stays, marked as removed, so that nobody publishes it again; receipts stay, since they say whom to
ask to delete their copies.
"""

import datetime as dt
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from botocore.exceptions import ClientError
from tavr_records.ids import canonical_json

from tavr_lineage.clock import now
from tavr_lineage.publication.pointers import claim_path, list_stages, read_pointer, stage_path
from tavr_lineage.publication.storage import (
    Storage,
    UnsupportedError,
    explained,
    list_objects,
    read_object,
    write_object,
)
from tavr_lineage.publication.uploads import list_uploads


@dataclass(frozen=True)
class Removal:
    """One thing in the bucket and what became of it.

    Attributes:
        what: `object`, `object version`, `delete marker`, `unfinished upload`, `receipt` or `claim`.
        version_id: the server's id of the version or upload; "" where it has none.
        removed: whether it is gone.
        why: why it was kept; "" when it is gone.
    """

    url: str
    what: str
    version_id: str
    removed: bool
    why: str


def delete_published(storage: Storage, artifact: str, version: str) -> list[Removal]:
    """Delete everything of a published version, in every version the bucket keeps, and unfinished uploads of it.

    Pointers that name the version go first, so that nobody starts to pull what is being removed. What the server keeps
    (Object Lock, no permission) is reported, not raised.

    Raises:
        InputError: the server cannot be asked at all.
    """
    done: list[Removal] = []
    for stage in list_stages(storage, artifact):
        pointer = read_pointer(storage, artifact, stage)
        if pointer is not None and pointer.version == version:
            done += _delete_all(storage, stage_path(artifact, stage))
    done.append(_close_claim(storage, artifact, version))
    folder = f"{artifact}/{version}/"
    done += _abort_uploads(storage, folder)
    done += _delete_all(storage, folder)
    why = "it says who has a copy to delete"
    receipts = list_objects(storage, f"{artifact}/receipts/{version}/")
    return done + [Removal(storage.url(entry.path), "receipt", "", removed=False, why=why) for entry in receipts]


def _delete_all(storage: Storage, under: str) -> list[Removal]:
    """Delete every version of every object below `under`."""
    place = f"delete {storage.url(under)}"
    try:
        with explained(storage, place):
            versions = list(_versions(storage, under))
    except UnsupportedError:  # a server without versions: what is listed is all there is
        versions = [("object", {"Key": storage.key(entry.path)}) for entry in list_objects(storage, under)]
    return [_delete(storage, what, entry) for what, entry in versions]


def _versions(storage: Storage, under: str) -> Iterator[tuple[str, dict[str, Any]]]:
    pages = storage.client.get_paginator("list_object_versions")
    for page in pages.paginate(Bucket=storage.bucket, Prefix=storage.key(under)):
        yield from (("object version", entry) for entry in page.get("Versions", []))
        yield from (("delete marker", entry) for entry in page.get("DeleteMarkers", []))


def _delete(storage: Storage, what: str, entry: Mapping[str, Any]) -> Removal:
    place = {"Bucket": storage.bucket, "Key": entry["Key"]}
    version_id = str(entry.get("VersionId", ""))
    url = f"s3://{storage.bucket}/{entry['Key']}"
    with explained(storage, f"delete {url}"):
        try:
            storage.client.delete_object(**place, **({"VersionId": version_id} if version_id else {}))
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("AccessDenied", "InvalidRequest", "403"):
                raise
            return Removal(url, what, version_id, removed=False, why=_why_kept(storage, place, version_id))
    return Removal(url, what, version_id, removed=True, why="")


def _why_kept(storage: Storage, place: Mapping[str, str], version_id: str) -> str:
    try:
        kept = storage.client.get_object_retention(**place, VersionId=version_id)["Retention"]
    except ClientError as error:
        return f"no permission to delete it, and none to ask why ({error.response['Error']['Code']})"
    until = cast("dt.datetime", kept["RetainUntilDate"]).astimezone(dt.UTC)
    return f"Object Lock ({kept['Mode']}) until {until:%Y-%m-%dT%H:%M:%SZ}"


def _abort_uploads(storage: Storage, folder: str) -> list[Removal]:
    done: list[Removal] = []
    with explained(storage, f"abort the unfinished uploads of {storage.url(folder)}"):
        for entry in list_uploads(storage.client, storage.bucket, storage.key(folder)):
            storage.client.abort_multipart_upload(Bucket=storage.bucket, Key=entry["Key"], UploadId=entry["UploadId"])
            url = f"s3://{storage.bucket}/{entry['Key']}"
            done.append(Removal(url, "unfinished upload", entry["UploadId"], removed=True, why=""))
    return done


def _close_claim(storage: Storage, artifact: str, version: str) -> Removal:
    """Mark the version as removed; what is left says which commit it was and nothing else."""
    path = claim_path(artifact, version)
    stored = read_object(storage, path)
    claimed = cast("dict[str, str]", json.loads(stored.data)) if stored is not None else {"commit": ""}
    write_object(storage, path, canonical_json({"removed_at": now(), **claimed}))
    return Removal(storage.url(path), "claim", "", removed=False, why="it keeps the version from being published again")
