"""Merkle tree of RFC 6962: one digest for a list, and proofs that an entry stands at its place in the list."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


def leaf_hash(data: bytes) -> bytes:
    """Digest of one entry; the prefix keeps entries and inner nodes apart."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Digest of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True)
class MerkleTree:
    """The digests of a tree, level by level, leaves first; the last level is the root alone."""

    levels: tuple[tuple[bytes, ...], ...]

    @property
    def size(self) -> int:
        """How many entries."""
        return len(self.levels[0])

    @property
    def root(self) -> str:
        """Hex digest; of the empty list the digest of nothing."""
        return self.levels[-1][0].hex() if self.size else hashlib.sha256().hexdigest()

    def path(self, index: int) -> list[str]:
        """The audit path of entry `index` (RFC 6962, 2.1.1): hex digests from the leaf's neighbour upwards."""
        path: list[str] = []
        for level in self.levels[:-1]:
            neighbour = index ^ 1
            if neighbour < len(level):  # the odd last node of a level is carried up alone
                path.append(level[neighbour].hex())
            index //= 2
        return path


def merkle_tree(entries: Iterable[bytes]) -> MerkleTree:
    """The tree over `entries` in their order."""
    sha256 = hashlib.sha256  # leaf_hash and node_hash in place: a model has a million of them
    levels = [tuple([sha256(b"\x00" + entry).digest() for entry in entries])]
    # Pairing neighbours and carrying an odd last node up gives the tree of RFC 6962, level by level.
    while len(levels[-1]) > 1:
        level = levels[-1]
        pairs = zip(level[0::2], level[1::2], strict=False)
        paired = tuple([sha256(b"\x01" + left + right).digest() for left, right in pairs])
        levels.append(paired + level[len(paired) * 2 :])
    return MerkleTree(tuple(levels))


def root_of_path(entry: bytes, index: int, size: int, path: Sequence[str]) -> str:
    """The root that an audit path leads to.

    Raises:
        ValueError: no such place, or a path too short or too long for it.
    """
    if not 0 <= index < size:
        raise ValueError(f"no entry {index} in a list of {size}")
    digest, left = leaf_hash(entry), [bytes.fromhex(node) for node in path]
    last = size - 1
    while last:
        if index % 2 or index < last:
            if not left:
                raise ValueError(f"the path of {len(path)} digests is too short")
            neighbour = left.pop(0)
            digest = node_hash(neighbour, digest) if index % 2 else node_hash(digest, neighbour)
        index, last = index // 2, last // 2
    if left:
        raise ValueError(f"the path of {len(path)} digests is too long")
    return digest.hex()
