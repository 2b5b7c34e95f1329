"""What every test shares: telemetry off, one BLAS thread, and the root of the checkout."""

import os
import signal
import subprocess
from pathlib import Path

from tavr_records.process import OFFLINE

for _name, _value in {**OFFLINE, "OMP_NUM_THREADS": "1"}.items():
    os.environ.setdefault(_name, _value)

# A shell that starts us in the background has SIGINT ignored, and every process we interrupt would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest  # noqa: E402 - the environment comes first
from jaxtyping import install_import_hook  # noqa: E402

# Shapes in the signatures of the network and of its training are checked at every call (tests/support/signatures.py).
install_import_hook(["tavr_model", "tavr_training"], "signatures.check_shapes")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def zoo(root: Path) -> Path:
    """The committed tiny weights."""
    return root / "packages/synthetic/zoo"


@pytest.fixture(scope="session")
def tracked(root: Path) -> list[Path]:
    """Every file git tracks or would add, as absolute paths."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    return [path for name in listing.split("\0") if name and (path := root / name).is_file()]
