"""The attestation: an in-toto statement with SLSA provenance over the trained files, in a signed DSSE envelope."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError as NotSignedError
from securesystemslib.signer import CryptoSigner, SSlibKey
from tavr_records.atomic import write_bytes
from tavr_records.errors import InputError, VerificationError
from tavr_records.ids import canonical_json, sha256_bytes

from tavr_lineage.record import RECORD
from tavr_lineage.trust.keys import PublicKey, SigningKey
from tavr_lineage.trust.remote_signer import remote_signer

ATTESTATION = "attestation.json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://tavr.invalid/retrain/v1"


def statement(record: Mapping[str, Any], record_sha256: str) -> dict[str, Any]:
    """What is attested: these files came from this commit, these weights and these parameters."""
    subjects = [
        {"name": path, "digest": {"sha256": digest}}
        for path, digest in sorted(record["outputs"].items())
        if "/model/" in path
    ]
    materials = [{"uri": f"weights:{row['path']}", "digest": {"sha256": row["sha256"]}} for row in record["weights"]]
    code = {"uri": "git:commit", "digest": {"gitCommit": record["code"]["commit"]}}
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": RECORD, "digest": {"sha256": record_sha256}}, *subjects],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "compose": record["params"].get("_compose", {}),
                    "params_sha256": record["params_sha256"],
                },
                "internalParameters": {"requirements_lock_sha256": record["environment"]["lock_sha256"]},
                "resolvedDependencies": [code, *materials],
            },
            "runDetails": {
                "builder": {"id": BUILD_TYPE},
                "metadata": {
                    "invocationId": record["run"]["run_id"],
                    "startedOn": record["run"]["started_at"],
                    "finishedOn": record["run"]["finished_at"],
                },
                "byproducts": [{"name": RECORD, "digest": {"sha256": record_sha256}}],
            },
        },
    }


def seal(payload: bytes, payload_type: str, key: SigningKey) -> dict[str, Any]:
    """Sign any bytes as a DSSE envelope; the signature's `keyid` is the key's fingerprint."""
    envelope = Envelope(payload, payload_type, {})
    envelope.sign(signer_of_envelopes(key))
    return envelope.to_dict()


def write_attestation(root: Path, record: Mapping[str, Any], record_sha256: str, key: SigningKey) -> str:
    """Write `attestation.json` and return its sha256.

    It always carries the local key's signature, by which everybody verifies offline; a signer named by configuration
    (`remote_signer.py`) adds its own.
    """
    envelope = Envelope(canonical_json(statement(record, record_sha256)), PAYLOAD_TYPE, {})
    envelope.sign(signer_of_envelopes(key))
    if (other := remote_signer()) is not None:
        envelope.sign(other)
    data = canonical_json(envelope.to_dict()) + b"\n"
    write_bytes(root / ATTESTATION, data)
    return sha256_bytes(data)


def open_sealed(data: bytes, keys: Sequence[PublicKey | SigningKey], where: str) -> bytes:
    """The payload of an envelope that one of `keys` signed.

    Raises:
        InputError: not an envelope, or not signed by one of them.
    """
    try:
        envelope = Envelope.from_dict(json.loads(data))
        envelope.verify([key_for_envelopes(key) for key in keys], 1)
    except NotSignedError as error:
        raise InputError(f"{where}: signed by none of the known keys; do not trust it") from error
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        if not keys:
            raise InputError(f"{where}: no key is known that could have signed it") from error
        raise InputError(f"{where}: not a DSSE envelope ({error!r}); take it from the run's commit") from error
    return envelope.payload


def verify_sealed(data: bytes, keys: Sequence[PublicKey | SigningKey], where: str) -> bytes:
    """As `open_sealed`, for what was fetched or is being verified.

    Raises:
        VerificationError: not an envelope, or not signed by one of `keys`.
    """
    try:
        return open_sealed(data, keys, where)
    except InputError as error:
        raise VerificationError(str(error)) from error


def signer_of_envelopes(key: SigningKey) -> CryptoSigner:
    """What signs an envelope with a local key."""
    return CryptoSigner(key.private, key_for_envelopes(key))


def key_for_envelopes(key: PublicKey | SigningKey) -> SSlibKey:
    """What verifies an envelope's signature; its `keyid` is the fingerprint."""
    return SSlibKey.from_crypto(load_ssh_public_key(key.public.encode("ascii")), key.fingerprint)
