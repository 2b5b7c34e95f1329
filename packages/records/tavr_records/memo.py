"""Remembering the work done on one clip by content, so that one clip more costs one clip's work.

An entry's key is a digest of everything that decides its bytes: the parameters, the sources of the packages that do
the work, the weights, the locked environment and the clip itself. An entry is a folder that appears whole or not at
all, so a killed process leaves nothing to trust wrongly and two processes may build the same entry at once. It says in
`key.json` what it was made of: a withdrawal must find the entries of one clip among all others.
"""

import importlib.util
import os
import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tavr_records.atomic import atomic_directory, write_bytes
from tavr_records.errors import InputError
from tavr_records.ids import canonical_json, sha256_bytes, sha256_file

KEY_FILE = "key.json"


@dataclass(frozen=True)
class Memo:
    """Entries of one stage under one `context` digest; safe to hand to worker processes."""

    directory: Path
    context: str

    def entry(self, clip: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
        """The folder of the entry keyed by `clip` (JSON values), made by `build(empty folder)` when it is not there."""
        made_of = canonical_json({"context": self.context, "clip": dict(clip)})
        key = sha256_bytes(made_of)
        path = self.directory / key[:2] / key
        if not path.is_dir():
            try:
                with atomic_directory(path) as temporary:
                    build(temporary)
                    write_bytes(temporary / KEY_FILE, made_of)
            except OSError:
                if not path.is_dir():  # another process built the same entry first: the same bytes
                    raise
        return path


def open_memo(
    stage: str, params: Mapping[str, Any], packages: Sequence[str], weights: Sequence[Path], root: Path = Path()
) -> Memo:
    """The memo of `stage` for these parameters, code and weights, in `<work directory>/<stage>/memo`.

    Args:
        stage: name of the stage.
        params: the parameters that change an entry, JSON values.
        packages: importable packages whose sources do the work.
        weights: folders of the networks that do the work.
        root: the repository.
    """
    lock = root / "requirements.lock"
    context = {
        "params": dict(params),
        "code": {name: package_digest(name) for name in packages},
        "weights": [folder_digest(folder) for folder in weights],
        "environment": sha256_file(lock) if lock.is_file() else None,
    }
    return Memo(work_directory(stage, root) / "memo", sha256_bytes(canonical_json(context)))


def work_directory(stage: str, root: Path = Path()) -> Path:
    """Where a stage keeps resumable state: `$TAVR_WORK/<stage>`, by default `.work/<stage>` of the repository."""
    return (Path(os.environ["TAVR_WORK"]) if os.environ.get("TAVR_WORK") else root / ".work").resolve() / stage


def package_digest(name: str) -> str:
    """Digest of a package's Python sources, found without importing it."""
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"{name} is not installed"
    assert spec.submodule_search_locations, f"{name} is no package"
    (folder,) = spec.submodule_search_locations
    files = sorted(Path(folder).rglob("*.py"))
    return sha256_bytes(canonical_json({str(file.relative_to(folder)): sha256_file(file) for file in files}))


def folder_digest(folder: Path) -> str:
    """Digest of every file of a folder by relative name and content.

    Raises:
        InputError: no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; run the stage `weights`, which fetches and verifies it")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return sha256_bytes(canonical_json({str(file.relative_to(folder)): sha256_file(file) for file in files}))


@contextmanager
def stage_output(path: Path) -> Generator[Path]:
    """Yield an empty folder that takes the place of a stage's output when the stage succeeds.

    What a killed earlier run left beside it is removed first; one stage runs once at a time in a worktree.
    """
    for leftover in path.parent.glob(f".{path.name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with atomic_directory(path) as temporary:
        yield temporary
