"""Local weight directories: what must be there before a network loads."""

from pathlib import Path

from tavr_records.errors import InputError


def require_files(directory: Path, names: tuple[str, ...], role: str) -> None:
    """InputError that names the first file of `names` that `directory` lacks, and the remedy."""
    for name in names:
        if not (directory / name).is_file():
            raise InputError(
                f"{directory / name}: this file of the {role} weights is missing; run the stage `weights`"
                " (`dvc repro weights`) or point the configuration at a complete directory"
            )
