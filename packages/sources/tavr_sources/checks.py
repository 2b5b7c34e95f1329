"""`python -m tavr_sources.checks`: the snapshot is whole, its names are safe, and nothing withdrawn goes on."""

from pathlib import Path
from typing import Any

import pandas as pd
from tavr_checks.baseline import near_baseline, read_baseline
from tavr_checks.run import run_check
from tavr_checks.suite import matches, no_withdrawn, not_null, row_rule, table_row_count_between, unique
from tavr_records import ids
from tavr_records.process import run_stage
from tavr_records.withdrawals import read_withdrawals

from tavr_sources.config import CheckSourcesConfig
from tavr_sources.lock import SAFE_ID

BASELINE_TOLERANCE = 0.05


def check_sources(config: CheckSourcesConfig, root: Path = Path()) -> None:
    """Check the manifest of `sources`; rows of severity warning are left out by `ingest`."""
    folder = root / "data" / "sources"
    table: Any = pd.read_parquet(folder / "manifest.parquet")
    table["bytes"] = [path.stat().st_size if (path := folder / name).is_file() else 0 for name in table["path"]]
    table["seconds"] = (table["end_ms"] - table["start_ms"]) / 1000
    sections = zip(table["source_key"], table["start_ms"], table["end_ms"], strict=True)
    table["clip_id"] = [ids.clip_id(key, int(start), int(end)) for key, start, end in sections]
    baseline = read_baseline("sources", root / "audit" / "baseline.json")
    rules = [
        table_row_count_between(config.min_records, None, "critical", "enough_records"),
        near_baseline(
            "records_near_baseline",
            "info",
            "records",
            observed=len(table),
            baseline=baseline,
            tolerance=BASELINE_TOLERANCE,
        ),
        unique("record_id", "critical"),
        matches("record_id", SAFE_ID.pattern, "critical"),
        matches("source_sha256", "[0-9a-f]{64}", "critical"),
        not_null("rights", "critical"),
        row_rule("rights_stated", "critical", lambda rows: rows["rights"].str.strip() == "", "not empty", ("rights",)),
        row_rule("file_present", "critical", lambda rows: rows["bytes"] == 0, "a file that is not empty", ("path",)),
        row_rule("section_forward", "warning", lambda rows: rows["seconds"] <= 0, "start before end", ("seconds",)),
        row_rule(
            "section_length",
            "warning",
            lambda rows: rows["seconds"] > config.max_section_seconds,
            config.max_section_seconds,
            ("seconds",),
        ),
        no_withdrawn(read_withdrawals(root / "audit" / "withdrawn.jsonl"), "warning"),
    ]
    run_check("sources", table, rules, "record_id", root / "reports")


if __name__ == "__main__":
    run_stage("check_sources", CheckSourcesConfig, check_sources)
