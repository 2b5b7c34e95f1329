"""The Prefect server of a checkout: on 127.0.0.1, with everything it keeps below `.work/prefect`."""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tavr_records.atomic import write_bytes
from tavr_records.errors import InputError

_START_SECONDS = 240.0
_POLL_SECONDS = 0.2
SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # The second generation of the page asks amplitude.com for settings at every load, whatever the above says.
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
}


def server_home(root: Path) -> Path:
    """The folder of the server that `make up` and `make retrain` share."""
    return root / ".work" / "prefect"


def announced_server(root: Path) -> str | None:
    """API address of the server `make up` started, when it answers."""
    path = server_home(root) / "server.json"
    try:
        url = str(json.loads(path.read_bytes())["url"])
    except (OSError, json.JSONDecodeError, KeyError):
        return None
    return url if is_healthy(url) else None


def announce(root: Path, url: str) -> None:
    """Let later commands of this checkout find the server."""
    write_bytes(server_home(root) / "server.json", json.dumps({"url": url, "pid": os.getpid()}).encode() + b"\n")


def is_healthy(url: str) -> bool:
    """Whether a server answers at an API address."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as response:  # noqa: S310 - our own http address
            return response.status == 200
    except (urllib.error.URLError, OSError, ValueError):
        return False


@contextmanager
def embedded_server(root: Path, port: int | None = None) -> Generator[str]:
    """The API address of a server: the one `make up` started, else one of our own that ends with this block.

    Its environment variables are set in this process, so prefect must be imported after this.

    Raises:
        InputError: it does not start; the message ends with its last line.
    """
    if port is None and (url := announced_server(root)) is not None:
        _use(server_home(root), url)
        yield url
        return
    home, lock = _claim_home(root)
    url = f"http://127.0.0.1:{port or _free_port()}/api"
    _use(home, url)
    process = _start(home, url)
    try:
        _await_health(process, url, home / "server.log")
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        os.close(lock)
        if home != server_home(root):
            shutil.rmtree(home, ignore_errors=True)


def _claim_home(root: Path) -> tuple[Path, int]:
    """The shared folder when no other server uses it, else one of our own; with the lock on it."""
    for home in (server_home(root), root / ".work" / f"prefect-{os.getpid()}"):
        home.mkdir(parents=True, exist_ok=True)
        lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return home, lock
    raise AssertionError("nobody else uses a folder named by our process id")


def _use(home: Path, url: str) -> None:
    os.environ.update({**SETTINGS, "PREFECT_HOME": str(home), "PREFECT_API_URL": url})


def _start(home: Path, url: str) -> "subprocess.Popen[bytes]":
    """Start the server in a session of its own: an interrupt of ours must not end it before we have reported."""
    port = url.rsplit(":", 1)[1].split("/", maxsplit=1)[0]
    prefect = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
    supervisor = [sys.executable, "-m", "tavr_flows.supervisor", "--parent", str(os.getpid()), "--"]
    with (home / "server.log").open("wb") as log:
        return subprocess.Popen(
            [*supervisor, *prefect], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def _await_health(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not is_healthy(url):
        if process.poll() is not None or time.monotonic() > deadline:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise InputError(f"{log}: the Prefect server does not start ({lines[-1] if lines else 'no message'})")
        time.sleep(_POLL_SECONDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
