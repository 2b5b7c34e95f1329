"""`tavr verify` and `tavr evidence`: exit codes and what machines read."""

import json
from pathlib import Path

import pytest
from evidence_world import World
from tavr_cli.main import app
from tavr_lineage.evidence.container import write_zip
from tavr_lineage.evidence.page import add_views
from tavr_records.errors import InputError
from typer.testing import CliRunner

runner = CliRunner()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_zip(tmp_path / "evidence.zip", add_views(World().files()))
    return tmp_path / "evidence.zip"


def test_a_verified_file_is_exit_code_0(path: Path) -> None:
    done = runner.invoke(app, ["verify", str(path), "--trust", World().key.fingerprint])
    assert done.exit_code == 0
    assert done.stdout.rstrip().endswith("VERIFIED")
    told = json.loads(runner.invoke(app, ["verify", str(path), "--json"]).stdout)
    assert (told["state"], told["release"]["version"]) == ("verified", "v0.0.1")
    assert {check["ok"] for check in told["checks"]} == {True}


def test_a_forged_one_is_exit_code_4(path: Path) -> None:
    write_zip(path, {**World().files(), "dvc.lock": b"x"})
    done = runner.invoke(app, ["verify", str(path), "--json"])
    assert done.exit_code == 4
    told = json.loads(done.stdout)
    assert told["state"] == "failed"
    assert [check["step"] for check in told["checks"] if not check["ok"]] == ["files"]


def test_a_missing_one_is_bad_input(tmp_path: Path) -> None:
    done = runner.invoke(app, ["verify", str(tmp_path / "none.zip")])
    assert isinstance(done.exception, InputError)
