"""Stage `ingest`: TalkVid's records and the fetched files become normalised clips; everything refused is explained."""

import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tavr_records import ids
from tavr_records.errors import InputError
from tavr_records.fan_out import fan_out
from tavr_records.manifest import read_manifest, write_manifest
from tavr_records.memo import Memo, open_memo, stage_output
from tavr_records.schemas import Clip, ClipFace, Refused, Source
from tavr_records.verdict import require_passed

from tavr_ingest.config import IngestConfig
from tavr_ingest.faces import open_face_block
from tavr_ingest.metadata import TalkVidRecord, broken_filters, read_records
from tavr_ingest.normalise import CLIP, FACE, SOUND, Job, Outcome, normalise

_NOT_PER_CLIP = ("dataset", "person_key", "person_key_sha256", "keypoints", "identity", "filters")
_CODE = ("tavr_ingest", "tavr_perception", "tavr_records")


@dataclass(frozen=True)
class Candidate:
    """A record that passed every filter, with its fetched file."""

    clip_id: str
    record: TalkVidRecord
    source: Source


def ingest(config: IngestConfig, root: Path = Path()) -> None:
    """Write `data/ingest/{manifest, quarantine, faces}.parquet` and `clips/`; see the package's README."""
    key = read_key(config, root)
    sources_folder = root / "data" / "sources"
    quarantined = require_passed("sources", root / "reports")
    sources = {row.record_id: row for row in read_manifest(sources_folder / "manifest.parquet", Source)}

    records, refused = read_records(sources_folder / "metadata.json")
    candidates, more = match(records, sources, quarantined, config, {row.record_id for row in refused})
    refused += more

    block = open_face_block(root, root / config.identity, key)
    jobs = [_job(candidate, config, root, _memo(config, root)) for candidate in candidates]
    with stage_output(root / "data" / "ingest") as output:
        (output / "clips").mkdir()
        clips: list[Clip] = []
        faces: list[ClipFace] = []
        for candidate, (outcome, folder) in zip(candidates, fan_out(normalise, jobs, "ingest"), strict=True):
            if outcome.rule:
                refused.append(Refused(candidate.record.record_id, outcome.rule, outcome.reason))
                continue
            mean_face = np.load(folder / FACE)
            if (reason := block.refuses(mean_face)) is not None:
                refused.append(Refused(candidate.record.record_id, "withdrawn_face", reason))
                continue
            clip = _clip(candidate, outcome, config, key)
            _take(folder / CLIP, output / clip.path, outcome.clip_sha256)
            _take(folder / SOUND, output / clip.audio_path, outcome.audio_sha256)
            clips.append(clip)
            faces.append(ClipFace(clip.clip_id, clip.person_id, mean_face.tolist()))
        write_manifest(output / "manifest.parquet", Clip, clips, ("clip_id",))
        write_manifest(output / "faces.parquet", ClipFace, faces, ("clip_id",))
        write_manifest(output / "quarantine.parquet", Refused, refused, ("record_id", "rule"))


