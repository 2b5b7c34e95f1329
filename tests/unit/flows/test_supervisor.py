"""The supervisor dies with its parent, takes every descendant along, and hands the command's exit code on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tavr_flows.process import Command, run_supervised

# A process that starts a detached grandchild, which writes its id and sleeps; both ignore nothing.
FAMILY = """
import os, subprocess, sys, time
code = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", code, sys.argv[1]], start_new_session=sys.argv[2] == "detached")
print("started", flush=True)
time.sleep(600)
"""
PARENT = """
import os, sys
from pathlib import Path
from tavr_flows.process import Command, run_supervised
run_supervised(Command([sys.executable, *sys.argv[1:]], Path.cwd(), os.environ), lambda line, _: print(line, flush=True))
"""


def eventually(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "never came true"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def run(*arguments: str, sink: Callable[[str, bool], None] = lambda *_: None, lock: Path | None = None) -> int:
    return run_supervised(Command(list(arguments), Path.cwd(), os.environ, lock), sink)


@pytest.mark.parametrize(("code", "expected"), [("0", 0), ("3", 3), ("130", 130)])
def test_the_exit_code_is_the_commands(code: str, expected: int) -> None:
    assert run(sys.executable, "-c", f"raise SystemExit({code})") == expected


def test_a_signal_becomes_128_and_its_number() -> None:
    assert run(sys.executable, "-c", "import os; os.kill(os.getpid(), 9)") == 128 + 9


def test_a_missing_command_is_127() -> None:
    lines: list[str] = []
    assert run("/nonexistent/command", sink=lambda line, _: lines.append(line)) == 127
    assert lines == ["/nonexistent/command: No such file or directory"]


def test_lines_and_progress_are_told_apart() -> None:
    seen: list[tuple[str, bool]] = []
    code = r"import sys; sys.stdout.write('one\n 10%|#\r 20%|##\rtwo\r\nlast')"
    assert run(sys.executable, "-c", code, sink=lambda *line: seen.append(line)) == 0
    assert seen == [("one", False), (" 10%|#", True), (" 20%|##", True), ("two", False), ("last", False)]


@pytest.mark.parametrize("kind", ["attached", "detached"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_the_parent(tmp_path: Path, kind: str, number: signal.Signals) -> None:
    mark = tmp_path / "pid"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, "-c", FAMILY, str(mark), kind], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"started\n"
    eventually(lambda: mark.is_file() and mark.read_text() != "")
    grandchild = int(mark.read_text())
    assert alive(grandchild)
    parent.send_signal(number)
    parent.wait(timeout=30)
    eventually(lambda: not alive(grandchild))
    parent.stdout.close()


def test_what_a_finished_command_leaves_behind_is_ended(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    leave = """
import os, subprocess, sys, time
code = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", code, sys.argv[1]], start_new_session=True)
while not (os.path.exists(sys.argv[1]) and open(sys.argv[1]).read()):
    time.sleep(0.01)
"""
    assert run(sys.executable, "-c", leave, str(mark)) == 0
    assert not alive(int(mark.read_text()))


def test_an_error_in_the_sink_ends_the_command(tmp_path: Path) -> None:
    def fail(line: str, progress: bool) -> None:
        raise RuntimeError(line)

    started = time.monotonic()
    with pytest.raises(RuntimeError, match="started"):
        run(sys.executable, "-c", FAMILY, str(tmp_path / "pid"), "attached", sink=fail)
    assert time.monotonic() - started < 30


def test_one_command_at_a_time_holds_a_lock(tmp_path: Path) -> None:
    lock = tmp_path / "stage1.lock"
    code = "import sys; print('in', flush=True); sys.stdin.read()"
    command = [sys.executable, "-m", "tavr_flows.supervisor", "--parent", str(os.getpid()), "--lock", str(lock)]
    first = subprocess.Popen(
        [*command, "--", sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert first.stdout is not None
    assert first.stdin is not None
    assert first.stdout.readline() == b"in\n"
    seen: list[str] = []

    def sink(line: str, progress: bool) -> None:
        seen.append(line)
        if line.startswith("waiting"):
            first.communicate(b"")

    assert run(sys.executable, "-c", "print('second')", sink=sink, lock=lock) == 0
    assert seen == ["waiting: another run on this machine is in stage1", "second"]
