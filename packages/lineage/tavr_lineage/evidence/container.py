"""An evidence file: the mapping name -> bytes as a zip with the same bytes every time, read back with distrust."""

import io
import re
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path

from tavr_records.atomic import atomic_file
from tavr_records.errors import InputError, VerificationError

MEMBERS = (
    "record.json",
    "attestation.json",
    "model.sig",
    "log.jsonl",
    "checkpoint.json",
    "checkpoint.tsr",
    "keys.json",
    "commit",
    "policy.yaml",
    "policy.json",
    "withdrawn.jsonl",
    "dvc.lock",
    "params.yaml",
    "requirements.lock",
    "consumption.sqlite",
    "licences.json",
    "approvers",
    "witnesses",
    "timestamp-roots.pem",
    "champion.json",
    "champion_proof.json",
    "index.html",
    "verify.py",
    "judge.py",
    "check_proof.py",
    "README.txt",
)
_FAMILIES = re.compile(r"tags/[A-Za-z0-9][A-Za-z0-9._@#-]*|verdicts/[a-z][a-z0-9_]*\.json")
_FIRST_DAY = (1980, 1, 1, 0, 0, 0)
_MOST_MEMBERS, _SMALL, _MOST_BYTES, _MOST_RATIO = 4000, 2**24, 2**33, 200
_END_SIZE = 22


def write_zip(path: Path, files: Mapping[str, bytes]) -> None:
    """Write the evidence file; equal files give equal bytes."""
    with atomic_file(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _FIRST_DAY)
            info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, files[name], compresslevel=6)


def read_zip(path: Path) -> dict[str, bytes]:
    """Read an evidence file.

    Raises:
        InputError: no such file.
        VerificationError: no zip, or one that could hide something: names that lead out, that look alike or are there
            twice, links, unknown members, or members that unpack to absurd sizes.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); make it with `tavr evidence`") from error
    if data[:4] != b"PK\3\4" or data[-_END_SIZE:][:4] != b"PK\5\6":
        raise VerificationError(f"{path}: not a zip file, or something lies before or after it")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check_size(archive.infolist())
            files: dict[str, bytes] = {}
            for info in archive.infolist():
                check_name(info.orig_filename)
                _check_member(info, files)
                files[info.filename] = archive.read(info)
            return files
    except VerificationError:
        raise
    except Exception as error:
        raise VerificationError(f"{path}: a damaged zip file ({error})") from error


def check_name(name: str) -> None:
    """Accept the name of a piece of evidence.

    Raises:
        VerificationError: it leads out of a folder, looks like another one, or is none of the agreed names.
    """
    if not name.isascii() or not name.isprintable():
        raise VerificationError(f"{name!a}: look-alike characters outside ASCII in a name")
    if name.startswith(("/", "\\")) or ".." in name or ":" in name:
        raise VerificationError(f"{name}: leads out of the archive")
    if name not in MEMBERS and _FAMILIES.fullmatch(name) is None:
        raise VerificationError(f"{name}: an unknown name")


def _check_size(members: list[zipfile.ZipInfo]) -> None:
    total = sum(info.file_size for info in members)
    if len(members) > _MOST_MEMBERS or total > _MOST_BYTES:
        raise VerificationError(f"absurd size: {len(members)} members of {total} bytes")


def _check_member(info: zipfile.ZipInfo, files: Mapping[str, bytes]) -> None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if info.filename != info.orig_filename:
        raise VerificationError(f"{info.orig_filename!a}: a name with a hidden part")
    if kind not in (0, stat.S_IFREG):
        raise VerificationError(f"{info.filename}: not a regular file (symlink)")
    if info.filename in files:
        raise VerificationError(f"{info.filename}: is there twice (duplicate)")
    if info.file_size > max(_SMALL, _MOST_RATIO * info.compress_size):
        raise VerificationError(f"{info.filename}: absurd size, {info.file_size} bytes out of {info.compress_size}")
