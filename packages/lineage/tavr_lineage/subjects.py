"""Who and what a model was made of as a sorted Merkle tree: proofs that somebody went into it, or did not.

A subject is a clip, person, source or file. Its leaf is `kind TAB value TAB sha256 of its rows`; the leaves are sorted
by `kind TAB value`, so two neighbours prove that nothing lies between them. The root stands in the record.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray
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


@dataclass(frozen=True)
class SubjectTree:
    """The tree over a consumption table.

    Attributes:
        leaves: the tree's entries, sorted by `kind TAB value`.
        rows: the rows of the table as text.
        places: the rows of all subjects, one subject after the other.
        starts: where each subject's begin in `places`, and the end.
    """

    leaves: tuple[bytes, ...]
    rows: pa.StringArray
    places: NDArray[np.int64]
    starts: NDArray[np.int64]

    @cached_property
    def keys(self) -> tuple[bytes, ...]:
        """`kind TAB value` of every subject, sorted."""
        return tuple(leaf.rpartition(b"\t")[0] for leaf in self.leaves)

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
        key = f"{kind}\t{value}".encode()
        at = bisect_left(self.keys, key)
        told = {"kind": kind, "value": value, "size": self.tree.size}
        if at < len(self.keys) and self.keys[at] == key:
            places = self.places[int(self.starts[at]) : int(self.starts[at + 1])]
            rows = self.rows.take(pa.array(places)).to_pylist()
            return {**told, "rows": rows, "index": at, "path": self.tree.path(at)}
        left, right = (self._stand(place) if 0 <= place < len(self.keys) else None for place in (at - 1, at))
        return {**told, "left": left, "right": right}

    def _stand(self, index: int) -> dict[str, Any]:
        return {"leaf": self.leaves[index].decode(), "index": index, "path": self.tree.path(index)}


def subject_tree(table: pa.Table) -> SubjectTree:
    """The tree of a consumption table.

    Raises:
        InputError: a value holds a tab or a line break, which separate values in the leaves.
    """
    texts = row_texts(table)
    leaves: list[bytes] = []
    places: list[NDArray[np.int64]] = []
    counts: list[NDArray[np.int64]] = []
    for kind, columns in sorted(COLUMNS.items()):
        values, at, count = _group([table[column].combine_chunks() for column in columns])
        leaves += _leaves(kind, values, texts, (at, count))
        places.append(at)
        counts.append(count)
    starts = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
    return SubjectTree(tuple(leaves), texts, np.concatenate(places), starts)


def _leaves(
    kind: str, values: Sequence[str], texts: pa.StringArray, rows: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> list[bytes]:
    """The entries of one kind's subjects; of `rows` the places in `texts`, and how many each has."""
    places, counts = rows
    in_order = len(places) == len(texts) and bool((np.diff(places) == 1).all())  # the table is sorted by clip
    text, ends = _text(texts if in_order else texts.take(pa.array(places)))
    at = ends[np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)].tolist()
    sha256 = hashlib.sha256
    return [
        f"{kind}\t{value}\t{sha256(text[first:last]).hexdigest()}".encode()
        for value, first, last in zip(values, at[:-1], at[1:], strict=True)
    ]


def _group(columns: Sequence[pa.StringArray]) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    """Distinct values of some columns in byte order; the rows that hold each, one value after the other; how many."""
    encoded = pa.chunked_array(list(columns)).combine_chunks().dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    codes = rank[encoded.indices.to_numpy(zero_copy_only=False)]
    size = len(columns[0])
    pairs = np.sort(codes * max(size, 1) + np.tile(np.arange(size), len(columns)))
    pairs = pairs[np.diff(pairs, prepend=-1) > 0]  # a row is named once a value; quicker than np.unique
    count = np.bincount(pairs // max(size, 1), minlength=len(order))
    return encoded.dictionary.take(pa.array(order)).to_pylist(), pairs % max(size, 1), count


def row_texts(table: pa.Table) -> pa.StringArray:
    """Each row as its columns joined by tabs and ended by a line break.

    Raises:
        InputError: a value holds a tab or a line break.
    """
    texts = [column.cast(pa.string()).combine_chunks() for column in table.columns]
    lines = pc.binary_join_element_wise(*texts, "\t")
    written = np.frombuffer(_text(lines)[0], np.uint8)
    tabs = len(lines) * (table.num_columns - 1)
    if np.count_nonzero(written == ord("\t")) != tabs or (written == ord("\n")).any():
        names = (name for name, text in zip(table.column_names, texts, strict=True) if _separates(text))
        raise InputError(f"consumption table: {next(names)} holds a tab or a line break; mend the source's metadata")
    return pc.binary_join_element_wise(lines, "\n", "")


def _separates(column: pa.StringArray) -> bool:
    return bool(pc.any(pc.match_substring_regex(column, r"[\t\n]")).as_py())


def _text(rows: pa.StringArray) -> tuple[memoryview, NDArray[np.int64]]:
    """The bytes of all rows in one piece, and where each begins, with the end."""
    if not len(rows):
        return memoryview(b""), np.zeros(1, np.int64)
    large = rows.cast(pa.large_string())
    _, offsets, data = large.buffers()
    starts = np.frombuffer(offsets, np.int64)[large.offset : large.offset + len(large) + 1]
    return memoryview(data), starts


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