def match(
    records: Sequence[TalkVidRecord],
    sources: dict[str, Source],
    quarantined: set[str],
    config: IngestConfig,
    already_refused: set[str],
) -> tuple[list[Candidate], list[Refused]]:
    """Join records with their files and apply every rule that needs no decoding; both results in file order.

    Rules: not_fetched, quarantined, section_changed, TalkVid's filters by name, duplicate (the same bytes, or the same
    section of the same source, as an earlier record), no_metadata (a file whose record is nowhere in the metadata).
    """
    candidates: list[Candidate] = []
    refused: list[Refused] = []
    by_bytes: dict[str, str] = {}
    by_clip: dict[str, str] = {}
    for record in records:
        source = sources.get(record.record_id)
        if source is None:
            refused.append(Refused(record.record_id, "not_fetched", "no file of it in the snapshot"))
            continue
        if record.record_id in quarantined:
            refused.append(Refused(record.record_id, "quarantined", "named in reports/sources/quarantine.parquet"))
            continue
        if (source.start_ms, source.end_ms) != (record.start_ms, record.end_ms):
            seen = f"{record.start_ms}..{record.end_ms} ms, snapshot has {source.start_ms}..{source.end_ms} ms"
            refused.append(Refused(record.record_id, "section_changed", f"metadata says {seen}"))
            continue
        broken = broken_filters(record, config.filters)
        if broken:
            refused += broken
            continue
        clip_id = ids.clip_id(source.source_key, source.start_ms, source.end_ms)
        first = by_bytes.setdefault(source.source_sha256, record.record_id)
        same_section = by_clip.setdefault(clip_id, record.record_id)
        if first != record.record_id or same_section != record.record_id:
            earlier = first if first != record.record_id else same_section
            refused.append(Refused(record.record_id, "duplicate", f"same as record {earlier}"))
            continue
        candidates.append(Candidate(clip_id, record, source))
    known = already_refused | {record.record_id for record in records}
    orphans = sorted(set(sources) - known)
    return candidates, refused + [Refused(name, "no_metadata", "no such record in metadata.json") for name in orphans]


def read_key(config: IngestConfig, root: Path) -> bytes:
    """The key of the pseudonyms.

    Raises:
        InputError: the file is missing or empty, or is another key than the configuration names.
    """
    path = root / config.person_key
    if not path.is_file() or not path.stat().st_size:
        raise InputError(f"{path}: no key (ingest.person_key); restore the key that this data set's person ids use")
    digest = ids.sha256_file(path)
    if config.person_key_sha256 not in (None, digest):
        raise InputError(
            f"{path}: sha256 is {digest}, ingest.person_key_sha256 is {config.person_key_sha256}; restore the right key"
        )
    return path.read_bytes()


def _memo(config: IngestConfig, root: Path) -> Memo:
    params = {name: value for name, value in dataclasses.asdict(config).items() if name not in _NOT_PER_CLIP}
    return open_memo("ingest", params, _CODE, [root / config.keypoints, root / config.identity], root)


def _job(candidate: Candidate, config: IngestConfig, root: Path, memo: Memo) -> Job:
    source = candidate.source
    return Job(
        media=root / "data" / "sources" / source.path,
        source_sha256=source.source_sha256,
        section_ms=source.end_ms - source.start_ms,
        keypoints=root / config.keypoints,
        identity=root / config.identity,
        config=config,
        memo=memo,
    )


def _clip(candidate: Candidate, outcome: Outcome, config: IngestConfig, key: bytes) -> Clip:
    record, source = candidate.record, candidate.source
    return Clip(
        clip_id=candidate.clip_id,
        record_id=record.record_id,
        source_key=source.source_key,
        source_sha256=source.source_sha256,
        clip_sha256=outcome.clip_sha256,
        person_id=ids.person_id(key, config.dataset, record.person),
        path=f"clips/{candidate.clip_id}.mp4",
        audio_path=f"clips/{candidate.clip_id}.wav",
        start_ms=source.start_ms,
        end_ms=source.end_ms,
        frames=outcome.frames,
        fps=config.fps,
        height=config.height,
        width=config.width,
        sample_rate=config.sample_rate,
        caption=record.description,
        language=record.language,
        gender=record.gender,
        age_group=record.age_group,
        ethnicity=record.ethnicity,
        dover=record.dover,
        cotracker=record.cotracker,
        rights=source.rights,
    )


def _take(remembered: Path, target: Path, sha256: str) -> None:
    """Copy a remembered file into the output.

    Raises:
        InputError: the remembered file is damaged.
    """
    shutil.copyfile(remembered, target)
    if ids.sha256_file(target) != sha256:
        raise InputError(f"{remembered}: damaged (sha256 is not {sha256}); delete {remembered.parent} and run again")
