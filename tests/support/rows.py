"""Complete rows of the manifests, and what a stage that passed its check leaves behind."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from tavr_records.ids import clip_id, pair_id
from tavr_records.manifest import write_manifest
from tavr_records.schemas import Clip, ClipPair, Refused
from tavr_records.verdict import Verdict, write_verdict


def sha256_of(text: str) -> str:
    """64 hexadecimal digits that stand for `text`."""
    return hashlib.sha256(text.encode()).hexdigest()


def make_clip(key: str, **changes: Any) -> Clip:
    """The clip of the source called `key`: one second of a person talking, 25 frames of 32x48."""
    name = clip_id(key, 0, 1000)
    clip = Clip(
        clip_id=name, record_id=key, source_key=key, source_sha256="0" * 64, clip_sha256=sha256_of(f"bytes {key}"),
        person_id=f"person {key}", path=f"clips/{name}.mp4", audio_path=f"clips/{name}.wav", start_ms=0, end_ms=1000,
        frames=25, fps=25, height=32, width=48, sample_rate=16000, caption="A person.", language="English",
        gender="Male", age_group="60+", ethnicity="White", dover=9.0, cotracker=0.9, rights="CC0-1.0",
    )  # fmt: skip
    return replace(clip, **changes)


def make_pair(ref: str, target: str, person: int, split: str = "train", review: str = "pending") -> ClipPair:
    """The pair of two clip ids of one person; a pair that is not pending has a reviewer and a form."""
    reviewed = ("", "") if review == "pending" else ("ground-truth", "automatic")
    return ClipPair(
        pair_id(ref, target), ref, target, f"person-{person}", f"i{person}", split, 0.8, 9.0, review, *reviewed
    )


def write_passed(root: Path, *stages: str) -> None:
    """A passing verdict and an empty quarantine of each stage."""
    for stage in stages:
        write_verdict(root / "reports" / stage / "verdict.json", Verdict(stage, ()))
        write_manifest(root / "reports" / stage / "quarantine.parquet", Refused, [], sort_by=("record_id", "rule"))
