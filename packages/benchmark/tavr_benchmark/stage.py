"""Stage `benchmark`: every method generates every benchmark pair; the paper's metrics, tables and report."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import Parallel, delayed
from tavr_records.atomic import atomic_directory, write_bytes
from tavr_records.errors import InputError
from tavr_records.fan_out import worker_count
from tavr_records.ids import canonical_json, sha256_bytes
from tavr_records.manifest import read_manifest, write_manifest
from tavr_records.memo import open_memo
from tavr_records.schemas import Clip, ClipPair, Score
from tavr_records.verdict import require_passed
from tqdm import tqdm

from tavr_benchmark.config import BenchmarkConfig, Reference
from tavr_benchmark.report import write_report
from tavr_benchmark.scoring import Scorer, Task, load_model
from tavr_benchmark.statistics import summarise


def benchmark(config: BenchmarkConfig, root: Path = Path()) -> None:
    """Generate and judge; write scores, videos, `reports/benchmark/metrics.json` and the report."""
    for name in (config.candidate, config.baseline):
        if name not in config.methods:
            raise InputError(f"params.yaml: benchmark.methods has no {name!r}; candidate and baseline must be methods")
    clips = {clip.clip_id: clip for clip in read_manifest(root / "data/ingest/manifest.parquet", Clip)}
    pairs = benchmark_pairs(root)
    if len(pairs) < 2:
        remedy = "accept more in the review, or give `pairs` more benchmark_people"
        raise InputError(f"data/pairs/manifest.parquet: {len(pairs)} benchmark pairs are left, 2 are needed; {remedy}")
    scorer = Scorer(config, root)
    scores: list[Score] = []
    with atomic_directory(root / "data/benchmark") as out:
        for name, method in sorted(config.methods.items()):
            tasks = [
                Task(name, method, pair, reference_of(index, pairs, method.reference), config.seed + repeat)
                for index, pair in enumerate(pairs)
                for repeat in range(config.seeds)
            ]
            scores += run_method(scorer, tasks, root, clips, out)
        write_manifest(out / "manifest.parquet", Score, scores, ["score_id"])
    table = pd.DataFrame([asdict(score) for score in sorted(scores, key=lambda score: score.score_id)])
    summary = summarise(
        table, sorted(config.methods), config.baseline, config.confidence, config.resamples, config.seed
    )
    metrics = {
        "candidate": config.candidate,
        "baseline": config.baseline,
        "pairs": len(pairs),
        "release": release_digest(pairs, clips),
        "confidence": config.confidence,
        **summary,
    }
    report = root / "reports/benchmark"
    text = json.dumps(metrics, indent=2, sort_keys=True, allow_nan=False)
    write_bytes(report / "metrics.json", text.encode() + b"\n")
    write_report(report / "report.html", metrics, table, root, clips, {pair.pair_id: pair for pair in pairs})


def benchmark_pairs(root: Path) -> list[ClipPair]:
    """The accepted pairs of the benchmark split, less what a check refused, sorted by id."""
    refused = require_passed("pairs", root / "reports") | require_passed("latents", root / "reports")
    return [
        pair
        for pair in read_manifest(root / "data/pairs/manifest.parquet", ClipPair)
        if pair.split == "benchmark"
        and pair.review == "accepted"
        and not {pair.pair_id, pair.ref_clip_id, pair.target_clip_id} & refused
    ]


def reference_of(index: int, pairs: list[ClipPair], reference: Reference) -> str:
    """The reference clip of pair `index`: its own, or (the control) that of the next pair, another identity."""
    if reference is Reference.own:
        return pairs[index].ref_clip_id
    return pairs[(index + 1) % len(pairs)].ref_clip_id


def run_method(scorer: Scorer, tasks: list[Task], root: Path, clips: dict[str, Clip], out: Path) -> list[Score]:
    """All generations of one method, on all cores, one thread each; what an earlier try finished is kept."""
    config, name = scorer.config, tasks[0].name
    directory = root / tasks[0].method.model
    sampling = {
        "steps": config.steps,
        "guidance": [config.text_guidance, config.audio_guidance],
        "num_frames": config.num_frames,
    }
    networks = (config.vae, config.identity, config.keypoints, config.lipsync, config.reward)
    packages = ["tavr_benchmark", "tavr_model", "tavr_perception", "tavr_records"]
    memo = open_memo("benchmark", sampling, packages, [directory, *(root / folder for folder in networks)], root)
    model = load_model(directory, root / config.methods[config.candidate].model)
    jobs = (
        delayed(scorer.run)(model, task, clips[task.pair.target_clip_id], clips[task.ref_clip_id], memo)
        for task in tasks
    )
    entries: Any = Parallel(n_jobs=worker_count(), prefer="threads", return_as="generator")(jobs)
    scores: list[Score] = []
    for task, entry in zip(tasks, tqdm(entries, total=len(tasks), desc=f"benchmark {name}", unit="clip"), strict=True):
        scores.append(Score(**json.loads((entry / "score.json").read_bytes())))
        (out / task.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(entry / "clip.mp4", out / task.path)
    return scores


def release_digest(pairs: list[ClipPair], clips: dict[str, Clip]) -> str:
    """Names the benchmark release: digest of every pair with the bytes of its two clips and its prompt."""
    rows = [
        [
            pair.pair_id,
            clips[pair.ref_clip_id].clip_sha256,
            clips[pair.target_clip_id].clip_sha256,
            clips[pair.target_clip_id].caption,
        ]
        for pair in pairs
    ]
    return sha256_bytes(canonical_json(rows))
