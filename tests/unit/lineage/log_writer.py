"""Keys and logs in memory: what `append` writes, without git."""

import hashlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tavr_lineage.trust.keys import SigningKey, fingerprint, public_line


def make_keys(count: int, seed: int = 0) -> list[SigningKey]:
    """Ed25519 keys that are the same in every test run."""
    seeds = [hashlib.sha256(f"{seed}/{number}".encode()).digest() for number in range(count)]
    private = [Ed25519PrivateKey.from_private_bytes(value) for value in seeds]
    return [
        SigningKey(Path(f"key{n}"), key, public_line(key), fingerprint(public_line(key)))
        for n, key in enumerate(private)
    ]
