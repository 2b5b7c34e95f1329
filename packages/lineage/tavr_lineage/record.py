"""`record.json`: what a candidate was made of, in one canonical JSON document (`docs/schemas/record.schema.json`)."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import yaml
from tavr_records.atomic import write_bytes
from tavr_records.errors import InputError
from tavr_records.ids import canonical_json, sha256_bytes, sha256_file
from tavr_records.manifest import read_manifest
from tavr_records.schemas import ClipPair, PinnedWeight, Refused, Score
from tavr_records.withdrawals import read_withdrawals

from tavr_lineage.closure import CONSUMPTION, close_ledgers, find_withdrawn_clips, trained, write_consumption
from tavr_lineage.hardware import platform_class
from tavr_lineage.ledger import digest_ledger, read_ledgers
from tavr_lineage.subjects import subject_tree

SCHEMA_VERSION = 2
RECORD = "record.json"
METRICS = ("id_ref", "id_target", "sync_c", "sync_d", "vq", "mq", "ta", "overall")


@dataclass(frozen=True)
class StageOutcome:
    """How one stage ended: `state` is done, cached, refused, failed or not_run; `seconds` is wall-clock time."""

    name: str
    state: str
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Run:
    """What only the flow knows of a run.

    Attributes:
        run_id: `YYYYMMDD-<8 hex>`.
        commit: the commit whose code ran.
        dirty_paths: files that differed from `commit`, less what runs generate.
        parents: records this run started from, {run_id, record_sha256}.
        requested_by: who asked, as the machine knows it.
    """

    run_id: str
    reason: str
    requested_by: str
    commit: str
    dirty_paths: Sequence[str]
    started_at: str
    finished_at: str
    stages: Sequence[StageOutcome]
    parents: Sequence[Mapping[str, str]] = ()


def build_record(root: Path, run: Run) -> dict[str, Any]:
    """Read everything a run left in `root` into its record; what a refused run never made is empty, not an error.

    Also writes `reports/lineage/consumption.parquet`, which the record pins by digest. `code.tree` is left to the
    commit (`candidate.py`), since only git can name it.
    """
    params = _read_params(root)
    ledgers = read_ledgers(root)
    used, unknown = close_ledgers(root, {stage: ledger.uses for stage, ledger in ledgers.items()})
    write_consumption(root, used)
    learnt = trained(used)
    scores = _read(root / "data/benchmark/manifest.parquet", Score)
    weights = _read(root / "data/weights/manifest.parquet", PinnedWeight)
    return {
        "schema_version": SCHEMA_VERSION,
        "run": {
            "run_id": run.run_id,
            "reason": run.reason,
            "requested_by": run.requested_by,
            "started_at": run.started_at,
            "finished_at": run.finished_at,
            "parents": [dict(parent) for parent in run.parents],
        },
        "code": {
            "commit": run.commit,
            "tree": "",
            "dirty": bool(run.dirty_paths),
            "dirty_paths": sorted(run.dirty_paths),
        },
        "environment": {"lock_sha256": _digest(root / "requirements.lock"), "platform": platform_class()},
        "params": params,
        "params_sha256": sha256_bytes(canonical_json(params)),
        "seeds": _seeds(params),
        "dvc": {"lock_sha256": _digest(root / "dvc.lock"), "stages": _dvc_stages(root)},
        "stages": [asdict(stage) for stage in run.stages],
        "weights": [asdict(row) for row in weights],
        "outputs": output_digests(root),
        "ledgers": {stage: asdict(digest_ledger(root, stage, ledger)) for stage, ledger in ledgers.items()},
        "consumption": summarise_consumption(root, used, unknown),
        "benchmark": _benchmark(root, scores),
        "people": _people(root, learnt, scores),
        "reviews": _reviews(root),
        "verdicts": _verdicts(root),
        "exclusions": _exclusions(root),
        "licences": {
            "data": _clips_by_licence(learnt),
            "weights": dict(sorted(Counter(row.licence for row in weights).items())),
        },
    }


def write_record(root: Path, record: Mapping[str, Any]) -> str:
    """Write `record.json` in canonical bytes and return their sha256."""
    data = canonical_json(record) + b"\n"
    write_bytes(root / RECORD, data)
    return sha256_bytes(data)


def parse_record(data: bytes, where: str) -> dict[str, Any]:
    """Read a record.

    Raises:
        InputError: not JSON, or of another schema version.
    """
    try:
        record = cast("dict[str, Any]", json.loads(data))
        version = record["schema_version"]
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: not a run record ({error!r}); take it from the run's commit") from error
    if version != SCHEMA_VERSION:
        raise InputError(f"{where}: schema_version is {version!r}, this code reads {SCHEMA_VERSION}; use its version")
    return record


def summarise_consumption(root: Path, used: pa.Table, unknown: Sequence[str]) -> dict[str, Any]:
    """The counts, the pins of the consumption table, and used clips that were withdrawn when the run ended."""
    withdrawals = read_withdrawals(root / "audit/withdrawn.jsonl")
    tree = subject_tree(used).tree
    return {
        "path": CONSUMPTION,
        "sha256": sha256_file(root / CONSUMPTION),
        "rows": len(used),
        "clips": len(used["clip_id"].unique()),
        "subjects": {"size": tree.size, "merkle_root": tree.root},
        "unknown_clips": list(unknown),
        "withdrawn_clips": find_withdrawn_clips(used, withdrawals),
    }


def output_digests(root: Path) -> dict[str, str]:
    """sha256 of every trained model file, manifest, ledger and metrics file below `data`."""
    patterns = ("*/model/**/*", "*/manifest.parquet", "*/ledger.parquet", "*/metrics.json")
    paths = {path for pattern in patterns for path in (root / "data").glob(pattern) if path.is_file()}
    return {path.relative_to(root).as_posix(): sha256_file(path) for path in sorted(paths)}


def _benchmark(root: Path, scores: Sequence[Score]) -> dict[str, Any] | None:
    """The report's metrics and intervals as they stand, and each pair's scores by method, averaged over seeds."""
    path = root / "reports/benchmark/metrics.json"
    if not path.is_file() or not scores:
        return None
    grouped: dict[str, dict[str, list[Score]]] = {}
    for score in scores:
        grouped.setdefault(score.method, {}).setdefault(score.pair_id, []).append(score)
    return {
        "metrics": _finite(json.loads(path.read_bytes())),
        "scores": {
            method: {pair: {name: _mean(rows, name) for name in METRICS} for pair, rows in sorted(pairs.items())}
            for method, pairs in sorted(grouped.items())
        },
    }


def _mean(rows: Sequence[Score], metric: str) -> float | None:
    """Mean over the seeds of one pair; None when any is not a number, for JSON has no NaN."""
    values = [float(getattr(row, metric)) for row in rows]
    return sum(values) / len(values) if all(math.isfinite(value) for value in values) else None


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list):
        return [_finite(item) for item in cast("list[Any]", value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _people(root: Path, learnt: pa.Table, scores: Sequence[Score]) -> dict[str, Any]:
    """How many people trained and were judged on, and who did both, by person and by connected identity."""
    judged = {score.pair_id for score in scores}
    pairs = [pair for pair in _read(root / "data/pairs/manifest.parquet", ClipPair) if pair.pair_id in judged]
    pupils = set(learnt["person_id"].to_pylist())
    taught = pupils | (set(learnt["identity"].to_pylist()) - {""})
    benchmark = {score.person_id for score in scores} | {pair.identity for pair in pairs}
    return {
        "trained": len(pupils),
        "benchmark": len({score.person_id for score in scores}),
        "in_both": sorted(taught & benchmark),
    }


def _clips_by_licence(learnt: pa.Table) -> dict[str, int]:
    """How many distinct clips were trained on under each licence."""
    clips = learnt.select(["clip_id", "rights"]).group_by(["clip_id", "rights"]).aggregate([])
    return dict(sorted(Counter(clips["rights"].to_pylist()).items()))


def _reviews(root: Path) -> list[dict[str, Any]]:
    """Who accepted how many pairs of each split, and with what assurance."""
    counts = Counter(
        (pair.split, pair.review, pair.reviewer, pair.assurance)
        for pair in _read(root / "data/pairs/manifest.parquet", ClipPair)
    )
    return [
        {"split": split, "review": review, "reviewer": reviewer, "assurance": assurance, "pairs": count}
        for (split, review, reviewer, assurance), count in sorted(counts.items())
    ]


def _verdicts(root: Path) -> dict[str, Any]:
    """Every verdict as it stands, by stage, with the digest of its bytes."""
    return {
        path.parent.name: {"sha256": sha256_file(path), **json.loads(path.read_bytes())}
        for path in sorted((root / "reports").glob("*/verdict.json"))
    }


def _exclusions(root: Path) -> dict[str, list[dict[str, str]]]:
    """What was left out and why: quarantines of the checks, and of `ingest` itself."""
    paths = [*(root / "reports").glob("*/quarantine.parquet"), *(root / "data").glob("*/quarantine.parquet")]
    return {
        path.relative_to(root).as_posix(): [asdict(row) for row in read_manifest(path, Refused)]
        for path in sorted(paths)
    }


def _read_params(root: Path) -> dict[str, Any]:
    try:
        return cast("dict[str, Any]", yaml.safe_load((root / "params.yaml").read_bytes()))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{root / 'params.yaml'}: cannot be read ({error}); write it with `make params`") from error


def _dvc_stages(root: Path) -> dict[str, Any]:
    path = root / "dvc.lock"
    if not path.is_file():
        return {}
    return cast("dict[str, Any]", (yaml.safe_load(path.read_bytes()) or {}).get("stages", {}))


def _seeds(params: Mapping[str, Any]) -> dict[str, int]:
    """The seed of every section that has one."""
    sections = {name: cast("dict[str, Any]", value) for name, value in params.items() if isinstance(value, dict)}
    return {name: section["seed"] for name, section in sorted(sections.items()) if "seed" in section}


def _digest(path: Path) -> str | None:
    return sha256_file(path) if path.is_file() else None


def _read(path: Path, row_type: type[Any]) -> list[Any]:
    return read_manifest(path, row_type) if path.is_file() else []
