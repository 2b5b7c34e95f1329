"""Attacks on what carries the evidence: weights in a folder, and the zip file itself."""

import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

from attack import Attack
from evidence_world import MODEL, World


def lay_out(folder: Path, changes: dict[str, bytes] | None = None) -> Path:
    for name, data in {**MODEL, **(changes or {})}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def swapped_weights(tmp: Path) -> Attack:
    folder = lay_out(tmp / "model", {"data/stage3/model/model.safetensors": b"other weights"})
    return Attack(World().files(), "weights: model.safetensors is missing, unknown or not as", weights=folder)


def smuggled_file(tmp: Path) -> Attack:
    folder = lay_out(tmp / "model", {"data/stage3/model/extra.bin": b"pickle"})
    return Attack(World().files(), "weights: extra.bin is missing, unknown or not as", weights=folder)


def symlinked_artefact(tmp: Path) -> Attack:
    folder = lay_out(tmp / "model")
    path = folder / "data/stage3/model/model.safetensors"
    path.rename(tmp / "elsewhere")
    path.symlink_to(tmp / "elsewhere")
    return Attack(World().files(), "weights: a symlink", weights=folder)


def in_zip(reason: str, name: str, data: bytes = b"x", mode: int = stat.S_IFREG | 0o644) -> Callable[[Path], Attack]:
    """One more member in the zip."""

    def spoil(path: Path) -> None:
        with zipfile.ZipFile(path, "a") as archive:
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr, info.compress_type = 3, mode << 16, zipfile.ZIP_DEFLATED
            archive.writestr(info, data)

    return lambda tmp: Attack(World().files(), reason, spoil_zip=spoil)


def something_before_the_zip(tmp: Path) -> Attack:
    return Attack(
        World().files(), "before or after", spoil_zip=lambda path: void(path.write_bytes(b"#!" + path.read_bytes()))
    )


def something_after_the_zip(tmp: Path) -> Attack:
    return Attack(
        World().files(), "before or after", spoil_zip=lambda path: void(path.write_bytes(path.read_bytes() + b"#"))
    )


def void(_: object) -> None:
    """Nothing."""


ATTACKS: dict[str, Callable[[Path], Attack]] = {
    attack.__name__: attack
    for attack in (
        swapped_weights,
        smuggled_file,
        symlinked_artefact,
        something_before_the_zip,
        something_after_the_zip,
    )
} | {
    "zip_traversal": in_zip("leads out of the archive", "tags/../../evil"),
    "zip_absolute": in_zip("leads out of the archive", "/etc/evil"),
    "zip_symlink": in_zip("not a regular file", "checkpoint.tsr", b"/etc/passwd", stat.S_IFLNK | 0o777),
    "zip_unknown_name": in_zip("an unknown name", "evil.py"),
    "zip_look_alike_name": in_zip("look-alike characters", "r\u0435cord.json"),
    "zip_bomb": in_zip("absurd size", "checkpoint.tsr", b"\0" * 2**25),
}
