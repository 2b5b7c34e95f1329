"""`python -m tavr_ingest.checks`: clips have the promised shape, the filters were really applied, nothing is lost."""

import wave
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd
from tavr_checks.baseline import near_baseline, read_baseline
from tavr_checks.run import run_check
from tavr_checks.suite import (
    Rule,
    at_most,
    between,
    in_set,
    matches,
    no_withdrawn,
    not_null,
    row_rule,
    table_row_count_between,
    unique,
)
from tavr_records.manifest import read_manifest
from tavr_records.process import run_stage
from tavr_records.schemas import Refused
from tavr_records.withdrawals import read_withdrawals

from tavr_ingest.config import CheckIngestConfig

BASELINE_TOLERANCE = 0.05
_WAV_HEADER = 44


def check_ingest(config: CheckIngestConfig, root: Path = Path()) -> None:
    """Check the manifest of `ingest`; rows of severity warning are left out by `pairs`."""
    folder = root / "data" / "ingest"
    table: Any = pd.read_parquet(folder / "manifest.parquet")
    table["bytes"] = [path.stat().st_size if (path := folder / name).is_file() else 0 for name in table["path"]]
    table["samples"] = [_samples(folder / name) for name in table["audio_path"]]
    table["seconds"] = (table["end_ms"] - table["start_ms"]) / 1000
    refused = {row.record_id for row in read_manifest(folder / "quarantine.parquet", Refused)}
    share = len(refused) / max(1, len(refused) + len(table))
    baseline = read_baseline("ingest", root / "audit" / "baseline.json")
    rules = [
        table_row_count_between(config.min_clips, None, "critical", "enough_clips"),
        at_most("refused_share", "warning", share, config.max_refused_share),
        near_baseline(
            "clips_near_baseline", "info", "clips", observed=len(table), baseline=baseline, tolerance=BASELINE_TOLERANCE
        ),
        *_shape_rules(config),
        *_filter_rules(config),
        row_rule(
            "refused_records_stay_out",
            "critical",
            lambda rows: rows["record_id"].isin(sorted(refused)),
            "no clip of a record that quarantine.parquet names",
            ("record_id",),
        ),
        no_withdrawn(read_withdrawals(root / "audit" / "withdrawn.jsonl"), "warning"),
    ]
    run_check("ingest", table, rules, "clip_id", root / "reports")


def _shape_rules(config: CheckIngestConfig) -> list[Rule]:
    return [
        unique("clip_id", "critical"),
        unique("record_id", "critical"),
        unique("source_sha256", "warning"),
        matches("person_id", "[0-9a-f]{64}", "critical"),
        matches("clip_sha256", "[0-9a-f]{64}", "critical"),
        *(in_set(name, [getattr(config, name)], "critical") for name in ("height", "width", "fps", "sample_rate")),
        between("frames", config.min_frames, config.max_frames, "critical"),
        row_rule("file_present", "critical", lambda rows: rows["bytes"] == 0, "a file that is not empty", ("path",)),
        row_rule(
            "sound_fits_pictures",
            "critical",
            lambda rows: rows["samples"] != [_expected(n, config) for n in rows["frames"]],
            "frames / fps seconds of sound, to the sample",
            ("samples", "frames"),
        ),
        *(not_null(name, "critical") for name in ("caption", "language", "gender", "age_group", "ethnicity", "rights")),
    ]


def _filter_rules(config: CheckIngestConfig) -> list[Rule]:
    """TalkVid's filters, looked at again on what went through."""
    limits = config.filters
    return [
        between("dover", limits.min_dover, None, "critical", "filter_dover"),
        between("cotracker", limits.min_cotracker, limits.max_cotracker, "critical", "filter_cotracker"),
        row_rule(
            "filter_duration",
            "critical",
            lambda rows: rows["seconds"] <= limits.min_seconds,
            f"above {limits.min_seconds} s",
            ("seconds",),
        ),
    ]


def _expected(frames: int, config: CheckIngestConfig) -> int:
    return int(Fraction(int(frames) * config.sample_rate, config.fps))


def _samples(path: Path) -> int:
    """Samples of a 16-bit mono wav file, -1 when it is missing, is no wav or ends early."""
    try:
        with wave.open(str(path)) as file:
            samples = file.getnframes()
        return samples if path.stat().st_size >= 2 * samples + _WAV_HEADER else -1
    except (OSError, EOFError, wave.Error):
        return -1


if __name__ == "__main__":
    run_stage("check_ingest", CheckIngestConfig, check_ingest)
