"""The flow on a pipeline of seconds: real git, real DVC, a real Prefect server on loopback, the command a user types."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tavr_flows.worktree import find_uv

from .toy import STAGES, bare_environment, change, git, write_toy

SERVER = """
import sys
from pathlib import Path
from tavr_flows.server import announce, embedded_server
root = Path(sys.argv[1])
with embedded_server(root) as url:
    announce(root, url)
    print(url, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of one server for all tests here."""
    folder = tmp_path_factory.mktemp("server")
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=bare_environment(folder / "home"),
    )  # fmt: skip
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert url, "the server did not start"
    yield url
    process.communicate("", timeout=60)
    assert process.returncode == 0


@pytest.fixture
def toy(tmp_path: Path, root: Path, api: str) -> Path:
    checkout = write_toy(tmp_path / "toy", root)
    (checkout / ".work/prefect").mkdir(parents=True)
    (checkout / ".work/prefect/server.json").write_text(json.dumps({"url": api}))
    return checkout


def start(checkout: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tavr_cli.main", *arguments], cwd=checkout, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, env=bare_environment(checkout.parent / "home"), start_new_session=True,
    )  # fmt: skip


def tavr(checkout: Path, *arguments: str) -> tuple[int, str]:
    process = start(checkout, *arguments)
    output, _ = process.communicate(timeout=240)
    return process.returncode, output


def retrain(checkout: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    code, output = tavr(checkout, "retrain", "--json", *arguments)
    match = re.search(r"^\{\n.*^\}\n", output, re.MULTILINE | re.DOTALL)
    assert match, output
    answer = json.loads(match.group())
    assert answer["exit"] == code, output
    return code, answer


def states(answer: dict[str, Any]) -> dict[str, str]:
    return {stage["name"]: stage["state"] for stage in answer["summary"]["stages"]}


def ask(url: str, path: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        f"{url}/{path}", json.dumps(body).encode(), {"content-type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.loads(response.read())


def processes_in(folder: Path) -> list[str]:
    """Command lines of living processes whose working directory lies below a folder."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                inside = (entry / "cwd").readlink().is_relative_to(folder)
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if inside and line:
                found.append(line)
    return found


def eventually(condition: Callable[[], bool], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "never came true"
        time.sleep(0.05)


def test_the_life_of_a_checkout(toy: Path, api: str) -> None:
    """Fresh run, nothing to do, one value changed: what runs, what is cached, what is left behind."""
    code, first = retrain(toy, "--reason", "the first")
    assert code == 0, first
    assert set(states(first).values()) == {"done"}
    summary = first["summary"]
    assert summary["promotion"]["version"] == "v0.0.1"
    assert Path(summary["paths"]["sample"]).read_bytes() == b"mp4"
    assert Path(summary["paths"]["report"]).is_file()
    assert Path(summary["paths"]["model"], "model.safetensors").is_file()
    assert (Path(summary["paths"]["report"]).parent / "../../data/benchmark/videos/ours/3.mp4").is_file()
    record = json.loads(git(toy, "show", f"{summary['commit']}:record.json"))
    assert record["run"]["reason"] == "the first"
    assert record["code"] == {**record["code"], "commit": git(toy, "rev-parse", "main"), "dirty": False}
    assert git(toy, "rev-parse", "tavr@v0.0.1^{commit}") == summary["commit"]
    assert git(toy, "status", "--porcelain") == "", "the operator's checkout is untouched"
    assert git(toy, "worktree", "list").count("\n") == 0, "finished worktrees are pruned"
    assert not (toy.parent / "home/.prefect").exists()
    assert processes_in(toy) == []

    code, second = retrain(toy)
    assert code == 0
    assert states(second) == dict.fromkeys(STAGES, "cached")
    folder = Path(second["summary"]["paths"]["run"])
    assert not (folder / "logs").exists(), "cached stages get no process"
    flow_run = ask(api, "flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 1})[0]
    filters = {"flow_runs": {"id": {"any_": [flow_run["id"]]}}}
    eventually(lambda: len(ask(api, "task_runs/filter", filters)) == len(STAGES))
    tasks = ask(api, "task_runs/filter", filters)
    assert sorted(task["name"] for task in tasks) == sorted(STAGES)
    assert {task["state_name"] for task in tasks} == {"Cached"}
    artifacts = ask(api, "artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [flow_run["id"]]}}})
    assert sorted(artifact["type"] for artifact in artifacts) == ["markdown", "table", "table"]

    change(toy, "stage1", steps=4)
    code, third = retrain(toy)
    assert states(third) == {"sources": "cached", "check_sources": "cached", "stage1": "done", "benchmark": "cached"}
    lock = yaml.safe_load(git(toy, "show", f"{third['summary']['branch']}:dvc.lock"))

    clone = toy.parent / "clone"
    git(toy, "clone", "--quiet", str(toy), str(clone))
    subprocess.run(["dvc", "repro", "-q"], cwd=clone, env=bare_environment(toy.parent / "home"), check=True)
    plain = yaml.safe_load((clone / "dvc.lock").read_text())
    assert plain["stages"] == lock["stages"], "the flow and plain DVC make the same bytes"


def test_a_refused_stage_ends_the_run_with_a_record_and_the_gate_names_the_check(toy: Path) -> None:
    change(toy, "check_sources", overlap=1)
    code, answer = retrain(toy)
    assert code == 3
    assert states(answer) == {"sources": "done", "check_sources": "done", "stage1": "refused", "benchmark": "not_run"}
    reasons = answer["summary"]["gate"]["reasons"]
    assert "checks: check_sources: people_in_both_splits failed (observed 1, limit 0)" in reasons
    assert any(
        reason.startswith("stages: stage1 is refused (reports/sources/verdict.json: refused by") for reason in reasons
    )
    assert answer["message"].startswith("stage1: reports/sources/verdict.json: refused by people_in_both_splits")
    record = json.loads(git(toy, "show", f"{answer['summary']['commit']}:record.json"))
    assert record["verdicts"]["sources"]["critical"] is True
    assert git(toy, "tag") == ""
    code, output = tavr(toy, "promote", answer["summary"]["run_id"])
    assert code == 3
    assert "people_in_both_splits" in output
    assert "Traceback" not in output


def test_nothing_of_an_earlier_run_is_passed_off_as_this_ones(toy: Path) -> None:
    assert retrain(toy)[0] == 0
    change(toy, "stage1", crash=True)
    code, answer = retrain(toy)
    assert code == 1
    assert states(answer) == {
        "sources": "cached",
        "check_sources": "cached",
        "stage1": "failed",
        "benchmark": "not_run",
    }
    assert "ZeroDivisionError: a bug" in answer["message"]
    record = json.loads(git(toy, "show", f"{answer['summary']['commit']}:record.json"))
    assert record["outputs"] == {}
    assert record["benchmark"] is None
    assert sorted(record["dvc"]["stages"]) == ["check_sources", "sources"]
    change(toy, "stage1", crash=False)
    assert retrain(toy)[0] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_no_process_and_the_next_run_carries_on(toy: Path, number: signal.Signals) -> None:
    change(toy, "stage1", steps=200, pause=0.1)
    process = start(toy, "retrain")
    step = toy / ".work/stage1/step"
    eventually(lambda: step.is_file() and step.read_text() not in {"", "0", "1", "2"})
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "tavr: interrupted; run again to carry on" in output
    assert processes_in(toy) == []
    (interrupted,) = (toy / ".runs").iterdir()
    reached = int(step.read_text())
    assert 2 < reached < 200
    step.write_text("190")  # spare the rest
    code, answer = retrain(toy)
    assert code == 0, answer
    assert answer["summary"]["run_id"] == interrupted.name, "the same run is carried on"
    assert states(answer) == {"sources": "cached", "check_sources": "cached", "stage1": "done", "benchmark": "done"}
    assert "resumed at 190" in (interrupted / "logs/stage1.log").read_text()


def test_a_killed_run_leaves_no_process(toy: Path) -> None:
    change(toy, "stage1", steps=2000, pause=0.1)
    process = start(toy, "retrain")
    step = toy / ".work/stage1/step"
    eventually(lambda: step.is_file() and step.read_text() not in {"", "0", "1", "2"})
    process.kill()
    process.communicate(timeout=60)
    eventually(lambda: processes_in(toy) == [], seconds=30)


def test_a_dirty_tree_is_refused_and_never_promoted(toy: Path) -> None:
    with (toy / "stage.py").open("a") as file:
        file.write("# changed\n")
    code, output = tavr(toy, "retrain")
    assert code == 2
    assert output.strip().splitlines()[-1].startswith(f"tavr: {toy}: uncommitted changes (stage.py); commit them")
    code, answer = retrain(toy, "--allow-dirty")
    assert code == 3
    assert answer["summary"]["gate"]["reasons"] == ["tree: the run's files differed from its commit: stage.py"]
    commit = answer["summary"]["commit"]
    assert git(toy, "show", f"{commit}:stage.py").endswith("# changed"), "what ran is what the commit holds"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["retrain", "--profile", "huge"], "tavr: profile: Input should be 'micro'"),
        (["retrain", "stage1.steps=1;id"], "tavr: overrides.0: String should match pattern"),
        (["retrain", "--base-run", "20990101-00000000"], "base_run: no branch run/20990101-00000000"),
        (["promote", "20990101-00000000"], "tavr: '20990101-00000000': no such commit, branch, tag or run"),
        (["rollback", "v0.0.9", "--reason", "x"], "tavr: 'v0.0.9': no such version"),
    ],
)
def test_a_users_mistake_is_one_line(toy: Path, arguments: list[str], message: str) -> None:
    code, output = tavr(toy, *arguments)
    assert code == 2
    assert message in output
    assert "Traceback" not in output


def test_outside_a_repository_nothing_starts(tmp_path: Path) -> None:
    code, output = tavr(tmp_path, "retrain")
    assert code == 2
    assert "no git repository; clone the project with git and run there" in output


def test_the_code_that_runs_is_the_worktrees_own(toy: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package installed editable from the main checkout is run from the worktree, in an environment of its own."""
    uv = find_uv(root)
    monkeypatch.setenv("UV", uv)
    package = toy / "packages/toypkg"
    (package / "toypkg").mkdir(parents=True)
    (package / "pyproject.toml").write_text(
        '[project]\nname = "toypkg"\nversion = "0"\n[build-system]\nrequires = ["uv_build"]\n'
        'build-backend = "uv_build"\n[tool.uv.build-backend]\nmodule-root = ""\n'
    )
    (package / "toypkg/__init__.py").write_text("VALUE = 'main'\n")
    (toy / "pyproject.toml").write_text(
        '[project]\nname = "toy"\nversion = "0"\nrequires-python = ">=3.11"\ndependencies = ["toypkg"]\n'
        '[tool.uv]\npackage = false\n[tool.uv.workspace]\nmembers = ["packages/*"]\n'
        "[tool.uv.sources]\ntoypkg = { workspace = true }\n"
    )
    code = 'import toypkg, pathlib; pathlib.Path("value.txt").write_text(toypkg.VALUE)'
    (toy / "dvc.yaml").write_text(
        yaml.safe_dump({"stages": {"sources": {"cmd": f"python -c '{code}'", "deps": ["packages/toypkg/toypkg"], "outs": ["value.txt"]}}})
    )  # fmt: skip
    with (toy / ".gitignore").open("a") as file:
        file.write("/.venv/\n/uv.lock\n/value.txt\n*.egg-info/\n")
    git(toy, "add", "-A")
    git(toy, "commit", "--quiet", "-m", "package")
    subprocess.run([uv, "sync", "--all-packages", "--offline", "--quiet"], cwd=toy, check=True, env=bare_uv(toy))
    git(toy, "checkout", "--quiet", "-b", "other")
    (package / "toypkg/__init__.py").write_text("VALUE = 'branch'\n")
    git(toy, "commit", "--quiet", "--all", "-m", "other value")
    process = start(toy, "retrain")
    eventually(lambda: any((toy / ".runs").glob("*/tree/.venv/.synced")))
    (package / "toypkg/__init__.py").write_text("VALUE = 'edited meanwhile'\n")
    output, _ = process.communicate(timeout=240)
    (run,) = (toy / ".runs").iterdir()
    assert (run / "summary.json").is_file(), output
    lock = yaml.safe_load(git(toy, "show", f"run/{run.name}:dvc.lock"))
    digest = lock["stages"]["sources"]["outs"][0]["md5"]
    assert (toy / ".dvc/cache/files/md5" / digest[:2] / digest[2:]).read_text() == "branch", output


def bare_uv(checkout: Path) -> dict[str, str]:
    """The user's package cache is wanted here, nothing else of theirs."""
    return {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
