"""Resumable state in `.work/<stage>/<input digest>/`: two checkpoints, written whole, verified before they are read."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from tavr_records.atomic import full_disk_named, write_bytes
from tavr_records.ids import canonical_json, sha256_file

KEPT = 2
TAG = "engine"
SEAL = "seal.json"
log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one training. A directory counts only once its seal (digest of every file) is written.

    `rank` and `barrier` let several processes write into one checkpoint: rank 0 seals, renames and prunes.
    """

    def __init__(self, directory: Path, rank: int, barrier: Callable[[], None]) -> None:
        self.directory, self._rank, self._barrier = directory, rank, barrier

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Let every process `write` its part for the state after `step` steps, then seal it."""
        partial = self.directory / f".partial-{step:08d}"
        if self._rank == 0:
            for leftover in self.directory.glob(".partial-*"):  # of a run that was killed while saving
                shutil.rmtree(leftover, ignore_errors=True)
            partial.mkdir(parents=True)
        self._barrier()
        with full_disk_named(self._path(step), partial):
            write(partial)
        self._barrier()
        if self._rank == 0:
            self._seal(partial, self._path(step))
        self._barrier()

    def latest(self) -> int | None:
        """The highest step whose checkpoint is whole; damaged ones are reported and passed over."""
        for step in sorted(self._steps(), reverse=True):
            damage = self._damage(self._path(step))
            if damage is None:
                return step
            log.warning("%s: damaged (%s); falling back to the checkpoint before it", self._path(step), damage)
        return None

    def path(self, step: int) -> Path:
        """The directory of a checkpoint."""
        return self._path(step)

    def _path(self, step: int) -> Path:
        return self.directory / f"step-{step:08d}"

    def _steps(self) -> list[int]:
        return [int(path.name.removeprefix("step-")) for path in self.directory.glob("step-*")]

    def _seal(self, partial: Path, final: Path) -> None:
        digests = {str(path.relative_to(partial)): sha256_file(path) for path in _files(partial)}
        write_bytes(partial / SEAL, canonical_json(digests))
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        for step in sorted(self._steps())[:-KEPT]:
            shutil.rmtree(self._path(step))

    def _damage(self, path: Path) -> str | None:
        """What is wrong with a checkpoint, or None."""
        try:
            digests: dict[str, str] = json.loads((path / SEAL).read_bytes())
        except (OSError, json.JSONDecodeError) as error:
            return f"seal: {error}"
        for name, digest in digests.items():
            file = path / name
            if not file.is_file() or sha256_file(file) != digest:
                return name
        return None


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())
