"""Pulling a published model: verified before it is there, carried on after an interruption, and receipted.

Files arrive in `.<name>.partial` beside the target, which takes their place in one rename after everything was verified
and the receipt lies in the bucket. A copy that nobody knows of is the one thing this must not make.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tavr_records.atomic import full_disk_named, write_bytes
from tavr_records.errors import InputError, VerificationError
from tavr_records.ids import sha256_file

from tavr_lineage.clock import now
from tavr_lineage.git import GitError, git_bytes, repository_root
from tavr_lineage.policy import POLICY, read_policy
from tavr_lineage.publication.pointers import Pointer, read_pointer
from tavr_lineage.publication.publish import Progress
from tavr_lineage.publication.published_manifest import Manifest, PublishedFile, read_manifest, version_path
from tavr_lineage.publication.receipts import RECEIPT, Pull, Receipt, leave_receipt, make_receipt, open_receipt
from tavr_lineage.publication.received import check_contents, check_manifest, check_pointer
from tavr_lineage.publication.storage import Storage
from tavr_lineage.publication.uploads import read_ranges
from tavr_lineage.record import RECORD
from tavr_lineage.registry import list_assignments
from tavr_lineage.release import PARAMS
from tavr_lineage.trust.attest import ATTESTATION
from tavr_lineage.trust.keys import PublicKey, SigningKey, signing_key
from tavr_lineage.trust.log import append, open_log

TRUSTED = "TAVR_TRUSTED_KEYS"
_ARTIFACT = "tavr"


@dataclass(frozen=True)
class Pulled:
    """A model that arrived: `fetched` bytes came over the network, `kept` were here already."""

    folder: Path
    receipt: Receipt
    files: int
    fetched: int
    kept: int


@dataclass(frozen=True)
class Reader:
    """Who pulls: the key that signs the receipt, the public key lines trusted, and the checkout, if in one."""

    key: SigningKey
    trusted: Sequence[str]
    checkout: Path | None

    @property
    def keys(self) -> list[PublicKey]:
        """The trusted keys."""
        return [PublicKey(line) for line in self.trusted]


def find_reader(folder: Path, trusted_file: Path | None = None) -> Reader:
    """Who pulls here.

    In a checkout the keys of its audit log are trusted (its own before there is one); with `trusted_file` or
    `$TAVR_TRUSTED_KEYS`, and always elsewhere, those in that file: OpenSSH public keys, one a line.

    Raises:
        InputError: no key to sign a receipt with, or none to trust.
    """
    key, checkout = find_signer(folder), _checkout(folder)
    named = trusted_file or (Path(os.environ[TRUSTED]) if os.environ.get(TRUSTED) else None)
    if named is not None:
        return Reader(key, _read_keys(named), checkout)
    if checkout is None:
        raise InputError(f"{TRUSTED}: not set; name a file with the public keys that may sign a model, one a line")
    return Reader(key, _logged_keys(checkout, key), checkout)


def find_signer(folder: Path) -> SigningKey:
    """The key that signs receipts here: the checkout's, or `$TAVR_SIGNING_KEY`.

    Raises:
        InputError: there is none.
    """
    checkout = _checkout(folder)
    if checkout is None and not os.environ.get("TAVR_SIGNING_KEY"):
        raise InputError(
            "TAVR_SIGNING_KEY: not set, and outside a checkout there is no key to sign the receipt with; "
            "make one (`ssh-keygen -t ed25519 -N '' -f KEY`) and name it"
        )
    return signing_key(checkout or folder)


def _checkout(folder: Path) -> Path | None:
    try:
        return repository_root(folder)
    except InputError:
        return None


def pull(storage: Storage, name: str, out: Path, reader: Reader, progress: Progress) -> Pulled:
    """Fetch `MODEL@STAGE` or `MODEL@VERSION` (`MODEL@` may be left out) into `out` and leave a receipt.

    Raises:
        InputError: not published, `out` is something else, no permission to leave a receipt, no answer.
        VerificationError: a pointer, manifest or file is not what was signed; `out` is as before.
    """
    artifact, wanted = _parse_name(name, reader)
    _check_target(out)
    stage = "" if _is_version(wanted) else wanted
    pointer = _follow(storage, artifact, stage, out, reader) if stage else None
    version = pointer.version if pointer is not None else wanted
    manifest, manifest_sha256 = read_manifest(storage, artifact, version)
    where = storage.url(f"{artifact}/{version}")
    check_manifest(manifest, artifact, version, reader.keys, where)
    if pointer is not None and (pointer.commit, pointer.record_sha256) != (manifest.commit, manifest.record_sha256):
        raise VerificationError(f"{where}: the pointer of {stage} and the manifest name different commits or records")
    _check_registry(reader, manifest.tags, where)
    counter = pointer.counter if pointer is not None else 0
    told = Pull(
        storage.url(), artifact, version, stage, counter, manifest.commit, manifest.record_sha256, manifest_sha256
    )
    return _receive(storage, manifest, told, out, reader, progress)


def _receive(  # noqa: PLR0913 - what a pull is made of
    storage: Storage, manifest: Manifest, told: Pull, out: Path, reader: Reader, progress: Progress
) -> Pulled:
    """Fetch, verify, receipt, rename: in this order."""
    partial = out.with_name(f".{out.name}.partial")
    if partial.is_symlink():
        raise InputError(f"{partial}: a link; remove it")
    here = _digests_here(out)
    with full_disk_named(out, partial):
        partial.mkdir(parents=True, exist_ok=True)
        _drop_strangers(partial, {entry.path for entry in manifest.files})
        fetched = sum(_fetch(storage, manifest, entry, partial, here, progress) for entry in manifest.files)
    small = {
        path: (partial / path).read_bytes() for path in (RECORD, ATTESTATION, PARAMS) if (partial / path).is_file()
    }
    check_contents(manifest, small, reader.keys, storage.url(f"{told.artifact}/{told.version}"))
    receipt, data = make_receipt(told, reader.key)
    write_bytes(partial / RECEIPT, data)
    leave_receipt(storage, receipt, data)
    if out.exists():
        shutil.rmtree(out)
    partial.replace(out)
    if reader.checkout is not None:
        _log(reader.checkout, receipt)
    size = sum(entry.size for entry in manifest.files)
    return Pulled(out, receipt, len(manifest.files), fetched, size - fetched)


def _fetch(  # noqa: PLR0913 - as above
    storage: Storage, manifest: Manifest, entry: PublishedFile, partial: Path, here: Mapping[str, Path], told: Progress
) -> int:
    """Bring one file there, from an earlier pull, from where a broken one stopped, or anew; returns bytes fetched."""
    target = partial / entry.path
    target.parent.mkdir(parents=True, exist_ok=True)
    if entry.sha256 in here and not target.exists():
        shutil.copyfile(here[entry.sha256], target)
    start = target.stat().st_size if target.is_file() else 0
    if start > entry.size:
        target.unlink()
        start = 0
    path = version_path(manifest.artifact, manifest.version, entry.path)
    told(entry.path, start, entry.size)
    fetched = _append(storage, path, target, start, entry, told)
    if sha256_file(target) != entry.sha256 and fetched < entry.size:
        target.unlink()  # what was here already may have been another file's beginning
        fetched += _append(storage, path, target, 0, entry, told)
    found = sha256_file(target)
    if found != entry.sha256:
        target.unlink()
        raise VerificationError(
            f"{storage.url(path)}: sha256 is {found[:16]}, its manifest says {entry.sha256[:16]}; do not use it"
        )
    return fetched


def _append(  # noqa: PLR0913 - as above
    storage: Storage, path: str, target: Path, start: int, entry: PublishedFile, told: Progress
) -> int:
    done = start
    with target.open("ab") as file:
        try:
            for data in read_ranges(storage, path, start, entry.size):
                file.write(data)
                done += len(data)
                told(entry.path, done, entry.size)
        except FileNotFoundError as error:
            raise VerificationError(f"{storage.url(path)}: in the manifest, and not there; publish it again") from error
    return done - start


def _drop_strangers(partial: Path, expected: set[str]) -> None:
    """Remove what a broken pull of another version left behind, and every link."""
    for path in sorted(partial.rglob("*"), reverse=True):
        if path.is_symlink() or (path.is_file() and path.relative_to(partial).as_posix() not in expected):
            path.unlink()


def _digests_here(out: Path) -> dict[str, Path]:
    """Files of an earlier pull in the target, by their sha256 now: pretrained weights need not come again."""
    files = [path for path in out.rglob("*") if path.is_file() and not path.is_symlink()] if out.is_dir() else []
    return {sha256_file(path): path for path in files}


def _check_target(out: Path) -> None:
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise InputError(f"{out}: not a folder; name a new one with -o")
    if out.is_dir() and any(out.iterdir()) and not (out / RECEIPT).is_file():
        raise InputError(f"{out}: holds something that was not pulled; name a new folder with -o")


def _parse_name(name: str, reader: Reader) -> tuple[str, str]:
    artifact, at, wanted = name.rpartition("@")
    if not at:
        artifact = read_policy(reader.checkout / POLICY).artifact if reader.checkout is not None else _ARTIFACT
    plain = all(part and all(c.isascii() and (c.isalnum() or c in "-._") for c in part) for part in (artifact, wanted))
    if not plain or ".." in wanted:
        raise InputError(f"{name!r}: no model; name it as MODEL@STAGE or MODEL@VERSION, such as tavr@prod, tavr@v0.0.3")
    return artifact, wanted


def _is_version(wanted: str) -> bool:
    return wanted.startswith("v") and wanted[1:].replace(".", "").isdecimal()


def _follow(storage: Storage, artifact: str, stage: str, out: Path, reader: Reader) -> Pointer:
    """A stage's pointer, held against its tag, our registry, and what was pulled before."""
    pointer = read_pointer(storage, artifact, stage)
    where = storage.url(f"{artifact}/stages/{stage}.json")
    if pointer is None:
        raise InputError(f"{where}: nothing is published for {stage}; `tavr publish VERSION` does that")
    check_pointer(pointer, artifact, stage, reader.keys, where)
    _check_registry(reader, {pointer.tag: pointer.tag_object}, where)
    if reader.checkout is not None:
        newest = max(
            (held.counter for held in list_assignments(reader.checkout, artifact) if held.stage == stage), default=0
        )
        if newest > pointer.counter:
            raise VerificationError(
                f"{where}: is at {pointer.tag}, this checkout's registry at number {newest}; publish that version, or "
                "pull by version"
            )
    earlier = open_receipt((out / RECEIPT).read_bytes(), str(out / RECEIPT)) if (out / RECEIPT).is_file() else None
    if (
        earlier is not None
        and (earlier.artifact, earlier.stage) == (artifact, stage)
        and earlier.counter > pointer.counter
    ):
        raise VerificationError(f"{where}: went back from assignment {earlier.counter} to {pointer.counter}")
    return pointer


