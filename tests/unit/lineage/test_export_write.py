"""Every format as a user asks for it: the same bytes for the same record, in files, folders and refusals by name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tavr_lineage.exports.dossier import Dossier, open_dossier
from tavr_lineage.exports.write import FORMATS, write_export
from tavr_lineage.promotion import promote
from tavr_records.errors import InputError

from .conftest import EXPORTED, Finish, git


@pytest.mark.parametrize("name", FORMATS)
def test_a_folder_gets_every_form_with_equal_bytes_each_time(dossier: Dossier, name: str, tmp_path: Path) -> None:
    written = [write_export(dossier, name, tmp_path / folder) for folder in ("one", "two")]
    assert list(written[0].values()) == list(written[1].values())
    assert {Path(path).name for path in written[0]} == {f"{name}{suffix}" for suffix in FORMATS[name]}
    assert all(Path(path).stat().st_size > 500 for path in written[0])


@pytest.mark.parametrize("name", FORMATS)
def test_another_machine_with_only_the_git_history_writes_the_same_bytes(
    finish: Finish, checkout: Path, name: str, tmp_path: Path
) -> None:
    finish(EXPORTED)
    promote(checkout, EXPORTED, "dev")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--mirror", str(checkout), str(clone / ".git"))
    git(clone, "config", "core.bare", "false")
    git(clone, "checkout", "--quiet", "main")
    here = write_export(open_dossier(checkout, "tavr@v0.0.1"), name, tmp_path / "here")
    there = write_export(open_dossier(clone, "dev"), name, tmp_path / "there")
    assert list(here.values()) == list(there.values())


def test_mistakes_are_named(dossier: Dossier, checkout: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"written as \.md or \.html"):
        write_export(dossier, "annex-iv", tmp_path / "page.pdf")
    with pytest.raises(InputError, match="'spdx' is none"):
        write_export(dossier, "spdx", tmp_path)
    with pytest.raises(InputError, match="no version holds this stage"):
        open_dossier(checkout, "prod")
    with pytest.raises(InputError, match="no such commit, branch, tag or run"):
        open_dossier(checkout, "v9.9.9")
    with pytest.raises(InputError, match="carries no record"):
        open_dossier(checkout, "main")


def test_the_command(finish: Finish, checkout: Path) -> None:
    finish(EXPORTED)

    def tavr(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "tavr_cli.main", "export", *arguments]
        return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)

    result = tavr(EXPORTED, "--format", "cyclonedx", "-o", "bom.json", "--json")
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["model"] == f"tavr run {EXPORTED}"
    assert list(told["files"]) == ["bom.json"]
    assert json.loads((checkout / "bom.json").read_bytes())["specVersion"] == "1.6"
    refused = tavr(EXPORTED, "--format", "prov", "-o", "http://127.0.0.1:1")
    assert refused.returncode == 2
    assert "only openlineage" in refused.stderr
