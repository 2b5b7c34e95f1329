"""Check a proof that somebody is, or is not, in a model: `python check_proof.py PROOF.json --id person:ID --root HEX`.

For whoever got a proof (`tavr prove`) and not the whole evidence. Needs Python 3.9 alone and shares no code with TAVR.
`--id` is whom you ask about, from your own papers, as clip:ID, person:ID, source:KEY or file:SHA256: a proof about a
misspelt id, or about another kind, proves nothing about you. The root decides which model it is about. HEX is
`consumption.subjects.merkle_root` of the signed record, as `verify.py` prints it in its step `closure`; take it from
whoever ran that, or from where the operator publishes it, never from whoever sent you the proof alone. The
tree is that of RFC 6962 over the model's clips, people, sources and files, sorted; a leaf is `kind TAB value TAB sha256
of the subject's rows`. Two neighbours with nothing between them prove that a value is not there. Exit code: 0 proven,
4 not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

KINDS = {"clip": "clip_id", "person": "person_id", "source": "source_key", "file": "sha256"}


def node(left: bytes, right: bytes) -> bytes:
    """An inner node of the tree."""
    return hashlib.sha256(b"\1" + left + right).digest()


def climb(digest: bytes, index: int, size: int, path: list[str]) -> bytes:
    """The root to which a path leads from the leaf at `index` of `size`."""
    if not 0 <= index < size or bool(path) != (size > 1):
        raise ValueError("a path does not fit its place in the tree")
    if size == 1:
        return digest
    half, top = 1 << (size - 1).bit_length() - 1, bytes.fromhex(path[-1])
    if index < half:
        return node(climb(digest, index, half, path[:-1]), top)
    return node(top, climb(digest, index - half, size - half, path[:-1]))


def check(proof: Any, root: str, kind: str, value: str) -> str:
    """What the proof proves about a `value` of a `kind`; raises ValueError if it proves nothing."""
    subject, size = f"{proof['kind']}\t{proof['value']}", proof["size"]
    if (proof["kind"], proof["value"]) != (kind, value):
        raise ValueError(f"the proof is about {subject!a}, not about {kind} {value!a}")
    if "rows" in proof:
        digest = hashlib.sha256("".join(proof["rows"]).encode()).hexdigest()
        ends: list[Any] = [{**proof, "leaf": f"{subject}\t{digest}"}]
    else:
        left, right = proof["left"], proof["right"]
        ends = [end for end in (left, right) if end]
        first, last = left["index"] if left else -1, right["index"] if right else size
        below = not left or left["leaf"].rpartition("\t")[0].encode() < subject.encode()
        above = not right or subject.encode() < right["leaf"].rpartition("\t")[0].encode()
        if not (below and above and last == first + 1):
            raise ValueError("the two neighbours do not enclose the value")
    for end in ends:
        leaf = hashlib.sha256(b"\0" + end["leaf"].encode()).digest()
        if climb(leaf, end["index"], size, end["path"]).hex() != root:
            raise ValueError("a path does not lead to the root")
    if not ends and root != hashlib.sha256().hexdigest():
        raise ValueError("the tree is not empty")
    return f"in the model, {len(proof['rows'])} rows" if "rows" in proof else "not in the model"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Check a proof that somebody is, or is not, in a model.")
    parser.add_argument("proof", type=Path)
    parser.add_argument("--id", required=True, metavar="KIND:ID", help="whom you ask about")
    parser.add_argument("--root", required=True, metavar="HEX", help="merkle_root of the signed record")
    asked = parser.parse_args()
    kind, _, value = asked.id.partition(":")
    if kind not in KINDS or not value:
        parser.error(f"--id {asked.id!a}: give {', '.join(f'{one}:ID' for one in KINDS)}")
    try:
        proof = json.loads(asked.proof.read_bytes())
        print(f"PROVEN: {proof['kind']} {proof['value']!a} is {check(proof, asked.root, KINDS[kind], value)}")
    except OSError as error:
        parser.error(str(error))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        print(f"NOT PROVEN: {error}")
        return 4
    for row in proof.get("rows", ()):
        print(row.rstrip("\n"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
