"""The trained model's own signature, `model.sig`: a bundle that OpenSSF's `model_signing verify` accepts.

The model key is an elliptic curve key (P-256; OpenSSF's tools take no ed25519): `$TAVR_MODEL_KEY`, or a development key
made on first use beside the other one. The log announces its public half as a key of use `model`.
"""

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_public_key,
)
from tavr_records.errors import InputError, VerificationError

from tavr_lineage.git import common_directory
from tavr_lineage.require import require
from tavr_lineage.trust.keys import PublicKey, write_private

MODEL_SIGNATURE = "model.sig"
VARIABLE = "TAVR_MODEL_KEY"
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_PREDICATE_TYPE = "https://model_signing/signature/v1.0"
_HASHES = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}


@dataclass(frozen=True)
class ModelKey:
    """The file of a private model key, and its public half."""

    path: Path
    public: PublicKey


def model_key(root: Path) -> ModelKey:
    """The key to sign models with; a development key is made when none is named.

    Raises:
        InputError: the named key is missing or is no unencrypted PEM key on a NIST curve.
    """
    named = os.environ.get(VARIABLE)
    path = Path(named) if named else common_directory(root) / "tavr" / "dev_model_p256.pem"
    if not named and not path.exists():
        private = ec.generate_private_key(ec.SECP256R1())
        if write_private(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())):
            public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
            path.with_suffix(".pub").write_bytes(public + b" tavr development model key\n")
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError(f"{path}: no model key ({error}); name a PEM key on curve P-256 in {VARIABLE}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.key_size not in _HASHES:
        raise InputError(f"{path}: a {type(key).__name__}; name a PEM key on curve P-256 in {VARIABLE}")
    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")
    return ModelKey(path, PublicKey(line))


def model_folder(params: Mapping[str, Any]) -> str | None:
    """Where a run with these parameters leaves the model it is judged by; None when they name none."""
    benchmark: Mapping[str, Any] = params.get("benchmark", {})
    method: Mapping[str, Any] = benchmark.get("methods", {}).get(benchmark.get("candidate"), {})
    return method.get("model")


def sign_model(folder: Path, signature: Path, key: ModelKey) -> None:
    """Write the signature of a model folder: every file by name and sha256, under one signature."""
    from model_signing.hashing import Config as Hashing  # 3 s of import, wanted here alone
    from model_signing.signing import Config

    hashing = Hashing().use_file_serialization(hashing_algorithm="sha256", allow_symlinks=False)
    Config().set_hashing_config(hashing).use_elliptic_key_signer(private_key=key.path).sign(folder, signature)


def check_model_signature(data: bytes, files: Mapping[str, str], keys: Sequence[PublicKey]) -> PublicKey:
    """Hold a signature against files' digests, without the files and without OpenSSF's library.

    Args:
        data: `model.sig`.
        files: name within the model folder -> sha256.
        keys: the model keys that count.

    Raises:
        VerificationError: by none of `keys`, or of other files.
    """
    try:
        envelope: dict[str, Any] = json.loads(data)["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        signatures = [base64.b64decode(one["sig"], validate=True) for one in envelope["signatures"]]
        one = envelope["payloadType"] == _PAYLOAD_TYPE and len(signatures) == 1
        require(one, "not one signature over an in-toto statement")
        signed_by = next((key for key in keys if _signed(key, payload, signatures[0])), None)
        statement: dict[str, Any] = json.loads(payload)
        told = {one["name"]: one["digest"] for one in statement["predicate"]["resources"]}
        (subject,) = statement["subject"]
        digests = b"".join(bytes.fromhex(one["digest"]) for one in statement["predicate"]["resources"])
        whole = hashlib.sha256(digests).hexdigest()
        require(statement["predicateType"] == _PREDICATE_TYPE, f"its predicateType is not {_PREDICATE_TYPE}")
        require(subject["digest"]["sha256"] == whole, "its digests disagree")
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise VerificationError(f"{MODEL_SIGNATURE}: not a model signature ({error!r})") from error
    if signed_by is None:
        raise VerificationError(f"{MODEL_SIGNATURE}: signed by no model key of the log")
    if wrong := sorted({name for name, _ in set(told.items()) ^ set(files.items())}):
        raise VerificationError(f"{MODEL_SIGNATURE}: signs other bytes of {', '.join(wrong)}")
    return signed_by


def _signed(key: PublicKey, payload: bytes, signature: bytes) -> bool:
    public = load_ssh_public_key(key.public.encode("ascii"))
    if not isinstance(public, ec.EllipticCurvePublicKey):
        return False
    signed = b"DSSEv1 %d %b %d %b" % (len(_PAYLOAD_TYPE), _PAYLOAD_TYPE.encode(), len(payload), payload)
    try:
        public.verify(signature, signed, ec.ECDSA(_HASHES[public.curve.key_size]))
    except InvalidSignature:
        return False
    return True
