"""Deliberately broken data is refused by its check, by name, and the stages after it do not start."""

from dataclasses import replace

import ml_dtypes  # noqa: F401 - gives numpy the name bfloat16
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file
from tavr_records.errors import RefusedError
from tavr_records.manifest import read_manifest, write_manifest
from tavr_records.params import load_section
from tavr_records.schemas import ClipSplit, PreferencePair
from tavr_records.verdict import read_verdict, require_passed

pytestmark = pytest.mark.xdist_group("clone")
AUDIT = ("audit", "params.yaml")


def failed(root, stage):
    return {check.id for check in read_verdict(root / f"reports/{stage}/verdict.json").failed_critical}


def test_one_person_in_both_splits(finished, tmp_path):
    from tavr_pairs.checks import check_pairs
    from tavr_pairs.config import CheckPairsConfig

    root = finished.copy_of(tmp_path, *AUDIT, "data/pairs", "data/ingest/manifest.parquet")
    path = root / "data/pairs/clips.parquet"
    rows = read_manifest(path, ClipSplit)
    first = next(row for row in rows if row.split == "benchmark")
    moved = [replace(row, split="train") if row is first else row for row in rows]
    write_manifest(path, ClipSplit, moved, ["clip_id"])
    check_pairs(load_section(CheckPairsConfig, "check_pairs", root / "params.yaml"), root)
    assert any("split" in name or "disjoint" in name for name in failed(root, "pairs"))
    with pytest.raises(RefusedError, match=r"reports/pairs/verdict\.json"):
        require_passed("pairs", root / "reports")


def test_nan_latents(finished, tmp_path):
    from tavr_latents.checks import check_latents
    from tavr_latents.config import CheckLatentsConfig

    root = finished.copy_of(
        tmp_path, *AUDIT, "data/latents", "data/pairs", "data/ingest/manifest.parquet", "reports/pairs"
    )
    shard = min((root / "data/latents").glob("shard-*.safetensors"))
    tensors = {name: value.copy() for name, value in load_file(shard).items()}
    name = next(name for name in sorted(tensors) if name.endswith("target0/latents"))
    tensors[name][0, 0, 0, 0] = float("nan")
    save_file(tensors, shard)
    check_latents(load_section(CheckLatentsConfig, "check_latents", root / "params.yaml"), root)
    refused = pd.read_parquet(root / "reports/latents/quarantine.parquet")
    assert name.split("/")[0] in set(refused["record_id"])


def test_a_margin_below_the_minimum(finished, tmp_path):
    from tavr_preferences.checks import check_preferences
    from tavr_preferences.config import CheckPreferencesConfig

    root = finished.copy_of(tmp_path, *AUDIT, "data/preferences")
    path = root / "data/preferences/manifest.parquet"
    rows = read_manifest(path, PreferencePair)
    write_manifest(path, PreferencePair, [replace(rows[0], margin=0.19), *rows[1:]], ["preference_id"])
    check_preferences(CheckPreferencesConfig(min_pairs=1, min_margin=0.20, max_abs_latent=30.0), root)
    assert "margin_at_least" in failed(root, "preferences")
    with pytest.raises(RefusedError, match="margin_at_least"):
        require_passed("preferences", root / "reports")
