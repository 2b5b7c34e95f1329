"""The tree of RFC 6962, against a direct transcription of its definition."""

import hashlib

import pytest
from tavr_lineage.merkle import merkle_tree, root_of_path


def by_definition(entries: list[bytes]) -> bytes:
    if not entries:
        return hashlib.sha256().digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    split = 1
    while split * 2 < len(entries):
        split *= 2
    return hashlib.sha256(b"\x01" + by_definition(entries[:split]) + by_definition(entries[split:])).digest()


@pytest.mark.parametrize("count", range(20))
def test_root(count: int) -> None:
    entries = [str(number).encode() for number in range(count)]
    tree = merkle_tree(entries)
    assert tree.root == by_definition(entries).hex()
    for index, entry in enumerate(entries):
        assert root_of_path(entry, index, count, tree.path(index)) == tree.root
