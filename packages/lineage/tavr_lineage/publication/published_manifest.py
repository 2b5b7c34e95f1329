"""A published version's `manifest.json`: which files it is made of, under which signed tag. Canonical JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

from tavr_records.errors import InputError, VerificationError
from tavr_records.ids import canonical_json, sha256_bytes

from tavr_lineage.publication.storage import Storage, read_object

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class PublishedFile:
    """One file of a version; `path` is where it lies in a checkout."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a version is made of; `tags` holds its tag as git stores it, with its signature."""

    schema_version: int
    artifact: str
    version: str
    commit: str
    record_sha256: str
    files: tuple[PublishedFile, ...]
    tags: Mapping[str, str]


def version_path(artifact: str, version: str, path: str) -> str:
    """Where a file of a version lies."""
    return f"{artifact}/{version}/files/{path}"


def manifest_path(artifact: str, version: str) -> str:
    """Where a version's manifest lies."""
    return f"{artifact}/{version}/{MANIFEST}"


def manifest_bytes(manifest: Manifest) -> bytes:
    """The manifest in canonical JSON."""
    return canonical_json(asdict(manifest))


def parse_manifest(data: bytes, where: str) -> Manifest:
    """Read a manifest, strictly.

    Raises:
        VerificationError: not a manifest in canonical JSON, or of another schema version.
    """
    try:
        document = cast("dict[str, Any]", json.loads(data))
        document["files"] = tuple(PublishedFile(**entry) for entry in document["files"])
        manifest = Manifest(**document)
        canonical = manifest_bytes(manifest) == data
        typed = all(type(entry.size) is int for entry in manifest.files) and bool(manifest.tags.items())
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise VerificationError(f"{where}: not a manifest ({error}); publish the version again") from error
    if manifest.schema_version != SCHEMA_VERSION or not canonical or not typed:
        raise VerificationError(f"{where}: not a manifest (another schema version or type, or not canonical JSON)")
    return manifest


def read_manifest(storage: Storage, artifact: str, version: str) -> tuple[Manifest, str]:
    """A published version's manifest and its sha256.

    Raises:
        InputError: the version is not published.
        VerificationError: not a manifest.
    """
    path = manifest_path(artifact, version)
    stored = read_object(storage, path)
    if stored is None:
        raise InputError(f"{storage.url(path)}: {artifact}@{version} is not published here; `tavr publish` does that")
    return parse_manifest(stored.data, storage.url(path)), sha256_bytes(stored.data)
