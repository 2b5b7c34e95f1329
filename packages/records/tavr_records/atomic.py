"""Writing that never leaves half a file behind: a temporary name beside the target, then a rename.

A full disk is one kind of error here, whichever library ran into it: an OSError that names the file it had no room for.
"""

import errno
import os
import shutil
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
_CRAMPED = 2**20


@contextmanager
def atomic_file(path: Path) -> Generator[Path]:
    """Yield a temporary path beside `path`; on success rename it onto `path`, on error remove it.

    The temporary name keeps the suffix, since many writers choose the format by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        with full_disk_named(path, temporary):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def atomic_directory(path: Path) -> Generator[Path]:
    """Yield an empty temporary directory; on success it takes the place of `path`, on error it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with full_disk_named(path, temporary):
            temporary.mkdir()
            yield temporary
            if path.exists():
                shutil.rmtree(path)
            temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def full_disk_named(path: Path, temporary: Path) -> Generator[None]:
    """Turn a full disk into an OSError whose file name is the final one, for what is written to `temporary`.

    Python's own writes do not say which file they were at, and libraries in Rust and C++ raise errors of their own.
    """
    try:
        yield
    except Exception as error:
        code = _full_disk(error, temporary.parent)
        if code is None:
            raise
        raise OSError(code, os.strerror(code), str(_final_name(error, path, temporary))) from error


def _full_disk(error: Exception, folder: Path) -> int | None:
    """ENOSPC or EDQUOT when the error says that `folder` is full, else None."""
    number = getattr(error, "errno", None)
    if number in FULL_DISK:
        return number
    text = str(error)
    if "inline_container.cc" in text:  # torch.save says no more than that writing failed
        return errno.ENOSPC if shutil.disk_usage(folder).free < _CRAMPED else None
    return next((code for code in FULL_DISK if f"(os error {code})" in text), None)  # safetensors


def _final_name(error: Exception, path: Path, temporary: Path) -> Path:
    """What the file that had no room will be called; a copy's second name is its target."""
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)
    if name is None:
        return path
    written = Path(os.fsdecode(name))
    return path / written.relative_to(temporary) if written.is_relative_to(temporary) else written
