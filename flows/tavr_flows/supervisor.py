"""A process that runs one command, dies with its parent and leaves no descendant behind.

`python -m tavr_flows.supervisor --parent PID [--lock FILE] -- COMMAND...`, standard library only. It stays in the
parent's process group, so that whoever signals the group reaches everything; when the parent dies (even by SIGKILL) the
kernel sends it SIGTERM; processes whose own parent died are handed to it, so that it can end and reap them all.
SIGINT it leaves to its parent, who turns it into SIGTERM. With `--lock` the command waits until no other run on this
machine holds the same file.
"""

import argparse
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
GRACE_SECONDS = 20.0
_STOP = {signal.SIGTERM, signal.SIGHUP}
_WATCHED = {*_STOP, signal.SIGINT, signal.SIGCHLD}
_POLL_SECONDS = 0.2


def main() -> NoReturn:
    """Run the command; exit as it did, or with 128 + signal when stopped."""
    parser = argparse.ArgumentParser(prog="python -m tavr_flows.supervisor")
    parser.add_argument("--parent", type=int, required=True, help="process id that must stay alive")
    parser.add_argument("--lock", type=Path, help="file that one command at a time may hold")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if os.getppid() != arguments.parent:  # the parent died before the kernel was told to tell us
        sys.exit(128 + signal.SIGTERM)
    if arguments.lock is not None:
        _wait_for_lock(arguments.lock)
    sys.exit(_supervise(arguments.command, before))


def _wait_for_lock(path: Path) -> None:
    """Hold an exclusive lock on `path` until this process ends; a stop signal ends the wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not told:
                print(f"waiting: another run on this machine is in {path.stem}", flush=True)
                told = True
            if signal.sigtimedwait(_STOP, _POLL_SECONDS) is not None:
                sys.exit(128 + signal.SIGTERM)
        else:
            return


def _supervise(command: Sequence[str], mask: Iterable[int]) -> int:
    """Wait for the command's end or a stop signal, then end every descendant."""

    def restore() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    try:
        child = subprocess.Popen(command, preexec_fn=restore)  # noqa: PLW1509 - this process has one thread
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr, flush=True)
        return 127
    status: int | None = None
    stopped = 0
    while status is None and not stopped:
        if (received := signal.sigwait({*_STOP, signal.SIGCHLD})) in _STOP:
            stopped = int(received)
        status = _reap(child.pid)
    ended = _end_all(child.pid)
    status = ended if status is None else status
    if stopped:
        return 128 + stopped
    return status if status is not None and status >= 0 else 128 - (status or 0)


def _reap(command: int) -> int | None:
    """Collect every dead child; the command's exit status (negative signal) when it was among them."""
    found: int | None = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == command:
            found = os.waitstatus_to_exitcode(status)


def _end_all(command: int) -> int | None:
    """SIGTERM to all descendants, SIGKILL to those that are left after the grace time; returns the command's status."""
    found = _reap(command)
    deadline = time.monotonic() + GRACE_SECONDS
    told: set[int] = set()
    while alive := descendants(os.getpid()):
        late = time.monotonic() > deadline
        for pid in alive:
            if late or pid not in told:
                _signal(pid, signal.SIGKILL if late else signal.SIGTERM)
                told.add(pid)
        signal.sigtimedwait({signal.SIGCHLD}, _POLL_SECONDS)
        status = _reap(command)
        found = status if status is not None else found
    return found


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
        os.kill(pid, signal.SIGCONT)  # a stopped process would keep the signal waiting
    except ProcessLookupError:
        pass


def descendants(root: int) -> list[int]:
    """Every living process below `root`, found through /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


if __name__ == "__main__":
    main()