def _check_registry(reader: Reader, tags: Mapping[str, str], where: str) -> None:
    """In a checkout that knows a tag, the published one must be it."""
    if reader.checkout is None:
        return
    for name, text in tags.items():
        try:
            ours = git_bytes(reader.checkout, "cat-file", "tag", f"refs/tags/{name}")
        except GitError:
            continue
        if ours != text.encode():
            raise VerificationError(f"{where}: its tag {name} is not the one of this checkout")


def _read_keys(path: Path) -> list[str]:
    """Public key lines of a file; comments and an allowed_signers file's principals and options are dropped."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); name a file with public keys") from error
    words = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    keys = [
        f"{found[at]} {found[at + 1]}" for found in words for at in range(len(found) - 1) if found[at] == "ssh-ed25519"
    ]
    if not keys:
        raise InputError(f"{path}: no ssh-ed25519 key in it; write one public key a line")
    return keys


def _logged_keys(checkout: Path, key: SigningKey) -> list[str]:
    """The keys that the audit log still believes, or our own where nothing is logged yet."""
    return [known.public for known in open_log(checkout).keyring.believed()] or [key.public]


def _log(checkout: Path, receipt: Receipt) -> None:
    facts = {
        "version": receipt.version,
        "stage": receipt.stage,
        "commit": receipt.commit,
        "record_sha256": receipt.record_sha256,
        "url": receipt.url,
        "receipt": receipt.id,
        "who": receipt.who,
        "host": receipt.host,
    }
    append(checkout, "pulled", now(), facts)
