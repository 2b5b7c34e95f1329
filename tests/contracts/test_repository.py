"""What may not be in the repository, and what must be fresh in it."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tavr_records.ids import sha256_file

REGISTRY = re.compile(
    r"https?://[^\s\"'<>]*(?:/simple(?:/|\b)|\.whl|\.tar\.gz|\.tgz|/debian)|"
    "pypi"
    r"\.org|"
    "files.python"
    "hosted"
)


def test_no_registry_address(tracked, root):
    found = []
    for path in tracked:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if path != Path(__file__) and REGISTRY.search(text):
            found.append(str(path.relative_to(root)))
    assert found == []


def test_requirements_lock_is_fresh(root, tmp_path):
    """The hash-pinned list is what this checkout resolves to; a changed pyproject.toml needs `make lock`."""
    uv = shutil.which("uv") or str(root / ".tools/uv/bin/uv")
    out = tmp_path / "requirements.lock"
    subprocess.run(
        [
            uv,
            "export",
            "--all-packages",
            "--no-emit-workspace",
            "--no-header",
            "--quiet",
            "--offline",
            "--format",
            "requirements-txt",
            "-o",
            str(out),
        ],
        cwd=root,
        check=True,
    )
    assert out.read_text() == (root / "requirements.lock").read_text(), "run `make lock`"
    pins = [line for line in out.read_text().splitlines() if "==" in line and not line.startswith(" ")]
    assert len(pins) > 100
    assert out.read_text().count("--hash=sha256:") >= len(pins)


def test_the_zoo_is_small_and_pinned(root):
    zoo = root / "packages/synthetic/zoo"
    files = {str(p.relative_to(zoo)) for p in zoo.rglob("*") if p.is_file()} - {"manifest.json"}
    pinned = {entry["path"]: entry for entry in json.loads((zoo / "manifest.json").read_text())["files"]}
    assert files == set(pinned)
    assert sum((zoo / name).stat().st_size for name in files) <= 25 * 2**20
    for name in sorted(files):
        assert sha256_file(zoo / name) == pinned[name]["sha256"], name
        assert pinned[name]["licence"]
        assert pinned[name]["command"]


@pytest.mark.parametrize("name", ["LICENSE", "NOTICE", "README.md", "Makefile", "docs/contracts.md", "docs/log.md"])
def test_a_newcomer_finds(root, name):
    assert (root / name).is_file()


def test_readme_tree_is_true(root):
    """Every path of the README's annotated tree exists, and every top-level directory is in it."""
    text = (root / "README.md").read_text()
    tree = re.search(r"```text\n(.*?)```", text, re.DOTALL)
    assert tree, "README.md has no annotated tree (a ```text block)"
    named = []
    for line in tree.group(1).splitlines():
        match = re.match(r"(\s*)([\w.\-/]+)", line)
        if match and match.group(2):
            named.append((len(match.group(1)), match.group(2)))
    stack: list[tuple[int, str]] = []
    for indent, name in named:
        while stack and stack[-1][0] >= indent:
            stack.pop()
        path = root.joinpath(*(part for _, part in stack), name)
        assert path.exists(), f"README.md names {path.relative_to(root)}, which is not there"
        stack.append((indent, name))
    listing = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, check=True, text=True).stdout
    folders = {line.split("/")[0] for line in listing.splitlines() if "/" in line and not line.startswith(".")}
    assert folders <= {name.rstrip("/") for indent, name in named if indent == 0}


def test_readme_commands_exist(root):
    text = (root / "README.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), re.MULTILINE))
    used = set(re.findall(r"\bmake ([a-z-]+)", text))
    assert used
    assert used <= targets
    assert len([t for t in targets if t != "help"]) <= 12


def test_no_weights_remember_the_machine_they_were_made_on(root: Path, tracked: list[Path]) -> None:
    named = re.compile(r'"(/[\w.-]+){2,}"')
    found = [path.relative_to(root) for path in tracked if path.suffix == ".json" and named.search(path.read_text())]
    assert found == []
