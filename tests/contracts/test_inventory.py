"""Every place the pipeline writes to is in the inventory of withdrawals, so that a new one cannot be forgotten."""

import ast
import re
from pathlib import Path

import pytest
import yaml
from tavr_cli.compose import STAGES
from tavr_lineage.withdrawal.inventory import KINDS, PLACES, kind_of
from tavr_lineage.withdrawal.withdrawal_policy import ALWAYS_KEPT, DECIDED

# What stages write below data/<stage>, by the names in their code; a name that is not here fails the test below.
WRITTEN = {
    "weights": {"manifest.parquet": "nobody"},
    "sources": {
        "media": "footage", "manifest.parquet": "descriptions", "metadata.json": "descriptions",
        "quarantine.parquet": "ids",
    },
    "ingest": {
        "clips": "footage", "faces.parquet": "encodings", "manifest.parquet": "descriptions", "quarantine.parquet": "ids",
    },
    "pairs": {"manifest.parquet": "ids", "clips.parquet": "ids", "quarantine.parquet": "ids"},
    "latents": {"shard-": "encodings", "manifest.parquet": "ids", "quarantine.parquet": "ids"},
    "stage1": {"model": "models", "ledger.parquet": "ids", "losses.csv": "ids", "metrics.json": "ids"},
    "stage2": {"model": "models", "ledger.parquet": "ids", "losses.csv": "ids", "metrics.json": "ids"},
    "stage3": {"model": "models", "ledger.parquet": "ids", "losses.csv": "ids", "metrics.json": "ids"},
    "preferences": {"shard-": "encodings", "manifest.parquet": "ids", "report.json": "ids"},
    "benchmark": {"videos": "footage", "manifest.parquet": "ids"},
}  # fmt: skip
_OUTPUTS = {"output", "out", "folder_out"}
_BY_CONSTANT = {"sources": {"METADATA": "metadata.json"}}
_BY_VALUE = {
    "latents": {"shard-"},
    "preferences": {"shard-"},
    "benchmark": {"videos"},
    "weights": {"manifest.parquet"},
}  # names made elsewhere


def written_names(path: Path, stage: str) -> set[str]:
    """Names that a module joins to a variable for its output folder."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Div):
            continue
        if not isinstance(node.left, ast.Name) or node.left.id not in _OUTPUTS:
            continue
        if isinstance(node.right, ast.Constant):
            found.add(str(node.right.value))
        elif isinstance(node.right, ast.Name):
            found.add(_BY_CONSTANT.get(stage, {}).get(node.right.id, ""))
    return found - {""}


def code(root: Path) -> list[Path]:
    return [*(root / "packages").glob("*/tavr_*/**/*.py"), *(root / "flows/tavr_flows").glob("*.py")]


@pytest.mark.parametrize("stage", STAGES)
def test_every_output_of_a_stage_is_known(root: Path, stage: str) -> None:
    modules = list((root / "packages" / stage / f"tavr_{stage}").glob("*.py"))
    if stage.startswith("stage"):
        modules += [root / "packages/training/tavr_training/loop.py"]
    names = {name for path in modules for name in written_names(path, stage)}
    assert names | _BY_VALUE.get(stage, set()) == set(WRITTEN[stage])
    for name, kind in WRITTEN[stage].items():
        below = name if "." in name else f"{name}/x" if not name.endswith("-") else f"{name}0.safetensors"
        assert kind_of(f"data/{stage}/{below}") == kind, name


def test_every_dvc_output_is_known(root: Path) -> None:
    stages = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    for entry in stages.values():
        for out in [*entry["outs"], *entry.get("metrics", [])]:
            name = next(iter(out)) if isinstance(out, dict) else out
            below = name if "." in name.rsplit("/", 1)[1] else f"{name}/manifest.parquet"
            assert kind_of(below) != "unknown", name


def test_every_folder_of_resumable_state_is_known(root: Path) -> None:
    memos: set[str] = set()
    folders: set[str] = set()
    for path in code(root):
        text = path.read_text()
        memos |= set(re.findall(r'open_memo\(\s*"(\w+)"', text))
        folders |= set(re.findall(r'(?<!\w)\.work"? ?/ ?(?:f?")?([a-z][\w-]*)(?![\w.]*\()', text))
    assert memos == {"sources", "ingest", "pairs", "latents", "preferences", "benchmark"}
    assert {kind_of(f".work/{stage}/memo/ab/abcd") for stage in memos} == {"footage", "encodings"}
    assert folders >= {"prefect", "locks", "releases", "weights", "dvc"}
    for folder in folders - memos - {"stage"}:  # `.work/<stage>/` in prose
        assert kind_of(f".work/{folder}/x") != "unknown", folder
    for stage in ("stage1", "stage2", "stage3"):
        assert kind_of(f".work/{stage}/0123456789abcdef") == "training_state"


def test_everything_a_run_keeps_is_known(root: Path) -> None:
    names: set[str] = set()
    for path in (root / "flows/tavr_flows" / name for name in ("finish.py", "runs.py", "reproduce.py")):
        for chain in re.findall(r'(?:run\.|self\.|\b)folder((?: / "[\w.]+")+)', path.read_text()):
            names.add("/".join(re.findall(r'"([\w.]+)"', chain)))
    assert {"model", "reports", "data/benchmark", "summary.json", "lock", "request.json"} <= names
    for name in names - {"tree", "conf/config.yaml"}:
        below = name if "." in name or name == "lock" else f"{name}/x.html"
        assert kind_of(below) != "unknown", name


def test_every_kind_is_real_and_decided() -> None:
    assert {kind for _, kind in PLACES} <= set(KINDS)
    assert set(DECIDED) | set(ALWAYS_KEPT) | {"nobody"} == set(KINDS)


def test_a_check_of_withdrawals_depends_on_the_tombstones(root: Path) -> None:
    """Whoever reads a list of what is withdrawn names it as a dep, so that DVC runs it again."""
    stages = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    for section, entry in stages.items():
        stage = section.removeprefix("check_")
        folder = root / "packages" / stage / f"tavr_{stage}"
        is_check = section.startswith("check_")
        files = (
            [folder / "checks.py"]
            if is_check
            else [p for p in folder.glob("*.py") if p.name not in ("checks.py", "refresh.py")]
        )
        text = "".join(path.read_text() for path in files)
        for name in ("withdrawn.jsonl", "withdrawn_faces.jsonl"):
            assert (f'{name}"' in text) == (f"audit/{name}" in entry["deps"]), (section, name)
