"""One DVC stage as one supervised subprocess: `dvc --wait-for-lock repro --single-item <stage>`."""

import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tavr_lineage.record import StageOutcome

from tavr_flows.process import PERCENT, Command, run_supervised
from tavr_flows.runs import RunFolder
from tavr_flows.worktree import stage_environment

_EXITED = re.compile(r"exited with (-?\d+)")
_SKIPPED = re.compile(r"^Stage '[^']+' (?:didn't change, skipping|is cached - skipping run)")
# DVC's advice to a person at the keyboard; the log file keeps it.
_ADVICE = re.compile(
    r"(?:To track the changes|To enable auto staging|Use `dvc push`|\s*git add |\s*dvc config |(?:Upda|Genera)ting )"
)
_REFUSED = 3
_KNOWN = (2, _REFUSED, 130)  # exit codes with which a stage has said in one line what is wrong
_KEPT_LINES = 200


@dataclass
class Transcript:
    """What a stage said: its last lines, whether DVC skipped it, and with which code its own command ended."""

    lines: list[str] = field(default_factory=list[str])
    skipped: bool = False
    exit_code: int | None = None

    def add(self, line: str) -> None:
        """Take one line in."""
        self.lines = [*self.lines[1 - _KEPT_LINES :], line]
        self.skipped = self.skipped or bool(_SKIPPED.match(line))
        if line.startswith("ERROR: failed to reproduce") and (found := _EXITED.search(line)):
            self.exit_code = int(found[1])

    def reason(self, stage: str) -> str:
        """Why a stage failed: its own line where it knew, else the last error raised, else the last line."""
        prefix = f"{stage}: "
        own = [line.removeprefix(prefix) for line in self.lines if line.startswith(prefix)]
        if self.exit_code not in _KNOWN:
            own = []  # it crashed: what it said before is not the reason
        errors = [line for line in self.lines if re.match(r"[A-Za-z_.]*(?:Error|Exception|Interrupt)\b", line)]
        told = own or errors or [line for line in self.lines if not line.startswith("ERROR: failed to reproduce")]
        return (told or self.lines or ["no output"])[-1]


def reproduce(
    run: RunFolder,
    stage: str,
    tell: Callable[[str], None],
    progress: Callable[[float, str], None],
    options: Sequence[str] = (),
) -> StageOutcome:
    """Let DVC bring one stage up to date in the run's worktree.

    Args:
        run: the run.
        stage: name of the DVC stage.
        tell: called with each line of output.
        progress: called with (percent, line) of each progress bar update.
        options: more options of `dvc repro`.
    """
    environment = stage_environment(run)
    dvc = shutil.which("dvc", path=environment["PATH"]) or "dvc"
    command = Command(
        [dvc, "--wait-for-lock", "repro", "--single-item", *options, stage],
        run.tree,
        environment,
        lock=run.work / "locks" / f"{stage}.lock",
    )
    transcript = Transcript()
    log = run.folder / "logs" / f"{stage}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with log.open("a", encoding="utf-8") as file:

        def sink(line: str, is_progress: bool) -> None:
            if is_progress:
                found = PERCENT.search(line)
                progress(float(found[1]) if found else 0.0, line)
                return
            file.write(line + "\n")
            file.flush()
            transcript.add(line)
            if not _ADVICE.match(line):
                tell(line)

        code = run_supervised(command, sink)
    return _outcome(stage, code, transcript, round(time.monotonic() - started, 3), log)


def _outcome(stage: str, code: int, transcript: Transcript, seconds: float, log: Path) -> StageOutcome:
    if code == 0:
        return StageOutcome(stage, "cached" if transcript.skipped else "done", seconds)
    reason = transcript.reason(stage)
    if transcript.exit_code == _REFUSED:
        return StageOutcome(stage, "refused", seconds, reason)
    ended = transcript.exit_code if transcript.exit_code is not None else code
    return StageOutcome(stage, "failed", seconds, f"{reason} (exit {ended}, {log.name})")
