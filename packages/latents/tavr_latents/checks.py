"""`python -m tavr_latents.checks`: every clip's tensors are there, finite and of a sane size, and none is lost."""

import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tavr_checks.baseline import near_baseline, read_baseline
from tavr_checks.run import run_check
from tavr_checks.suite import (
    Rule,
    at_most,
    between,
    in_set,
    no_withdrawn,
    row_rule,
    table_row_count_between,
    unique,
)
from tavr_records.manifest import read_manifest
from tavr_records.process import run_stage
from tavr_records.schemas import CachedClip, ClipSplit, Refused
from tavr_records.verdict import require_passed
from tavr_records.withdrawals import read_withdrawals

from tavr_latents.config import CheckLatentsConfig
from tavr_latents.encode import Tensors, read_tensors

BASELINE_TOLERANCE = 0.05
KEYS = (
    "target0/latents",
    "target0/face_tokens",
    "target0/bg_latents",
    "target0/bg_tokens",
    "target0/foreground",
    "ref0/latents",
    "ref0/face_tokens",
    "long0/latents",
    "clip/text",
    "clip/audio",
)


def check_latents(config: CheckLatentsConfig, root: Path = Path()) -> None:
    """Check the shards of `latents`, clip by clip."""
    folder = root / "data" / "latents"
    index = read_manifest(folder / "manifest.parquet", CachedClip)
    table: Any = pd.DataFrame(list(_measure(index, folder)), columns=list(_COLUMNS))
    clips = read_manifest(root / "data" / "pairs" / "clips.parquet", ClipSplit)
    refused = {row.record_id for row in read_manifest(folder / "quarantine.parquet", Refused)}
    left_out = require_passed("pairs", root / "reports")
    unexplained = {clip.clip_id for clip in clips} - {row.clip_id for row in index} - refused - left_out
    share = len(refused) / max(1, len(refused) + len(table))
    baseline = read_baseline("latents", root / "audit" / "baseline.json")
    std = float(table["target_std"].mean())
    rules = [
        table_row_count_between(config.min_clips, None, "critical", "enough_clips"),
        at_most("refused_share", "warning", share, config.max_refused_share),
        at_most("clips_without_explanation", "critical", len(unexplained), 0),
        near_baseline(
            "std_near_baseline", "info", "target_std", observed=std, baseline=baseline, tolerance=BASELINE_TOLERANCE
        ),
        unique("clip_id", "critical"),
        *_value_rules(config),
        no_withdrawn(read_withdrawals(root / "audit" / "withdrawn.jsonl"), "critical"),
    ]
    run_check("latents", table, rules, "clip_id", root / "reports")


def _value_rules(config: CheckLatentsConfig) -> list[Rule]:
    windows = ("target", "ref")
    return [
        in_set("tensors", [len(KEYS)], "critical", "all_tensors_there"),
        in_set("index_true", [True], "critical", "index_matches_shards"),
        in_set("target_frames", [config.num_frames], "critical"),
        between("ref_frames", 1, None, "critical"),
        row_rule("values_finite", "critical", lambda rows: rows["not_finite"] > 0, 0, ("not_finite",)),
        *(between(f"{w}_mean", -config.max_abs_mean, config.max_abs_mean, "warning") for w in windows),
        *(between(f"{w}_std", config.min_std, config.max_std, "warning") for w in windows),
        *(between(f"{w}_max_abs", 0.0, config.max_abs, "critical") for w in windows),
        between("face_tokens", config.min_face_tokens, None, "warning"),
        between("background_share", 0.0, 1.0, "critical"),
        between("foreground_share", 1e-6, 1.0, "warning"),
    ]


_COLUMNS = (
    "clip_id",
    "person_id",
    "tensors",
    "index_true",
    "target_frames",
    "ref_frames",
    "not_finite",
    "target_mean",
    "target_std",
    "target_max_abs",
    "ref_mean",
    "ref_std",
    "ref_max_abs",
    "face_tokens",
    "background_share",
    "foreground_share",
)


def _measure(index: Sequence[CachedClip], folder: Path) -> Iterator[tuple[Any, ...]]:
    """One row of `_COLUMNS` a clip, reading one shard at a time."""
    shards: dict[str, dict[str, list[CachedClip]]] = defaultdict(lambda: defaultdict(list))
    for row in index:
        shards[row.shard][row.clip_id].append(row)
    for shard, clips in sorted(shards.items()):
        data, tensors = _open(folder / shard)
        for clip_id, rows in sorted(clips.items()):
            known = {row.key: tensors[name] for row in rows if (name := f"{clip_id}/{row.key}") in tensors}
            true = len(known) == len(rows) and all(
                data[row.offset : row.offset + row.nbytes] == known[row.key].tobytes() for row in rows
            )
            frames = {row.key: row.frames for row in rows}
            yield (clip_id, rows[0].person_id, len(known), true, *_window_frames(frames), *_statistics(known))


def _open(path: Path) -> tuple[bytes, Tensors]:
    """A shard's bytes and tensors; none of a missing or damaged one, which the rules then show."""
    try:
        data = path.read_bytes()
        return data, read_tensors(data)
    except (OSError, ValueError, KeyError, struct.error):
        return b"", {}


def _window_frames(frames: dict[str, int]) -> tuple[int, int]:
    return int(frames.get("target0/latents", 0)), int(frames.get("ref0/latents", 0))


def _statistics(tensors: Tensors) -> tuple[float, ...]:
    """The columns from `not_finite` on; NaN for what is not there."""
    floats = [np.asarray(array, np.float64) for array in tensors.values() if array.dtype != np.bool_]
    not_finite = sum(int((~np.isfinite(array)).sum()) for array in floats)
    moments = [value for window in ("target0", "ref0") for value in _moments(tensors.get(f"{window}/latents"))]
    shares = [_mean(tensors.get(name)) for name in ("target0/bg_tokens", "target0/foreground")]
    faces = tensors.get("ref0/face_tokens")
    return (not_finite, *moments, float("nan") if faces is None else float(faces.sum() / len(faces)), *shares)


def _moments(latents: NDArray[Any] | None) -> tuple[float, float, float]:
    """Mean, standard deviation and largest magnitude of the finite values."""
    values = np.zeros(0) if latents is None else np.asarray(latents, np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return float("nan"), float("nan"), float("nan")
    return float(values.mean()), float(values.std()), float(np.abs(values).max())


def _mean(mask: NDArray[Any] | None) -> float:
    return float("nan") if mask is None else float(mask.mean())


if __name__ == "__main__":
    run_stage("check_latents", CheckLatentsConfig, check_latents)
