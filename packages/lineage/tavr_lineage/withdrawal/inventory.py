"""Every place where something of a person can be, and what kind of thing lies there.

A place is named as in a checkout: `data/ingest/clips/x.mp4` is the same thing in the main checkout, in a run's
worktree, in what a run keeps and in DVC's cache. The first pattern that fits decides; a file that fits none is of kind
`unknown` and is purged when it mentions the person, so that a forgotten place is emptied rather than overlooked.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tavr_lineage.git import git, main_checkout, read_file
from tavr_lineage.outputs import stored_files

KINDS = {
    "footage": "source files, clips and generated videos: the person can be seen or heard",
    "encodings": "latents, face embeddings and generated pairs",
    "descriptions": "manifests and metadata that describe people",
    "pages": "reports with stills, captions or lists of ids",
    "training_state": "checkpoints of trainings that have seen the person",
    "models": "weights that were trained on the person",
    "prefect": "what the Prefect server keeps of runs: logs and artifacts",
    "published": "models published to object storage",
    "unknown": "files that the inventory does not know but that mention the person",
    "ids": "pseudonymous ids and digests: ledgers, records, indices, logs, tombstones",
    "history": "the history of git",
    "nobody": "nothing of anybody",
}
"""What each kind is. Policy decides about all but the last three: `ids` and `history` stay, and are named."""

PLACES: tuple[tuple[str, str], ...] = (
    ("data/.*", "unknown"),  # what a killed stage left half written
    ("data/weights/*", "nobody"),
    ("data/*/quarantine.parquet", "ids"),
    ("data/sources/media/*", "footage"),
    ("data/sources/*", "descriptions"),
    ("data/ingest/clips/*", "footage"),
    ("data/ingest/faces.parquet", "encodings"),
    ("data/ingest/*", "descriptions"),
    ("data/pairs/*", "ids"),
    ("data/latents/shard-*", "encodings"),
    ("data/latents/*", "ids"),
    ("data/preferences/shard-*", "encodings"),
    ("data/preferences/*", "ids"),
    ("data/benchmark/videos/*", "footage"),
    ("data/benchmark/*", "ids"),
    ("data/stage[123]/model/*", "models"),
    ("data/stage[123]/*", "ids"),
    ("reports/*.html", "pages"),
    ("reports/*", "ids"),
    (".work/sources/memo/*", "footage"),
    (".work/ingest/memo/*", "footage"),
    (".work/benchmark/memo/*", "footage"),
    (".work/pairs/memo/*", "encodings"),
    (".work/latents/memo/*", "encodings"),
    (".work/preferences/memo/*", "encodings"),
    (".work/stage[123]/*", "training_state"),
    (".work/releases/*", "models"),
    (".work/reproduce/*", "footage"),  # a whole run again, with a cache and a `.work` of its own
    (".work/prefect*", "prefect"),
    (".work/dvc/*", "ids"),  # DVC's own notes of which file had which digest
    (".work/lineage/*", "ids"),  # the index of the consumption tables, built anew when it is gone
    (".work/weights/*", "nobody"),
    (".work/locks/*", "nobody"),
    (".work/zoo/*", "nobody"),
    (".dvc/cache/*.dir", "ids"),  # a folder's listing: names and digests, by which later purges find its files
    (".dvc/cache/runs/*", "nobody"),  # digests alone; DVC restores no output whose files are gone
    ("model/*", "models"),
    ("logs/*", "ids"),
    ("summary.*", "ids"),
    ("record.json", "ids"),
    ("attestation.json", "nobody"),
    ("request.json", "nobody"),
    ("lock", "nobody"),
    ("audit/*", "ids"),
)
_GUESSES = (("media/", "sources"), ("clips/", "ingest"), ("videos/", "benchmark"), ("shard-", "latents"))
CACHE_LISTING = ".dvc/cache/"
_WALKED = ("data", "reports")


@dataclass(frozen=True)
class Stored:
    """A file, or a folder that lives and dies as one.

    Attributes:
        place: checkout, cache, run, memo, training, reproduction, leftover or site.
        name: its name as in a checkout.
        path: where it really lies.
    """

    place: str
    name: str
    path: Path

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        return kind_of(self.name)


def kind_of(name: str) -> str:
    """What lies at a name within a checkout or within `.runs/<id>`."""
    return next((kind for pattern, kind in PLACES if fnmatchcase(name, pattern)), "unknown")


def stored(root: Path) -> Iterator[Stored]:
    """Everything that the pipeline stores outside git, each file once for each name it has."""
    main = main_checkout(root)
    for checkout in checkouts(root):
        if not checkout.is_relative_to(work_folder(main)):  # a reproduction's, which is looked at as a whole
            yield from _in_checkout(checkout)
    yield from in_cache(root)
    yield from _in_work(work_folder(main))
    yield from _in_runs(main / ".runs")


def checkouts(root: Path) -> list[Path]:
    """Every worktree of the repository that is still there, the main one first."""
    lines = git(root, "worktree", "list", "--porcelain").splitlines()
    paths = [Path(line.removeprefix("worktree ")) for line in lines if line.startswith("worktree ")]
    return [path for path in paths if path.is_dir()]


def work_folder(main: Path) -> Path:
    """Where stages keep resumable state: `$TAVR_WORK`, by default `.work` of the main checkout."""
    return Path(os.environ.get("TAVR_WORK") or main / ".work").resolve()


def shown(main: Path, path: Path) -> str:
    """A path for people: relative to the main checkout where it lies below it."""
    return path.relative_to(main).as_posix() if path.is_relative_to(main) else str(path)


def locks(root: Path) -> dict[str, bytes]:
    """Every different `dvc.lock` of branches, tags and checkouts, by the place that named it first."""
    refs = git(root, "for-each-ref", "--format=%(refname)", "refs/heads", "refs/tags").split()
    found = {ref: data for ref in refs if (data := read_file(root, ref, "dvc.lock")) is not None}
    for checkout in checkouts(root):
        if (checkout / "dvc.lock").is_file():
            found[str(checkout)] = (checkout / "dvc.lock").read_bytes()
    return {name: data for data, name in {data: name for name, data in reversed(found.items())}.items()}


def in_cache(root: Path) -> Iterator[Stored]:
    """Every file of an output folder that DVC's cache holds, also of folders that no lock names any more."""
    cache = main_checkout(root) / ".dvc/cache"
    seen: set[tuple[str, Path]] = set()
    for lock in locks(root).values():
        seen.update((name, path) for name, path in stored_files(lock, cache) if path.is_file())
    yield from (Stored("cache", name, path) for name, path in sorted(seen))
    named = {path for _, path in seen}
    for folder in sorted(cache.glob("files/md5/*/*.dir")):
        yield Stored("cache", f"{CACHE_LISTING}{folder.parent.name}{folder.name}", folder)
        for entry in json.loads(folder.read_bytes()):
            path = cache / "files" / "md5" / entry["md5"][:2] / entry["md5"][2:]
            if path not in named and path.is_file():
                yield Stored("cache", f"data/{_guess(entry['relpath'])}/{entry['relpath']}", path)


