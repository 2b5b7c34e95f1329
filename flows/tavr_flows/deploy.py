"""`make up`: the Prefect server, a worker of this machine, and the deployments; all end together."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from tavr_lineage.git import repository_root
from tavr_records.errors import InputError

from tavr_flows.server import announce, announced_server, embedded_server, server_home

POOL = "local"
_POLL_SECONDS = 0.5


def up(root: Path, port: int) -> None:
    """Serve until interrupted; a second call only says where the first one is.

    Raises:
        InputError: no git repository, or the server, the deployments or the worker cannot be had.
    """
    root = repository_root(root)
    if (url := announced_server(root)) is not None:
        print(f"already up: {url.removesuffix('/api')}")
        return
    os.chdir(root)
    signal.signal(signal.SIGTERM, _interrupt)
    with embedded_server(root, port) as url:
        names = deploy(root)
        worker = _start_worker(root)
        try:
            announce(root, url)
            print(f"Prefect page: {url.removesuffix('/api')}")
            print(f"deployments:  {', '.join(names)}")
            print(f"logs:         {server_home(root)}; Ctrl-C stops server and worker", flush=True)
            while worker.poll() is None:
                time.sleep(_POLL_SECONDS)
            raise InputError(f"{server_home(root) / 'worker.log'}: the worker has ended; run the command again")
        except KeyboardInterrupt:
            print("stopping", flush=True)
        finally:
            (server_home(root) / "server.json").unlink(missing_ok=True)
            worker.send_signal(signal.SIGTERM)
            worker.wait()


def deploy(root: Path) -> list[str]:
    """Register every deployment at the server this process talks to; doing it again changes nothing."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.deployments.runner import EntrypointType

    from tavr_flows.promote import promote
    from tavr_flows.retrain import retrain
    from tavr_flows.withdraw import withdraw

    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"), overwrite=True)
    names: list[str] = []
    for flow, tags in ((retrain, ["pipeline"]), (promote, ["registry"]), (withdraw, ["registry"])):
        deployment = flow.to_deployment(
            name=flow.name,  # the page's list of deployments shows this name first
            description=_one_line_a_paragraph(flow.description or ""),
            tags=tags,
            work_pool_name=POOL,
            job_variables={"working_dir": str(root)},
            entrypoint_type=EntrypointType.MODULE_PATH,
            enforce_parameter_schema=True,
        )
        deployment.apply()  # type: ignore[union-attr]
        names.append(f"{flow.name}/{flow.name}")
    return names


def _one_line_a_paragraph(text: str) -> str:
    """The page takes every newline for a new paragraph."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _start_worker(root: Path) -> "subprocess.Popen[bytes]":
    """The worker in a session of its own, supervised: whatever it runs ends with it."""
    prefect = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--name", "this-machine"]
    command = [sys.executable, "-m", "tavr_flows.supervisor", "--parent", str(os.getpid()), "--", *prefect]
    with (server_home(root) / "worker.log").open("wb") as log:
        return subprocess.Popen(
            [*command, "--install-policy", "never"],
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt
