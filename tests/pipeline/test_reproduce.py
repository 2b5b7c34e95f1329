"""`tavr reproduce` on a pipeline of seconds: equal to the byte, different with the place, failed, or withdrawn."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tavr_cli import reproduce as command
from tavr_cli.reproduce import Answer, Ears, reproduce_model
from tavr_cli.stage_comparison import Original, StageComparison, compare_stage
from tavr_flows.finish import finish
from tavr_flows.parameters import RetrainParameters
from tavr_flows.pipeline import read_pipeline
from tavr_flows.reproduce import reproduce
from tavr_flows.runs import open_run
from tavr_flows.worktree import open_worktree, stage_environment
from tavr_lineage.clock import now
from tavr_lineage.exports.dossier import open_dossier
from tavr_lineage.record import StageOutcome
from tavr_records.errors import InputError

from .toy import STAGES, bare_environment, commands_in, git, write_toy

FIXED = 'save({"a": np.zeros(64, np.float32), "b": np.arange(64, dtype=np.float32)})'
NOISY = 'save({"a": np.zeros(64, np.float32), "b": np.frombuffer(os.urandom(64), np.uint8).astype(np.float32)})'
SOURCE = {"origin": "https://videos.example/a.mp4", "source_key": "s0", "section": [0, 1000], "sha256": "a" * 64,
          "record_id": "r0", "retrieved_at": "2026-01-01T00:00:00Z", "rights": "CC-BY-4.0"}  # fmt: skip


def write_checkout(root: Path, project: Path, model: str) -> Path:
    """The toy with a model of tensors, a source list, and an input that DVC tracks in a remote."""
    checkout = write_toy(root, project)
    script = (checkout / "stage.py").read_text().replace('b"weights" * 10', model)
    (checkout / "stage.py").write_text(f"import numpy as np\nfrom safetensors.numpy import save\n{script}")
    (checkout / "sources.lock").write_text(json.dumps({"world": None, "rows": [SOURCE]}))
    (checkout / "list.txt").write_text("clips\n")
    dvc = Path(sys.executable).with_name("dvc")
    store = str(root.parent / "remote")
    for arguments in (["add", "-q", "list.txt"], ["remote", "add", "-q", "-d", "store", store], ["push", "-q"]):
        subprocess.run([dvc, *arguments], cwd=checkout, check=True)
    pipeline = yaml.safe_load((checkout / "dvc.yaml").read_text())
    pipeline["stages"]["sources"]["deps"] = ["list.txt"]
    (checkout / "dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    git(checkout, "add", "--all")
    git(checkout, "commit", "--quiet", "-m", "a model of tensors and an input")
    return checkout


def make(root: Path, project: Path, model: str = FIXED) -> str:
    """A checkout with one finished candidate whose stage1 writes `model`; returns the run's id."""
    checkout = write_checkout(root, project, model)
    run, lock = open_run(checkout, RetrainParameters(profile="tiny", base_run="none"))
    open_worktree(run, print)
    pipeline = read_pipeline(run.tree, stage_environment(run), checkout=True)
    started = now()
    outcomes = [reproduce(run, stage, print, lambda _percent, _line: None) for stage in pipeline.order]
    assert {outcome.state for outcome in outcomes} == {"done"}, outcomes
    finish(run, outcomes, started, promote=False)
    os.close(lock)
    return run.request.run_id


@pytest.fixture(autouse=True, scope="module")
def bare_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in bare_environment(tmp_path_factory.mktemp("machine") / "home").items():
            patch.setenv(name, value)
        for name in [name for name in os.environ if name.startswith(("GIT_AUTHOR", "GIT_COMMITTER", "TAVR_"))]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, root: Path) -> tuple[Path, str]:
    checkout = tmp_path_factory.mktemp("finished") / "toy"
    return checkout, make(checkout, root)


def again(checkout: Path, run_id: str) -> tuple[Answer, list[str]]:
    lines: list[str] = []
    ears = Ears(lines.append, lambda _percent, line: lines.append(line))
    return reproduce_model(checkout, run_id, keep=False, tolerance=0.01, ears=ears), lines


