"""A pipeline of seconds in a repository of its own: real git, real DVC, the contract's files, no neural network."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

STAGE = """
import json, os, sys, time
from pathlib import Path
import yaml
from tavr_records.manifest import write_manifest
from tavr_records.schemas import Consumed, Refused, Score
from tavr_records.verdict import CheckResult, Verdict, require_passed, write_verdict
from tqdm import tqdm

name = sys.argv[1]
params = yaml.safe_load(open("params.yaml"))[name]

def check(stage):
    rule = CheckResult("people_in_both_splits", "critical", params["overlap"] == 0, params["overlap"], 0)
    write_verdict(Path("reports") / stage / "verdict.json", Verdict(stage, (rule,)))
    write_manifest(Path("reports") / stage / "quarantine.parquet", Refused, [], ("record_id",))

def sources():
    Path("data/sources").mkdir(parents=True, exist_ok=True)
    Path("data/sources/list.txt").write_text(f"{params['seed']}")

def stage1():
    require_passed("sources")
    out = Path("data/stage1/model"); out.mkdir(parents=True, exist_ok=True)
    memo = Path(".work/stage1/step"); memo.parent.mkdir(parents=True, exist_ok=True)
    first = int(memo.read_text()) if memo.exists() else 0
    for step in tqdm(range(first, params["steps"]), desc="stage1", unit="step"):
        time.sleep(params["pause"])
        memo.write_text(str(step + 1))
    print(f"resumed at {first}", flush=True)
    if params["crash"]:
        raise ZeroDivisionError("a bug")
    (out / "model.safetensors").write_bytes(b"weights" * 10)
    row = Consumed("stage1", 0, 0, [], "target0", "ref0", True, "")
    write_manifest(Path("data/stage1/ledger.parquet"), Consumed, [row], ("step", "slot"))

def benchmark():
    def score(method, pair, value):
        return Score(f"{method}|{pair}", pair, method, "p" + pair, 17, 0, .5, value, 1., 2., .1, .2, .3, .6, 21, 0, "")
    rows = [score("base", str(i), .2 + .01 * i) for i in range(6)] + [score("ours", str(i), .5 + .012 * i) for i in range(6)]
    write_manifest(Path("data/benchmark/manifest.parquet"), Score, rows, ("score_id",))
    video = Path("data/benchmark/videos/ours/3.mp4"); video.parent.mkdir(parents=True, exist_ok=True)
    video.write_bytes(b"mp4")
    report = Path("reports/benchmark"); report.mkdir(parents=True, exist_ok=True)
    one = {"mean": .5, "low": .4, "high": .6, "pairs": 6}
    metrics = {"candidate": "ours", "baseline": "base", "release": "r1",
               "methods": {"ours": {"id_target": one}, "base": {"id_target": one}},
               "versus_base": {"ours": {"id_target": one}}}
    (report / "metrics.json").write_text(json.dumps(metrics))
    (report / "report.html").write_text("<h1>report</h1>")

from tavr_records.errors import InputError, RefusedError
try:
    {"sources": sources, "check_sources": lambda: check("sources"), "stage1": stage1, "benchmark": benchmark}[name]()
except InputError as error:
    print(f"{name}: {error}", file=sys.stderr); sys.exit(2)
except RefusedError as error:
    print(f"{name}: {error}", file=sys.stderr); sys.exit(3)
"""
PARAMS = {
    "_compose": {"profile": "tiny", "overrides": []},
    "sources": {"seed": 0},
    "check_sources": {"overlap": 0},
    "stage1": {"steps": 3, "pause": 0.01, "crash": False, "seed": 0},
    "benchmark": {"methods": {"ours": {"model": "data/stage1/model"}}},
}
PIPELINE = {
    "stages": {
        "sources": {"cmd": "python stage.py sources", "params": ["sources"], "outs": ["data/sources"]},
        "check_sources": {
            "cmd": "python stage.py check_sources",
            "deps": ["data/sources"],
            "params": ["check_sources"],
            "outs": [
                {"reports/sources/verdict.json": {"cache": False}},
                {"reports/sources/quarantine.parquet": {"cache": False}},
            ],
        },
        "stage1": {
            "cmd": "python stage.py stage1",
            "deps": ["data/sources", "reports/sources/verdict.json"],
            "params": ["stage1"],
            "outs": ["data/stage1"],
        },
        "benchmark": {
            "cmd": "python stage.py benchmark",
            "deps": ["data/stage1"],
            "params": ["benchmark"],
            "outs": [
                "data/benchmark",
                {"reports/benchmark/metrics.json": {"cache": False}},
                {"reports/benchmark/report.html": {"cache": False}},
            ],
        },
    }
}
STAGES = ("sources", "check_sources", "stage1", "benchmark")


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def write_toy(root: Path, project: Path) -> Path:
    """Make the repository and commit it; `project` is this project's root, whose policy it borrows."""
    root.mkdir(parents=True)
    git(root, "init", "--quiet", "--initial-branch=main")
    (root / "stage.py").write_text(STAGE)
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False))
    (root / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE, sort_keys=False))
    (root / ".gitignore").write_text("/data/\n/.work/\n/.runs/\n/ran\n__pycache__/\n")
    (root / ".dvcignore").write_text(".work/\n.runs/\n")
    (root / ".dvc").mkdir()
    (root / ".dvc/config").write_text("[core]\n    analytics = false\n    autostage = false\n")
    (root / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (root / "requirements.lock").write_text("dvc==3\n")
    (root / "audit").mkdir()
    (root / "audit/withdrawn.jsonl").write_text("")
    shutil.copytree(project / "conf/profile", root / "conf/profile")
    policy = yaml.safe_load((project / "conf/policy.yaml").read_text())
    policy |= {"required_stages": list(STAGES), "required_checks": ["sources"]}
    (root / "conf/policy.yaml").write_text(yaml.safe_dump(policy))
    (root / "conf/budget.yaml").write_text("tiny: {sources: 1, check_sources: 1, stage1: 2}\n")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "-m", "start")
    return root


def change(root: Path, section: str, message: str = "change", **values: object) -> None:
    """Commit other parameter values."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    params[section] |= values
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    git(root, "commit", "--quiet", "--all", "-m", message)


def bare_environment(home: Path) -> dict[str, str]:
    """A fresh machine's environment: no git identity, no home of value, telemetry off."""
    home.mkdir(exist_ok=True)
    values = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "PREFECT_", "TAVR_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {
        **values,
        "PATH": path,
        "HOME": str(home),
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
    }


def commands_in(folder: Path) -> list[str]:
    """Command lines of living processes whose working directory lies below a folder."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if (entry / "cwd").readlink().is_relative_to(folder) and line:
                    found.append(line)
            except OSError:
                continue
    return found


def eventually(condition: Callable[[], bool], seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "never came true"
        time.sleep(0.2)


@contextmanager
def served(checkout: Path) -> Iterator[str]:
    """`tavr up` on a free port: yields the address of the page; interrupted at the end, it leaves no process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tavr_cli.main", "up", "--port", "0"], cwd=checkout, stdout=subprocess.PIPE,
        env=bare_environment(checkout.parent / "home"), text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    page = process.stdout.readline()
    assert page.startswith("Prefect page: "), page
    try:
        yield page.split(": ")[1].strip()
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0
    eventually(lambda: commands_in(checkout) == [])
