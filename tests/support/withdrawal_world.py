"""A small but real tree in which one run's people lie in every place of the inventory, each with bytes of their own.

`mark(record)` are the bytes that stand for a person's picture or voice: whoever finds them in a file has found them.
"""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import yaml
from tavr_records.manifest import write_manifest
from tavr_records.memo import Memo
from tavr_records.schemas import CachedClip, Clip, ClipFace, ClipPair, PreferencePair, Refused, Score, Source
from tavr_records.shards import write_shard

BORROWING = "wrong_person"
STAGES = ("stage1", "stage2", "stage3")


def mark(record: str) -> bytes:
    return f"<FACE OF {record}>".encode()


def write(path: Path, *records: str, extra: bytes = b"") -> None:
    """A file of bytes that show these people."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(path.name.encode() + extra + b"".join(mark(record) for record in records))


def tensor(*records: str) -> np.ndarray:
    return np.frombuffer(b"".join(mark(record) for record in records), np.uint8)


def preference_of(pair: ClipPair) -> str:
    return hashlib.sha256(pair.pair_id.encode()).hexdigest()


def fill_outputs(tree: Path, clips: Sequence[Clip], pairs: Sequence[ClipPair]) -> None:
    """Every output of the pipeline in a run's worktree, over what a plain finished run has."""
    data = tree / "data"
    _sources(data / "sources", clips)
    _ingest(data / "ingest", clips)
    _latents(data / "latents", clips)
    _preferences(data / "preferences", [pair for pair in pairs if pair.split == "train"])
    _benchmark(tree, [pair for pair in pairs if pair.split == "benchmark"])
    for stage in STAGES:
        seen = {record for pair in pairs if pair.split == "train" for record in pair.pair_id.split("|")}
        write(data / stage / "model/model.safetensors", *sorted(seen), extra=stage.encode())
        (data / stage / "losses.csv").write_text("step,loss\n0,1.0\n")
    listed = [Refused(clip.record_id, "section_length", "too long") for clip in clips[::2]]
    write_manifest(tree / "reports/sources/quarantine.parquet", Refused, listed, ("record_id", "rule"))
    for stage in ("sources", "ingest", "pairs"):
        items = "".join(f"<li>{row.record_id}</li>" for row in listed)
        (tree / f"reports/{stage}/index.html").write_text(f"<ul>{items if stage == 'sources' else ''}</ul>")


def _sources(folder: Path, clips: Sequence[Clip]) -> None:
    rows = [
        Source(
            c.record_id, c.source_key, c.source_sha256, f"media/{c.record_id}.mp4", c.start_ms, c.end_ms, c.rights,
            "2026-01-01", "metadata.json",
        )
        for c in clips
    ]  # fmt: skip
    write_manifest(folder / "manifest.parquet", Source, rows, ("record_id",))
    write_manifest(folder / "quarantine.parquet", Refused, [], ("record_id",))
    (folder / "metadata.json").write_text(json.dumps([{"id": c.record_id, "description": c.caption} for c in clips]))
    for clip in clips:
        write(folder / f"media/{clip.record_id}.mp4", clip.record_id)


def _ingest(folder: Path, clips: Sequence[Clip]) -> None:
    for clip in clips:
        write(folder / clip.path, clip.record_id)
        write(folder / clip.audio_path, clip.record_id)
    faces = [ClipFace(clip.clip_id, clip.person_id, [1.0, 0.0]) for clip in clips]
    write_manifest(folder / "faces.parquet", ClipFace, faces, ("clip_id",))


def _latents(folder: Path, clips: Sequence[Clip]) -> None:
    rows: list[CachedClip] = []
    for shard in {clip.clip_id[0] for clip in clips}:
        mine = {c.clip_id: c for c in clips if c.clip_id[0] == shard}
        name = f"shard-{shard}.safetensors"
        places = write_shard(folder / name, {f"{n}/target0/latents": tensor(c.record_id) for n, c in mine.items()})
        rows += [
            CachedClip(key.split("/")[0], "target0/latents", name, *place, 0, 25, mine[key.split("/")[0]].person_id)
            for key, place in places.items()
        ]
    write_manifest(folder / "manifest.parquet", CachedClip, rows, ("clip_id", "key"))


