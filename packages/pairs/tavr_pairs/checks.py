"""`python -m tavr_pairs.checks`: pairs are what they claim, and nobody stands in both train and benchmark."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tavr_checks.baseline import near_baseline, read_baseline
from tavr_checks.run import run_check
from tavr_checks.suite import Rule, at_least, at_most, between, in_set, no_withdrawn, row_rule, unique
from tavr_records import ids
from tavr_records.manifest import read_manifest
from tavr_records.process import run_stage
from tavr_records.schemas import ClipPair, ClipSplit
from tavr_records.withdrawals import read_withdrawals

from tavr_pairs.config import CheckPairsConfig

BASELINE_TOLERANCE = 0.05


def check_pairs(config: CheckPairsConfig, root: Path = Path()) -> None:
    """Check the manifest and the splits of `pairs`."""
    folder = root / "data" / "pairs"
    pairs = read_manifest(folder / "manifest.parquet", ClipPair)
    clips = read_manifest(folder / "clips.parquet", ClipSplit)
    benchmark = [pair for pair in pairs if pair.split == "benchmark"]
    accepted = sum(pair.review == "accepted" for pair in benchmark)
    train = sum(pair.split == "train" for pair in pairs)
    doubled = sum(count - 1 for count in Counter(pair.identity for pair in benchmark).values())
    split = {clip.clip_id: clip.split for clip in clips}
    baseline = read_baseline("pairs", root / "audit" / "baseline.json")
    rules = [
        at_least("enough_benchmark_pairs", "critical", accepted, config.min_benchmark_pairs),
        at_least("enough_train_pairs", "critical", train, config.min_train_pairs),
        near_baseline(
            "train_pairs_near_baseline",
            "info",
            "train_pairs",
            observed=train,
            baseline=baseline,
            tolerance=BASELINE_TOLERANCE,
        ),
        *_disjoint_rules(pairs, clips),
        at_most("one_pair_per_benchmark_identity", "critical", doubled, 0),
        unique("pair_id", "critical"),
        in_set("split", ["train", "benchmark"], "critical"),
        in_set("review", ["accepted", "pending"], "critical"),
        between("id_similarity", config.min_similarity, 1.0, "critical"),
        between("background_psnr", 0.0, config.max_background_psnr, "critical"),
        row_rule("pair_id_names_its_clips", "critical", _misnamed, "sha256(reference | target)"),
        row_rule("two_clips", "critical", lambda rows: rows["ref_clip_id"] == rows["target_clip_id"], "two clips"),
        row_rule("clips_known", "critical", lambda rows: _unknown(rows, split), "clips of clips.parquet, same split"),
        no_withdrawn(read_withdrawals(root / "audit" / "withdrawn.jsonl"), "critical"),
    ]
    run_check("pairs", pd.read_parquet(folder / "manifest.parquet"), rules, "pair_id", root / "reports")


def _disjoint_rules(pairs: Sequence[ClipPair], clips: Sequence[ClipSplit]) -> list[Rule]:
    """Identities, people and clips that both splits hold: none may, by the pairs and by the clips."""
    named = [(clip.clip_id, clip.person_id, clip.identity, clip.split) for clip in clips]
    for pair in pairs:
        named += [
            (clip_id, pair.person_id, pair.identity, pair.split) for clip_id in (pair.ref_clip_id, pair.target_clip_id)
        ]
    rules: list[Rule] = []
    for column, what in enumerate(("clip", "person", "identity")):
        splits: dict[str, set[str]] = defaultdict(set)
        for row in named:
            splits[row[column]].add(row[-1])
        rules.append(at_most(f"splits_share_no_{what}", "critical", sum(len(s) > 1 for s in splits.values()), 0))
    return rules


def _misnamed(rows: Any) -> Any:
    pairs = zip(rows["ref_clip_id"], rows["target_clip_id"], strict=True)
    return rows["pair_id"] != [ids.pair_id(ref, target) for ref, target in pairs]


def _unknown(rows: Any, split: dict[str, str]) -> Any:
    return (rows["ref_clip_id"].map(split) != rows["split"]) | (rows["target_clip_id"].map(split) != rows["split"])


if __name__ == "__main__":
    run_stage("check_pairs", CheckPairsConfig, check_pairs)
