"""`tavr retrain`: the flow in this process against a server of its own, and the run's summary as the answer."""

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from tavr_flows.parameters import RetrainParameters
from tavr_flows.runs import check_checkout, list_runs, read_summary
from tavr_flows.server import embedded_server

EXIT_CODES = {"BadInput": 2, "Refused": 3, "Denied": 3}


def retrain_here(root: Path, parameters: RetrainParameters) -> tuple[int, str, dict[str, Any] | None]:
    """Run the flow to its end; returns the exit code, the end state's message, and the summary if there is one.

    Raises:
        InputError: the checkout cannot be retrained, or no server starts.
        KeyboardInterrupt: interrupted or terminated; no process of the run is left, the next call carries on.
    """
    root = check_checkout(root, parameters.allow_dirty)
    os.chdir(root)
    signal.signal(signal.SIGTERM, _interrupt)
    print(f"starting the Prefect server (its log: {root / '.work/prefect/server.log'})", file=sys.stderr, flush=True)
    with embedded_server(root) as url:
        print(f"Prefect page while this runs: {url.removesuffix('/api')}", file=sys.stderr, flush=True)
        from tavr_flows.retrain import retrain

        try:
            state: Any = retrain(parameters, return_state=True)
        finally:
            _send_what_is_left()
    if state.is_crashed() or state.is_cancelled():
        raise KeyboardInterrupt
    code = 0 if state.is_completed() else EXIT_CODES.get(state.name, 1)
    finished = [run for run in list_runs(root) if run.request.run_id == getattr(state.data, "result", None)]
    return code, state.message or "", read_summary(finished[0]) if finished else None


def _send_what_is_left() -> None:
    """Logs and task states go to the server from threads of their own; let them finish before it ends."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogHandler

    EventsWorker.drain_all(timeout=10)
    APILogHandler().flush()


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt
