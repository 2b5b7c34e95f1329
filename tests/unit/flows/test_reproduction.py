"""A reproduction's environment: exactly the pinned packages, held against their hashes, without network."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tavr_flows.reproduction import Reproduction, holding, make_pinned_environment, plan_reproduction
from tavr_records.errors import InputError

MEMBER = """\
[project]
name = "member"
version = "1.0"
dependencies = ["fqdn", "torch"]

[build-system]
requires = ["uv_build>=0.9,<1"]
build-backend = "uv_build"

[tool.uv.build-backend]
module-name = "member"
module-root = ""
"""
PROJECT = """\
[project]
name = "project"
version = "1.0"
requires-python = ">=3.11"

[tool.uv]
package = false
constraint-dependencies = ["torch>=1"]

[tool.uv.workspace]
members = ["packages/*"]
"""


@pytest.fixture
def run(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Reproduction:
    """A worktree with one member and one pinned package of this project's own list."""
    monkeypatch.setenv("UV", shutil.which("uv") or str(root / ".tools/uv/bin/uv"))
    monkeypatch.setenv("UV_OFFLINE", "1")
    made = plan_reproduction(tmp_path, "20260101-00000001", "tiny", "0" * 40)
    package = made.tree / "packages/one"
    (package / "member").mkdir(parents=True)
    (package / "member/__init__.py").write_text("HERE = True\n")
    (package / "pyproject.toml").write_text(MEMBER)
    (made.tree / "pyproject.toml").write_text(PROJECT)
    found = re.search(r"^fqdn==.*\n(?: +--hash.*\n)+", (root / "requirements.lock").read_text(), re.MULTILINE)
    assert found
    (made.tree / "requirements.lock").write_text(found[0])
    return made


def test_the_environment_holds_the_pinned_packages_and_the_checkout_itself(run: Reproduction) -> None:
    said: list[str] = []
    make_pinned_environment(run, said.append)
    assert said == ["making the environment from requirements.lock, by hash"]
    code = (
        "import importlib.metadata as m, json, member;"
        "print(json.dumps([member.__file__, *sorted(d.name for d in m.distributions())]))"
    )
    python = run.tree / ".venv/bin/python"
    told = json.loads(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert told == [str(run.tree / "packages/one/member/__init__.py"), "fqdn", "member"]


def test_a_package_that_is_not_what_its_hash_says_is_refused(run: Reproduction) -> None:
    lock = run.tree / "requirements.lock"
    lock.write_text(re.sub(r"sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", lock.read_text()))
    with pytest.raises(InputError, match="its environment cannot be made"):
        make_pinned_environment(run, lambda _: None)


def test_two_reproductions_of_one_run_do_not_meet(run: Reproduction) -> None:
    with holding(run), pytest.raises(InputError, match="another process reproduces this run"), holding(run):
        pytest.fail("two at once")
    with holding(run):
        assert run.tree.is_dir(), "and the second took nothing away"
