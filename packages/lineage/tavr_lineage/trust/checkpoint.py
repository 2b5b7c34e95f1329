"""Checkpoints: the log's head, signed, small enough for a third party to keep: nothing earlier can then change unseen.

A DSSE envelope (JSON) over canonical JSON {origin, size, head, at}: `head` is the sha256 of line `size` of the log of
the artifact `origin`. The holder of the log signs first; witnesses add their signatures to the same payload.
"""

import base64
import datetime as dt
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from securesystemslib.dsse import Envelope
from tavr_records.errors import VerificationError
from tavr_records.ids import canonical_json

from tavr_lineage.require import require
from tavr_lineage.trust.allowed_signers import AllowedSigner, principals_of
from tavr_lineage.trust.attest import key_for_envelopes, seal, signer_of_envelopes
from tavr_lineage.trust.keys import PublicKey, SigningKey
from tavr_lineage.trust.log import Log, line_digest, parse_log
from tavr_lineage.trust.timestamp import verify_timestamp

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

PAYLOAD_TYPE = "application/vnd.tavr.checkpoint+json"
NAMESPACE = "tavr-checkpoint"
EVENT = "checkpoint"


@dataclass(frozen=True)
class Head:
    """What a checkpoint pins: the first `size` lines of the log of `origin`, by the digest of the last of them."""

    origin: str
    size: int
    head: str
    at: str


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: who signed it besides the log's own key, and when a time stamp authority saw it."""

    head: Head
    signer: str
    witnesses: tuple[str, ...] = ()
    stamped_at: str | None = None


def make_checkpoint(log: Log, origin: str, at: str, key: SigningKey) -> bytes:
    """Sign the head of a log."""
    payload = canonical_json(asdict(Head(origin, len(log.entries), log.head, at)))
    return canonical_json(seal(payload, PAYLOAD_TYPE, key)) + b"\n"


def add_witness(data: bytes, key: SigningKey) -> bytes:
    """The checkpoint with one more signature; the witness verifies it first (`verify_checkpoint`)."""
    envelope = _open(data)
    envelope.sign(signer_of_envelopes(key))
    return canonical_json(envelope.to_dict()) + b"\n"


def checkpoint_payload(data: bytes) -> bytes:
    """The signed bytes, which a time stamp is over.

    Raises:
        VerificationError: not a checkpoint.
    """
    return _open(data).payload


def verify_checkpoint(  # noqa: PLR0913 - what is trusted has as many parts
    log_data: bytes,
    data: bytes,
    origin: str,
    witnesses: Sequence[AllowedSigner] = (),
    token: bytes | None = None,
    roots: Sequence["Certificate"] = (),
) -> Checkpoint:
    """Prove that the lines a checkpoint pins are still in the log, unchanged.

    Args:
        log_data: the log now; it may have grown.
        data: the checkpoint as somebody kept it.
        origin: the artifact whose log it is.
        witnesses: whose signatures count as witnesses'; signatures of others are passed over.
        token: RFC 3161 reply over the payload, verified when it is there.
        roots: certificates to verify it by.

    Raises:
        VerificationError: the log was cut or rewritten, or the signature or time stamp does not hold.
        BrokenChainError: the log itself is broken.
    """
    envelope = _open(data)
    head = _parse_head(envelope.payload)
    _check_head(log_data, head, origin)
    return _check_signatures(parse_log(log_data), envelope, head, witnesses, token, roots)


def _check_head(log_data: bytes, head: Head, origin: str) -> None:
    """Before chain and signatures, for this alone does not depend on whoever holds the keys."""
    if head.origin != origin:
        raise VerificationError(f"checkpoint: of the log of {head.origin!r}, not of {origin!r}")
    lines = log_data.count(b"\n")
    if lines < head.size:
        raise VerificationError(
            f"checkpoint of {head.at}: the log has {lines} lines, it had {head.size}; lines are gone"
        )
    if line_digest(log_data, head.size) != head.head:
        raise VerificationError(
            f"checkpoint of {head.at}: line {head.size} is not the one it pins; the log was rewritten after that"
        )


