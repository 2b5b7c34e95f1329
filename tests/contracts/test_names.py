"""One name per stage, everywhere; the layout of a stage package; sizes of files."""

import ast
from pathlib import Path

import pytest
import yaml
from tavr_cli.compose import CHECKED, SECTIONS, STAGES, config_type

FORBIDDEN_MODULES = {"utils", "common", "helpers", "misc", "core"}


def dvc_stages(root: Path) -> dict:
    return yaml.safe_load((root / "dvc.yaml").read_text())["stages"]


def test_dvc_stages_are_the_parameter_sections(root):
    assert sorted(dvc_stages(root)) == sorted(SECTIONS)
    params = yaml.safe_load((root / "params.yaml").read_text())
    assert sorted(params) == sorted([*SECTIONS, "_compose"])


@pytest.mark.parametrize("section", SECTIONS)
def test_one_name_per_stage(root, section):
    stage = section.removeprefix("check_")
    entry = dvc_stages(root)[section]
    module = f"tavr_{stage}.checks" if section.startswith("check_") else f"tavr_{stage}"
    assert entry["cmd"] == f"python -m {module}"
    assert entry["params"] == [section]
    assert entry["desc"]
    assert (root / "conf/stage" / f"{section}.yaml").is_file()
    outs = [next(iter(out)) if isinstance(out, dict) else out for out in entry["outs"]]
    allowed = (f"reports/{stage}/",) if section.startswith("check_") else (f"data/{stage}", f"reports/{stage}/")
    assert all(out.startswith(allowed) for out in outs)
    assert config_type(section).__name__.endswith("Config")


@pytest.mark.parametrize("stage", STAGES)
def test_stage_package_has_the_same_files(root, stage):
    package = root / "packages" / stage / f"tavr_{stage}"
    expected = ["__init__.py", "__main__.py", "config.py", "stage.py", "py.typed"]
    if stage in CHECKED:
        expected.append("checks.py")
    assert [name for name in expected if not (package / name).is_file()] == []
    assert len((package / "__main__.py").read_text().splitlines()) <= 16
    functions = [
        node.name for node in ast.parse((package / "stage.py").read_text()).body if isinstance(node, ast.FunctionDef)
    ]
    assert stage in functions
    readme = (root / "packages" / stage / "README.md").read_text()
    for word in ("Reads", "Writes", "Decides", "Paper"):
        assert word in readme, f"packages/{stage}/README.md says nothing of {word}"


def test_no_module_named_after_nothing(tracked):
    names = {path.stem for path in tracked if path.suffix == ".py"}
    assert names & FORBIDDEN_MODULES == set()


def test_files_stay_small(tracked, root):
    long = {
        str(path.relative_to(root)): count
        for path in tracked
        if path.suffix == ".py" and (count := len(path.read_text().splitlines())) > 400
    }
    assert long == {}


def test_no_profile_is_named_in_code(tracked, root):
    """A profile swaps weights and sizes; no branch may ask which one it is."""
    found = []
    for path in tracked:
        if path.suffix == ".py" and path.is_relative_to(root / "packages") and "synthetic" not in path.parts:
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Compare):
                    values = [c.value for c in [node.left, *node.comparators] if isinstance(c, ast.Constant)]
                    found += [f"{path.name}:{node.lineno}" for value in values if value in ("tiny", "micro", "small")]
    assert found == []
