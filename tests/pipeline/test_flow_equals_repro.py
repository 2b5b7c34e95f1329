"""The flow and plain `dvc repro` make the same bytes, each from nothing, in clones that share no cache and no memo.

`TAVR_TEST_PROFILE=tiny` does it at the size of `make retrain`; the default takes minutes.
"""

import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import Clone, make_clone

pytestmark = pytest.mark.slow
PROFILE = os.environ.get("TAVR_TEST_PROFILE", "micro")
CHANGED = "stage3.preference.beta=400.0"
AFTER_STAGE3 = ["stage3", "benchmark", "check_benchmark"]


@pytest.fixture(scope="module")
def by_flow(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return make_clone(root, tmp_path_factory.mktemp("flow") / "tavr")


@pytest.fixture(scope="module")
def by_hand(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which importing prefect is an error."""
    clone = make_clone(root, tmp_path_factory.mktemp("hand") / "tavr")
    (clone.path.parent / "without").mkdir()
    (clone.path.parent / "without/prefect.py").write_text("raise ImportError('prefect is not here')\n")
    return clone


def retrain(clone: Clone, *arguments: str) -> tuple[dict[str, str], dict[str, Any]]:
    """States and locked stages of a run of the flow; whether the gate lets so small a model through is not asked."""
    result = clone.run("tavr", "retrain", "--json", "--profile", PROFILE, *arguments, check=False)
    assert result.returncode in {0, 3}, f"{result.stdout}\n{result.stderr}"
    summary = json.loads(result.stdout[result.stdout.index("{\n") :])["summary"]
    lock = clone.run("git", "show", f"{summary['branch']}:dvc.lock").stdout
    return {stage["name"]: stage["state"] for stage in summary["stages"]}, yaml.safe_load(lock)["stages"]


def repro(clone: Clone, *overrides: str) -> tuple[list[str], dict[str, Any]]:
    """The stages plain DVC ran, and all locked stages."""
    clone.run("tavr", "params", "--profile", PROFILE, *overrides)
    output = clone.run("dvc", "repro", PYTHONPATH=str(clone.path.parent / "without")).stdout
    ran = [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]
    return ran, yaml.safe_load((clone.path / "dvc.lock").read_text())["stages"]


def files(clone: Clone, out: dict[str, Any]) -> dict[str, str]:
    """Digest of every file of a locked output."""
    digest = out["md5"]
    if not digest.endswith(".dir"):
        return {out["path"]: digest}
    listing = (clone.path / ".dvc/cache/files/md5" / digest[:2] / digest[2:]).read_bytes()
    return {f"{out['path']}/{entry['relpath']}": entry["md5"] for entry in json.loads(listing)}


def different(ours: Clone, mine: dict[str, Any], theirs: Clone, other: dict[str, Any]) -> list[str]:
    """Names of output files whose bytes differ between two lock files."""
    found: set[str] = set()
    for name in mine.keys() | other.keys():
        left, right = (
            {path: digest for out in lock.get(name, {}).get("outs", []) for path, digest in files(clone, out).items()}
            for clone, lock in ((ours, mine), (theirs, other))
        )
        found |= {path for path in left.keys() | right.keys() if left.get(path) != right.get(path)}
    return sorted(found)


def test_both_make_the_same_bytes(by_flow: Clone, by_hand: Clone) -> None:
    states, flow = retrain(by_flow)
    assert set(states.values()) == {"done"}, "everything is made anew"
    ran, hand = repro(by_hand)
    assert sorted(ran) == sorted(states), "everything is made anew"
    assert different(by_flow, flow, by_hand, hand) == []
    assert flow == hand

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "Data and pipelines are up to date." in by_hand.run("dvc", "repro").stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds <= 10, "processor time: how long a shared machine takes for it is the machine's affair"

    ran, changed = repro(by_hand, CHANGED)
    assert ran == AFTER_STAGE3
    assert {name for name in hand if hand[name] != changed[name]} <= set(AFTER_STAGE3)
    states, flow = retrain(by_flow, CHANGED)
    assert [name for name, state in states.items() if state == "done"] == AFTER_STAGE3
    assert different(by_flow, flow, by_hand, changed) == []
    assert flow == changed
