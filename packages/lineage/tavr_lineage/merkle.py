"""Merkle tree of RFC 6962: one digest for a list, from which single entries can later be proven."""

import hashlib
from collections.abc import Iterable


def leaf_hash(data: bytes) -> bytes:
    """Digest of one entry; the prefix keeps entries and inner nodes apart."""
    return hashlib.sha256(b"\x00" + data).digest()


def merkle_root(entries: Iterable[bytes]) -> str:
    """Hex digest of the tree over `entries` in their order; of the empty list the digest of nothing."""
    level = [leaf_hash(entry) for entry in entries]
    if not level:
        return hashlib.sha256().hexdigest()
    # Pairing neighbours and carrying an odd last node up gives the tree of RFC 6962, level by level.
    while len(level) > 1:
        paired = [hashlib.sha256(b"\x01" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        level = paired + level[len(paired) * 2 :]
    return level[0].hex()
