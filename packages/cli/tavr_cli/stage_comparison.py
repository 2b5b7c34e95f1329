"""One stage of a reproduction against the record: its outputs by digest, and where they part."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import yaml
from tavr_lineage.exports.dossier import Dossier
from tavr_lineage.git import read_file
from tavr_records.ids import sha256_file

from tavr_cli.file_difference import FileDifference, compare_files

EQUAL, CLOSE, DIFFERENT, FAILED, NOT_RUN = "equal", "within tolerance", "different", "failed", "not run"


@dataclass(frozen=True)
class StageComparison:
    """What came of one stage.

    Attributes:
        stage: its name.
        state: equal, within tolerance, different, failed or not run.
        seconds: the reproduction's wall-clock time.
        reason: why it failed, or why nothing closer can be said.
        changed_inputs: declared inputs that were no longer the recorded ones; empty where the stage itself differs.
        files: how many output files differ.
        first: the first of them, by path.
        distance: the largest relative difference of numbers in all of them; None when more than numbers differs.
    """

    stage: str
    state: str
    seconds: float = 0.0
    reason: str = ""
    changed_inputs: Sequence[str] = ()
    files: int = 0
    first: FileDifference | None = None
    distance: float | None = None


@dataclass(frozen=True)
class Original:
    """What a reproduction is held against.

    Attributes:
        root: the repository, whose history holds the candidate's reports.
        dossier: the candidate.
        tolerance: largest relative difference of numbers that counts as close.
    """

    root: Path
    dossier: Dossier
    tolerance: float


def compare_stage(original: Original, tree: Path, stage: str, seconds: float) -> StageComparison:
    """Hold a finished stage in the worktree `tree`, which took `seconds`, against the record."""
    recorded = original.dossier.record["dvc"]["stages"][stage]
    made = _locked(tree, stage)
    changed = [out["path"] for out in recorded.get("outs", []) if made["outs"].get(out["path"]) != out["md5"]]
    paths = _differing_files(tree, original.dossier, recorded, changed)
    if not changed and not paths:
        return StageComparison(stage, EQUAL, seconds)
    deps = recorded.get("deps", [])
    inputs = [dep["path"] for dep in deps if made["deps"].get(dep["path"], dep["md5"]) != dep["md5"]]
    found = [_compare(original, tree, path) for path in paths]
    differences = [item for item in found if isinstance(item, FileDifference)]
    unknown = [item for item in found if isinstance(item, str) and item]
    if not differences and not unknown:
        unknown = [f"{changed[0]}: the list of its files is not in this machine's DVC cache, only its digest is known"]
    distance = _largest(differences) if not unknown else None
    return StageComparison(
        stage=stage,
        state=CLOSE if distance is not None and distance <= original.tolerance else DIFFERENT,
        seconds=seconds,
        reason=unknown[0] if unknown else "",
        changed_inputs=inputs,
        files=len(differences) + len(unknown),
        first=differences[0] if differences else None,
        distance=distance,
    )


def _largest(differences: Sequence[FileDifference]) -> float | None:
    """The largest distance; None when one of them is not a matter of numbers."""
    distances = [difference.distance for difference in differences if difference.distance is not None]
    return max(distances) if len(distances) == len(differences) else None


def _locked(tree: Path, stage: str) -> dict[str, dict[str, str]]:
    """Path -> md5 of the stage's inputs and outputs, as DVC wrote them this time."""
    document = cast("dict[str, Any]", yaml.safe_load((tree / "dvc.lock").read_bytes()))["stages"][stage]
    return {kind: {entry["path"]: entry["md5"] for entry in document.get(kind, [])} for kind in ("deps", "outs")}


def _differing_files(tree: Path, dossier: Dossier, recorded: Mapping[str, Any], changed: Sequence[str]) -> list[str]:
    """Files that are not what was recorded: by the sha256 of the record where it has one, else by DVC's file lists."""
    outs = [str(out["path"]) for out in recorded.get("outs", [])]
    found = {
        path
        for path, digest in dossier.record["outputs"].items()
        if _below(path, outs) and (not (tree / path).is_file() or sha256_file(tree / path) != digest)
    }
    known = {path: stored.parent.name + stored.name for path, stored in dossier.stored.items()}
    for out in changed:
        here = {path.relative_to(tree).as_posix() for path in (tree / out).rglob("*") if path.is_file()}
        there = {path for path in known if _below(path, [out])}
        if not (tree / out).is_dir():
            found.add(out)
        elif there:
            found |= here ^ there
            found |= {path for path in here & there if _md5(tree / path) != known[path]}
    return sorted(found)


def _below(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _md5(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _compare(original: Original, tree: Path, path: str) -> FileDifference | str:
    """The difference of one file; a sentence when one of the two is not there; "" when they are equal after all."""
    made = tree / path
    stored = original.dossier.stored.get(path)
    if not made.is_file():
        return f"{path} was not made this time"
    if stored is not None and stored.is_file():
        return compare_files(path, stored, made) or ""
    data = read_file(original.root, original.dossier.commit, path)
    if data is None:
        unseen = "is not in this machine's DVC cache (`dvc pull`), only its digest is known"
        told = "is new" if stored is None else unseen
        return f"{path} {told}"
    with TemporaryDirectory() as folder:
        committed = Path(folder) / "recorded"
        committed.write_bytes(data)
        return compare_files(path, committed, made) or ""


def platform_differences(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What tells two platform classes apart, as `name: recorded -> here`."""
    names = sorted(set(recorded) | set(here))
    return [
        f"{name}: {json.dumps(recorded.get(name))} -> {json.dumps(here.get(name))}"
        for name in names
        if recorded.get(name) != here.get(name)
    ]
