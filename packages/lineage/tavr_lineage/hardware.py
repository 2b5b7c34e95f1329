"""The platform class of a run: what decides whether two machines may be expected to agree to the byte."""

import os
import platform
import re
from pathlib import Path
from typing import Any

_VECTOR = ("avx512f", "avx2", "avx", "neon", "sve", "asimd")


def platform_class() -> dict[str, Any]:
    """Machine, CPU model and vector instructions, cores, GPUs, system and Python; nothing that names this machine."""
    info = _read(Path("/proc/cpuinfo"))
    model = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    flags = set((re.search(r"^(?:flags|Features)\s*:\s*(.+)$", info, re.MULTILINE) or [""] * 2)[1].split())
    gpus = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    names = [re.search(r"^Model:\s*(.+)$", _read(path), re.MULTILINE) for path in gpus]
    return {
        "machine": platform.machine(),
        "cpu": model[1].strip() if model else "unknown",
        "instructions": [name for name in _VECTOR if name in flags],
        "cores": os.cpu_count() or 1,
        "gpus": [match[1].strip() if match else "unknown" for match in names],
        "system": platform.system(),
        "python": platform.python_version(),
    }


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
