"""The form, the run's folder, the budget, and what a stage's output is read to mean."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError
from tavr_flows.budget import read_budget, tell_budget
from tavr_flows.parameters import RetrainParameters
from tavr_flows.pipeline import Pipeline
from tavr_flows.reproduce import Transcript
from tavr_flows.runs import RunFolder, check_checkout, list_runs, open_run
from tavr_flows.summary import metric_table, render_summary
from tavr_records.errors import InputError


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch=main")
    (root / "code.py").write_text("a = 1\n")
    (root / ".gitignore").write_text("/.runs/\n")
    git(root, "add", "-A")
    git(root, "commit", "--quiet", "-m", "start")
    return root


MALFORMED = [
    ({"profile": "huge"}, "profile"),
    ({"profile": "tiny; rm -rf /"}, "profile"),
    ({"base_run": "../../etc"}, "base_run"),
    ({"base_run": "20260101-zzzzzzzz"}, "base_run"),
    ({"overrides": ["stage3.steps"]}, "overrides"),
    ({"overrides": ["stage3.steps=$(id)"]}, "overrides"),
    ({"overrides": ["stage3.steps=1;id"]}, "overrides"),
    ({"overrides": ["stage3.steps=`id`"]}, "overrides"),
    ({"overrides": ["steps=1"]}, "overrides"),
    ({"overrides": ["+hydra.run.dir=/"]}, "overrides"),
    ({"overrides": ["~stage3.steps=1"]}, "overrides"),
    ({"overrides": ["a.b=" + "x" * 10_000_000]}, "overrides"),
    ({"overrides": "stage3.steps=1"}, "overrides"),
    ({"overrides": ["a.b=1"] * 51}, "overrides"),
    ({"reason": "x" * 2001}, "reason"),
    ({"promote": "perhaps"}, "promote"),
    ({"stage": "stage1"}, "stage"),
]


@pytest.mark.parametrize(("values", "field"), MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_form_names_its_field(values: dict, field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RetrainParameters.model_validate(values)
    assert caught.value.errors()[0]["loc"][0] == field


def test_every_field_is_described_and_has_a_visible_default(root: Path) -> None:
    schema = RetrainParameters.model_json_schema()
    assert schema["additionalProperties"] is False
    for name, field in schema["properties"].items():
        assert field["description"], name
        assert "default" in field, name
    profiles = {path.stem for path in (root / "conf/profile").glob("*.yaml")}
    assert set(schema["properties"]["profile"]["enum"]) == profiles


def test_the_form_needs_no_prefect() -> None:
    code = "import sys, tavr_flows.parameters, tavr_flows.runs; raise SystemExit('prefect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_uncommitted_changes_are_refused_or_recorded(checkout: Path) -> None:
    (checkout / "code.py").write_text("a = 2\n")
    (checkout / "new.py").write_text("b = 1\n")
    with pytest.raises(InputError, match=r"uncommitted changes \(code.py, new.py\); commit them"):
        check_checkout(checkout, allow_dirty=False)
    run, _ = open_run(checkout, RetrainParameters(allow_dirty=True))
    assert run.request.dirty == ("code.py", "new.py")
    assert git(checkout, "show", f"{run.request.start}:new.py") == "b = 1"
    assert git(checkout, "rev-parse", f"{run.request.start}^") == run.request.commit
    assert git(checkout, "status", "--porcelain") == "M code.py\n?? new.py", "files and index stay as they were"


@pytest.mark.parametrize("name", ["dvc.lock", "params.yaml", "reports/x/verdict.json", "record.json"])
def test_what_runs_generate_is_not_dirt(checkout: Path, name: str) -> None:
    (checkout / name).parent.mkdir(parents=True, exist_ok=True)
    (checkout / name).write_text("x")
    assert check_checkout(checkout, allow_dirty=False) == checkout


def test_no_repository_and_no_commit_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no git repository; clone the project"):
        check_checkout(tmp_path, allow_dirty=False)
    git(tmp_path, "init", "--quiet")
    with pytest.raises(InputError, match="no commit yet"):
        check_checkout(tmp_path, allow_dirty=False)


def test_an_unfinished_run_of_the_same_request_is_carried_on(checkout: Path) -> None:
    first, lock = open_run(checkout, RetrainParameters(reason="first"))
    second, _ = open_run(checkout, RetrainParameters())
    assert second.request.run_id != first.request.run_id, "the first is held by a living process"
    os.close(lock)
    third, _ = open_run(checkout, RetrainParameters(reason="again"))
    assert third.request.run_id == first.request.run_id
    other, _ = open_run(checkout, RetrainParameters(profile="micro"))
    assert other.request.run_id not in {first.request.run_id, second.request.run_id}
    (first.folder / "summary.json").write_text("{}")
    (second.folder / "summary.json").write_text("{}")
    fresh, _ = open_run(checkout, RetrainParameters())
    assert fresh.request.run_id not in {run.request.run_id for run in list_runs(checkout) if run != fresh}


def test_a_base_that_is_not_there_is_refused(checkout: Path) -> None:
    with pytest.raises(InputError, match="base_run: no branch run/20260101-00000001"):
        open_run(checkout, RetrainParameters(base_run="20260101-00000001"))


def test_a_change_runs_what_comes_after_it() -> None:
    upstream = {"a": frozenset[str](), "b": frozenset({"a"}), "c": frozenset({"b"}), "d": frozenset({"a"})}
    pipeline = Pipeline(("a", "b", "c", "d"), upstream, {"b": ["changed"]})
    assert pipeline.to_run == {"b", "c"}
    assert Pipeline(("a", "b", "c", "d"), upstream, {}).to_run == frozenset()


def test_the_budget_is_told_with_its_sum(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    path = tmp_path / "conf/budget.yaml"
    path.write_text("tiny: {a: 61, b: 5}\n")
    budget = read_budget(tmp_path, "tiny")
    lines = tell_budget(["a", "b", "c"], {"a", "c"}, budget)
    assert [line.split() for line in lines[1:4]] == [["a", "1:01", "min"], ["b", "cached"], ["c", "?"]]
    assert "1:01 min and 1 nobody has measured" in lines[4]
    assert read_budget(tmp_path, "small") == {}
    path.write_text("tiny: {a: soon}\n")
    with pytest.raises(InputError, match=r"budget.yaml: tiny: not a mapping"):
        read_budget(tmp_path, "tiny")


OUTPUT = """Running stage 'stage1':
> python -m tavr_stage1
stage1: reports/pairs/verdict.json: refused by people_in_both_splits (observed 1, limit 0)
ERROR: failed to reproduce 'stage1': failed to run: python -m tavr_stage1, exited with 3
"""
TRACEBACK = """Traceback (most recent call last):
  File "x.py", line 1, in <module>
