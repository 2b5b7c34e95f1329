"""Finding and removing what is stored of a subject: every place of the inventory, then the certificate's two lists.

Whole files go, also those that hold others too (a shard, a manifest): the next run rebuilds them, and the memo of the
others makes that cheap. Folder listings of DVC's cache stay; they name digests by which later purges find their files.
"""

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tavr_records.errors import InputError

from tavr_lineage.git import main_checkout, read_file
from tavr_lineage.outputs import stored_files
from tavr_lineage.withdrawal.footprint import Footprint
from tavr_lineage.withdrawal.history import in_history
from tavr_lineage.withdrawal.inventory import Stored, checkouts, kind_of, shown, stored, work_folder
from tavr_lineage.withdrawal.withdrawal_policy import WithdrawalPolicy

_OWN = ("footage", "training_state")
_SEARCHED = ("nobody", "models", "prefect")
"""Kinds that no look into the files decides: nobody's, or found by the run that made them."""


@dataclass(frozen=True)
class Trace:
    """Something stored of the subject.

    Attributes:
        path: relative to the main checkout, or `git:<blob>:<path>`.
        name: as in a checkout.
        kind: one of `inventory.KINDS`.
        shared: it holds others too, and is rebuilt without the subject by the next run.
    """

    path: str
    name: str
    kind: str
    shared: bool


@dataclass(frozen=True)
class Kept:
    """A trace that stays, and why."""

    trace: Trace
    reason: str


@dataclass(frozen=True)
class Purged:
    """What a purge did."""

    removed: tuple[Trace, ...]
    kept: tuple[Kept, ...]


@dataclass(frozen=True)
class TrainedOn:
    """A run whose models saw the subject."""

    run_id: str
    commit: str


def find_traces(root: Path, footprint: Footprint, trained: Sequence[TrainedOn] = ()) -> list[Trace]:
    """Everything stored of the subject, with the models of the runs that trained on it; sorted by path."""
    main = main_checkout(root)
    found: dict[str, Trace] = {}
    for item in [*_mentions(root, footprint), *_models(root, trained)]:
        trace = _trace(main, item)
        found[trace.path] = trace
    for path in in_history(root, footprint):
        name = path.split(":", 2)[2]
        found[path] = Trace(path, name, "history", shared=True)
    return [found[path] for path in sorted(found)]


def purge(root: Path, traces: Iterable[Trace], policy: WithdrawalPolicy) -> Purged:
    """Remove the traces that policy lets go of; the rest is kept with the policy's reason.

    Raises:
        InputError: a run is in progress, which would store again what is removed.
    """
    main = main_checkout(root)
    demand_no_run(main)
    removed: list[Trace] = []
    kept: list[Kept] = []
    for trace in traces:
        if policy.purge.get(trace.kind, False):
            _remove(main / trace.path)
            removed.append(trace)
        else:
            kept.append(Kept(trace, " ".join(policy.keep_reasons[trace.kind].split())))
    return Purged(tuple(removed), tuple(kept))


def demand_no_run(main: Path) -> None:
    """Refuse while a run of this checkout is in progress.

    Raises:
        InputError: names the runs.
    """
    held = [path.parent.name for path in sorted((main / ".runs").glob("*/lock")) if _is_held(path)]
    if held:
        raise InputError(
            f"{main / '.runs'}: {', '.join(held)} in progress and would store again what a purge removes; "
            "cancel it (the gate would refuse its candidate), then run the command again"
        )


def _mentions(root: Path, footprint: Footprint) -> Iterator[Stored]:
    answers: dict[tuple[Path, str], bool] = {}
    for item in stored(root):
        if item.kind in _SEARCHED:
            continue
        if item.place == "site":
            yield item  # a database: DVC's of names and digests it has seen, or the index of the consumption tables
            continue
        key = (item.path, item.name)
        if key not in answers:
            answers[key] = footprint.is_in(item)
        if answers[key]:
            yield item


def _models(root: Path, trained: Sequence[TrainedOn]) -> Iterator[Stored]:
    """Where the weights of these runs lie."""
    main = main_checkout(root)
    trees = set(checkouts(root))
    for run in trained:
        lock = read_file(root, run.commit, "dvc.lock") or b""
        for name, path in stored_files(lock, main / ".dvc/cache"):
            if kind_of(name) == "models" and path.is_file():
                yield Stored("cache", name, path)
        folder = main / ".runs" / run.run_id
        tree = next((path for path in (folder, folder / "tree") if path in trees), None)
        models = sorted(tree.glob("data/stage[123]/model")) if tree is not None else []
        yield from (Stored("checkout", f"{path.relative_to(tree).as_posix()}/", path) for path in models if tree)
        if (folder / "model").is_dir():
            yield Stored("run", "model/", folder / "model")
        release = work_folder(main) / "releases" / run.commit
        if release.is_dir():
            yield Stored("training", f".work/releases/{run.commit}", release)


def _trace(main: Path, item: Stored) -> Trace:
    shared = item.kind not in _OWN and item.place not in ("memo", "leftover")
    return Trace(shown(main, item.path), item.name, item.kind, shared)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_held(lock: Path) -> bool:
    descriptor = os.open(lock, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
