"""Publication of a promoted model: its files, then its manifest, then the pointer of the stage it holds.

<prefix>/<artifact>/<version>/manifest.json          written last: what is not in it is not published
<prefix>/<artifact>/<version>/files/<path>           as in a checkout after `dvc repro`
<prefix>/<artifact>/claims/<version>.json            which commit the version is
<prefix>/<artifact>/stages/<stage>.json              which version holds the stage
<prefix>/<artifact>/receipts/<version>/...           who pulled it (`receipts.py`)
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tavr_records.errors import InputError, RefusedError, VerificationError
from tavr_records.ids import sha256_bytes, sha256_file

from tavr_lineage.clock import now
from tavr_lineage.git import GitError, git, git_bytes, read_file, repository_root
from tavr_lineage.policy import POLICY, read_policy
from tavr_lineage.promotion import Promotion
from tavr_lineage.publication.pointers import Pointer, claim_version, list_stages, move_pointer, read_pointer
from tavr_lineage.publication.published_manifest import (
    SCHEMA_VERSION,
    Manifest,
    PublishedFile,
    manifest_bytes,
    manifest_path,
    parse_manifest,
    version_path,
)
from tavr_lineage.publication.server_probe import Server, probe
from tavr_lineage.publication.storage import (
    ABSENT,
    ConflictError,
    Storage,
    explained,
    need_storage,
    open_storage,
    read_object,
    write_object,
)
from tavr_lineage.publication.uploads import SHA256, is_there, upload, verify
from tavr_lineage.record import RECORD, parse_record
from tavr_lineage.registry import find_version, list_assignments
from tavr_lineage.release import open_release
from tavr_lineage.trust.attest import ATTESTATION
from tavr_lineage.trust.log import append

SIGNATURE = "model.sig"
REMOTE = "TAVR_GIT_REMOTE"
LOCAL_ONLY = "TAVR_S3_URL is not set: the model stays on this machine"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Published:
    """What a publication did.

    Attributes:
        url: where the version lies.
        stages: pointers that name it now.
        files: how many there are, and `bytes` in all.
        sent: bytes sent this time, and `copied` on the server from an earlier version.
        verified: how many files were verified how.
        server: what the server holds to, in words.
    """

    version: str
    url: str
    stages: tuple[str, ...]
    manifest_sha256: str
    files: int
    bytes: int
    sent: int
    copied: int
    verified: Mapping[str, int]
    server: tuple[str, ...]


@dataclass(frozen=True)
class _Source:
    """A file on disk that is to be published."""

    entry: PublishedFile
    file: Path


def publish(root: Path, promotion: Promotion, progress: Progress | None = None) -> Published | None:
    """Publish what a promotion or rollback decided; None without a configured storage (`LOCAL_ONLY`).

    Raises:
        InputError: the storage cannot be used; the tags stay, and `tavr publish VERSION` carries on.
        RefusedError: another publication won.
        VerificationError: what lies there is not what was sent.
    """
    storage = open_storage()
    if storage is None:
        return None
    return publish_to(storage, repository_root(root), promotion.tags[0], [promotion.tags[1]], progress)


def publish_or_tell(root: Path, promotion: Promotion) -> str:
    """Publish what a promotion decided and say in one line what came of it; the promotion stands either way."""
    try:
        published = publish(root, promotion)
    except (InputError, RefusedError, VerificationError) as error:
        return f"not published: {error}; carry on with `tavr publish {promotion.version}`"
    if published is None:
        return LOCAL_ONLY
    return f"published at {published.url}"


def publish_version(root: Path, label: str, progress: Progress | None = None) -> Published:
    """Publish a version, and the pointers of the stages it holds now.

    Raises:
        InputError: no such version, no storage. Else as `publish`.
    """
    storage, root = need_storage(), repository_root(root)
    artifact = read_policy(root / POLICY).artifact
    version = find_version(root, artifact, label)
    newest = {assignment.stage: assignment for assignment in list_assignments(root, artifact)}
    held = [assignment.name for assignment in newest.values() if assignment.commit == version.commit]
    return publish_to(storage, root, version.name, held, progress)


def publish_to(
    storage: Storage, root: Path, name: str, assignments: Sequence[str], progress: Progress | None = None
) -> Published:
    """Publish the version with tag `name` and the pointers of its stage `assignments` (tag names)."""
    artifact, label = name.split("@")
    push_tags(root, [name, *assignments])
    server = probe(storage)
    with TemporaryDirectory() as folder:
        manifest, sources = describe(root, name, Path(folder))
        facts = {"commit": manifest.commit, "record_sha256": manifest.record_sha256}
        claim_version(storage, server, artifact, label, facts)
        sent, copied, verified = _send(storage, server, manifest, sources, progress or _silent)
    data = manifest_bytes(manifest)
    _write_manifest(storage, manifest_path(artifact, label), data)
    stages = tuple(_point(storage, server, root, manifest, tag) for tag in assignments)
    done = Published(
        label, storage.url(f"{artifact}/{label}"), stages, sha256_bytes(data), len(sources),
        sum(source.entry.size for source in sources), sent, copied, verified, tuple(server.describe()),
    )  # fmt: skip
    _log(root, manifest, done, assignments)
    return done


def describe(root: Path, name: str, scratch: Path) -> tuple[Manifest, list[_Source]]:
    """The manifest of a version and where each of its files lies; files of the commit are written to `scratch`."""
    artifact, label = name.split("@")
    commit = git(root, "rev-parse", f"refs/tags/{name}^{{commit}}")
    release = open_release(root, commit)
    files = {path.relative_to(release.folder).as_posix(): path for path in release.folder.rglob("*") if path.is_file()}
    for committed in (RECORD, ATTESTATION, SIGNATURE):
        data = read_file(root, commit, committed)
        if data is not None:
            (scratch / committed).write_bytes(data)
            files[committed] = scratch / committed
    sources = [
        _Source(PublishedFile(path, file.stat().st_size, sha256_file(file)), file)
        for path, file in sorted(files.items())
    ]
    entries = tuple(source.entry for source in sources)
    record_sha256 = next(entry.sha256 for entry in entries if entry.path == RECORD)
    tags = {name: tag_object(root, name)}
    return Manifest(SCHEMA_VERSION, artifact, label, commit, record_sha256, entries, tags), sources


def tag_object(root: Path, name: str) -> str:
    """A tag as git stores it."""
    return git_bytes(root, "cat-file", "tag", f"refs/tags/{name}").decode("utf-8")


def push_tags(root: Path, tags: Sequence[str]) -> None:
    """Push tags to `$TAVR_GIT_REMOTE`, all or none, where one is named: of two checkouts, the remote lets one win.

    Raises:
        RefusedError: the remote has another tag of that name.
    """
    remote = os.environ.get(REMOTE)
    if not remote:
        return
    try:
        git(root, "push", "--atomic", "--quiet", remote, *(f"refs/tags/{tag}" for tag in tags))
    except GitError as error:
        raise RefusedError(
            f"{remote} does not take {', '.join(tags)} ({str(error).splitlines()[-1]}): another checkout was faster, "
            "or no permission; `git fetch --tags` and promote again"
        ) from error


def _silent(path: str, done: int, size: int) -> None:
    """No progress to show."""


def _send(
    storage: Storage, server: Server, manifest: Manifest, sources: Sequence[_Source], progress: Progress
) -> tuple[int, int, dict[str, int]]:
    """Bring every file there and verify it; returns bytes sent, bytes copied on the server, and how was verified."""
    sent = copied = 0
    verified: dict[str, int] = {}
    earlier = _earlier(storage, manifest)
    for source in sources:
        entry = source.entry
        path = version_path(manifest.artifact, manifest.version, entry.path)
        done = 0

        def told(count: int, entry: PublishedFile = entry) -> None:
            nonlocal done
            done += count
            progress(entry.path, done, entry.size)

        if is_there(storage, path, entry.size, entry.sha256):
            told(entry.size)
        elif entry.sha256 in earlier and _copy(storage, earlier[entry.sha256], path, entry.sha256):
            copied += entry.size
            told(entry.size)
        else:
            sent += upload(storage, path, source.file, entry.sha256, told)
        how = verify(storage, path, source.file, entry.sha256, checksums=server.checksums)
        verified[how] = verified.get(how, 0) + 1
    return sent, copied, verified


def _earlier(storage: Storage, manifest: Manifest) -> dict[str, str]:
    """Files of the versions that hold a stage, by sha256: pretrained weights are the same from version to version."""
    found: dict[str, str] = {}
    for stage in list_stages(storage, manifest.artifact):
        pointer = read_pointer(storage, manifest.artifact, stage)
        if pointer is None or pointer.version == manifest.version:
            continue
        stored = read_object(storage, manifest_path(manifest.artifact, pointer.version))
        if stored is not None:
            for entry in parse_manifest(stored.data, stage).files:
                found[entry.sha256] = version_path(manifest.artifact, pointer.version, entry.path)
    return found


def _copy(storage: Storage, source: str, target: str, sha256: str) -> bool:
    """Copy on the server; False when it is not there any more. What was copied is verified like what was sent."""
    place = {"Bucket": storage.bucket, "Key": storage.key(source)}
    extra = {"Metadata": {SHA256: sha256}, "MetadataDirective": "REPLACE"}
    try:
        with explained(storage, f"copy {storage.url(source)}"):
            storage.client.copy(place, storage.bucket, storage.key(target), ExtraArgs=extra)
    except FileNotFoundError:
        return False
    return True


def _write_manifest(storage: Storage, path: str, data: bytes) -> None:
    """Write the manifest once and for all.

    Raises:
        VerificationError: another one is there.
    """
    stored = read_object(storage, path)
    if stored is None:
        try:
            write_object(storage, path, data, ABSENT, keep=True)
        except ConflictError:
            stored = read_object(storage, path)
    if stored is not None and stored.data != data:
        raise VerificationError(f"{storage.url(path)}: differs from what this checkout publishes; somebody changed it")


def _point(storage: Storage, server: Server, root: Path, manifest: Manifest, tag: str) -> str:
    """Move the pointer of an assignment's stage; returns the stage."""
    _, stage, counter = tag.split("#")
    wanted = Pointer(
        manifest.version, manifest.commit, manifest.record_sha256, tag, tag_object(root, tag), int(counter), "", ""
    )

    def known(name: str) -> str | None:
        try:
            return tag_object(root, name)
        except GitError:
            return None

    move_pointer(storage, server, manifest.artifact, stage, wanted, known)
    return stage


def _log(root: Path, manifest: Manifest, done: Published, assignments: Sequence[str]) -> None:
    data = parse_record(read_file(root, manifest.commit, RECORD) or b"", RECORD)
    facts = {
        "run": data["run"]["run_id"],
        "version": manifest.version,
        "commit": manifest.commit,
        "record_sha256": manifest.record_sha256,
        "manifest_sha256": done.manifest_sha256,
        "url": done.url,
        "tags": [f"{manifest.artifact}@{manifest.version}", *assignments],
        "files": done.files,
        "bytes": done.bytes,
    }
    append(root, "published", now(), facts)
