"""What git's history says of a subject. It can be found and named, not removed: every later commit rests on it."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from tavr_lineage.git import git, git_bytes
from tavr_lineage.withdrawal.footprint import Footprint, text_in

_LOOKED_AT = ("reports/*", "record.json", "audit/*", "conf/*.json", "*.lock.json", "*.review.json", "sources.lock")
_BATCH = 64


def in_history(root: Path, footprint: Footprint) -> Iterator[str]:
    """`git:<blob>:<path>` of every version of a file in git that mentions the subject, on any branch or tag."""
    listing = git(root, "rev-list", "--all", "--objects").splitlines()
    blobs = [(name, path) for name, _, path in (line.partition(" ") for line in listing) if _is_looked_at(path)]
    for start in range(0, len(blobs), _BATCH):
        group = blobs[start : start + _BATCH]
        for (name, path), data in zip(group, _read(root, [name for name, _ in group]), strict=True):
            if footprint.named_in(path) or footprint.named_in(text_in(data, PurePosixPath(path).suffix)):
                yield f"git:{name[:12]}:{path}"


def _is_looked_at(path: str) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in _LOOKED_AT) and bool(PurePosixPath(path).suffix)


def _read(root: Path, names: list[str]) -> Iterator[bytes]:
    """The bytes of several blobs with one process."""
    answer = git_bytes(root, "cat-file", "--batch", stdin="".join(f"{name}\n" for name in names).encode())
    position = 0
    for _ in names:
        head, _, _ = answer[position:].partition(b"\n")
        size = int(head.split()[2])
        start = position + len(head) + 1
        yield answer[start : start + size]
        position = start + size + 1
