"""The command's table and JSON, on timings that were made up."""

import json
import re
from dataclasses import replace

import pytest

from benchmarks import __main__ as command
from benchmarks.case import Case, Drift
from benchmarks.method import Target


@pytest.fixture(autouse=True)
def _made_up(monkeypatch):
    case = Case("some work", "another way", 1.4, Target(1.25), lambda: 1.5, lambda: 1.0)
    monkeypatch.setattr(command, "BENCHMARKS", {"first": lambda: case, "second": lambda: case})
    monkeypatch.setattr(command.torch, "set_num_threads", lambda _count: None)


def test_the_table_has_every_benchmark_and_the_method(capsys, monkeypatch):
    command.main([])
    shown = capsys.readouterr().out
    for name in ("first", "second"):
        assert re.search(rf"{name}\W.*1\.500\W.*1\.400\W.*>= 1\.250\W.*1\.000\W.*25\W.*ok", shown)
    assert "One thread" in shown
    assert "dB" not in shown
    lossy = replace(command.BENCHMARKS["first"](), drift=Drift(0.125, 31.5))
    monkeypatch.setattr(command, "BENCHMARKS", {"lossy": lambda: lossy})
    command.main([])
    assert "12.5%, 31.5 dB" in capsys.readouterr().out


def test_json_of_one_with_few_pairs(capsys):
    command.main(["--only", "second", "--pairs", "2", "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert row["name"] == "second"
    assert (row["ratio"], row["control"], row["pairs"], row["verdict"]) == (1.5, 1.0, 2, "inconclusive")
    assert row["target"] == {"bound": 1.25, "growth": False}
    assert row["drift"] is None


@pytest.mark.parametrize("arguments", [["--pairs", "0"], ["--only", "third"]])
def test_bad_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as refused:
        command.main(arguments)
    assert refused.value.code == 2
    assert "error" in capsys.readouterr().err
