"""Facts of the machine a training runs on, from `infra/deepspeed/<name>.json`; never parameters of a result."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tavr_records.errors import InputError

VARIABLE = "TAVR_DEEPSPEED"
DEFAULT = Path("infra/deepspeed/cpu.json")


@dataclass(frozen=True)
class Machine:
    """What a device has room for.

    Attributes:
        micro_batch_per_device: most samples in one forward.
        checkpoint_every_steps: how much work an interruption may cost.
        deepspeed: its own configuration (ZeRO, offload).
        gradient_checkpointing: keep only the input of each block and compute the rest again, for a third more work.
        split_backward: stage3 holds the graph of one generation at a time, not of winners and losers together, and
            computes each forward pass again; the gradient is the same.
    """

    micro_batch_per_device: int
    checkpoint_every_steps: int
    deepspeed: dict[str, Any]
    gradient_checkpointing: bool = False
    split_backward: bool = False


def read_machine(root: Path) -> Machine:
    """Read the file that $TAVR_DEEPSPEED names, by default `infra/deepspeed/cpu.json` of the repository.

    Raises:
        InputError: no such file, or not of this form.
    """
    path = Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else root / DEFAULT
    if not path.is_file():
        raise InputError(f"{path}: no such machine file; set {VARIABLE} to one of infra/deepspeed/*.json")
    try:
        return Machine(**json.loads(path.read_bytes()))
    except (json.JSONDecodeError, TypeError) as error:
        raise InputError(f"{path}: not a machine file ({error}); compare with {DEFAULT}") from error


def split_batch(global_batch: int, world_size: int, machine: Machine) -> tuple[int, int]:
    """(samples a device at once, accumulation steps) whose product with the devices is the global batch.

    Raises:
        InputError: the global batch is not a multiple of the number of devices.
    """
    if global_batch % world_size:
        raise InputError(f"global_batch {global_batch} is no multiple of {world_size} devices; choose one that is")
    share = global_batch // world_size
    micro = max(size for size in range(1, min(share, machine.micro_batch_per_device) + 1) if share % size == 0)
    return micro, share // micro
