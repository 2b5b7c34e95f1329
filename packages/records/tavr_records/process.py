"""The entry of every stage process: read the parameter section, run the stage, turn user errors into one line."""

import argparse
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tavr_records.errors import InputError, RefusedError
from tavr_records.params import load_section

Config = TypeVar("Config")
EXIT_BAD_INPUT = 2
EXIT_DENIED = 3
REMEDIES = {
    errno.ENOSPC: "free space, then run again: finished work is kept",
    errno.EDQUOT: "free space, then run again: finished work is kept",
    errno.ENOENT: "run the stage that writes it (`dvc repro`)",
    errno.EACCES: "mend its rights, then run again",
}
OFFLINE = {
    "DVC_NO_ANALYTICS": "1",
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "DS_ACCELERATOR": "cpu" if not Path("/dev/nvidia0").exists() else "cuda",
    "TOKENIZERS_PARALLELISM": "false",
}
# On import, not in run_stage: OpenMP and DeepSpeed read their variables once, when the stage's module loads them.
for _name, _value in OFFLINE.items():
    os.environ.setdefault(_name, _value)


def run_stage(stage: str, config_type: type[Config], function: Callable[[Config], None]) -> None:
    """Run `python -m tavr_<stage> [--params FILE]`: exit 0, 2 (bad input) or 3 (refused by a check)."""
    parser = argparse.ArgumentParser(prog=f"python -m tavr_{stage}")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="parameter file (params.yaml)")
    arguments = parser.parse_args()
    try:
        function(load_section(config_type, stage, arguments.params))
    except InputError as error:
        _exit(stage, str(error), EXIT_BAD_INPUT)
    except RefusedError as error:
        _exit(stage, str(error), EXIT_DENIED)
    except OSError as error:
        if error.errno is None:
            raise
        _exit(stage, explain(error), EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        _exit(stage, "interrupted; run again to carry on", 130)


def explain(error: OSError) -> str:
    """An error of the operating system in one line: the file, what happened, and what to do."""
    code = error.errno or 0
    path, name = error.filename2 or error.filename or "disk", errno.errorcode.get(code, code)
    return f"{path}: {error.strerror} ({name}); {REMEDIES.get(code, 'mend that, then run again')}"


def _exit(stage: str, message: str, code: int) -> None:
    print(f"{stage}: {message}", file=sys.stderr)
    raise SystemExit(code)
