"""`tavr generate`: a promoted model, a video of a person, speech and a background to an mp4 with that speech."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tavr_ingest.config import IngestConfig
from tavr_ingest.decode import RefusedClipError
from tavr_ingest.normalise import cut_clip
from tavr_latents.config import LatentsConfig
from tavr_latents.windows import fill_boxes, person_hole
from tavr_lineage.release import Release, open_release
from tavr_model.long_video import measure_seams
from tavr_model.pipeline import FPS, TAVRPipeline
from tavr_model.speech import SAMPLE_RATE
from tavr_model.transformer import TAVRTransformer3DModel
from tavr_perception.keypoints import KeypointEstimator, face_boxes
from tavr_perception.people import PersonSegmenter
from tavr_records.errors import InputError
from tavr_records.media import Frames, Waveform, read_audio, read_video, write_video
from tavr_records.params import load_section
from transformers import AutoTokenizer, UMT5EncoderModel, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from tavr_cli.attention_image import draw_attention

SILENCE = 1e-3
"""Peak below which sound holds no speech, of 1: -60 dB."""


@dataclass(frozen=True)
class Generation:
    """What the user asks for; None takes what the model was benchmarked with."""

    reference: Path
    speech: Path
    background: Path
    prompt: str
    out: Path
    seed: int
    ref_frames: int | None
    steps: int | None
    text_guidance: float | None
    audio_guidance: float | None
    explain: Path | None


@dataclass(frozen=True)
class Reference:
    """The reference video: frames [R, H, W, 3], its sound, a face box a frame, and where the person is [H, W]."""

    frames: Frames
    waveform: Waveform
    boxes: NDArray[np.float32]
    hole: NDArray[np.bool_]


def generate(release: Release, asked: Generation, told: Callable[[int, int], None]) -> dict[str, Any]:
    """Generate, write the mp4, and say what came out.

    Raises:
        InputError: names the input that does not serve, and why: unreadable, no face, no speech, wrong rate, too short.
    """
    params = release.params["benchmark"]
    latents = load_section(LatentsConfig, "latents", release.folder / "params.yaml")
    waveform = read_speech(asked.speech)
    reference = read_reference(release, latents, asked)
    background, hole = read_background(release, latents, asked.background, reference.hole)
    pipeline = load_pipeline(release, latents)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        reference_video=reference.frames,
        reference_audio=reference.waveform,
        reference_boxes=reference.boxes,
        driving_audio=waveform,
        background=background,
        background_mask=hole,
        prompt=asked.prompt,
        num_inference_steps=asked.steps or params["steps"],
        text_guidance=params["text_guidance"] if asked.text_guidance is None else asked.text_guidance,
        audio_guidance=params["audio_guidance"] if asked.audio_guidance is None else asked.audio_guidance,
        window_frames=latents.num_frames,
        motion_latents=_motion_latents(release),
        generator=torch.Generator().manual_seed(asked.seed),
        explain=asked.explain is not None,
        callback_on_step_end=lambda _pipeline, done, total: told(done, total),
    )
    frames = made.frames[0]
    write_video(asked.out, frames, FPS, waveform, SAMPLE_RATE)
    if asked.explain is not None:
        draw_attention(asked.explain, made.attention[0], frames, reference.frames)
    seams = measure_seams(frames, made.joins[0])
    return {
        "out": str(asked.out),
        "model": release.name,
        "commit": release.commit,
        "frames": len(frames),
        "seconds": round(len(frames) / FPS, 2),
        "ref_frames": len(reference.frames),
        "seed": asked.seed,
        "joins": made.joins[0],
        "seams": None if seams is None else {name: round(value, 3) for name, value in asdict(seams).items()},
    }


def with_progress(model: str, asked: Generation, *, quiet: bool) -> dict[str, Any]:
    """`generate` with the model `model` of this checkout, and a bar in a terminal."""
    release = open_release(Path.cwd(), model)
    with Progress(
        TextColumn("generating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), disable=quiet
    ) as bar:
        task = bar.add_task("steps", total=None)
        return generate(release, asked, lambda done, total: bar.update(task, completed=done, total=total))


def load_pipeline(release: Release, latents: LatentsConfig) -> TAVRPipeline:
    """The model of a release with its pretrained parts."""
    root, single = release.folder, torch.float32
    scheduler: Any = UniPCMultistepScheduler.from_pretrained(root / release.params["benchmark"]["scheduler"])
    text_encoder: Any = UMT5EncoderModel.from_pretrained(
        root / latents.text_encoder, local_files_only=True, dtype=single
    )
    speech_encoder: Any = Wav2Vec2Model.from_pretrained(root / latents.speech, local_files_only=True, dtype=single)
    return TAVRPipeline(
        transformer=TAVRTransformer3DModel.from_pretrained(release.model).eval(),
        vae=AutoencoderKLWan.from_pretrained(root / latents.vae, local_files_only=True),
        scheduler=scheduler,
        text_encoder=text_encoder.eval(),
        tokenizer=AutoTokenizer.from_pretrained(root / latents.tokenizer, local_files_only=True),
        speech_encoder=speech_encoder.eval(),
        feature_extractor=Wav2Vec2FeatureExtractor.from_pretrained(root / latents.speech, local_files_only=True),
    )


def read_speech(path: Path) -> Waveform:
    """The driving speech as 16 kHz mono.

    Raises:
        InputError: no audio, a rate below 16 kHz, or silence.
    """
    waveform = read_audio(path, SAMPLE_RATE)
    with av.open(str(path)) as container:
        rate = container.streams.audio[0].rate
    if rate < SAMPLE_RATE:
        raise InputError(f"{path}: its sample rate is {rate} Hz; give speech recorded at {SAMPLE_RATE} Hz or more")
    if not len(waveform) or float(np.abs(waveform).max()) < SILENCE:
        raise InputError(f"{path}: silence, peak below {SILENCE}; give audible speech")
    return waveform


def read_reference(release: Release, latents: LatentsConfig, asked: Generation) -> Reference:
    """The reference video as `ingest` would cut it and `latents` would mask it.

    Raises:
        InputError: unreadable, without sound, with a cut, without a face or a person, or too short.
    """
    wanted = asked.ref_frames or _pixel_frames(_candidate(release)["ref_latent_frames"])
    if wanted % 4 != 1 or wanted > latents.ref_frames_max:
        raise InputError(f"--ref-frames is {wanted}; give 4k + 1 frames, at most {latents.ref_frames_max}")
    root = release.folder
    config = load_section(IngestConfig, "ingest", root / "params.yaml")
    config = replace(config, min_frames=wanted, max_frames=wanted)
    try:
        frames, waveform = cut_clip(
            asked.reference, wanted / config.fps, root / config.keypoints, root / config.identity, config
        )
    except RefusedClipError as error:
        remedy = "give a longer one or fewer --ref-frames" if error.rule == "too_short" else "give another video"
        raise InputError(f"{asked.reference}: {error.rule}: {error.reason}; {remedy}") from error
    positions = np.arange(0, len(frames), latents.face_stride)
    keypoints = KeypointEstimator(root / latents.keypoints).estimate(frames[positions])
    found = face_boxes(keypoints, latents.face_min_score, latents.face_expand)
    boxes = fill_boxes(found, positions, len(frames))
    masks = PersonSegmenter(root / latents.people).masks(frames[:: latents.people_stride])
    if not np.isfinite(boxes).all(axis=1).any() or not masks.any():
        raise InputError(f"{asked.reference}: no_face: no face or no person in the cut clip; give another video")
    return Reference(frames, waveform, boxes, person_hole(masks, boxes, latents.hole_dilation))


def read_background(
    release: Release, latents: LatentsConfig, path: Path, hole: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The scene [H, W, 3] cut to the video's shape about its middle, and where the person goes.

    People who are in the picture are masked, and the new person takes their place; in an empty one the place is `hole`,
    where the person of the reference video is.
    """
    frame = read_video(path)[0][0]
    height, width = frame.shape[:2]
    scale = max(latents.height / height, latents.width / width)
    rows, columns = round(height * scale), round(width * scale)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = np.asarray(cv2.resize(frame, (columns, rows), interpolation=method), np.uint8)
    top, left = (rows - latents.height) // 2, (columns - latents.width) // 2
    picture = np.ascontiguousarray(resized[top : top + latents.height, left : left + latents.width])
    masks = PersonSegmenter(release.folder / latents.people).masks(picture[None])
    nobody = np.full((1, 4), np.nan, np.float32)
    return picture, person_hole(masks, nobody, latents.hole_dilation) if masks.any() else hole


def _candidate(release: Release) -> dict[str, Any]:
    benchmark = release.params["benchmark"]
    return benchmark["methods"][benchmark["candidate"]]


def _motion_latents(release: Release) -> int:
    return int(release.params["stage2"]["conditions"]["motion_latent_frames"])


def _pixel_frames(latents: int) -> int:
    """Pixel frames that so many latent frames encode."""
    return 4 * (latents - 1) + 1
