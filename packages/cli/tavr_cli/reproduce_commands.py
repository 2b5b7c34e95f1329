"""The command `tavr reproduce` and how its answer is shown."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tavr_cli.reproduce import Answer
    from tavr_cli.stage_comparison import StageComparison

EXIT_VERIFICATION_FAILED, EXIT_INTERRUPTED = 4, 130
_LINE_SECONDS = 10.0
_MEANING = {
    "equal": "every stage gave the same bytes",
    "within tolerance": "numbers differ, but by no more than the tolerance",
    "different": "a stage gave other bytes",
    "failed": "a stage did not finish",
    "inputs withdrawn": "inputs of this model have been withdrawn since, so it is not made again",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("reproduce")(reproduce)


def reproduce(
    model: Annotated[str, typer.Argument(help="tavr@v0.0.3, v0.0.3, a stage such as dev, a run id or a commit.")],
    keep: Annotated[bool, typer.Option("--keep", help="Keep the worktree, its cache and its logs.")] = False,
    tolerance: Annotated[float, typer.Option(help="Relative difference of numbers that still counts as close.")] = 0.01,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")] = False,
) -> None:
    """Make a model a second time from its record, and compare every stage to the byte."""
    from tavr_cli.reproduce import Ears, reproduce_model

    bar = _Bar()
    try:
        answer = reproduce_model(Path.cwd(), model, keep, tolerance, Ears(bar.tell, bar.show))
    except KeyboardInterrupt as interrupt:
        bar.tell("tavr: interrupted; nothing is left of the reproduction")
        raise typer.Exit(EXIT_INTERRUPTED) from interrupt
    if as_json:
        print(json.dumps(answer.to_json(), indent=2, sort_keys=True))
    else:
        print("\n".join(_lines(answer)))
    raise typer.Exit(0 if answer.kept_promise else EXIT_VERIFICATION_FAILED)


class _Bar:
    """Progress on standard error: one line that is written over on a terminal, now and then a line elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._told = time.monotonic()

    def tell(self, line: str) -> None:
        """Print one line."""
        print(f"\r\033[K{line}" if self._terminal else line, file=sys.stderr, flush=True)

    def show(self, _percent: float, line: str) -> None:
        """Show a bar's state."""
        if self._terminal:
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self._told >= _LINE_SECONDS:
            self._told = time.monotonic()
            print(line, file=sys.stderr, flush=True)


def _lines(answer: "Answer") -> Iterator[str]:
    yield f"{answer.model} (commit {answer.commit[:12]}): {answer.answer}: {_MEANING[answer.answer]}"
    if answer.withdrawn:
        yield "  withdrawn: " + ", ".join(f"{count} {name}" for name, count in answer.withdrawn.items())
    for stage in answer.stages:
        yield from _stage_lines(stage)
    if answer.platform:
        yield "  equality is not promised here, the platform class is another one:"
        yield from (f"    {difference}" for difference in answer.platform)
    if answer.kept:
        yield f"  kept: {answer.kept}"


def _stage_lines(stage: "StageComparison") -> Iterator[str]:
    yield f"  {stage.stage:<20} {stage.state:<16} {stage.seconds:7.1f} s"
    if stage.changed_inputs:
        yield f"      its inputs differ: {', '.join(stage.changed_inputs)}"
    if stage.first is not None:
        first, sizes = stage.first, stage.first.sizes
        now = "" if sizes[0] == sizes[1] else f", {sizes[1]} this time"
        yield f"      {stage.files} files differ; {first.path}: first in bytes {first.first_byte}-{first.last_byte}"
        yield f"      of {sizes[0]}{now}"
        if first.detail:
            yield f"      {first.detail}"
    if stage.reason:
        yield f"      {stage.reason}"
