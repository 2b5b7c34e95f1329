"""A trained model with all it needs to run, taken out of the DVC cache by name and held against its record."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tavr_records.atomic import atomic_directory
from tavr_records.errors import InputError
from tavr_records.ids import sha256_file

from tavr_lineage.git import main_checkout, read_file, repository_root
from tavr_lineage.outputs import stored_files
from tavr_lineage.policy import POLICY, read_policy
from tavr_lineage.record import RECORD, parse_record
from tavr_lineage.registry import holder, resolve_candidate

PARAMS = "params.yaml"


@dataclass(frozen=True)
class Release:
    """A folder laid out as a checkout after `dvc repro`: params.yaml, the trained model and the pretrained weights.

    Attributes:
        name: what was asked for.
        commit: of the candidate; "" for a folder that is no release.
        folder: where it lies.
        params: its parameters.
        model: folder of the trained transformer.
    """

    name: str
    commit: str
    folder: Path
    params: Mapping[str, Any]
    model: Path


def open_release(root: Path, name: str) -> Release:
    """Find a model: a stage (`dev`), a version, a run id, a commit, or a checkout in which `dvc repro` has run.

    A release is linked out of the DVC cache once; every file is held against the sha256 in its record.

    Raises:
        InputError: no such model, or a file is missing or differs.
    """
    if (Path(name) / PARAMS).is_file():
        return _release(name, "", Path(name))
    root = repository_root(root)
    policy = read_policy(root / POLICY)
    held = holder(root, policy.artifact, name) if name in policy.targets else None
    if name in policy.targets and held is None:
        raise InputError(f"{name}: no version holds this stage; promote one with `tavr promote`")
    commit = held.commit if held is not None else resolve_candidate(root, name, policy.artifact)
    folder = main_checkout(root) / ".work/releases" / commit
    if not folder.is_dir():
        _link_out(root, commit, folder)
    return _release(name, commit, folder)


def _release(name: str, commit: str, folder: Path) -> Release:
    params: dict[str, Any] = yaml.safe_load((folder / PARAMS).read_bytes())
    benchmark = params["benchmark"]
    model = folder / benchmark["methods"][benchmark["candidate"]]["model"]
    if not model.is_dir():
        raise InputError(f"{model}: no trained model there; run `dvc repro`")
    return Release(name, commit, folder, params, model)


def _link_out(root: Path, commit: str, folder: Path) -> None:
    data, params = read_file(root, commit, RECORD), read_file(root, commit, PARAMS)
    if data is None or params is None:
        raise InputError(f"commit {commit[:12]} carries no {RECORD}; name a finished run")
    record = parse_record(data, f"{commit[:12]}:{RECORD}")
    benchmark = record["params"]["benchmark"]
    model = benchmark["methods"][benchmark["candidate"]]["model"]
    digests = {path: digest for path, digest in record["outputs"].items() if path.startswith(f"{model}/")}
    digests |= {f"data/weights/{weight['path']}": weight["sha256"] for weight in record["weights"]}
    files = dict(stored_files(read_file(root, commit, "dvc.lock") or b"", main_checkout(root) / ".dvc/cache"))
    with atomic_directory(folder) as temporary:
        (temporary / PARAMS).write_bytes(params)
        for path, digest in sorted(digests.items()):
            stored = files.get(path)
            if stored is None or not stored.is_file():
                raise InputError(f"{path}: of commit {commit[:12]}, not in the DVC cache; fetch it with `dvc pull`")
            if sha256_file(stored) != digest:
                raise InputError(f"{path}: the DVC cache's differs from the record's sha256; fetch it with `dvc pull`")
            _link(stored, temporary / path)


def _link(source: Path, target: Path) -> None:
    """The same bytes under another name, without a copy where the file system can."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
