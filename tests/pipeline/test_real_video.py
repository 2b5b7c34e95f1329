"""A video that no one here rendered goes through `ingest` and `latents`: a real head, real speech, the tiny weights.

The tiny networks saw drawn people only. Two outcomes are allowed for a real face: it is found and the clip accepted, or
it is not and the record is quarantined as `no_face`. Today's weights find it; both outcomes are shown.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from real_media import FPS, FRAMES, mux_talking_head, real_speech, talkvid_record
from rows import write_passed
from tavr_cli.compose import compose_params, render_params
from tavr_latents.encode import Tensors, read_tensors
from tavr_model.vae import decode_latents
from tavr_records.ids import clip_id, sha256_file
from tavr_records.manifest import read_manifest, write_manifest
from tavr_records.media import read_audio, read_video
from tavr_records.schemas import CachedClip, Clip, ClipSplit, Refused, Source

TAKES = {"searched": 1.2, "supplied": 23.2}
"""Record id -> where in the reading its voice begins; the pictures are the same. One gets its face box from us."""
SECTION = (0, round(1000 * FRAMES / FPS))
BOX = (38.0, 8.0, 74.0, 52.0)
"""The face in the normalised clip, xyxy, as a person marks it."""
PSNR_DB = 18.0
"""Measured: 22.5 dB; the best single grey gives 12.2 dB."""


def run(root: Path, module: str) -> None:
    dropped = ("TAVR_WORK", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in dropped} | {"TAVR_WORKERS": "1"}
    command = [sys.executable, "-m", module]
    result = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def prepare(root: Path, repository: Path, takes: dict[str, float], *overrides: str) -> Path:
    """A workspace as `sources` and `weights` leave it: metadata, mp4 files, the tiny weights, params.yaml."""
    (root / "data").mkdir(parents=True)
    (root / "data/weights").symlink_to(repository / "packages/synthetic/zoo")
    (root / "person.key").write_text("a key\n")
    (root / "audit").mkdir()
    (root / "audit/withdrawn_faces.jsonl").touch()
    folder, sources = root / "data/sources", []
    for name, start in takes.items():
        path = folder / f"media/{name}.mp4"
        mux_talking_head(path, start)
        digest = sha256_file(path)
        sources.append(
            Source(name, digest, digest, f"media/{name}.mp4", *SECTION, "see NOTICE", "2026-01-01", "metadata.json")
        )
    write_manifest(folder / "manifest.parquet", Source, sources, ("record_id",))
    (folder / "metadata.json").write_text(json.dumps([talkvid_record(name) for name in takes]))
    write_passed(root, "sources", "pairs")
    params = compose_params("micro", ["ingest.person_key=person.key", *overrides], repository / "conf")
    (root / "params.yaml").write_bytes(render_params(params))
    return root


@pytest.fixture(scope="module")
def ingested(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both takes after `ingest`."""
    boxes = "latents.face_boxes_override=boxes.json"
    workspace = prepare(tmp_path_factory.mktemp("real") / "workspace", root, TAKES, boxes)
    run(workspace, "tavr_ingest")
    return workspace


@pytest.fixture(scope="module")
def clips(ingested: Path) -> dict[str, Clip]:
    """The clips by record."""
    return {clip.record_id: clip for clip in read_manifest(ingested / "data/ingest/manifest.parquet", Clip)}


@pytest.fixture(scope="module")
def encoded(ingested: Path, clips: dict[str, Clip]) -> dict[str, Tensors]:
    """The tensors of both takes after `latents`, which searches one face and is told the other."""
    splits = [ClipSplit(clip.clip_id, clip.person_id, "i0", "train") for clip in clips.values()]
    write_manifest(ingested / "data/pairs/clips.parquet", ClipSplit, splits, ("clip_id",))
    (ingested / "boxes.json").write_text(json.dumps({clips["supplied"].clip_id: BOX}))
    run(ingested, "tavr_latents")
    folder = ingested / "data/latents"
    assert read_manifest(folder / "quarantine.parquet", Refused) == []
    shards = {row.clip_id: row.shard for row in read_manifest(folder / "manifest.parquet", CachedClip)}
    tensors = {shard: read_tensors((folder / shard).read_bytes()) for shard in set(shards.values())}
    return {
        name: {
            key.split("/", 1)[1]: array
            for key, array in tensors[shards[clip.clip_id]].items()
            if key.startswith(clip.clip_id)
        }
        for name, clip in clips.items()
    }


