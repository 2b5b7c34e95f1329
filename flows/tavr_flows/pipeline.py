"""What DVC would run: one look at the pipeline and its state, so that only stages with work get a process."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tavr_records.errors import InputError


@dataclass(frozen=True)
class Pipeline:
    """The stages of `dvc.yaml`.

    Attributes:
        order: names so that every stage comes after what it depends on.
        upstream: for each stage the stages it directly depends on.
        changed: for each stage with a difference, what `dvc status` says of it.
    """

    order: tuple[str, ...]
    upstream: Mapping[str, frozenset[str]]
    changed: Mapping[str, Any]

    @property
    def to_run(self) -> frozenset[str]:
        """Stages with a difference, and everything after them; DVC itself may still find some unchanged."""
        found: set[str] = set()
        for name in self.order:
            if name in self.changed or self.upstream[name] & found:
                found.add(name)
        return frozenset(found)


def read_pipeline(folder: Path, environment: Mapping[str, str], checkout: bool) -> Pipeline:
    """Ask DVC for the graph and the status of a worktree; with `checkout` bring what the cache has first.

    Raises:
        InputError: no DVC repository, or a dvc.yaml that DVC does not take.
    """
    os.environ.setdefault("DVC_NO_ANALYTICS", "1")
    os.environ["DVC_SITE_CACHE_DIR"] = environment.get("DVC_SITE_CACHE_DIR", os.environ.get("DVC_SITE_CACHE_DIR", ""))
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(folder)) as repo:
            inputs = any(stage.is_data_source for stage in repo.index.stages)
            if checkout and (inputs or (folder / "dvc.lock").is_file()):
                repo.checkout(force=True, allow_missing=True)
            return _read(repo)
    except DvcException as error:
        raise InputError(f"{folder}: DVC cannot read the pipeline ({error}); mend dvc.yaml") from error


def _read(repo: Any) -> Pipeline:
    """The stages that run a command; a file that DVC tracks by itself (`<file>.dvc`) is an input, not a stage."""
    graph = repo.index.graph
    stages = {stage: str(stage.name) for stage in graph if not stage.is_data_source}
    upstream = {
        name: frozenset(stages[dep] for dep in graph.successors(stage) if dep in stages)
        for stage, name in stages.items()
    }
    order: list[str] = []
    waiting = [
        stages[stage] for stage in repo.index.stages if stage in stages
    ]  # as written, where the graph leaves it open
    while waiting:
        ready = next(name for name in waiting if upstream[name] <= set(order))
        order.append(ready)
        waiting.remove(ready)
    # `dvc status` names a stage by its file's path from the working directory: `<path>/dvc.yaml:<stage>`.
    changed = {target.rpartition(":")[2]: told for target, told in repo.status().items()}
    return Pipeline(tuple(order), upstream, changed)
