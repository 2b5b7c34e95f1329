"""Put a role's files in place: each verified, the folder whole or absent."""

import os
import shutil
from pathlib import Path

from tavr_records.atomic import atomic_directory
from tavr_records.errors import InputError
from tavr_records.ids import sha256_file
from tqdm import tqdm

from tavr_weights.origins import Fetched
from tavr_weights.pins import Pin


def place_role(role: str, fetched: Fetched, pins: dict[str, Pin] | None, target: Path) -> dict[str, str]:
    """Copy (or link, where the bytes are our own download) the files to `target`; return sha256 by path.

    Raises:
        InputError: a pinned file is missing or differs, or a file has no pin although the role is pinned.
    """
    _demand_same_files(role, fetched, pins)
    digests: dict[str, str] = {}
    with atomic_directory(target) as folder:
        for name, source in tqdm(sorted(fetched.files.items()), desc=role, unit="file", leave=False):
            goal = folder / name
            goal.parent.mkdir(parents=True, exist_ok=True)
            _copy(source, goal, link=fetched.own)
            digests[name] = sha256_file(goal)
            if pins is not None and digests[name] != pins[name].sha256:
                raise InputError(
                    f"{source}: wrong sha256: expected {pins[name].sha256}, found {digests[name]}; {fetched.remedy}"
                )
    return digests


def _demand_same_files(role: str, fetched: Fetched, pins: dict[str, Pin] | None) -> None:
    if not fetched.files:
        raise InputError(f"weights.roles.{role}: {fetched.origin} holds no wanted file; mend origin or files in conf/")
    if pins is None:
        return
    missing = sorted(set(pins) - set(fetched.files))
    if missing:
        raise InputError(f"{fetched.origin}: no such file: {', '.join(missing)}; {fetched.remedy}")
    unpinned = sorted(set(fetched.files) - set(pins))
    if unpinned:
        raise InputError(
            f"weights.roles.{role}: no sha256 for {', '.join(unpinned)} of {fetched.origin}; pin it or leave it out"
        )


def _copy(source: Path, target: Path, link: bool) -> None:
    """Copy; or hard link when asked and possible. What git tracks is never linked: DVC makes its files read-only."""
    if link:
        try:
            os.link(source.resolve(), target)
        except OSError:
            shutil.copyfile(source, target)
    else:
        shutil.copyfile(source, target)
