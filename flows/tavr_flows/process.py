"""Running a supervised command from a flow: its output line by line, and no process left when the flow ends."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LineSink = Callable[[str, bool], None]  # (text, True when the line overwrites the last one: a progress bar)
_BREAK = re.compile(rb"[\r\n]")
_CURSOR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # nested progress bars move the cursor
PERCENT = re.compile(r"(\d{1,3})%\|")  # a progress bar, whose last line ends in a newline
_STOP_SECONDS = 30.0


@dataclass(frozen=True)
class Command:
    """What to run where; `lock` makes it wait for another run's same stage on this machine."""

    arguments: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    lock: Path | None = None


def run_supervised(command: Command, sink: LineSink) -> int:
    """Run the command under the supervisor and return its exit code.

    Whatever ends this call early (an interrupt, a cancelled flow, an error in `sink`) first ends every process of the
    command.
    """
    lock = ["--lock", str(command.lock.resolve())] if command.lock is not None else []
    process = subprocess.Popen(
        [sys.executable, "-m", "tavr_flows.supervisor", "--parent", str(os.getpid()), *lock, "--", *command.arguments],
        cwd=command.folder,
        env=dict(command.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        assert process.stdout is not None
        _read_lines(process.stdout.fileno(), sink)
        return process.wait()
    finally:
        if process.poll() is None:
            _stop(process)
        if process.stdout is not None:
            process.stdout.close()


def _read_lines(descriptor: int, sink: LineSink) -> None:
    """Hand over text as it comes, split at newlines and at carriage returns."""
    rest = b""
    while data := os.read(descriptor, 65536):
        rest += data
        while match := _BREAK.search(rest):
            line, end, rest = rest[: match.start()], match.group(), rest[match.end() :]
            if end == b"\r" and rest.startswith(b"\n"):
                end, rest = b"\n", rest[1:]
            _hand_over(line, end == b"\r", sink)
    _hand_over(rest, False, sink)


def _hand_over(line: bytes, overwritten: bool, sink: LineSink) -> None:
    text = _CURSOR.sub("", line.decode("utf-8", errors="replace")).rstrip()
    if text:
        sink(text, overwritten or bool(PERCENT.search(text)))


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM to the supervisor, which ends all of its descendants; a second interrupt does not cut that short."""
    process.send_signal(signal.SIGTERM)
    while True:
        try:
            process.wait(timeout=_STOP_SECONDS)
        except KeyboardInterrupt:
            continue
        except subprocess.TimeoutExpired:
            process.kill()
            continue
        return
