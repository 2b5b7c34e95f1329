"""`tavr up`: what an operator does in the Prefect page, through the same server: start, refuse, cancel."""

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .toy import bare_environment, change, git, write_toy

pytestmark = pytest.mark.slow


def call(url: str, path: str, body: dict[str, Any] | None = None) -> Any:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"{url}/{path}", data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read())


def eventually(condition: Callable[[], bool], seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "never came true"
        time.sleep(0.2)


def commands_in(folder: Path) -> list[str]:
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


@pytest.fixture
def toy(tmp_path: Path, root: Path) -> Path:
    return write_toy(tmp_path / "toy", root)


@pytest.fixture
def url(toy: Path) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tavr_cli.main", "up", "--port", "0"], cwd=toy, stdout=subprocess.PIPE,
        env=bare_environment(toy.parent / "home"), text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    page = process.stdout.readline()
    assert page.startswith("Prefect page: "), page
    yield page.split(": ")[1].strip() + "/api"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    eventually(lambda: commands_in(toy) == [])


def start(url: str, **parameters: object) -> str:
    deployment = call(url, "deployments/name/retrain/local")
    return call(url, f"deployments/{deployment['id']}/create_flow_run", {"parameters": {"parameters": parameters}})[
        "id"
    ]


def state(url: str, run: str) -> str:
    return call(url, f"flow_runs/{run}")["state"]["name"]


def test_an_operator_starts_cancels_and_starts_again(toy: Path, url: str) -> None:
    for malformed in ({"profile": "huge"}, {"stage": "x"}, {"overrides": ["a.b=1;id"]}, {"promote": "perhaps"}):
        with pytest.raises(urllib.error.HTTPError) as caught:
            start(url, **malformed)
        assert caught.value.code == 409, malformed

    change(toy, "stage1", steps=2000, pause=0.1)
    run = start(url, reason="to be cancelled")
    step = toy / ".work/stage1/step"
    eventually(lambda: step.is_file() and step.read_text() not in {"", "0", "1", "2"})
    call(url, f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    cancelled = time.monotonic()
    eventually(lambda: not [line for line in commands_in(toy / ".runs") if "stage.py" in line])
    assert time.monotonic() - cancelled < 60
    eventually(lambda: state(url, run) == "Cancelled")
    assert 2 < int(step.read_text()) < 2000
    step.write_text("1999")
    run = start(url)
    eventually(lambda: state(url, run) in {"Completed", "Failed", "Denied", "Crashed"})
    assert state(url, run) == "Completed"
    assert len(list((toy / ".runs").iterdir())) == 1, "the cancelled run was carried on"
    assert git(toy, "tag").split() == ["tavr#dev#1", "tavr@v0.0.1"]
