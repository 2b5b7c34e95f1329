"""`python -m tavr_benchmark.checks`: enough pairs, every method on every pair, finite scores, faces found."""

from pathlib import Path
from typing import Any

import pandas as pd
from tavr_checks.run import run_check
from tavr_checks.suite import between, no_withdrawn, not_null, scalar, unique
from tavr_records.process import run_stage
from tavr_records.withdrawals import read_withdrawals

from tavr_benchmark.config import CheckBenchmarkConfig
from tavr_benchmark.statistics import METRICS

OF_A_FACE = ("sync_c", "sync_d")


def check_benchmark(config: CheckBenchmarkConfig, root: Path = Path()) -> None:
    """Check the scores of `benchmark`, and that nobody of it was ever trained on."""
    table: Any = pd.read_parquet(root / "data/benchmark/manifest.parquet")
    clips = pd.read_parquet(root / "data/pairs/clips.parquet")
    trained = set(clips.loc[clips["split"] == "train", "person_id"])
    both = sorted(trained & set(table["person_id"]))
    counts = table.groupby("method")["pair_id"].nunique()
    faceless = float(table["faceless_frames"].sum() / table["frames"].sum())
    rules = [
        unique("score_id", "critical"),
        scalar("enough_pairs", "critical", int(counts.min()), bool(counts.min() >= config.min_pairs), config.min_pairs),
        scalar(
            "same_pairs_for_all", "critical", sorted(set(counts)), int(counts.min()) == int(counts.max()), "one count"
        ),
        scalar("nobody_trained_on", "critical", len(both), not both, 0),
        scalar("faces_found", "warning", faceless, faceless <= config.max_faceless_share, config.max_faceless_share),
        between("id_target", -1.0, 1.0, "critical"),
        between("id_ref", -1.0, 1.0, "critical"),
        # A clip without a face has no sync and resembles nobody: the identity scores hold that against its method.
        *(not_null(metric, "warning" if metric in OF_A_FACE else "critical") for metric in METRICS),
        no_withdrawn(read_withdrawals(root / "audit/withdrawn.jsonl"), "critical"),
    ]
    run_check("benchmark", table, rules, "score_id", root / "reports")


if __name__ == "__main__":
    run_stage("check_benchmark", CheckBenchmarkConfig, check_benchmark)
