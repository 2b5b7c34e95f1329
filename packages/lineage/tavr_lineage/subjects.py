"""Who and what a model was made of as a sorted Merkle tree: proofs that somebody went into it, or did not.

A subject is a clip, person, source or file. Its leaf is `kind TAB value TAB sha256 of its rows`; the leaves are sorted
by `kind TAB value`, so two neighbours prove that nothing lies between them. The root stands in the record.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute
from tavr_records.errors import InputError

from tavr_lineage.merkle import MerkleTree, merkle_tree, root_of_path

pc: Any = pyarrow.compute  # its functions are made when it is imported

COLUMNS = {
    "clip_id": ("clip_id",),
    "person_id": ("person_id",),
    "sha256": ("source_sha256", "clip_sha256"),
    "source_key": ("source_key",),
}
Proof = Mapping[str, Any]
_FORBIDDEN = r"[\t\n]"


@dataclass(frozen=True)
class SubjectTree:
    """The tree over a consumption table.

    Attributes:
        rows: the rows as text, in table order.
        subjects: of each `kind TAB value`, sorted, the positions of its rows.
    """

    rows: tuple[bytes, ...]
    subjects: Mapping[bytes, tuple[int, ...]]

    @cached_property
    def leaves(self) -> tuple[bytes, ...]:
        """The tree's entries, in order."""
        return tuple(
            key + b"\t" + hashlib.sha256(b"".join([self.rows[at] for at in places])).hexdigest().encode()
            for key, places in self.subjects.items()
        )

    @cached_property
    def tree(self) -> MerkleTree:
        """The digests of the leaves up to the root."""
        return merkle_tree(self.leaves)

    def prove(self, kind: str, value: str) -> dict[str, Any]:
        """A proof that the subject is in the table, with its rows, or that it is not, with its neighbours.

        Raises:
            InputError: an unknown kind.
        """
        if kind not in COLUMNS:
            raise InputError(f"{kind!r}: no kind of subject; use one of {', '.join(COLUMNS)}")
        key, keys = f"{kind}\t{value}".encode(), list(self.subjects)
        told = {"kind": kind, "value": value, "size": self.tree.size}
        if key in self.subjects:
            index = keys.index(key)
            rows = [self.rows[at].decode() for at in self.subjects[key]]
            return {**told, "rows": rows, "index": index, "path": self.tree.path(index)}
        after = sum(known < key for known in keys)
        left, right = (self._stand(at) if 0 <= at < len(keys) else None for at in (after - 1, after))
        return {**told, "left": left, "right": right}

    def _stand(self, index: int) -> dict[str, Any]:
        return {"leaf": self.leaves[index].decode(), "index": index, "path": self.tree.path(index)}


def subject_tree(table: pa.Table) -> SubjectTree:
    """The tree of a consumption table.

    Raises:
        InputError: a value holds a tab or a line break, which separate values in the leaves.
    """
    rows = row_texts(table)
    places: dict[bytes, list[int]] = {}
    for kind, columns in COLUMNS.items():
        prefix = f"{kind}\t".encode()
        values = [[value.encode() for value in table[column].to_pylist()] for column in columns]
        for at, named in enumerate(zip(*values, strict=True)):
            for value in set(named):
                places.setdefault(prefix + value, []).append(at)
    return SubjectTree(tuple(rows), {key: tuple(places[key]) for key in sorted(places)})


def row_texts(table: pa.Table) -> list[bytes]:
    """Each row as its columns joined by tabs and ended by a line break.

    Raises:
        InputError: a value holds a tab or a line break.
    """
    if not len(table):
        return []
    texts = [column.cast(pa.string()).combine_chunks() for column in table.columns]
    for name, column in zip(table.column_names, texts, strict=True):
        if pc.any(pc.match_substring_regex(column, _FORBIDDEN)).as_py():
            raise InputError(f"consumption table: {name} holds a tab or a line break; mend the source's metadata")
    lines = pc.binary_join_element_wise(*texts, "\t")
    return [line.encode() + b"\n" for line in lines.to_pylist()]


def check_proof(proof: Proof, root: str, size: int) -> bool:
    """Whether the subject is in the table with this root: True by an inclusion, False by a non-inclusion proof.

    Raises:
        ValueError: the proof proves neither; the message says why.
    """
    if proof["size"] != size:
        raise ValueError(f"the proof is of a tree of {proof['size']} subjects, the record names {size}")
    key = f"{proof['kind']}\t{proof['value']}".encode()
    if "rows" in proof:
        digest = hashlib.sha256("".join(proof["rows"]).encode()).hexdigest()
        _check_stand({"leaf": key.decode() + "\t" + digest, "index": proof["index"], "path": proof["path"]}, root, size)
        return True
    left, right = proof["left"], proof["right"]
    for stand in (left, right):
        if stand is not None:
            _check_stand(stand, root, size)
    if (left is None or _key(left) < key) and (right is None or key < _key(right)) and _adjacent(left, right, size):
        return False
    raise ValueError("the two subjects are no neighbours that bracket the one asked for")


def _check_stand(stand: Mapping[str, Any], root: str, size: int) -> None:
    if root_of_path(stand["leaf"].encode(), stand["index"], size, stand["path"]) != root:
        raise ValueError(f"entry {stand['index']} of the proof does not lead to the record's root")


def _key(stand: Mapping[str, Any]) -> bytes:
    """`kind TAB value` of a leaf."""
    return stand["leaf"].encode().rpartition(b"\t")[0]


def _adjacent(left: Mapping[str, Any] | None, right: Mapping[str, Any] | None, size: int) -> bool:
    """Whether two stands are next to each other; a missing one means the tree ends there."""
    before = -1 if left is None else left["index"]
    after = size if right is None else right["index"]
    return after == before + 1
