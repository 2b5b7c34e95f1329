"""The command line: quick to answer, exit codes as promised, JSON where a machine asks."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "prefect", "dvc", "great_expectations", "transformers", "hydra", "pyarrow", "scipy")


def tavr(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tavr_cli.main", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def git(root: Path, *arguments: str) -> None:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    subprocess.run(command, cwd=root, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path, root: Path) -> Path:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/policy.yaml").write_text((root / "conf/policy.yaml").read_text())
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "--quiet", "-m", "start")
    return tmp_path


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = f"import sys, tavr_cli.main; raise SystemExit(str([m for m in {HEAVY} if m in sys.modules] or ''))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr.strip() == ""
    for command in (
        "params",
        "retrain",
        "up",
        "status",
        "cost",
        "promote",
        "rollback",
        "reject",
        "approve",
        "checkpoint",
        "keys",
    ):
        assert command in tavr(tmp_path, "--help").stdout


def test_status_answers_machines_and_people(checkout: Path) -> None:
    result = tavr(checkout, "status", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {"problems": [], "runs": [], "stages": {}, "versions": []}
    assert "no runs yet" in tavr(checkout, "status").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status"], "no git repository"),
        (["retrain"], "no git repository"),
        (["promote", "v0.0.1"], "no git repository"),
        (["rollback", "v0.0.1", "--reason", "x"], "no git repository"),
        (["params"], "no profile"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = tavr(tmp_path, *arguments)
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert message in result.stderr


def test_an_error_of_the_disk_is_one_line_that_names_the_file(tmp_path: Path, root: Path) -> None:
    shutil.copytree(root / "conf", tmp_path / "conf")
    (tmp_path / "params.yaml").mkdir()
    found = tavr(tmp_path, "params")
    assert found.returncode == 2
    assert len(found.stderr.splitlines()) == 1
    assert "params.yaml" in found.stderr
    assert "(EISDIR); mend that, then run again" in found.stderr
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("conf", "params.yaml")] == []


def test_an_unknown_option_is_bad_input_too(tmp_path: Path) -> None:
    assert tavr(tmp_path, "retrain", "--fast").returncode == 2
