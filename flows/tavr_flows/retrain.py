"""The flow `retrain`: one worktree, one branch, one commit; Prefect knows when, DVC knows what."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from prefect import flow, get_run_logger, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed, State
from tavr_lineage.clock import now
from tavr_lineage.git import repository_root
from tavr_lineage.record import StageOutcome
from tavr_records.errors import InputError

from tavr_flows.budget import read_budget, tell_budget
from tavr_flows.finish import FINISHED, finish
from tavr_flows.parameters import RetrainParameters
from tavr_flows.pipeline import Pipeline, read_pipeline
from tavr_flows.reproduce import reproduce
from tavr_flows.runs import RunFolder, open_run
from tavr_flows.summary import metric_table, render_summary, stage_table
from tavr_flows.worktree import open_worktree, stage_environment

_PROGRESS_SECONDS = 2.0
_LOG_SECONDS = 15.0


@flow(name="retrain", flow_run_name="retrain {parameters.profile}", persist_result=False)
def retrain(parameters: RetrainParameters) -> State[Any]:
    """Make a candidate from the sources to the gate.

    Stages with nothing to do are shown as Cached without a process. A refused or failed stage ends the run; the record
    is written all the same, and the gate judges it.
    """
    say = get_run_logger().info
    try:
        run, lock = open_run(repository_root(Path.cwd()), parameters)
    except InputError as error:
        return Failed(name="BadInput", message=str(error))
    try:
        return _retrain(run, parameters, say)
    except InputError as error:
        return Failed(name="BadInput", message=str(error))
    finally:
        os.close(lock)


def _retrain(run: RunFolder, parameters: RetrainParameters, say: Callable[[str], None]) -> State[Any]:
    started_at = now()
    open_worktree(run, say)
    pipeline = read_pipeline(run.tree, stage_environment(run), checkout=True)
    for line in tell_budget(pipeline.order, pipeline.to_run, read_budget(run.root, run.request.profile)):
        say(line)
    outcomes = run_stages(run, pipeline)
    summary = finish(run, outcomes, started_at, parameters.promote)
    publish(summary)
    return end_state(summary)


def run_stages(run: RunFolder, pipeline: Pipeline) -> list[StageOutcome]:
    """Every stage in order; after one that is refused or fails, the rest is not run."""
    outcomes: list[StageOutcome] = []
    for name in pipeline.order:
        if outcomes and outcomes[-1].state not in FINISHED:
            outcomes.append(StageOutcome(name, "not_run"))
        elif name not in pipeline.to_run:
            outcomes.append(_as_task(name, lambda name=name: StageOutcome(name, "cached")))
        else:
            outcomes.append(_as_task(name, lambda name=name: _reproduce(run, name)))
    return outcomes


def _as_task(name: str, work: Callable[[], StageOutcome]) -> StageOutcome:
    """Show one stage as a task run of its name, in this very thread: the kernel ties its process to this thread."""
    done: list[StageOutcome] = []

    def stage() -> State[Any]:
        done.append(work())
        return _task_state(done[0])

    as_task = task(name=name, task_run_name=name, cache_policy=NO_CACHE, persist_result=False)
    state = as_task(stage)(return_state=True)
    if not done:
        state.result()  # raises what went wrong outside the stage's own process
    return done[0]


def _task_state(outcome: StageOutcome) -> State[Any]:
    if outcome.state == "cached":
        return Completed(name="Cached", message="nothing to do")
    if outcome.state == "done":
        return Completed(message=f"{outcome.seconds:.0f} s")
    return Failed(name=outcome.state.capitalize(), message=outcome.reason)


def _reproduce(run: RunFolder, stage: str) -> StageOutcome:
    logger = get_run_logger()
    bar = _ProgressBar(f"progress-{stage}".replace("_", "-"), stage, logger.info)
    outcome = reproduce(run, stage, logger.info, bar.show)
    if outcome.state in FINISHED:
        bar.finish()
    else:
        logger.error("%s %s: %s", stage, outcome.state, outcome.reason)
    return outcome


class _ProgressBar:
    """A progress artifact, made at the first update and touched at most every two seconds; now and then a log line."""

    def __init__(self, key: str, stage: str, say: Callable[[str], None]) -> None:
        self._key, self._stage, self._say = key, stage, say
        self._artifact: UUID | None = None
        self._told, self._said = 0.0, time.monotonic()

    def show(self, percent: float, line: str) -> None:
        """Show a bar's state: percent, and the bar's own line with rate and time left."""
        if time.monotonic() - self._told < _PROGRESS_SECONDS:
            return
        self._told = time.monotonic()
        if self._told - self._said >= _LOG_SECONDS:
            self._said = self._told
            self._say(line)
        percent = min(max(percent, 0.0), 100.0)
        if self._artifact is None:
            self._artifact = cast("UUID", create_progress_artifact(percent, key=self._key, description=line))
        else:
            update_progress_artifact(self._artifact, percent, description=line)

    def finish(self) -> None:
        """Fill the bar."""
        if self._artifact is not None:
            update_progress_artifact(self._artifact, 100.0, description=f"{self._stage} done")


def publish(summary: dict[str, Any]) -> None:
    """The summary as artifacts of the flow run: one page, and the tables of stages and metrics.

    The keys are the same for every run, so that the page shows each as one artifact with a history.
    """
    run = f"run {summary['run_id']}"
    create_markdown_artifact(render_summary(summary), key="summary", description=f"What came out of {run}")
    create_table_artifact(stage_table(summary), key="stages", description=f"How each stage of {run} ended")
    if rows := metric_table(summary):
        create_table_artifact(rows, key="metrics", description=f"The candidate of {run} against the base model")


def end_state(summary: dict[str, Any]) -> State[Any]:
    """How the run shows in the list of runs: Refused and Failed name the stage, Denied the gate's reasons."""
    run_id = summary["run_id"]
    for stage in summary["stages"]:
        if stage["state"] in {"refused", "failed"}:
            told = f"{stage['name']}: {stage['reason']}"
            return Failed(name=stage["state"].capitalize(), message=told, data=run_id)
    if not summary["gate"]["allow"]:
        return Failed(name="Denied", message="; ".join(summary["gate"]["reasons"]), data=run_id)
    promotion = summary["promotion"]
    told = f"{promotion['version']} holds {promotion['target']}" if promotion else "ready to promote"
    return Completed(message=told, data=run_id)
