"""A folder of a model's files against the record: exactly these files, with exactly these bytes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tavr_records.errors import VerificationError
from tavr_records.ids import sha256_file

from tavr_lineage.trust.model_signature import model_folder


def check_weights(record: Mapping[str, Any], weights: Path) -> str:
    """Hold a folder (a checkout, or the model's own folder) against the record.

    Raises:
        VerificationError: a file is missing, unknown, a link, or has other bytes.
    """
    folder = model_folder(record["params"])
    if folder is None:
        raise VerificationError("weights: the record names no model")
    root = weights / folder if (weights / folder).is_dir() else weights
    outputs = record["outputs"].items()
    wanted = {path.removeprefix(f"{folder}/"): digest for path, digest in outputs if path.startswith(f"{folder}/")}
    if any(path.is_symlink() for path in (root, *root.rglob("*"))):
        raise VerificationError("weights: a symlink among the files")
    found = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if not path.is_dir()}
    for name in sorted({*wanted, *found}):
        if name not in found or sha256_file(found[name]) != wanted.get(name):
            raise VerificationError(f"weights: {name} is missing, unknown or not as on the record")
    return f"{len(wanted)} files of {folder}"
