"""Imports point down, and every DVC stage depends on exactly the code it imports."""

import subprocess
import sys

import grimp
import pytest
import yaml
from tavr_cli.compose import CHECKED, SECTIONS, STAGES

SHARED = ("records", "lineage", "checks", "perception", "model", "training", "synthetic")


def test_import_contracts_hold(root):
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph(*(f"tavr_{name}" for name in (*SHARED, *STAGES)), cache_dir=None)


@pytest.mark.parametrize("section", SECTIONS)
def test_dvc_deps_are_the_import_closure(root, graph, section):
    stage = section.removeprefix("check_")
    entry = f"tavr_{stage}.checks" if section.startswith("check_") else f"tavr_{stage}.__main__"
    modules = graph.find_upstream_modules(entry) | {entry}
    names = {module.split(".")[0].removeprefix("tavr_") for module in modules}
    expected = {f"packages/{name}/tavr_{name}" for name in names}
    deps = yaml.safe_load((root / "dvc.yaml").read_text())["stages"][section]["deps"]
    declared = {dep for dep in deps if dep.startswith("packages/") and "/tavr_" in dep}
    assert declared == expected
    assert "requirements.lock" in deps


def test_config_modules_are_light():
    """Reading parameters must not load torch: the CLI and the form read every section."""
    names = [f"tavr_{stage}.config" for stage in STAGES]
    code = f"import sys, importlib; [importlib.import_module(n) for n in {names}]; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_checked_stages_are_those_with_checks():
    assert set(CHECKED) == {section.removeprefix("check_") for section in SECTIONS if section.startswith("check_")}
