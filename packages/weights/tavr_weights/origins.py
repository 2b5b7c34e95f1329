"""Fetching from a folder, a Hugging Face repository, an S3 bucket or one https address (a file or a zip)."""

import shutil
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tavr_records.atomic import atomic_directory, atomic_file
from tavr_records.errors import InputError
from tqdm import tqdm

from tavr_weights.config import RoleConfig
from tavr_weights.pins import demand_safe_name


@dataclass(frozen=True)
class Fetched:
    """Files of one role, by their path in the role's folder.

    Attributes:
        own: the files are our own downloads below `.work`, which may be hard linked.
        revision: the exact version that was fetched, where the origin knows one.
        remedy: what to do when a file is missing or wrong.
    """

    origin: str
    files: dict[str, Path] = field(default_factory=dict[str, Path])
    own: bool = False
    revision: str = ""
    remedy: str = "fetch it again"


def fetch(role: str, config: RoleConfig, names: list[str] | None, cache: Path, root: Path) -> Fetched:
    """Fetch the files `names` of a role, or when None all that match its patterns.

    Raises:
        InputError: unknown scheme, unreachable origin, missing folder.
    """
    scheme = config.origin.split("://")[0] if "://" in config.origin else "folder"
    if scheme == "folder":
        return _from_folder(role, config, names, root)
    if scheme == "hf":
        return _from_hub(role, config, names, cache)
    if scheme == "s3":
        return _from_bucket(role, config, names, cache)
    if scheme == "https":
        return _from_web(role, config, names, cache)
    raise InputError(f"weights.roles.{role}.origin: {config.origin!r}; use a folder, hf://, s3:// or https://")


def _from_folder(role: str, config: RoleConfig, names: list[str] | None, root: Path) -> Fetched:
    folder = root / config.origin
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder for role {role}; restore it from git or mend origin in conf/")
    found = _select(folder, config.files, names)
    remedy = "restore it with `git checkout`, or build it anew with `make zoo`"
    return Fetched(config.origin, found, revision=config.revision or "", remedy=remedy)


def _from_hub(role: str, config: RoleConfig, names: list[str] | None, cache: Path) -> Fetched:
    from huggingface_hub import snapshot_download

    parts = config.origin.removeprefix("hf://").split("/")
    if len(parts) < 2:
        raise InputError(f"weights.roles.{role}.origin: {config.origin!r}; write hf://<org>/<repo>[/<subfolder>]")
    subfolder = "/".join(parts[2:])
    prefix = f"{subfolder}/" if subfolder else ""
    patterns = [prefix + name for name in (names or config.files)]
    try:
        folder = snapshot_download(
            "/".join(parts[:2]), revision=config.revision, allow_patterns=patterns, cache_dir=cache
        )
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{config.origin}: cannot be fetched ({reason}); check network, name and access") from error
    snapshot = Path(folder)
    found = _select(snapshot / subfolder, config.files, names)
    return Fetched(config.origin, found, own=True, revision=snapshot.name, remedy=f"delete {cache} and run again")


def _from_bucket(role: str, config: RoleConfig, names: list[str] | None, cache: Path) -> Fetched:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, prefix = config.origin.removeprefix("s3://").partition("/")
    prefix = prefix.rstrip("/") + "/" if prefix else ""
    try:
        client: Any = boto3.client("s3")
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        entries = {item["Key"].removeprefix(prefix): item for page in pages for item in page.get("Contents", [])}
        for name, entry in tqdm(sorted(entries.items()), desc=f"{role} from S3", unit="file", leave=False):
            demand_safe_name(name, config.origin)
            goal = cache / name
            if not _wanted(name, config.files, names) or (goal.is_file() and goal.stat().st_size == entry["Size"]):
                continue
            with atomic_file(goal) as temporary:
                client.download_file(bucket, entry["Key"], str(temporary))
    except (BotoCoreError, ClientError) as error:
        raise InputError(f"{config.origin}: cannot be fetched ({error}); check bucket, endpoint and keys") from error
    found = _select(cache, config.files, names) if cache.is_dir() else {}
    return Fetched(config.origin, found, own=True, remedy=f"delete {cache} and run again")


def _from_web(role: str, config: RoleConfig, names: list[str] | None, cache: Path) -> Fetched:
    archive = cache / "download" / config.origin.rsplit("/", 1)[-1]
    if not archive.is_file():
        try:
            with (
                urllib.request.urlopen(config.origin, timeout=60) as response,  # noqa: S310 - `fetch` lets https in only
                atomic_file(archive) as temporary,
            ):
                size = int(response.headers.get("Content-Length") or 0)
                with (
                    tqdm.wrapattr(response, "read", total=size, desc=role) as stream,
                    temporary.open("wb") as file,
                ):
                    shutil.copyfileobj(stream, file)
        except (urllib.error.URLError, TimeoutError) as error:
            raise InputError(f"{config.origin}: cannot be fetched ({error}); check network and address") from error
    folder = archive.parent
    if archive.suffix == ".zip":
        folder = cache / "unpacked"
        if not folder.is_dir():
            _unpack(archive, folder, config.origin)
    found = _select(folder, config.files, names)
    return Fetched(config.origin, found, own=True, remedy=f"delete {cache} and run again")


def _unpack(archive: Path, folder: Path, origin: str) -> None:
    with zipfile.ZipFile(archive) as content, atomic_directory(folder) as temporary:
        for entry in content.infolist():
            demand_safe_name(entry.filename, origin)
            content.extract(entry, temporary)


def _select(folder: Path, patterns: list[str], names: list[str] | None) -> dict[str, Path]:
    """Regular files below `folder` by relative path: the named ones, or all that match a pattern."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: path for name, path in found.items() if _wanted(name, patterns, names)}


def _wanted(name: str, patterns: list[str], names: list[str] | None) -> bool:
    if names is not None:
        return name in names
    return any(fnmatch(name, pattern) for pattern in patterns)
