"""What was received against what was signed: tag -> record -> every file. The manifest's own word is not needed.

A signed version tag names the commit and the digests of the record and the attestation; the record names every weight
file; the attestation, signed too, names the record and the trained files. A stage's pointer carries the signed tag that
assigned the version to the stage.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, cast

import yaml
from tavr_records.errors import InputError, VerificationError

from tavr_lineage.publication.pointers import Pointer
from tavr_lineage.publication.published_manifest import Manifest
from tavr_lineage.record import RECORD, parse_record
from tavr_lineage.release import PARAMS
from tavr_lineage.trust.attest import ATTESTATION, PAYLOAD_TYPE, verify_sealed
from tavr_lineage.trust.keys import PublicKey
from tavr_lineage.trust.tag_object import TagObject, open_tag

# Files that the record does not name: itself, what signs it, and the parameters, which it repeats.
_BESIDE = (RECORD, ATTESTATION, PARAMS, "model.sig")
_VERSION = re.compile(r"v\d+\.\d+\.\d+")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def check_pointer(pointer: Pointer, artifact: str, stage: str, keys: Sequence[PublicKey], where: str) -> None:
    """Hold a pointer against the signed tag it carries.

    Raises:
        VerificationError: it differs from the tag, or the tag is signed by no trusted key.
    """
    tag = open_tag(pointer.tag_object.encode(), keys, f"{where}: tag {pointer.tag}")
    found = {
        "tag": pointer.tag,
        "commit": pointer.commit,
        "version": f"{artifact} {pointer.version} holds {stage}",
        "record_sha256": pointer.record_sha256,
    }
    signed = {
        "tag": tag.name,
        "commit": tag.commit,
        "version": tag.title,
        "record_sha256": tag.facts.get("record-sha256"),
    }
    _compare(found, signed, where)
    if pointer.tag != f"{artifact}#{stage}#{pointer.counter}":
        raise VerificationError(f"{where}: {pointer.tag} is no assignment {pointer.counter} of {artifact} to {stage}")


def check_manifest(manifest: Manifest, artifact: str, version: str, keys: Sequence[PublicKey], where: str) -> TagObject:
    """Hold a manifest's head against its signed tag, and its paths against each other.

    Raises:
        VerificationError: it is another version's, differs from the tag, or names a path outside its folder.
    """
    name = f"{artifact}@{version}"
    _compare(
        {"artifact": manifest.artifact, "version": manifest.version}, {"artifact": artifact, "version": version}, where
    )
    if _VERSION.fullmatch(version) is None or set(manifest.tags) != {name}:
        raise VerificationError(f"{where}: names the tags {sorted(manifest.tags)}, not {name}")
    tag = open_tag(manifest.tags[name].encode(), keys, f"{where}: tag {name}")
    found = {"tag": name, "commit": manifest.commit, "record_sha256": manifest.record_sha256}
    _compare(found, {"tag": tag.name, "commit": tag.commit, "record_sha256": tag.facts.get("record-sha256")}, where)
    seen: set[str] = set()
    for entry in manifest.files:
        check_path(entry.path, where)
        if entry.path in seen or entry.size < 0 or _DIGEST.fullmatch(entry.sha256) is None:
            raise VerificationError(f"{where}: {entry.path!r} is there twice, or its size or sha256 is none")
        seen.add(entry.path)
    digests = {entry.path: entry.sha256 for entry in manifest.files}
    signed = {
        RECORD: manifest.record_sha256,
        ATTESTATION: tag.facts.get("attestation-sha256", digests.get(ATTESTATION)),
    }
    _compare({path: digests.get(path) for path in signed}, signed, where)
    return tag


def check_path(path: str, where: str) -> None:
    """Refuse a path that could leave the folder it is unpacked in, or be written in two ways.

    Raises:
        VerificationError: it could.
    """
    pure = PurePosixPath(path)
    plain = pure.as_posix() == path and not pure.is_absolute() and path not in (".", "receipt.json")
    if not plain or ".." in pure.parts or re.search(r"[\\\x00-\x1f\x7f:]", path):
        raise VerificationError(f"{where}: {path!r} is no plain path below the folder")


def check_contents(manifest: Manifest, small: Mapping[str, bytes], keys: Sequence[PublicKey], where: str) -> None:
    """Hold the manifest's files against the record, and record and attestation against each other.

    Args:
        manifest: whose files were all held against their sha256 already.
        small: bytes of record.json, attestation.json and params.yaml.
        keys: that may sign attestations.
        where: starts every message.

    Raises:
        VerificationError: a file that the record does not name or names otherwise, or another attestation.
    """
    digests = {entry.path: entry.sha256 for entry in manifest.files}
    try:
        record = parse_record(small[RECORD], f"{where}/{RECORD}")
        named = _named_files(record)
    except (InputError, KeyError, TypeError) as error:
        raise VerificationError(f"{where}/{RECORD}: cannot be read ({error})") from error
    held = {path: digest for path, digest in digests.items() if path not in _BESIDE}
    for path in sorted(held.keys() | named.keys()):
        if held.get(path) != named.get(path):
            raise VerificationError(
                f"{where}: {path} is {_short(held.get(path))}, the record says {_short(named.get(path))}"
            )
    if yaml.safe_load(small.get(PARAMS, b"")) != record["params"]:
        raise VerificationError(f"{where}: {PARAMS} is not what the record says")
    _check_attestation(small.get(ATTESTATION, b""), digests, keys, f"{where}/{ATTESTATION}")


def _named_files(record: Mapping[str, Any]) -> dict[str, str]:
    """The trained model and the pretrained weights, with their sha256, as the record says."""
    benchmark = record["params"]["benchmark"]
    model = benchmark["methods"][benchmark["candidate"]]["model"]
    named = {path: digest for path, digest in record["outputs"].items() if path.startswith(f"{model}/")}
    return named | {f"data/weights/{weight['path']}": weight["sha256"] for weight in record["weights"]}


def _check_attestation(data: bytes, digests: Mapping[str, str], keys: Sequence[PublicKey], where: str) -> None:
    payload = verify_sealed(data, keys, where)
    try:
        statement = cast("dict[str, Any]", json.loads(payload))
        subjects = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
        kind = json.loads(data)["payloadType"]
    except (ValueError, KeyError, TypeError) as error:
        raise VerificationError(f"{where}: not a statement ({error!r})") from error
    attested = {path: digest for path, digest in digests.items() if path == RECORD or path in subjects}
    if kind != PAYLOAD_TYPE or RECORD not in subjects or any(subjects[path] != attested[path] for path in attested):
        raise VerificationError(f"{where}: attests other files than these")


def _compare(found: Mapping[str, object], signed: Mapping[str, object], where: str) -> None:
    for name, value in found.items():
        if value != signed[name]:
            raise VerificationError(f"{where}: {name} is {_short(value)}, its signed tag says {_short(signed[name])}")


def _short(value: object) -> str:
    return "not there" if value is None else str(value)[:40]
