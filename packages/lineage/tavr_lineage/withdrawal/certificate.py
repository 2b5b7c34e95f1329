"""The signed certificate of a purge: what was removed, what was kept and why (`audit/certificates` on `certificates`).

The branch has no worktree, like the audit log's: a certificate is added with git's plumbing and compare-and-swap.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tavr_records.ids import canonical_json, sha256_bytes

from tavr_lineage.git import GitError, git, git_bytes
from tavr_lineage.trust.attest import open_sealed, seal
from tavr_lineage.trust.keys import PublicKey, SigningKey

BRANCH = "refs/heads/certificates"
FOLDER = "audit/certificates"
PAYLOAD_TYPE = "application/vnd.tavr.purge+json"
SCHEMA_VERSION = 1
_ATTEMPTS = 20


def store_certificate(root: Path, statement: Mapping[str, Any], key: SigningKey) -> str:
    """Sign a certificate and put it on its branch; returns its sha256, which names it."""
    data = canonical_json(seal(canonical_json({"schema_version": SCHEMA_VERSION, **statement}), PAYLOAD_TYPE, key))
    digest = sha256_bytes(data)
    for attempt in range(_ATTEMPTS):
        head = _head(root)
        commit = _commit(root, f"{digest}.json", data, head)
        try:
            git(root, "update-ref", "-m", "certificate", BRANCH, commit, head or "0" * 40)
        except GitError:
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            break
    return digest


def read_certificates(root: Path, keys: Sequence[PublicKey | SigningKey] = ()) -> dict[str, dict[str, Any]]:
    """Every certificate by its sha256; with `keys`, only after checking that one of them signed it.

    Raises:
        InputError: a certificate that none of the keys signed.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in _names(root):
        data = git_bytes(root, "cat-file", "blob", f"{BRANCH}:{FOLDER}/{name}")
        payload = open_sealed(data, keys, f"{FOLDER}/{name}") if keys else _payload(data)
        found[name.removesuffix(".json")] = json.loads(payload)
    return found


def _payload(data: bytes) -> bytes:
    return base64.b64decode(json.loads(data)["payload"])


def _names(root: Path) -> list[str]:
    try:
        return git(root, "ls-tree", "--name-only", f"{BRANCH}:{FOLDER}").split()
    except GitError:
        return []


def _head(root: Path) -> str:
    try:
        return git(root, "rev-parse", "--verify", "--quiet", BRANCH)
    except GitError:
        return ""


def _commit(root: Path, name: str, data: bytes, parent: str) -> str:
    """A commit that adds one file to the branch's folder."""
    blob = git(root, "hash-object", "-w", "--stdin", stdin=data)
    there = git(root, "ls-tree", f"{parent}:{FOLDER}").splitlines() if parent else []
    lines = sorted({*there, f"100644 blob {blob}\t{name}"}, key=lambda line: line.split("\t")[1])
    tree = git(root, "mktree", stdin="".join(f"{line}\n" for line in lines).encode())
    for folder in reversed(FOLDER.split("/")):
        tree = git(root, "mktree", stdin=f"040000 tree {tree}\t{folder}\n".encode())
    parents = ["-p", parent] if parent else []
    return git(root, "commit-tree", tree, *parents, "-m", f"purge certificate {name[:12]}")
