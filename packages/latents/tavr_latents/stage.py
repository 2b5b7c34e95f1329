"""Stage `latents`: every clip's encodings, face boxes and masks, in shards with an index."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from tavr_records import ids
from tavr_records.errors import InputError
from tavr_records.fan_out import fan_out
from tavr_records.manifest import read_manifest, write_manifest
from tavr_records.memo import open_memo, stage_output
from tavr_records.schemas import CachedClip, Clip, ClipSplit, Refused
from tavr_records.shards import group_by_shard, write_shard
from tavr_records.verdict import require_passed

from tavr_latents.config import LatentsConfig
from tavr_latents.encode import Job, RefusedClipError, encode, load
from tavr_latents.windows import cut_windows

_NOT_PER_CLIP = ("shard_bits", "face_boxes_override")
_WEIGHTS = ("vae", "text_encoder", "tokenizer", "speech", "keypoints", "people")
_CODE = ("tavr_latents", "tavr_model", "tavr_perception", "tavr_records")


def latents(config: LatentsConfig, root: Path = Path()) -> None:
    """Write `data/latents/{manifest.parquet, quarantine.parquet, shard-*.safetensors}`; see the package's README."""
    quarantined = require_passed("pairs", root / "reports")
    wanted = {
        row.clip_id
        for row in read_manifest(root / "data" / "pairs" / "clips.parquet", ClipSplit)
        if row.clip_id not in quarantined
    }
    manifest = root / "data" / "ingest" / "manifest.parquet"
    clips = {clip.clip_id: clip for clip in read_manifest(manifest, Clip) if clip.clip_id in wanted}
    _demand_size(clips.values(), config)
    jobs = _jobs(list(clips.values()), config, root)
    folders = dict(zip(clips, fan_out(encode, jobs, "latents"), strict=True))

    index: list[CachedClip] = []
    refused: list[Refused] = []
    with stage_output(root / "data" / "latents") as output:
        for shard, members in group_by_shard(list(clips), config.shard_bits).items():
            tensors: dict[str, Any] = {}
            for clip_id in members:
                try:
                    tensors |= {f"{clip_id}/{key}": array for key, array in load(folders[clip_id]).items()}
                except RefusedClipError as error:
                    refused.append(Refused(clip_id, error.rule, error.reason))
            if tensors:
                places = write_shard(output / shard, tensors)
                index += _index(places, shard, clips, config)
        write_manifest(output / "manifest.parquet", CachedClip, index, ("clip_id", "key"))
        write_manifest(output / "quarantine.parquet", Refused, refused, ("record_id", "rule"))


def _demand_size(clips: Iterable[Clip], config: LatentsConfig) -> None:
    for clip in clips:
        if (clip.height, clip.width) != (config.height, config.width):
            raise InputError(
                f"data/ingest: clip {clip.clip_id} has height {clip.height} and width {clip.width}, latents asks for "
                f"{config.height} and {config.width}; set video.height and video.width for both and run again"
            )


def _index(
    places: dict[str, tuple[int, int]], shard: str, clips: dict[str, Clip], config: LatentsConfig
) -> Iterator[CachedClip]:
    """One row a tensor: where its bytes are, and which frames of the clip it covers."""
    for name, (offset, size) in places.items():
        clip_id, key = name.split("/", 1)
        clip = clips[clip_id]
        windows = cut_windows(clip.frames, config.num_frames, config.ref_frames_max, config.long_frames_max)
        spans = {w.name: (w.start, w.frames) for w in windows}
        start, frames = spans.get(key.split("/")[0], (0, clip.frames))
        yield CachedClip(clip_id, key, shard, offset, size, start, frames, clip.person_id)


def _jobs(clips: Sequence[Clip], config: LatentsConfig, root: Path) -> list[Job]:
    values = dataclasses.asdict(config)
    params = {name: value for name, value in values.items() if name not in (*_NOT_PER_CLIP, *_WEIGHTS)}
    memo = open_memo("latents", params, _CODE, [root / values[name] for name in _WEIGHTS], root)
    boxes = read_boxes(root / config.face_boxes_override)
    folder = root / "data" / "ingest"
    return [
        Job(
            media=folder / clip.path,
            audio=folder / clip.audio_path,
            clip_sha256=clip.clip_sha256,
            audio_sha256=ids.sha256_file(folder / clip.audio_path),
            fps=clip.fps,
            sample_rate=clip.sample_rate,
            caption=clip.caption,
            face_box=boxes.get(clip.clip_id),
            root=root,
            config=config,
            memo=memo,
        )
        for clip in clips
    ]


def read_boxes(path: Path) -> dict[str, tuple[float, float, float, float]]:
    """Supplied face boxes by clip id.

    Raises:
        InputError: no such file, or not {clip_id: [x0, y0, x1, y1]} with x0 < x1 and y0 < y1.
    """
    try:
        document = cast("dict[str, list[float]]", json.loads(path.read_bytes()))
        boxes = {name: tuple(float(value) for value in box) for name, box in document.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a file of face boxes ({error}); give {{clip_id: [x0, y0, x1, y1]}}") from error
    for name, box in boxes.items():
        if len(box) != 4 or not (box[0] < box[2] and box[1] < box[3]):
            raise InputError(f"{path}: {name}: box is {list(box)}; give [x0, y0, x1, y1] with x0 < x1 and y0 < y1")
    return cast("dict[str, tuple[float, float, float, float]]", boxes)
