"""The stand-alone programs as modules, loaded from their files as an auditor has them."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "packages/lineage/tavr_lineage/auditor"


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # judge.py imports the others by these names
    spec.loader.exec_module(module)
    return module


AUDITOR = _load("verify")
PROOF = _load("check_proof")
JUDGE = _load("judge")
