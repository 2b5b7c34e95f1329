"""`python -m benchmarks.audit`: seconds of the audit at the size of a full training, and how they grow.

A run of two trainings is made by hand: a ledger of so many rows of two clips each, over as many clips as TalkVid has
records. Timed are: building the record, the first answer (the index reads the new run), later ones of `tavr who-used`
as a user starts it, and verifying the run. Seconds are of this machine; `growth` is against a tenth of the rows.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import cast

import numpy as np
import pyarrow as pa
import yaml
from rich.console import Console
from rich.table import Table
from tavr_lineage.candidate import commit_candidate
from tavr_lineage.git import git
from tavr_lineage.record import Run, StageOutcome, build_record
from tavr_lineage.trust.keys import signing_key
from tavr_records.ids import clip_id, sha256_bytes
from tavr_records.manifest import arrow_schema, write_table
from tavr_records.schemas import Clip, ClipSplit, Consumed

CLIPS, PEOPLE, BATCH = 181_752, 7_729, 32
LIMITS = {"who-used": 0.5, "record": 10.0, "verify": 10.0}
RUN_ID = "20260101-00000001"


def make_run(folder: Path, rows: int) -> tuple[Run, str]:
    """A checkout with a run of `rows` consumed samples; returns the run and one clip it used."""
    root = folder / "checkout"
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch=main")
    (root / "conf").mkdir()
    policy = Path(__file__).parent.parent / "conf/policy.yaml"
    (root / "conf/policy.yaml").write_bytes(policy.read_bytes())
    (root / "audit").mkdir()
    (root / "audit/withdrawn.jsonl").write_text("", encoding="utf-8")
    (root / "requirements.lock").write_text("numpy==2\n", encoding="utf-8")
    (root / ".gitignore").write_text("/data/\n/.work/\n/.dvc/cache/\n", encoding="utf-8")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "-m", "start")
    git(root, "checkout", "--quiet", "-b", f"run/{RUN_ID}")
    (root / "params.yaml").write_text(yaml.safe_dump({"_compose": {"profile": "wan-14b"}}), encoding="utf-8")
    ids = [clip_id(f"video-{number // 4}", *section(number)) for number in range(CLIPS)]
    _write_clips(root, ids)
    rng = np.random.default_rng(0)
    for stage, count in (("stage1", rows // 2), ("stage2", rows - rows // 2)):
        _write_ledger(root / "data" / stage / "ledger.parquet", stage, count, pa.array(ids), rng)
    commit = git(root, "rev-parse", "main")
    times = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")
    return Run(RUN_ID, "scale", "nobody", commit, (), *times, [StageOutcome("stage1", "done")]), ids[1]


def section(number: int) -> tuple[int, int]:
    """First and last millisecond of a clip; four lie in one video."""
    start = 5000 * (number % 4)
    return start, start + 5000


def _write_clips(root: Path, ids: list[str]) -> None:
    people = np.arange(CLIPS) % PEOPLE
    columns: dict[str, list[object]] = {
        "clip_id": list(ids),
        "record_id": [f"r{number}" for number in range(CLIPS)],
        "source_key": [f"video-{number // 4}" for number in range(CLIPS)],
        "source_sha256": [sha256_bytes(f"source {number // 4}".encode()) for number in range(CLIPS)],
        "clip_sha256": [sha256_bytes(f"bytes {number}".encode()) for number in range(CLIPS)],
        "person_id": [sha256_bytes(f"person {number}".encode()) for number in people],
        "start_ms": [section(number)[0] for number in range(CLIPS)],
        "end_ms": [section(number)[1] for number in range(CLIPS)],
        "rights": ["CC-BY-NC-4.0"] * CLIPS,
    }
    schema = arrow_schema(Clip)
    for field in schema:
        fill = "" if field.type == pa.string() else 0.0 if field.type == pa.float64() else 0
        columns.setdefault(field.name, [fill] * CLIPS)
    table = pa.table({name: columns[name] for name in schema.names}, schema=schema).sort_by("clip_id")
    write_table(root / "data/ingest/manifest.parquet", table)
    splits = arrow_schema(ClipSplit)
    named = {"identity": [f"i{number}" for number in people], "split": ["train"] * CLIPS}
    rows = pa.table({name: named.get(name, columns.get(name)) for name in splits.names}, schema=splits)
    write_table(root / "data/pairs/clips.parquet", rows.sort_by("clip_id"))


def _write_ledger(path: Path, stage: str, rows: int, ids: pa.Array, rng: np.random.Generator) -> None:
    number = np.arange(rows)
    clips = ids.take(pa.array(rng.integers(0, CLIPS, 2 * rows)))
    columns = {
        "stage": pa.repeat(stage, rows),
        "step": pa.array(number // BATCH),
        "slot": pa.array(number % BATCH),
        "clip_ids": pa.ListArray.from_arrays(pa.array(np.arange(0, 2 * rows + 1, 2), pa.int32()), clips),
        "segment": pa.repeat("target0", rows),
        "ref_window": pa.repeat("ref0[:5]", rows),
        "used": pa.repeat(True, rows),
        "reason": pa.repeat("", rows),
    }
    write_table(path, pa.table(columns, schema=arrow_schema(Consumed)))


def timed(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def measure(rows: int) -> dict[str, float]:
    """Seconds of each piece of work at one size."""
    with TemporaryDirectory() as folder:
        run, clip = make_run(Path(folder), rows)
        root = Path(folder) / "checkout"
        found = {"record": timed(lambda: build_record(root, run))}
        commit_candidate(root, run, signing_key(root))
        command = [str(Path(sys.executable).with_name("tavr")), "who-used", clip, "--json"]

        def ask() -> None:
            answer = json.loads(subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout)
            assert answer["models"], "the clip was used"

        found["first answer"] = timed(ask)
        found["who-used"] = min(timed(ask) for _ in range(5))
        found["verify"] = timed(lambda: verify(root))
        return found


def verify(root: Path) -> None:
    """What `tavr verify` does with the closure of a run, from git to the root in its record."""
    from tavr_lineage.candidates import open_finished
    from tavr_lineage.closure import read_consumption
    from tavr_lineage.evidence.tables import DATABASE, write_closure
    from tavr_lineage.evidence.verification_content import check_closure
    from tavr_lineage.evidence.verification_log import Promoted

    found = open_finished(root, RUN_ID)
    files = {DATABASE: write_closure(read_consumption(root, found.commit, found.record))}
    check_closure(files, cast("Promoted", SimpleNamespace(record=found.record)))


def main() -> None:
    """Measure both sizes and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit", description=__doc__)
    parser.add_argument("--rows", type=int, default=6_400_000, help="rows of the ledgers")
    rows = parser.parse_args().rows
    small, large = measure(rows // 10), measure(rows)
    table = Table(title=f"The audit of {rows:,} consumed samples of {CLIPS:,} clips")
    for column in ("what", f"{rows // 10:,} rows", f"{rows:,} rows", "growth", "limit"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for name, seconds in large.items():
        limit = f"{LIMITS[name]:g} s" if name in LIMITS else "-"
        table.add_row(name, f"{small[name]:.2f} s", f"{seconds:.2f} s", f"{seconds / small[name]:.1f}", limit)
    Console(width=None if sys.stdout.isatty() else 120).print(table)


if __name__ == "__main__":
    main()
