"""What the check of the preference pairs looks at: the rules' own masks, and latents no training survives."""

import ml_dtypes
import numpy as np
import pandas as pd
import pytest
from tavr_preferences import checks
from tavr_preferences.checks import check_preferences, largest_latent
from tavr_preferences.config import CheckPreferencesConfig
from tavr_preferences.stage import write_pairs
from tavr_records.atomic import write_bytes
from tavr_records.shards import write_shard

from .conftest import CONFIG, drawn, pair

LIMITS = CheckPreferencesConfig(min_pairs=3, min_margin=0.2, max_abs_latent=30.0)


def shard(root, **members):
    tensors = {
        name.replace("_", "/"): np.array(values, np.float32).astype(ml_dtypes.bfloat16)
        for name, values in members.items()
    }
    write_shard(root / "data/preferences/shard-0.safetensors", tensors)


def test_the_largest_latent_is_of_winner_and_loser(tmp_path):
    shard(tmp_path, a_winner=[1, -4], a_loser=[2, 3], b_winner=[0], b_loser=[np.nan], c_winner=[-np.inf], c_loser=[1])
    table = pd.DataFrame({"preference_id": ["a", "b", "c", "lost"], "shard": ["shard-0.safetensors"] * 4})
    assert largest_latent(tmp_path, table) == [4.0, np.inf, np.inf, np.inf]


@pytest.fixture
def judged(tmp_path, monkeypatch):
    """What the check hands to its runner, as {rule: offending rows}, without Great Expectations."""
    found = {}

    def run_check(stage, table, rules, id_column, reports):
        assert (stage, id_column, reports) == ("preferences", "preference_id", tmp_path / "reports")
        found.update(
            {
                rule.id: (rule.severity, None if rule.row_mask is None else int(rule.row_mask(table).sum()))
                for rule in rules
            }
        )

    monkeypatch.setattr(checks, "run_check", run_check)
    write_bytes(tmp_path / "audit/withdrawn.jsonl", b"")
    return tmp_path, found


def test_rows_that_no_training_should_see_offend(judged):
    root, found = judged
    accepted = [(pair(0), drawn(0.5, 0.1)), (pair(1), drawn(0.5, 0.4)), (pair(2), drawn(64.0, 0.5))]
    write_pairs(root / "data/preferences", accepted, CONFIG)
    check_preferences(LIMITS, root)
    assert found == {
        "enough_pairs": ("critical", None),
        "preference_id_unique": ("critical", 0),
        "pair_id_not_null": ("critical", 0),
        "margin_at_least": ("critical", 1),
        "latents_finite": ("critical", 1),
        "no_withdrawn": ("critical", 0),
    }  # fmt: skip


def test_no_pair_at_all_can_be_judged(judged):
    root, found = judged
    write_pairs(root / "data/preferences", [], CONFIG)
    check_preferences(LIMITS, root)
    assert {offending for _, offending in found.values()} == {None, 0}