def _preferences(folder: Path, pairs: Sequence[ClipPair]) -> None:
    rows: list[PreferencePair] = []
    for pair in pairs:
        name, shard = preference_of(pair), f"shard-{preference_of(pair)[0]}.safetensors"
        write_shard(folder / shard, {f"{name}/winner": tensor(*pair.pair_id.split("|"))})
        rows.append(
            PreferencePair(
                name,
                pair.pair_id,
                pair.ref_clip_id,
                pair.target_clip_id,
                pair.person_id,
                "ref0",
                "target0",
                4,
                1,
                2,
                0.9,
                0.5,
                0.4,
                2,
                shard,
            )
        )
    write_manifest(folder / "manifest.parquet", PreferencePair, rows, ("preference_id",))
    (folder / "report.json").write_text('{"conditions": 2}')


def _benchmark(tree: Path, pairs: Sequence[ClipPair]) -> None:
    """Videos of three methods; one takes for each pair the reference of the next."""
    pairs = sorted(pairs, key=lambda pair: pair.pair_id)
    folder = tree / "data/benchmark"
    rows: list[Score] = []
    shots: list[str] = []
    for method in ("base", "ours", BORROWING):
        for index, pair in enumerate(pairs):
            path = f"videos/{method}/{pair.pair_id}-0.mp4"
            lent = pairs[(index + 1) % len(pairs)] if method == BORROWING else pair
            write(folder / path, *pair.pair_id.split("|"), *lent.pair_id.split("|"), extra=method.encode())
            value = {"base": 0.2, "ours": 0.5, BORROWING: 0.1}[method] + 0.01 * index
            rows.append(
                Score(
                    f"{method}|{pair.pair_id}",
                    pair.pair_id,
                    method,
                    pair.person_id,
                    17,
                    0,
                    0.5,
                    value,
                    1.0,
                    2.0,
                    0.1,
                    0.2,
                    0.3,
                    0.6,
                    21,
                    0,
                    path,
                )
            )
            shots.append(f'<p>{pair.pair_id}</p><img src="data:{mark(pair.pair_id.split("|")[0]).decode()}">')
    write_manifest(folder / "manifest.parquet", Score, rows, ("score_id",))
    (tree / "reports/benchmark/report.html").write_text("\n".join(shots))
    params = yaml.safe_load((tree / "params.yaml").read_text())
    methods = {name: {"model": "data/stage3/model", "reference": "own"} for name in ("base", "ours")}
    methods[BORROWING] = {"model": "data/stage3/model", "reference": "other"}
    params["benchmark"] = {"candidate": "ours", "methods": methods}
    (tree / "params.yaml").write_text(yaml.safe_dump(params))


