"""Fanning the work on clips out to processes through joblib: one thread a worker, results in the order of the jobs."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

from joblib import Parallel, delayed, parallel_config
from tqdm import tqdm

Job = TypeVar("Job")
Result = TypeVar("Result")


def worker_count() -> int:
    """Processes to use: `$TAVR_WORKERS`, by default the number of cores. A fact of the machine, never of the result."""
    return max(1, int(os.environ.get("TAVR_WORKERS") or os.cpu_count() or 1))


def fan_out(function: Callable[[Job], Result], jobs: Sequence[Job], label: str, unit: str = "clip") -> Iterator[Result]:
    """Yield `function(job)` for every job, in order, with progress on stderr.

    Workers stay alive between calls of one process, so that a function may keep its networks in a module's cache.
    At most twice as many jobs as workers are under way, which bounds memory.
    """
    workers = min(worker_count(), max(1, len(jobs)))
    with parallel_config(backend="loky", inner_max_num_threads=1):
        parallel: Any = Parallel(n_jobs=workers, return_as="generator", pre_dispatch="2*n_jobs")
        results = cast("Iterator[Any]", parallel(delayed(function)(job) for job in jobs))
        yield from tqdm(results, desc=label, total=len(jobs), unit=unit, mininterval=1.0)
