"""Pins: the sha256 a file must have. What is not known is null, never invented."""

import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

from tavr_records.errors import InputError

from tavr_weights.config import RoleConfig

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Pin:
    """One pinned file: its path within the role's folder, its digest and licence."""

    role: str
    path: str
    sha256: str
    licence: str


def read_pins(path: Path) -> list[Pin]:
    """Read `{"files": [{"path", "role", "sha256", "licence", ...}]}`; paths may start with `<role>/`.

    Raises:
        InputError: no such file, or an entry that is no pin.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; restore it from git, or build the tiny weights with `make zoo`")
    try:
        document: Any = json.loads(path.read_bytes())
        entries = cast("list[dict[str, Any]]", document["files"])
        return [_pin(path, entry) for entry in entries]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a list of pinned files ({error!r}); restore it from git") from error


def _pin(path: Path, entry: dict[str, Any]) -> Pin:
    pin = Pin(entry["role"], str(entry["path"]).removeprefix(entry["role"] + "/"), entry["sha256"], entry["licence"])
    demand_safe_name(pin.path, str(path))
    if not _DIGEST.fullmatch(pin.sha256):
        raise InputError(f"{path}: sha256 of {entry['path']} is {pin.sha256!r}; give 64 lower-case hex digits")
    return pin


def role_pins(role: str, config: RoleConfig, known: list[Pin]) -> dict[str, Pin] | None:
    """The pins of one role by path: its own, else those of the pin file; None when none is known."""
    if config.sha256 is not None:
        for name in config.sha256:
            demand_safe_name(name, f"weights.roles.{role}.sha256")
        return {name: Pin(role, name, digest, config.licence) for name, digest in config.sha256.items()}
    return {pin.path: pin for pin in known if pin.role == role} or None


def demand_safe_name(name: str, where: str) -> None:
    """Refuse a file name that could leave its folder.

    Raises:
        InputError: an absolute path, or one with `..`.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in name:
        raise InputError(f"{where}: {name!r} leaves its folder; use a relative path without '..'")