def fill_work(work: Path, clips: Sequence[Clip], pairs: Sequence[ClipPair]) -> None:
    """Resumable state of every stage: one memo entry a clip or pair, and trainings that saw some of the clips."""
    for clip in clips:
        row = {"record_id": clip.record_id, "source_key": clip.source_key, "sha256": None, "section": [0, 1000]}
        _remember(work, "sources", {"row": row, "clip": None}, {"file": mark(clip.record_id)})
        outcome = json.dumps({"rule": "", "clip_sha256": clip.clip_sha256}).encode()
        made = {"clip.mp4": mark(clip.record_id), "face.npy": mark(clip.record_id), "outcome.json": outcome}
        _remember(work, "ingest", {"source_sha256": clip.source_sha256, "section_ms": 1000, "of": clip.clip_id}, made)
        _remember(work, "pairs", {"clip_sha256": clip.clip_sha256}, {"appearance.npz": mark(clip.record_id)})
        key = {"clip_sha256": clip.clip_sha256, "audio_sha256": "a" * 64, "caption": clip.caption}
        _remember(work, "latents", key, {"tensors.safetensors": mark(clip.record_id)})
    digests = {clip.clip_id: clip.clip_sha256 for clip in clips}
    for pair in pairs:
        shown = b"".join(map(mark, pair.pair_id.split("|")))
        _remember(
            work, "preferences", {"condition": f"{pair.pair_id} {'d' * 64}", "seed": 1}, {"generation.npz": shown}
        )
        key = {"task": "t" * 64, "clips": [digests[pair.target_clip_id], digests[pair.ref_clip_id]]}
        _remember(work, "benchmark", key, {"clip.mp4": shown, "score.json": b"{}"})
    for name, seen in (("a" * 16, clips[:2]), ("b" * 16, clips[:4]), ("c" * 16, clips)):
        for stage in STAGES:
            folder = work / stage / name
            write(folder / "step-00000001/engine/weights.pt", *(clip.record_id for clip in seen))
            lines = [json.dumps({"step": 0, "clip_ids": [clip.clip_id]}) for clip in seen]
            (folder / "ledger-00000.jsonl").write_text("\n".join(lines) + "\n")
    for path in ("pairs/memo/ab/.abcd.12345678/appearance.npz", "prefect/prefect.db", "dvc/repo/state.db"):
        write(work / path, *(clip.record_id for clip in clips))
    for name, seen in (("20260101-00000001", clips), ("20250101-0000000f", clips[:2])):
        for clip in seen:
            write(work / "reproduce" / name / "cache/files/md5/ab" / clip.clip_sha256[:30], clip.record_id)
            write(work / "reproduce" / name / f"tree/data/ingest/clips/{clip.clip_id}.mp4", clip.record_id)
    old = work / "latents/memo/00" / ("0" * 64)  # of before entries said whose they are
    write(old / "tensors.safetensors", *(clip.record_id for clip in clips[:2]))
    (work / "locks").mkdir()
    (work / "locks/stage1.lock").touch()


def _remember(work: Path, stage: str, key: dict[str, object], files: dict[str, bytes]) -> None:
    def build(folder: Path) -> None:
        for name, data in files.items():
            (folder / name).write_bytes(data)

    Memo(work / stage / "memo", "context").entry(key, build)


def settle_run(root: Path, run_id: str) -> Path:
    """Give a run's folder the layout of a real one: the worktree in `tree`, and beside it what a run keeps."""
    folder, aside = root / ".runs" / run_id, root / ".runs" / "aside"
    subprocess.run(["git", "worktree", "move", str(folder), str(aside)], cwd=root, check=True)
    folder.mkdir()
    subprocess.run(["git", "worktree", "move", str(aside), str(folder / "tree")], cwd=root, check=True)
    tree = folder / "tree"
    shutil.copytree(tree / "reports", folder / "reports")
    shutil.copytree(tree / "data/benchmark", folder / "data/benchmark")
    shutil.copytree(tree / "data/stage3/model", folder / "model")
    shutil.copyfile(tree / "record.json", folder / "record.json")
    shutil.copyfile(tree / "attestation.json", folder / "attestation.json")
    (folder / "request.json").write_text("{}")
    (folder / "summary.json").write_text("{}")
    (folder / "lock").touch()
    return folder


def forget_in_cache(root: Path, clips: Iterable[Clip]) -> list[Path]:
    """Older encodings of clips in DVC's cache, in a folder that no lock names."""

    def store(content: bytes, suffix: str = "") -> Path:
        digest = hashlib.md5(content).hexdigest() + suffix  # DVC's own digest
        path = root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    files = {f"clips/{clip.clip_id}.mp4": store(b"older" + mark(clip.record_id)) for clip in clips}
    entries = [{"md5": path.parent.name + path.name, "relpath": name} for name, path in files.items()]
    store(json.dumps(entries).encode(), ".dir")
    run = root / ".dvc/cache/runs/ab/abcd/ef01"
    run.parent.mkdir(parents=True)
    run.write_text("cmd: python -m tavr_ingest\n")
    return list(files.values())
