"""A real S3 server on the loopback interface: rclone's, over a folder, on a free port."""

import http.client
import os
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import rclone_api

BINARY = Path(rclone_api.__file__).parent / "bin" / "rclone"
ACCESS_KEY, SECRET_KEY = "test-access-key", "test-secret-key"
BUCKET = "models"
DEADLINE = 30.0


@dataclass(frozen=True)
class S3Server:
    """A running server and the folder it serves."""

    endpoint: str
    folder: Path

    def environment(self, prefix: str = "team/one", bucket: str = BUCKET) -> dict[str, str]:
        """What a user would set."""
        return {
            "TAVR_S3_URL": f"s3://{bucket}/{prefix}",
            "TAVR_S3_ENDPOINT": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            **QUIET,
        }


# Nothing of this machine's own configuration, and no question to a cloud's metadata address.
QUIET = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def rclone_server(folder: Path) -> Generator[S3Server]:
    """Serve `folder/data` until the block ends; it holds one empty bucket."""
    (folder / "data" / BUCKET).mkdir(parents=True, exist_ok=True)
    port = free_port()
    log = (folder / "rclone.log").open("wb")
    environment = {**os.environ, "RCLONE_CONFIG": str(folder / "none.conf"), "HOME": str(folder)}
    command = [str(BINARY), "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}"]
    process = subprocess.Popen([*command, str(folder / "data")], stdout=log, stderr=log, env=environment)
    try:
        wait_for_port(port, process, folder / "rclone.log")
        yield S3Server(f"http://127.0.0.1:{port}", folder / "data")
    finally:
        process.terminate()
        process.wait(DEADLINE)
        log.close()


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path, deadline: float = DEADLINE) -> None:
    """Until the server answers HTTP, whatever it says."""
    end = time.monotonic() + deadline
    while process.poll() is None and time.monotonic() < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
        except OSError:
            time.sleep(0.02)
        else:
            return
        finally:
            connection.close()
    raise AssertionError(f"no server on port {port}: {log.read_text(errors='replace')[-2000:]}")
