"""A git tag object on its own, without a repository: what it says, and whether a known key signed it."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError as NotSignedError
from securesystemslib.signer import SSlibKey
from tavr_records.errors import VerificationError

from tavr_lineage.registry import TAG_PAYLOAD_TYPE

_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----\n", "-----END SSH SIGNATURE-----\n"
_HEADER = re.compile(r"object ([0-9a-f]{40})\ntype commit\ntag ([^\n]+)\ntagger [^\n]+\n\n([^\n]*)\n\n")
_SEALED = re.compile(r"^dsse: (\{.*\})$", re.MULTILINE)


@dataclass(frozen=True)
class TagObject:
    """What a tag says: its name, commit, first line, and the `field: value` lines below it."""

    name: str
    commit: str
    title: str
    facts: Mapping[str, str]


def open_tag(text: str, keys: Sequence[str], where: str) -> TagObject:
    """Read a tag object (`git cat-file tag`) that one of `keys` (OpenSSH public key lines) signed, by ssh or DSSE.

    Raises:
        VerificationError: no such object, or signed by none of them.
    """
    header = _HEADER.match(text)
    if header is None:
        raise VerificationError(f"{where}: not an annotated tag of a commit")
    body, begin, armored = text.partition(_BEGIN)
    lines = [line for line in body[header.end() :].splitlines() if ": " in line and not line.startswith("dsse: ")]
    tag = TagObject(header[2], header[1], header[3], dict(line.split(": ", 1) for line in lines))
    sealed = _SEALED.search(body)
    if begin:
        _check_ssh(body.encode(), armored, keys, f"{where}: tag {tag.name}")
    elif sealed is not None:
        _check_sealed(tag, sealed[1].encode(), keys, f"{where}: tag {tag.name}")
    else:
        raise VerificationError(f"{where}: tag {tag.name} is not signed")
    return tag


def open_envelope(data: bytes, keys: Sequence[str], where: str) -> bytes:
    """The payload of a DSSE envelope that one of `keys` signed.

    Raises:
        VerificationError: not an envelope, or signed by none of them.
    """
    try:
        envelope = Envelope.from_dict(json.loads(data))
        envelope.verify([SSlibKey.from_crypto(_ed25519(key)) for key in keys], 1)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VerificationError(f"{where}: not a DSSE envelope ({error!r})") from error
    except NotSignedError as error:
        raise VerificationError(f"{where}: signed by none of the {len(keys)} trusted keys") from error
    return envelope.payload


def _ed25519(line: str) -> Ed25519PublicKey:
    try:
        key = load_ssh_public_key(line.encode("ascii"))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise VerificationError(f"{line[:40]!r}: no OpenSSH public key ({error})") from error
    if not isinstance(key, Ed25519PublicKey):
        raise VerificationError(f"{line[:40]!r}: no ed25519 key")
    return key


def _check_ssh(signed: bytes, armored: str, keys: Sequence[str], where: str) -> None:
    """Verify an SSHSIG of namespace `git` (openssh-portable, PROTOCOL.sshsig)."""
    try:
        public, namespace, reserved, algorithm, raw = _unpack(armored)
    except ValueError as error:
        raise VerificationError(f"{where}: its signature cannot be read ({error})") from error
    known = {base64.b64decode(key.split()[1]): key for key in keys}.get(public)
    if known is None:
        fingerprint = base64.b64encode(hashlib.sha256(public).digest()).decode("ascii").rstrip("=")
        raise VerificationError(f"{where}: signed by SHA256:{fingerprint}, which is none of the trusted keys")
    digest = hashlib.new(algorithm.decode("ascii"), signed).digest()
    message = b"SSHSIG" + b"".join(_packed(part) for part in (namespace, reserved, algorithm, digest))
    try:
        _ed25519(known).verify(raw, message)
    except InvalidSignature as error:
        raise VerificationError(f"{where}: its signature was made for something else") from error


def _unpack(armored: str) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """Public key, namespace, reserved, hash algorithm and raw ed25519 signature of an SSHSIG.

    Raises:
        ValueError: it is none, or of another kind.
    """
    text, end, rest = armored.partition(_END)
    blob = base64.b64decode(text.replace("\n", ""), validate=True)
    fields = _strings(blob[10:])
    if not end or rest or blob[:10] != b"SSHSIG\x00\x00\x00\x01" or len(fields) != 5:
        raise ValueError("its parts are not those of an SSHSIG")
    public, namespace, reserved, algorithm, signature = fields
    kind, raw = _strings(signature)
    if (namespace, kind) != (b"git", b"ssh-ed25519") or algorithm not in (b"sha256", b"sha512"):
        raise ValueError(f"namespace {namespace!r}, {kind!r} over {algorithm!r}")
    return public, namespace, reserved, algorithm, raw


def _check_sealed(tag: TagObject, envelope: bytes, keys: Sequence[str], where: str) -> None:
    """A tag made where git cannot sign carries its facts in an envelope of their own."""
    told = cast("dict[str, Any]", json.loads(open_envelope(envelope, keys, where)))
    facts = {field: value for field, value in tag.facts.items() if field != "key"}
    expected = {"tag": tag.name, "commit": tag.commit, "title": tag.title, "facts": facts}
    if told != expected or json.loads(envelope)["payloadType"] != TAG_PAYLOAD_TYPE:
        raise VerificationError(f"{where}: its signature was made for another tag, commit or message")


def _packed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _strings(data: bytes) -> list[bytes]:
    """Split length-prefixed strings.

    Raises:
        ValueError: cut off.
    """
    found: list[bytes] = []
    while data:
        size = int.from_bytes(data[:4], "big")
        if len(data) < 4 + size:
            raise ValueError("cut off")
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    return found