def _check_signatures(  # noqa: PLR0913 - what is trusted has as many parts
    log: Log,
    envelope: Envelope,
    head: Head,
    witnesses: Sequence[AllowedSigner],
    token: bytes | None,
    roots: Sequence["Certificate"],
) -> Checkpoint:
    signers = [key for key in log.keyring.active(head.size) if _signed(envelope, key)]
    if not signers:
        raise VerificationError(f"checkpoint of {head.at}: not signed by a key that was active at line {head.size}")
    others = [one for one in witnesses if log.keyring.find(one.key.fingerprint) is None]
    stamped = None if token is None else verify_timestamp(envelope.payload, token, roots)
    return Checkpoint(
        head,
        signers[0].fingerprint,
        tuple(_witnesses(envelope, head, others)),
        None if stamped is None else stamped.strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def checkpoint_facts(checkpoint: Checkpoint, data: bytes, token: bytes | None) -> dict[str, Any]:
    """What the log's `checkpoint` line holds of a verified checkpoint: all that verifies it again."""
    return {
        "size": checkpoint.head.size,
        "head": checkpoint.head.head,
        "witnesses": list(checkpoint.witnesses),
        "envelope": data.decode("utf-8").strip(),
        "timestamp": None if token is None else base64.b64encode(token).decode("ascii"),
    }


def logged_checkpoints(
    log: Log, origin: str, witnesses: Sequence[AllowedSigner], roots: Sequence["Certificate"]
) -> Iterator[Checkpoint]:
    """The checkpoints that were written to the log and still verify, newest first.

    A stamp that cannot be verified counts as none; the witnesses' signatures still do.
    """
    for entry in reversed(list(log.trusted())):
        if entry["event"] != EVENT:
            continue
        try:
            envelope = _open(str(entry["envelope"]).encode())
            head = _parse_head(envelope.payload)
            _check_head(log.data, head, origin)
            token = base64.b64decode(entry["timestamp"]) if entry["timestamp"] is not None else None
            try:
                yield _check_signatures(log, envelope, head, witnesses, token, roots)
            except VerificationError:
                yield _check_signatures(log, envelope, head, witnesses, None, roots)
        except (VerificationError, KeyError, ValueError, TypeError):
            continue


def _witnesses(envelope: Envelope, head: Head, allowed: Sequence[AllowedSigner]) -> list[str]:
    """Who signed besides; a key of the log itself is nobody's witness."""
    at = dt.datetime.fromisoformat(head.at)
    keys = {one.key for one in allowed if one.key.public.startswith("ssh-ed25519 ")}
    found = {who for key in keys if _signed(envelope, key) for who in principals_of(allowed, key, NAMESPACE, at)}
    return sorted(found)


def _signed(envelope: Envelope, key: PublicKey) -> bool:
    from securesystemslib.exceptions import VerificationError as NotSigned

    try:
        envelope.verify([key_for_envelopes(key)], 1)
    except NotSigned:
        return False
    return True


def _open(data: bytes) -> Envelope:
    try:
        envelope = Envelope.from_dict(json.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VerificationError(f"checkpoint: not a DSSE envelope ({error!r})") from error
    if envelope.payload_type != PAYLOAD_TYPE:
        raise VerificationError(f"checkpoint: the envelope holds {envelope.payload_type!r}, not {PAYLOAD_TYPE}")
    return envelope


def _parse_head(payload: bytes) -> Head:
    try:
        values: dict[str, Any] = json.loads(payload)
        head = Head(**values)
        require(canonical_json(values) == payload, "not canonical JSON")
        require(type(head.size) is int and head.size > 0, f"size is {head.size!r}")
        require(dt.datetime.fromisoformat(head.at).tzinfo, "its time has no zone")
    except (ValueError, TypeError) as error:
        raise VerificationError(f"checkpoint: its payload is no log head ({error})") from error
    return head