def _guess(relpath: str) -> str:
    return next((stage for start, stage in _GUESSES if relpath.startswith(start)), "unknown-output")


def _in_checkout(checkout: Path) -> Iterator[Stored]:
    if (checkout / "record.json").is_file():
        yield Stored("checkout", "record.json", checkout / "record.json")
    for folder in _WALKED:
        for path in sorted((checkout / folder).rglob("*")):
            name = path.relative_to(checkout).as_posix()
            if name.startswith("data/."):
                if path.parent == checkout / "data":
                    yield Stored("leftover", name, path)
            elif path.is_file() and not path.is_symlink():
                yield Stored("checkout", name, path)


def _in_work(work: Path) -> Iterator[Stored]:
    for memo in sorted(work.glob("*/memo")):
        for path in sorted(memo.glob("*/*")):
            place = "leftover" if path.name.startswith(".") else "memo"
            yield Stored(place, f".work/{path.relative_to(work).as_posix()}", path)
    for pattern in ("stage[123]/*", "releases/*"):
        for path in sorted(work.glob(pattern)):
            yield Stored("training", f".work/{path.relative_to(work).as_posix()}", path)
    for path in sorted(work.glob("reproduce/*")):
        yield Stored("reproduction", f".work/{path.relative_to(work).as_posix()}", path)
    for name in ("dvc", "lineage"):
        if (work / name).is_dir():
            yield Stored("site", f".work/{name}/", work / name)


def _in_runs(runs: Path) -> Iterator[Stored]:
    for run in sorted(runs.glob("*")):
        for path in sorted(run.rglob("*")):
            inside = path.relative_to(run).as_posix()
            # A run's worktree is a checkout and was walked as one.
            if path.is_file() and not inside.startswith("tree/") and not (run / ".git").exists():
                yield Stored("run", inside, path)
