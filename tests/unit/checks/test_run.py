"""A check judges a table, quarantines the offending rows and writes the same bytes every time."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tavr_checks import suite
from tavr_checks.baseline import near_baseline, read_baseline
from tavr_checks.run import run_check
from tavr_records.errors import InputError, RefusedError
from tavr_records.manifest import read_manifest
from tavr_records.schemas import Refused
from tavr_records.verdict import Verdict, read_verdict, require_passed
from tavr_records.withdrawals import Withdrawal, read_withdrawals


def clips() -> pd.DataFrame:
    """Six clips: row 2 has NaN, row 3 an odd split, row 4 repeats a path, row 5 is withdrawn by its section."""
    return pd.DataFrame(
        {
            "clip_id": [f"c{index}" for index in range(6)],
            "person_id": ["p0", "p0", "p1", "p1", "p2", "p3"],
            "source_key": ["s0", "s0", "s1", "s1", "s2", "s3"],
            "start_ms": [0, 1000, 0, 1000, 0, 0],
            "end_ms": [1000, 2000, 1000, 2000, 1000, 1000],
            "dover": [8.0, 9.0, np.nan, 8.0, 8.0, 8.0],
            "split": ["train", "train", "train", "other", "train", "train"],
            "path": ["a", "b", "c", "d", "d", "<script>alert(1)</script>"],
        }
    )


def rules(withdrawals: list[Withdrawal]) -> list[suite.Rule]:
    return [
        suite.not_null("clip_id", "critical"),
        suite.unique("clip_id", "critical"),
        suite.unique("path", "warning"),
        suite.between("dover", 7.0, None, "warning"),
        suite.in_set("split", ["train", "benchmark"], "warning"),
        suite.matches("clip_id", "c[0-9]", "critical"),
        suite.no_withdrawn(withdrawals, "warning"),
        suite.row_rule("no_script", "info", lambda table: table["path"].str.contains("<"), "no <", ["path"]),
        suite.table_row_count_between(1, 100, "critical"),
        suite.at_most("people_in_both_splits", "critical", 0, 0),
        suite.at_least("people", "critical", 4, 4),
    ]


WITHDRAWALS = [
    Withdrawal("source_key", "s3", "asked", "2026-01-01", 500, 600),
    Withdrawal("source_key", "s0", "asked", "2026-01-01", 2000, 3000),  # touches, does not overlap
]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Verdict]:
    reports = tmp_path_factory.mktemp("reports")
    return reports, run_check("ingest", clips(), rules(WITHDRAWALS), "clip_id", reports)


def test_rows_that_offend_are_quarantined_with_their_reason(judged: tuple[Path, Verdict]) -> None:
    reports, verdict = judged
    rows = read_manifest(reports / "ingest" / "quarantine.parquet", Refused)
    assert [(row.record_id, row.rule) for row in rows] == [
        ("c2", "dover_between"),
        ("c3", "split_in_set"),
        ("c4", "path_unique"),
        ("c5", "no_withdrawn"),
    ]
    assert rows[1].reason == "split 'other'"
    assert not verdict.failed_critical
    assert require_passed("ingest", reports) == {"c2", "c3", "c4", "c5"}


def test_every_rule_is_in_the_verdict_with_what_was_seen(judged: tuple[Path, Verdict]) -> None:
    reports, _ = judged
    seen = {check.id: check for check in read_verdict(reports / "ingest" / "verdict.json").checks}
    assert set(seen) == {rule.id for rule in rules(WITHDRAWALS)}
    assert (seen["row_count"].passed, seen["row_count"].observed) == (True, 6)
    assert (seen["dover_between"].passed, seen["dover_between"].observed) == (False, 1)
    assert (seen["no_script"].passed, seen["no_script"].severity) == (False, "info")


def test_the_same_table_gives_the_same_bytes(judged: tuple[Path, Verdict], tmp_path: Path) -> None:
    reports, _ = judged
    run_check("ingest", clips(), rules(WITHDRAWALS), "clip_id", tmp_path)
    for name in ("verdict.json", "quarantine.parquet", "index.html"):
        assert (tmp_path / "ingest" / name).read_bytes() == (reports / "ingest" / name).read_bytes(), name


def test_the_page_works_offline_and_escapes_what_it_shows(judged: tuple[Path, Verdict], tmp_path: Path) -> None:
    reports, _ = judged
    html = (reports / "ingest" / "index.html").read_text()
    assert "http" not in html
    assert "<script" not in html
    table = clips().assign(clip_id=lambda t: "<b>" + t["clip_id"])
    run_check("x", table, [suite.between("dover", 100, None, "warning")], "clip_id", tmp_path)
    assert "<b>c0" not in (tmp_path / "x" / "index.html").read_text()


def test_a_critical_failure_refuses_the_next_stage_naming_verdict_and_rule(tmp_path: Path) -> None:
    rule = suite.at_most("people_in_both_splits", "critical", 1, 0)
    verdict = run_check("pairs", clips(), [rule], "clip_id", tmp_path)
    assert verdict.to_json()["critical"] is True
    with pytest.raises(RefusedError, match=r"pairs/verdict.json: refused by people_in_both_splits \(observed 1, limit"):
        require_passed("pairs", tmp_path)


def test_nan_counts_are_written_as_text_since_json_has_no_nan(tmp_path: Path) -> None:
    verdict = run_check("x", clips(), [suite.at_most("loss", "critical", float("nan"), 1.0)], "clip_id", tmp_path)
    assert (verdict.checks[0].observed, verdict.checks[0].passed) == ("nan", False)


def test_an_empty_table_is_judged_too(tmp_path: Path) -> None:
    verdict = run_check("x", clips().iloc[:0], rules([]), "clip_id", tmp_path)
    assert [check.id for check in verdict.failed_critical] == ["row_count"]


def test_a_missing_column_names_itself(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no column height"):
        run_check("x", clips(), [suite.not_null("height", "critical")], "clip_id", tmp_path)


def test_two_rules_of_one_name_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not unique"):
        run_check("x", clips(), [suite.not_null("path", "info"), suite.not_null("path", "info")], "clip_id", tmp_path)


def test_the_baseline_bounds_a_number(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    path.write_text('{"ingest": {"rows": 100}}')
    baseline = read_baseline("ingest", path)
    assert near_baseline("rows_drift", "warning", "rows", observed=95, baseline=baseline, tolerance=0.1).passed is True
    assert near_baseline("rows_drift", "warning", "rows", observed=80, baseline=baseline, tolerance=0.1).passed is False
    other = near_baseline("drift", "warning", "rows", observed=80, baseline=read_baseline("pairs", path), tolerance=0.1)
    assert other.passed is True
    path.write_text('{"ingest": {"rows": "many"}}')
    with pytest.raises(InputError, match=r"baseline.json: ingest"):
        read_baseline("ingest", path)


def test_a_line_that_is_no_withdrawal_names_its_place(tmp_path: Path) -> None:
    path = tmp_path / "withdrawn.jsonl"
    path.write_text('{"kind": "clip_id", "value": "c", "reason": "asked", "withdrawn_at": "2026-01-01"}\n{"kind": 1}\n')
    with pytest.raises(InputError, match=r"withdrawn.jsonl:2"):
        read_withdrawals(path)
    path.write_text('{"kind": "name", "value": "c", "reason": "asked", "withdrawn_at": "2026-01-01"}\n')
    with pytest.raises(InputError, match="kind is 'name'"):
        read_withdrawals(path)
