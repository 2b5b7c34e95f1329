"""Random histories of a checkout: who-used equals a scan of the raw ledgers, and nothing withdrawn is ever promoted."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st
from tavr_lineage.candidates import open_finished
from tavr_lineage.closure import read_consumption
from tavr_lineage.git import git as run_git
from tavr_lineage.git import read_file
from tavr_lineage.outputs import stored_files
from tavr_lineage.promotion import promote, rollback
from tavr_lineage.questions import who_used
from tavr_lineage.registry import list_versions
from tavr_lineage.trust.log import read_log
from tavr_records.errors import InputError, RefusedError
from tavr_records.manifest import write_manifest
from tavr_records.schemas import Consumed

from .conftest import CLIPS, commit, finish_run, make_checkout

LEARNERS = CLIPS[:4]
STAGES = ("stage1", "stage2", "stage3")
CLIP = st.integers(0, 3)
OPERATIONS = st.one_of(
    st.tuples(st.just("retrain"), st.frozensets(CLIP, min_size=1), st.frozensets(CLIP)),
    st.tuples(st.just("withdraw"), st.sampled_from(["clip_id", "person_id", "source_key", "sha256"]), CLIP),
    st.tuples(st.just("promote"), st.integers(0, 3), st.none()),
    st.tuples(st.just("rollback"), st.integers(0, 3), st.none()),
)


@dataclass
class History:
    """What was done to a checkout, kept beside it."""

    root: Path
    runs: list[str] = field(default_factory=list)
    withdrawn: set[str] = field(default_factory=set)
    withdrawn_at: Mapping[int, frozenset[str]] = field(default_factory=dict)

    def retrain(self, used: frozenset[int], skipped: frozenset[int]) -> None:
        """A run that used some clips, step by step, and skipped others."""

        def consume(worktree: Path) -> None:
            for stage in STAGES:
                rows = [
                    Consumed(stage, step, 0, [LEARNERS[clip].clip_id], "target0", "ref0", True, "")
                    for step, clip in enumerate(sorted(used))
                ]
                rows += [
                    Consumed(stage, 100 + step, 0, [LEARNERS[clip].clip_id], "target0", "ref0", False, "loss is nan")
                    for step, clip in enumerate(sorted(skipped))
                ]
                write_manifest(worktree / "data" / stage / "ledger.parquet", Consumed, rows, ("step", "slot"))

        run_id = f"20260101-{len(self.runs):08x}"
        finish_run(self.root, run_id, gain=0.3 + 0.05 * len(self.runs), spoil=consume)
        self.runs.append(run_id)

    def withdraw(self, kind: str, clip: int) -> None:
        """Withdraw a clip by one of its names; a person takes its other clip along."""
        column = "clip_sha256" if kind == "sha256" else kind
        value = getattr(LEARNERS[clip], column)
        path = self.root / "audit/withdrawn.jsonl"
        line = {"kind": kind, "value": value, "reason": "asked", "withdrawn_at": "2026-01-01T00:00:00Z"}
        path.write_text(path.read_text() + json.dumps(line) + "\n")
        commit(self.root, "withdraw")
        self.withdrawn |= {other.clip_id for other in CLIPS if getattr(other, column) == value}

    def promote(self, number: int, _: None) -> None:
        """Ask for a promotion to dev."""
        if number < len(self.runs):
            self._note(lambda: promote(self.root, self.runs[number], "dev"))

    def rollback(self, number: int, _: None) -> None:
        """Ask for a rollback of dev."""
        versions = list_versions(self.root, "tavr")
        if number < len(versions):
            self._note(lambda: rollback(self.root, "dev", versions[number].label, "a test"))

    def _note(self, work) -> None:
        try:
            work()
        except (RefusedError, InputError):
            return
        last = read_log(self.root)[-1]["seq"]
        self.withdrawn_at = {**self.withdrawn_at, last: frozenset(self.withdrawn)}


def scan(root: Path, commit_id: str) -> dict[tuple[str, str], tuple[int, int, int]]:
    """(clip, stage) -> first step, last step, samples, read row by row from the ledgers in the DVC cache."""
    found: dict[tuple[str, str], list[int]] = {}
    stored = dict(stored_files(read_file(root, commit_id, "dvc.lock") or b"", root / ".dvc/cache"))
    for stage in STAGES:
        for row in pq.read_table(stored[f"data/{stage}/ledger.parquet"]).to_pylist():
            for clip in row["clip_ids"] if row["used"] else ():
                found.setdefault((clip, stage), []).append(row["step"])
    return {key: (min(steps), max(steps), len(steps)) for key, steps in found.items()}


@settings(max_examples=8, deadline=None)
@given(operations=st.lists(OPERATIONS, min_size=4, max_size=9))
def test_any_history(root: Path, operations: list[tuple]) -> None:
    with TemporaryDirectory() as folder:
        history = History(make_checkout(Path(folder) / "checkout", root))
        for name, *arguments in [("retrain", frozenset({0, 2}), frozenset({1})), *operations]:
            getattr(history, name)(*arguments)
        commits = {run: run_git(history.root, "rev-parse", f"run/{run}") for run in history.runs}
        scanned = {run: scan(history.root, at) for run, at in commits.items()}
        for clip in LEARNERS:
            answer = {
                model.run_id: {use.stage: (use.first_step, use.last_step, use.samples) for use in model.uses}
                for model in who_used(history.root, f"clip:{clip.clip_id}").models
            }
            expected = {
                run: {stage: uses for (name, stage), uses in found.items() if name == clip.clip_id}
                for run, found in scanned.items()
            }
            assert answer == {run: uses for run, uses in expected.items() if uses}
        for entry in read_log(history.root):
            if entry["event"] in ("promoted", "rolled back"):
                record = open_finished(history.root, entry["commit"]).record
                clips = set(read_consumption(history.root, entry["commit"], record)["clip_id"].to_pylist())
                assert not clips & history.withdrawn_at[entry["seq"]], entry
