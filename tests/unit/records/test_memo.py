"""The memo: work once for each content, whole entries only, other keys for other code, weights and parameters."""

from pathlib import Path

import numpy as np
import pytest
from tavr_records.errors import InputError
from tavr_records.fan_out import fan_out, worker_count
from tavr_records.memo import Memo, folder_digest, open_memo, package_digest, stage_output, work_directory


def test_an_entry_is_built_once(tmp_path):
    memo = Memo(tmp_path, "context")
    built = []

    def build(folder):
        built.append(folder)
        (folder / "file").write_text("content")

    first = memo.entry({"sha256": "a"}, build)
    assert memo.entry({"sha256": "a"}, build) == first
    assert memo.entry({"sha256": "b"}, build) != first
    assert (first / "file").read_text() == "content"
    assert len(built) == 2


def test_an_entry_that_fails_leaves_nothing(tmp_path):
    memo = Memo(tmp_path, "context")

    def fail(folder):
        (folder / "file").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        memo.entry({"sha256": "a"}, fail)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert (memo.entry({"sha256": "a"}, lambda folder: (folder / "file").touch()) / "file").is_file()


def test_a_race_keeps_the_first_entry(tmp_path):
    memo = Memo(tmp_path, "context")

    def slow(folder):
        memo.entry({"sha256": "a"}, lambda other: (other / "file").write_text("first"))
        (folder / "file").write_text("second")

    entry = memo.entry({"sha256": "a"}, slow)
    assert (entry / "file").is_file()


def test_everything_that_matters_changes_the_context(tmp_path, monkeypatch):
    monkeypatch.delenv("TAVR_WORK", raising=False)
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "model").write_text("1")

    def context(params, packages=("tavr_records",)):
        return open_memo("ingest", params, packages, [weights], tmp_path).context

    first = context({"crf": 1})
    assert context({"crf": 1}) == first
    assert context({"crf": 2}) != first
    assert context({"crf": 1}, ("tavr_ingest",)) != first
    (weights / "model").write_text("2")
    second = context({"crf": 1})
    assert second != first
    (tmp_path / "requirements.lock").write_text("numpy==1")
    assert context({"crf": 1}) != second


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(InputError, match="run the stage `weights`"):
        folder_digest(tmp_path / "lost")


def test_code_is_digested_without_importing_it():
    assert len(package_digest("tavr_stage3")) == 64


def test_the_work_directory_can_be_shared(tmp_path, monkeypatch):
    monkeypatch.delenv("TAVR_WORK", raising=False)
    assert work_directory("ingest", tmp_path) == tmp_path.resolve() / ".work/ingest"
    monkeypatch.setenv("TAVR_WORK", str(tmp_path / "shared"))
    assert work_directory("ingest", tmp_path / "worktree") == tmp_path.resolve() / "shared/ingest"


def test_an_output_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "data/ingest"
    with stage_output(target) as folder:
        (folder / "old").touch()
    with pytest.raises(FileNotFoundError), stage_output(target) as folder:
        (folder / "new" / "file").touch()
    assert [path.name for path in target.iterdir()] == ["old"]
    with stage_output(target) as folder:
        (folder / "new").touch()
    assert [path.name for path in target.iterdir()] == ["new"]


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_jobs(monkeypatch, workers):
    monkeypatch.setenv("TAVR_WORKERS", str(workers))
    assert worker_count() == workers
    assert list(fan_out(np.sqrt, [4.0, 9.0, 16.0], "roots")) == [2.0, 3.0, 4.0]
    assert list(fan_out(np.sqrt, [], "none")) == []


def test_an_error_in_a_worker_reaches_the_caller(monkeypatch):
    monkeypatch.setenv("TAVR_WORKERS", "2")
    with pytest.raises(InputError, match="no such folder"):
        list(fan_out(folder_digest, [Path("/nowhere")] * 3, "digests"))
