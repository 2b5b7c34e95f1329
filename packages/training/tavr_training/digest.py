"""The digest that names a training's resumable state: parameters, inputs, code and machine facts."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tavr_records.errors import InputError
from tavr_records.ids import canonical_json, sha256_bytes, sha256_file
from tavr_records.memo import folder_digest, package_digest, work_directory

from tavr_training.machine import Machine

PACKAGES = ("tavr_model", "tavr_training", "tavr_records")


def training_directory(stage: str, config: Any, machine: Machine, inputs: Sequence[Path], root: Path) -> Path:
    """Where this training keeps its state: the same inputs find it again, anything else starts anew.

    `config` is the stage's parameter section, a dataclass; `inputs` are the files and folders the training reads,
    each of which counts by content.

    Raises:
        InputError: an input is missing.
    """
    digest = {
        "config": asdict(config),
        "code": {name: package_digest(name) for name in (f"tavr_{stage}", *PACKAGES)},
        "machine": [machine.micro_batch_per_device, machine.deepspeed, os.environ.get("WORLD_SIZE", "1")],
        "inputs": [_content(path) for path in inputs],
    }
    return work_directory(stage, root) / sha256_bytes(canonical_json(digest))[:16]


def _content(path: Path) -> str:
    if path.is_file():
        return sha256_file(path)
    if path.is_dir():
        return folder_digest(path)
    raise InputError(f"{path}: no such input; run the stage that writes it (`dvc repro`)")
