"""`tavr up`: what an operator does in the Prefect page, through the same server: start, refuse, cancel."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .toy import change, commands_in, eventually, git, served, write_toy

pytestmark = pytest.mark.slow


def call(url: str, path: str, body: dict[str, Any] | None = None) -> Any:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"{url}/{path}", data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read())


@pytest.fixture
def toy(tmp_path: Path, root: Path) -> Path:
    return write_toy(tmp_path / "toy", root)


@pytest.fixture
def url(toy: Path) -> Iterator[str]:
    with served(toy) as page:
        yield page + "/api"


def start(url: str, **parameters: object) -> str:
    deployment = call(url, "deployments/name/retrain/retrain")
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
