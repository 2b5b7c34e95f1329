"""SSH signatures of files (OpenSSH's PROTOCOL.sshsig), read and verified without OpenSSH.

What `ssh-keygen -Y sign` and `git tag -s` with `gpg.format=ssh` make; keys are ed25519, ecdsa (NIST curves) or rsa.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from tavr_records.errors import VerificationError

from tavr_lineage.require import require
from tavr_lineage.trust.keys import PublicKey

BEGIN, END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_MAGIC = b"SSHSIG"
_HASH = "sha512"
_MINIMUM_RSA_BITS = 2048
_CURVES = {"nistp256": hashes.SHA256(), "nistp384": hashes.SHA384(), "nistp521": hashes.SHA512()}
_RSA = {"rsa-sha2-256": hashes.SHA256(), "rsa-sha2-512": hashes.SHA512()}


@dataclass(frozen=True)
class SshSignature:
    """A parsed signature: the key it says it is of, what it is for, and the signature's algorithm and bytes."""

    key: PublicKey
    namespace: str
    algorithm: str
    signature: bytes


def parse_signature(armored: str) -> SshSignature:
    """Read an armored signature.

    Raises:
        VerificationError: not one, or of a hash or version other than OpenSSH's default.
    """
    lines = armored.strip().splitlines()
    try:
        require(len(lines) > 2 and lines[0] == BEGIN and lines[-1] == END, f"no {BEGIN}")
        data = base64.b64decode("".join(lines[1:-1]), validate=True)
        require(data[:10] == _MAGIC + b"\x00\x00\x00\x01", "not version 1 of SSHSIG")
        public, namespace, reserved, used_hash, signature = _strings(data[10:], 5)
        algorithm, raw = _strings(signature, 2)
        kind = _strings(public, None)[0].decode("ascii")
        require(not reserved and used_hash.decode("ascii") == _HASH, f"made with the hash {used_hash!r}, not {_HASH}")
        key = PublicKey(f"{kind} {base64.b64encode(public).decode('ascii')}")
        return SshSignature(key, namespace.decode("utf-8"), algorithm.decode("ascii"), raw)
    except (ValueError, binascii.Error, IndexError) as error:
        raise VerificationError(f"not an SSH signature ({error})") from error


def verify_signature(armored: str, message: bytes, namespace: str) -> PublicKey:
    """The key that signed `message` for `namespace`; whether that key is anybody's is the caller's question.

    Raises:
        VerificationError: no signature, of another message or namespace, or by a kind of key that is not accepted.
    """
    found = parse_signature(armored)
    if found.namespace != namespace:
        raise VerificationError(f"signed for {found.namespace!r}, not for {namespace!r}")
    digest = hashlib.sha512(message).digest()
    signed = _MAGIC + b"".join(_packed(part) for part in (namespace.encode(), b"", _HASH.encode(), digest))
    try:
        _verify(found, signed)
    except InvalidSignature as error:
        raise VerificationError(
            f"{found.key.fingerprint}: its signature was made for something else, it does not fit what is signed"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise VerificationError(f"a signature that cannot be checked ({error})") from error
    return found.key


def _verify(found: SshSignature, signed: bytes) -> None:
    key = load_ssh_public_key(found.key.public.encode("ascii"))
    kind = found.key.public.split(" ", 1)[0]
    if isinstance(key, rsa.RSAPublicKey):
        if found.algorithm not in _RSA or key.key_size < _MINIMUM_RSA_BITS:
            raise ValueError(f"{found.algorithm} with {key.key_size} bits; use rsa-sha2-512 with at least 2048")
        key.verify(found.signature, signed, padding.PKCS1v15(), _RSA[found.algorithm])
    elif found.algorithm != kind:
        raise ValueError(f"a {found.algorithm} signature of a {kind} key")
    elif isinstance(key, Ed25519PublicKey):
        key.verify(found.signature, signed)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        r, s = (int.from_bytes(part, "big") for part in _strings(found.signature, 2))
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(_CURVES[kind.rsplit("-", 1)[1]]))
    else:
        raise ValueError(f"keys of type {kind} are not accepted; use ed25519, ecdsa or rsa")


def _packed(part: bytes) -> bytes:
    return len(part).to_bytes(4, "big") + part


def _strings(data: bytes, count: int | None) -> list[bytes]:
    """The length-prefixed strings of a blob, exactly `count` of them (None: any number)."""
    parts: list[bytes] = []
    position = 0
    while position < len(data) and (count is None or len(parts) < count):
        size = int.from_bytes(data[position : position + 4], "big")
        part = data[position + 4 : position + 4 + size]
        if len(data) - position < 4 or len(part) != size:
            raise ValueError("cut off")
        parts.append(part)
        position += 4 + size
    if count is not None and (len(parts) != count or position != len(data)):
        raise ValueError("parts are missing, or something follows them")
    return parts