def test_the_face_is_found_and_both_takes_are_accepted(ingested, clips):
    assert read_manifest(ingested / "data/ingest/quarantine.parquet", Refused) == []
    assert set(clips) == set(TAKES)
    for clip in clips.values():
        assert clip.clip_id == clip_id(clip.source_key, *SECTION)
        assert (clip.height, clip.width, clip.fps, clip.frames) == (64, 112, 25, 44)
        frames, rate = read_video(ingested / "data/ingest" / clip.path)
        assert frames.shape == (44, 64, 112, 3)
        assert rate == 25
        assert frames.std() > 30
        assert np.abs(np.diff(frames.astype(float), axis=0)).mean() > 1, "the picture moves"


def test_without_a_face_the_only_outcome_is_quarantine(root, tmp_path):
    """The same video when no keypoint counts: what weights that do not know real faces would do."""
    workspace = prepare(tmp_path / "workspace", root, {"blind": 1.2}, "ingest.face.min_score=2.0")
    run(workspace, "tavr_ingest")
    assert read_manifest(workspace / "data/ingest/manifest.parquet", Clip) == []
    (refused,) = read_manifest(workspace / "data/ingest/quarantine.parquet", Refused)
    assert (refused.record_id, refused.rule) == ("blind", "no_face")
    assert refused.reason.startswith("a face in 0 by keypoints")


@pytest.mark.parametrize("take", TAKES)
def test_the_real_voice_is_in_step_with_the_pictures(ingested, clips, take):
    clip = clips[take]
    sound = read_audio(ingested / "data/ingest" / clip.audio_path, clip.sample_rate)
    speech = real_speech(TAKES[take], clip.sample_rate)[: len(sound)]
    assert len(sound) == len(speech) == 44 * clip.sample_rate // 25
    spectrum = np.fft.rfft(sound, 2 * len(sound)) * np.conj(np.fft.rfft(speech, 2 * len(sound)))
    likeness = np.fft.irfft(spectrum) / (np.linalg.norm(sound) * np.linalg.norm(speech))
    lag = int(likeness.argmax())
    assert likeness[lag] > 0.9
    assert min(lag, 2 * len(sound) - lag) <= clip.sample_rate // 1000, "not a millisecond out of step"


def test_every_tensor_of_the_real_clips_is_whole(encoded):
    for tensors in encoded.values():
        floats = {name: array.astype(np.float32) for name, array in tensors.items() if array.dtype != np.bool_}
        assert {name: array.shape for name, array in tensors.items() if name != "clip/text"} == {
            "target0/latents": (16, 6, 8, 14),
            "target0/face_tokens": (6, 4, 7),
            "target0/bg_latents": (16, 1, 8, 14),
            "target0/bg_tokens": (4, 7),
            "target0/foreground": (8, 14),
            "ref0/latents": (16, 5, 8, 14),
            "ref0/face_tokens": (5, 4, 7),
            "long0/latents": (16, 10, 8, 14),
            "clip/audio": (44, *tensors["clip/audio"].shape[1:]),
        }
        latents = {f"{window}/latents" for window in ("target0", "ref0", "long0")}
        assert set(floats) == {*latents, "target0/bg_latents", "clip/text", "clip/audio"}
        assert (tensors["long0/latents"][:, :6] == tensors["target0/latents"]).all()
        for name, array in floats.items():
            assert np.isfinite(array).all(), name
            assert array.std() > 0.1, name
        for name in ("target0/face_tokens", "ref0/face_tokens", "target0/bg_tokens", "target0/foreground"):
            assert tensors[name].any(), name
            assert not tensors[name].all(), name


def test_the_searched_face_is_where_a_person_marks_it(encoded):
    searched, supplied = (encoded[take]["ref0/face_tokens"] for take in ("searched", "supplied"))
    assert (supplied == supplied[0]).all()
    assert (searched & supplied).sum() / (searched | supplied).sum() > 0.6


def test_the_vae_gives_the_real_pictures_back(root, ingested, clips, encoded):
    vae = AutoencoderKLWan.from_pretrained(root / "packages/synthetic/zoo/vae", local_files_only=True)
    latents = torch.from_numpy(encoded["supplied"]["target0/latents"].astype(np.float32))
    frames = read_video(ingested / "data/ingest" / clips["supplied"].path)[0][:21].astype(float)
    error = np.square(decode_latents(vae.eval(), latents).numpy() - frames).mean()
    assert 10 * np.log10(255**2 / error) > PSNR_DB