ZeroDivisionError: division by zero
ERROR: failed to reproduce 'stage1': failed to run: python -m tavr_stage1, exited with 1
"""


def test_what_a_stage_said_is_read_right() -> None:
    def read(text: str) -> Transcript:
        transcript = Transcript()
        for line in text.splitlines():
            transcript.add(line)
        return transcript

    refused = read(OUTPUT)
    assert refused.exit_code == 3
    assert refused.reason("stage1").startswith("reports/pairs/verdict.json: refused by people_in_both_splits")
    crashed = read(TRACEBACK)
    assert (crashed.exit_code, crashed.reason("stage1")) == (1, "ZeroDivisionError: division by zero")
    assert read("Stage 'a' didn't change, skipping\n").skipped
    assert read("Stage 'a' is cached - skipping run, checking out outputs\n").skipped
    assert not read(OUTPUT).skipped
    assert read("").reason("a") == "no output"
    assert len(read("x\n" * 1000).lines) == 200


def test_the_summary_reads_like_a_report(tmp_path: Path) -> None:
    interval = {"mean": 0.5, "low": 0.4, "high": 0.6, "pairs": 4}
    summary = {
        "run_id": "20260101-00000001",
        "profile": "tiny",
        "branch": "run/20260101-00000001",
        "commit": "c" * 40,
        "stages": [{"name": "stage1", "state": "refused", "seconds": 1.23, "reason": "a | b\nc"}],
        "verdicts": {"pairs": {"rules": 2, "failed": ["x (critical)"], "critical": True, "quarantined": 3}},
        "metrics": {
            "candidate": "ours",
            "baseline": "base",
            "methods": {"ours": {"id_target": interval}, "base": {"id_target": {**interval, "mean": None}}},
            "versus_base": {"ours": {"id_target": interval}},
        },
        "gate": {"target": "dev", "allow": False, "reasons": ["checks: no"], "notes": ["champion: no bar"]},
        "promotion": None,
        "paths": {"run": "here"},
    }
    text = render_summary(json.loads(json.dumps(summary)))
    assert "**refused** for dev" in text
    assert "- checks: no\n- champion: no bar" in text
    assert "| stage1 | REFUSED | 1.2 | a \\| b c |" in text
    assert "| pairs | refused | 2 | 3 | x (critical) |" in text
    assert metric_table(summary) == [
        {"metric": "id_target", "ours": "0.500", "base": "-", "difference": "+0.500 [+0.400, +0.600]"}
    ]
    assert metric_table({**summary, "metrics": None}) == []


def test_a_run_folder_names_its_places(checkout: Path) -> None:
    run, _ = open_run(checkout, RetrainParameters())
    (again,) = list_runs(checkout)
    assert again == RunFolder(checkout, run.request)
    assert run.tree.parent == run.folder
    assert run.branch == f"run/{run.request.run_id}"
