"""Stage `pairs`: same person, most different scene; the benchmark is cut off here by identity."""

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tavr_perception.identity import chamfer_similarity
from tavr_records import ids
from tavr_records.fan_out import fan_out
from tavr_records.manifest import read_manifest, write_manifest
from tavr_records.memo import open_memo, stage_output
from tavr_records.schemas import Clip, ClipPair, ClipSplit, Refused
from tavr_records.verdict import require_passed

from tavr_pairs.appearance import Appearance, Job, background_psnr, describe, load
from tavr_pairs.config import PairsConfig
from tavr_pairs.review import Decision, read_decisions
from tavr_pairs.split import GoodPair, cut_benchmark, identities, label_pairs

_PER_CLIP = ("sampled_frames", "background_frames", "background_pool")
_CODE = ("tavr_pairs", "tavr_perception", "tavr_records")
_DIGITS = 6
"""Similarities and decibels are rounded so that the last bits of another summing order cannot show."""


def pairs(config: PairsConfig, root: Path = Path()) -> None:
    """Write `data/pairs/{manifest.parquet, clips.parquet, quarantine.parquet}`; see the package's README."""
    decisions = read_decisions(root / config.review)
    quarantined = require_passed("ingest", root / "reports")
    manifest = root / "data" / "ingest" / "manifest.parquet"
    clips = [clip for clip in read_manifest(manifest, Clip) if clip.clip_id not in quarantined]

    files = dict(zip([c.clip_id for c in clips], fan_out(describe, _jobs(clips, config, root), "pairs"), strict=True))
    good, refused = find_pairs(clips, files, config)
    faces = np.stack([load(files[clip.clip_id]).mean_face for clip in clips]) if clips else np.zeros((0, 1), np.float32)
    identity = dict(
        zip(files, identities([clip.person_id for clip in clips], faces, config.link_similarity), strict=True)
    )

    rejected = {name for name, decision in decisions.items() if decision.decision == "rejected"}
    benchmark = cut_benchmark(good, identity, rejected, config.benchmark_people, config.seed)
    rows, more = assign(good, identity, benchmark, decisions)
    splits = [
        ClipSplit(c.clip_id, c.person_id, identity[c.clip_id], _split(identity[c.clip_id], benchmark)) for c in clips
    ]
    with stage_output(root / "data" / "pairs") as output:
        write_manifest(output / "manifest.parquet", ClipPair, rows, ("pair_id",))
        write_manifest(output / "clips.parquet", ClipSplit, splits, ("clip_id",))
        write_manifest(output / "quarantine.parquet", Refused, refused + more, ("record_id", "rule"))


def find_pairs(
    clips: Sequence[Clip], files: Mapping[str, Path], config: PairsConfig
) -> tuple[list[GoodPair], list[Refused]]:
    """Every pair of one person's clips from two sources that passes the thresholds, and why the others do not.

    Rules: few_faces, low_similarity, little_background, same_scene. A refusal's record is the pair id.
    """
    person = {clip.clip_id: clip.person_id for clip in clips}
    good: list[GoodPair] = []
    refused: list[Refused] = []
    by_person: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for first, second in label_pairs(person, {clip.clip_id: clip.source_key for clip in clips}):
        by_person[person[first]].append((first, second))
    for person_id, candidates in sorted(by_person.items()):
        appearance = {clip_id: load(files[clip_id]) for clip_id in {name for pair in candidates for name in pair}}
        for pair in candidates:
            outcome = _compare(pair, person_id, appearance[pair[0]], appearance[pair[1]], config)
            (good if isinstance(outcome, GoodPair) else refused).append(outcome)  # type: ignore[arg-type]
    return good, refused


def _compare(
    pair: tuple[str, str], person_id: str, a: Appearance, b: Appearance, config: PairsConfig
) -> GoodPair | Refused:
    first, second = pair
    pair_id = ids.pair_id(first, second)
    if min(a.face_share, b.face_share) < config.min_face_share:
        worse = first if a.face_share <= b.face_share else second
        reason = f"a face in {min(a.face_share, b.face_share):.2f} of {worse}, below {config.min_face_share}"
        return Refused(pair_id, "few_faces", reason)
    similarity = round(chamfer_similarity(a.faces, b.faces).value, _DIGITS)
    if similarity < config.min_similarity:
        return Refused(pair_id, "low_similarity", f"{similarity:.4f} below {config.min_similarity}")
    psnr, share = background_psnr(a, b)
    if share < config.min_background_share:
        reason = f"background in both on {share:.3f} of the picture, below {config.min_background_share}"
        return Refused(pair_id, "little_background", reason)
    psnr = round(psnr, _DIGITS)
    if psnr > config.max_background_psnr:
        return Refused(pair_id, "same_scene", f"background PSNR {psnr:.2f} dB above {config.max_background_psnr}")
    return GoodPair(pair_id, first, second, person_id, similarity, psnr)


def assign(
    good: Sequence[GoodPair],
    identity: Mapping[str, str],
    benchmark: Mapping[str, GoodPair],
    decisions: Mapping[str, Decision],
) -> tuple[list[ClipPair], list[Refused]]:
    """Rows of the manifest: one ordered pair a benchmark identity, both orders of every other pair in train.

    Refused are rejected pairs, and the further pairs of benchmark identities (`not_lowest_psnr`).
    """
    rows: list[ClipPair] = []
    refused: list[Refused] = []
    for pair in good:
        name = identity[pair.first]
        decision = decisions.get(pair.pair_id)
        if decision is not None and decision.decision == "rejected":
            refused.append(Refused(pair.pair_id, "rejected", f"by {decision.reviewer}: {decision.reason}"))
        elif name not in benchmark:
            rows.append(_row((pair.first, pair.second), pair, name, "train", decision))
            rows.append(_row((pair.second, pair.first), pair, name, "train", decision))
        elif benchmark[name].pair_id == pair.pair_id:
            rows.append(_row((pair.first, pair.second), pair, name, "benchmark", decision))
        else:
            refused.append(Refused(pair.pair_id, "not_lowest_psnr", f"benchmark has {benchmark[name].pair_id}"))
    return rows, refused


def _row(order: tuple[str, str], pair: GoodPair, identity: str, split: str, decision: Decision | None) -> ClipPair:
    ref, target = order
    return ClipPair(
        pair_id=ids.pair_id(ref, target),
        ref_clip_id=ref,
        target_clip_id=target,
        person_id=pair.person_id,
        identity=identity,
        split=split,
        id_similarity=pair.id_similarity,
        background_psnr=pair.background_psnr,
        review="pending" if decision is None else decision.decision,
        reviewer="" if decision is None else decision.reviewer,
        assurance="" if decision is None else decision.assurance,
    )


def _split(identity: str, benchmark: Mapping[str, GoodPair]) -> str:
    return "benchmark" if identity in benchmark else "train"


def _jobs(clips: Sequence[Clip], config: PairsConfig, root: Path) -> list[Job]:
    identity, people = root / config.identity, root / config.people
    params = {name: value for name, value in dataclasses.asdict(config).items() if name in _PER_CLIP}
    memo = open_memo("pairs", params, _CODE, [identity, people], root)
    folder = root / "data" / "ingest"
    return [Job(folder / clip.path, clip.clip_sha256, identity, people, config, memo) for clip in clips]
