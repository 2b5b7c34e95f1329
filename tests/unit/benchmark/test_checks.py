"""What the check of the scores looks at: its rules' own answers, and which scores offend."""

from dataclasses import replace

import numpy as np
import pytest
from tavr_benchmark import checks
from tavr_benchmark.checks import check_benchmark
from tavr_benchmark.config import CheckBenchmarkConfig
from tavr_records.atomic import write_bytes
from tavr_records.manifest import write_manifest
from tavr_records.schemas import ClipSplit, Score

LIMITS = CheckBenchmarkConfig(min_pairs=2, max_faceless_share=0.25)


def score(method: str, pair: str, **changes) -> Score:
    made = Score(
        f"{method}|{pair}", pair, method, f"judged-{pair}", 17, 0, 0.5, 0.6, 1.0, 2.0, 0.1, 0.2, 0.3, 0.6, 20, 0, ""
    )
    return replace(made, **changes)


@pytest.fixture
def judge(tmp_path, monkeypatch):
    """Judge scores; answers {rule: (severity, passed or offending rows)} without Great Expectations."""
    found = {}

    def run_check(stage, table, rules, id_column, reports):
        assert (stage, id_column, reports) == ("benchmark", "score_id", tmp_path / "reports")
        for rule in rules:
            seen = rule.passed if rule.row_mask is None else int(rule.row_mask(table).sum())
            found[rule.id] = (rule.severity, seen)

    monkeypatch.setattr(checks, "run_check", run_check)
    write_bytes(tmp_path / "audit/withdrawn.jsonl", b"")

    def judged(scores: list[Score], trained: str = "trained") -> dict:
        splits = [
            ClipSplit("a", trained, "i0", "train"),
            ClipSplit("b", "judged-p", "i1", "benchmark"),
        ]
        write_manifest(tmp_path / "data/pairs/clips.parquet", ClipSplit, splits, ("clip_id",))
        write_manifest(tmp_path / "data/benchmark/manifest.parquet", Score, scores, ("score_id",))
        check_benchmark(LIMITS, tmp_path)
        return dict(found)

    return judged


COMPLETE = [score(method, pair) for method in ("base", "ours") for pair in "pq"]


def test_complete_scores_of_strangers_pass(judge):
    for name, (severity, seen) in judge(COMPLETE).items():
        assert seen is True or seen == 0, name
        assert severity == ("warning" if name in {"faces_found", "sync_c_not_null", "sync_d_not_null"} else "critical")


@pytest.mark.parametrize(
    ("scores", "rule"),
    [
        (COMPLETE[::2], "enough_pairs"),
        (COMPLETE[:3], "same_pairs_for_all"),
        ([replace(one, faceless_frames=6) for one in COMPLETE], "faces_found"),
    ],
)
def test_what_the_table_lacks_as_a_whole(judge, scores, rule):
    found = judge(scores)
    assert found[rule][1] is False


def test_nobody_who_trained_may_be_judged_on(judge):
    assert judge(COMPLETE, trained="judged-q")["nobody_trained_on"] == ("critical", False)


@pytest.mark.parametrize(
    ("changes", "rules"),
    [
        ({"id_target": 1.5}, {"id_target_between"}),
        ({"id_ref": -1.5}, {"id_ref_between"}),
        ({"vq": np.nan}, {"vq_not_null"}),
        ({"sync_c": np.nan, "sync_d": np.nan}, {"sync_c_not_null", "sync_d_not_null"}),
    ],
)
def test_a_score_that_cannot_be_is_one_offending_row(judge, changes, rules):
    found = judge([*COMPLETE[:3], replace(COMPLETE[3], **changes)])
    offending = {name for name, (_, seen) in found.items() if not isinstance(seen, bool) and seen}
    assert offending == rules