def test_the_same_code_gives_the_same_bytes_and_nothing_stays(finished: tuple[Path, str]) -> None:
    checkout, run_id = finished
    (checkout / "list.txt").unlink()  # the reproduction pulls its own
    before = git(checkout, "for-each-ref")
    result = subprocess.run(
        [sys.executable, "-m", "tavr_cli.main", "reproduce", run_id, "--json"],
        cwd=checkout, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["answer"] == "equal"
    assert answer["platform"] == []
    assert {stage["stage"]: stage["state"] for stage in answer["stages"]} == dict.fromkeys(STAGES, "equal")
    assert result.stderr.splitlines()[0] == "time budget:", "what it will cost is told first"
    assert "pulling 1 inputs" in result.stderr
    assert "resumed at 0" in result.stderr, "every command ran, none was taken from a cache or carried on"
    assert "stage1: equal" in result.stderr
    assert git(checkout, "for-each-ref") == before
    assert len(git(checkout, "worktree", "list").splitlines()) == 1
    assert list((checkout / ".work/reproduce" / run_id).iterdir()) == [checkout / ".work/reproduce" / run_id / "lock"]
    assert commands_in(checkout) == []


def test_withdrawn_inputs_are_an_answer_of_their_own(finished: tuple[Path, str]) -> None:
    checkout, run_id = finished
    line = {"kind": "source_key", "value": "s0", "reason": "asked", "withdrawn_at": "2026-01-01T00:00:00Z"}
    path = checkout / "audit/withdrawn.jsonl"
    path.write_text(json.dumps(line) + "\n")
    try:
        result = subprocess.run(
            [sys.executable, "-m", "tavr_cli.main", "reproduce", run_id],
            cwd=checkout, capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        path.write_text("")
    assert result.returncode == 0, result.stderr
    assert "inputs withdrawn" in result.stdout
    assert "withdrawn: 1 sources" in result.stdout
    assert result.stderr == "", "nothing is made of what was withdrawn"


def test_a_stage_that_fails_ends_it_and_another_platform_class_promises_nothing(
    finished: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout, run_id = finished
    here = command.platform_class()
    monkeypatch.setattr(command, "platform_class", lambda: {**here, "cpu": "another"})
    monkeypatch.setattr(command, "reproduce", lambda *_: StageOutcome("sources", "failed", 1.0, "no network (exit 2)"))
    answer, lines = again(checkout, run_id)
    assert (answer.answer, answer.kept_promise) == ("failed", False)
    assert [stage.state for stage in answer.stages] == ["failed", "not run", "not run", "not run"]
    assert answer.stages[0].reason == "no network (exit 2)"
    assert answer.platform == [f'cpu: {json.dumps(here["cpu"])} -> "another"']
    assert any("equality is not promised" in line for line in lines)
    assert "pulling 1 inputs" in lines
    different = [StageComparison("stage1", "different")]
    assert Answer("m", "c", "r", "different", answer.platform, {}, different).kept_promise
    assert not Answer("m", "c", "r", "different", [], {}, different).kept_promise
    assert not Answer("m", "c", "r", "within tolerance", [], {}, different).kept_promise


def test_a_remote_that_has_lost_an_input_is_named(finished: tuple[Path, str]) -> None:
    checkout, run_id = finished
    (checkout.parent / "remote").rename(checkout.parent / "away")
    try:
        with pytest.raises(InputError, match=r"list\.txt\.dvc: cannot be pulled"):
            again(checkout, run_id)
    finally:
        (checkout.parent / "away").rename(checkout.parent / "remote")


def test_a_stage_that_draws_chance_is_found_with_the_place(tmp_path: Path, root: Path) -> None:
    checkout = tmp_path / "toy"
    run_id = make(checkout, root, NOISY)
    result = subprocess.run(
        [sys.executable, "-m", "tavr_cli.main", "reproduce", run_id, "--json", "--keep"],
        cwd=checkout, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 4, result.stderr
    answer = json.loads(result.stdout)
    found = {stage["stage"]: stage for stage in answer["stages"]}
    assert {name: stage["state"] for name, stage in found.items()} == {
        "sources": "equal", "check_sources": "equal", "stage1": "different", "benchmark": "equal",
    }  # fmt: skip
    first = found["stage1"]["first"]
    assert found["stage1"]["changed_inputs"] == [], "the chance is its own"
    assert (found["stage1"]["files"], first["path"]) == (1, "data/stage1/model/model.safetensors")
    assert re.fullmatch(r"tensor b: largest absolute difference \d+", first["detail"])
    assert first["sizes"][0] - 256 <= first["first_byte"] <= first["last_byte"] < first["sizes"][0]
    tree, dossier = Path(answer["kept"]), open_dossier(checkout, run_id)
    assert git(tree, "rev-parse", "HEAD") == git(checkout, "rev-parse", "main")
    assert compare_stage(Original(checkout, dossier, 1e9), tree, "stage1", 1.0).state == "within tolerance"
    noise = (tree / "data/benchmark/manifest.parquet").read_bytes()
    lock = yaml.safe_load((tree / "dvc.lock").read_text())
    lock["stages"]["benchmark"]["outs"][0]["md5"] = "0" * 32 + ".dir"
    (tree / "dvc.lock").write_text(yaml.safe_dump(lock))
    (tree / "data/benchmark/manifest.parquet").unlink()
    (tree / "data/benchmark/manifest.parquet").write_bytes(noise[:-1])
    follower = compare_stage(Original(checkout, dossier, 1.0), tree, "benchmark", 1.0)
    assert follower.changed_inputs == ["data/stage1"]
    assert (follower.state, follower.first.last_byte) == ("different", len(noise) - 1)
    shutil.rmtree(checkout / ".dvc/cache/files")
    blind = compare_stage(Original(checkout, open_dossier(checkout, run_id), 1.0), tree, "stage1", 1.0)
    assert (blind.state, blind.first) == ("different", None)
    assert "model.safetensors" in blind.reason


def test_mistakes_are_named(finished: tuple[Path, str]) -> None:
    checkout, _ = finished
    with pytest.raises(InputError, match="carries no record"):
        again(checkout, "main")
