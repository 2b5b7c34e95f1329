"""`python -m tavr_preferences.checks`: enough pairs, wide enough margins, finite latents, people still allowed."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pandas as pd
from safetensors.numpy import load_file
from tavr_checks.run import run_check
from tavr_checks.suite import between, no_withdrawn, not_null, table_row_count_between, unique
from tavr_records.process import run_stage
from tavr_records.withdrawals import read_withdrawals

from tavr_preferences.config import CheckPreferencesConfig


def largest_latent(root: Path, table: pd.DataFrame) -> list[float]:
    """Largest absolute latent of each pair's winner and loser; infinity where one is not finite."""
    np.dtype(ml_dtypes.bfloat16)  # registers the name that safetensors asks numpy for
    found: dict[str, float] = {}
    for shard in sorted(set(table["shard"])):
        for name, tensor in load_file(root / "data/preferences" / shard).items():
            values = tensor.astype(np.float32)
            largest = float(np.abs(values).max()) if np.isfinite(values).all() else float("inf")
            pair = name.split("/")[0]
            found[pair] = max(found.get(pair, 0.0), largest)
    return [found.get(name, float("inf")) for name in table["preference_id"]]


def check_preferences(config: CheckPreferencesConfig, root: Path = Path()) -> None:
    """Check the manifest of `preferences`."""
    table = pd.read_parquet(root / "data/preferences/manifest.parquet")
    table["largest_latent"] = largest_latent(root, table)
    withdrawals = read_withdrawals(root / "audit/withdrawn.jsonl")
    rules = [
        table_row_count_between(config.min_pairs, None, "critical", "enough_pairs"),
        unique("preference_id", "critical"),
        not_null("pair_id", "critical"),
        between("margin", config.min_margin, None, "critical", "margin_at_least"),
        between("largest_latent", None, config.max_abs_latent, "critical", "latents_finite"),
        no_withdrawn(withdrawals, "critical"),
    ]
    run_check("preferences", table, rules, "preference_id", root / "reports")


if __name__ == "__main__":
    run_stage("check_preferences", CheckPreferencesConfig, check_preferences)
