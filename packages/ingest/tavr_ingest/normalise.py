"""One source file to one normalised clip, or to a refusal (paper, section 4, "Implementation details").

Refusals, in the order they are looked for: unreadable, no_audio, too_short, scene_cut, no_face.
"""

import functools
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scenedetect import FrameTimecode
from scenedetect.detectors import ContentDetector, HistogramDetector
from tavr_perception.identity import FaceIdentity
from tavr_perception.keypoints import KeypointEstimator, face_boxes
from tavr_records.atomic import write_bytes
from tavr_records.ids import canonical_json, sha256_file
from tavr_records.media import Frames, Waveform, write_video, write_wav
from tavr_records.memo import Memo

from tavr_ingest.config import Face, IngestConfig
from tavr_ingest.decode import RefusedClipError, decode, nearest_frames

CUT_WIDTH = 256
"""PySceneDetect's own working width: frames are made this narrow before comparing."""


CLIP, SOUND, FACE, OUTCOME = "clip.mp4", "clip.wav", "face.npy", "outcome.json"


@dataclass(frozen=True)
class Job:
    """One source file (`media`, with digest `source_sha256`) whose section lasts `section_ms`."""

    media: Path
    source_sha256: str
    section_ms: int
    keypoints: Path
    identity: Path
    config: IngestConfig
    memo: Memo


@dataclass(frozen=True)
class Outcome:
    """What became of a source file: a clip of `frames` frames with the digests of its two files, or a refusal."""

    rule: str
    reason: str
    frames: int
    clip_sha256: str
    audio_sha256: str


@dataclass(frozen=True)
class Window:
    """A crop in whole pixels of the source frame."""

    left: int
    top: int
    width: int
    height: int

    def cut(self, frame: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
        """The window of a frame [H, W, 3], resized by area averaging to [height, width, 3]."""
        crop = frame[self.top : self.top + self.height, self.left : self.left + self.width]
        return np.asarray(cv2.resize(crop, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def normalise(job: Job) -> tuple[Outcome, Path]:
    """The outcome for one source file and the folder that holds its clip, worked out once for each content."""
    key = {"source_sha256": job.source_sha256, "section_ms": job.section_ms}
    folder = job.memo.entry(key, lambda empty: _normalise_into(empty, job))
    return Outcome(**json.loads((folder / OUTCOME).read_bytes())), folder


def _normalise_into(folder: Path, job: Job) -> None:
    try:
        frames, waveform, face = _clip(job)
    except RefusedClipError as error:
        outcome = Outcome(error.rule, error.reason, 0, "", "")
    else:
        write_video(folder / CLIP, frames, job.config.fps, crf=job.config.crf)
        write_wav(folder / SOUND, waveform, job.config.sample_rate)
        np.save(folder / FACE, face)
        outcome = Outcome("", "", len(frames), sha256_file(folder / CLIP), sha256_file(folder / SOUND))
    write_bytes(folder / OUTCOME, canonical_json(asdict(outcome)))


def _clip(job: Job) -> tuple[Frames, Waveform, NDArray[np.float32]]:
    return _cut(job.media, job.section_ms / 1000, job.keypoints, job.identity, job.config)


def cut_clip(
    media: Path, seconds: float, keypoints: Path, identity: Path, config: IngestConfig
) -> tuple[Frames, Waveform]:
    """Frames [T, height, width, 3] at the clip's rate and exactly as much sound.

    Args:
        media: a video file with sound.
        seconds: at most so much of it.
        keypoints: folder of the face keypoints' weights.
        identity: folder of the face detector's weights.
        config: the sizes, rates and limits; at most `max_frames` frames.

    Raises:
        RefusedClipError: unreadable, no_audio, too_short, scene_cut or no_face.
    """
    frames, waveform, _ = _cut(media, seconds, keypoints, identity, config)
    return frames, waveform


def _cut(
    media: Path, seconds: float, keypoints: Path, identity: Path, config: IngestConfig
) -> tuple[Frames, Waveform, NDArray[np.float32]]:
    """As `cut_clip`, with the unit mean face of the sampled frames, float32 [D]."""
    footage, sound = decode(media, config.max_frames / config.fps, config.sample_rate)
    count = frame_count(footage.seconds, len(sound) / config.sample_rate, seconds, config.fps, config.max_frames)
    if count < config.min_frames:
        raise RefusedClipError("too_short", f"{count} frames at {config.fps} fps, fewer than {config.min_frames}")
    chosen = nearest_frames(footage.times, config.fps, count)
    images = (footage.small(int(index), CUT_WIDTH) for index in chosen)
    cut = find_cut(images, config.scene_cut.detector, config.scene_cut.threshold)
    if cut is not None:
        raise RefusedClipError("scene_cut", f"{config.scene_cut.detector} cut at {cut / config.fps:.2f} s")
    sampled = [footage.frame(int(chosen[k])) for k in sample_indices(count, config.face.sampled_frames)]
    face, mean_face = find_face(np.stack(sampled), keypoints, identity, config.face)
    height, width = sampled[0].shape[:2]
    window = crop_window(face, (height, width), (config.height, config.width), config.face.row, config.face.min_cover)
    frames = crop_frames((footage.frame(int(index)) for index in chosen), window, config.height, config.width)
    return frames, fit_sound(sound, count, config.fps, config.sample_rate), mean_face


def find_face(
    frames: Frames, keypoints: Path, identity: Path, face: Face
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The median face box xyxy of some frames, by keypoints, and their unit mean face [D], by the detector's eyes.

    Keypoints and detector must both see the face.

    Raises:
        RefusedClipError: rule `no_face`.
    """
    boxes = face_boxes(_keypoints(keypoints).estimate(frames), face.min_score, 1.0)
    by_keypoints = ~np.isnan(boxes).any(axis=1)
    faces = _identity(identity).embed(frames)
    by_detector = faces.found
    share = float((by_keypoints & by_detector).mean())
    if share < face.min_share or not by_keypoints.any():
        seen = f"{int(by_keypoints.sum())} by keypoints, {int(by_detector.sum())} by the detector"
        raise RefusedClipError(
            "no_face", f"a face in {seen}, of {len(frames)} frames; needs a share of {face.min_share}"
        )
    return np.asarray(np.median(boxes[by_keypoints], axis=0), np.float32), unit_mean(faces.vectors)


def unit_mean(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The unit mean of face vectors float32 [T, D], those of frames without a face being zero; zero without any."""
    mean = vectors.sum(axis=0, dtype=np.float64)
    length = float(np.linalg.norm(mean))
    return (mean / length if length > 0 else mean).astype(np.float32)


@functools.lru_cache(maxsize=1)
def _keypoints(directory: Path) -> KeypointEstimator:
    """The network of this worker, loaded once; one thread, so that results do not depend on the number of workers."""
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    return KeypointEstimator(directory)


@functools.lru_cache(maxsize=1)
def _identity(directory: Path) -> FaceIdentity:
    return FaceIdentity(directory)


def find_cut(images: Iterable[NDArray[np.uint8]], detector: str, threshold: float) -> int | None:
    """Index of the first frame after a scene cut among BGR frames, None when there is none.

    Raises:
        ValueError: an unknown detector.
    """
    if detector == "content":
        search: ContentDetector | HistogramDetector = ContentDetector(threshold=threshold, min_scene_len=1)
    elif detector == "histogram":
        search = HistogramDetector(threshold=threshold, min_scene_len=1)
    else:
        raise ValueError(f"scene_cut.detector is {detector!r}; use content or histogram")
    for index, image in enumerate(images):
        if search.process_frame(FrameTimecode(index, fps=25.0), image) and index > 0:
            return index
    return None


def frame_count(video_seconds: float, audio_seconds: float, section_seconds: float, fps: int, max_frames: int) -> int:
    """Whole frames that pictures, sound and section all cover; one frame may lack its sound, which becomes silence."""
    covered = min(video_seconds, audio_seconds + 1.0 / fps, section_seconds)
    # A millisecond of grace: sections and time stamps are rounded to milliseconds.
    return max(0, min(max_frames, math.floor((covered + 0.001) * fps)))


def fit_sound(waveform: Waveform, frames: int, fps: int, sample_rate: int) -> Waveform:
    """Exactly frames / fps seconds of sound: cut or filled with silence at the end."""
    length = int(Fraction(frames * sample_rate, fps))
    fitted = np.zeros(length, np.float32)
    kept = waveform[:length]
    fitted[: len(kept)] = kept
    return fitted


def crop_window(
    face: NDArray[np.float32], frame_size: tuple[int, int], target_size: tuple[int, int], row: float, min_cover: float
) -> Window:
    """The largest window of the target's shape centred on the face, but at least `min_cover` of the largest there is.

    Args:
        face: box xyxy in pixels of the frame, the union or median over the clip.
        frame_size: (height, width) of the source frame.
        target_size: (height, width) of the clip; only the ratio matters.
        row: where in the window's height the face's middle lies, 0 top .. 1 bottom.
        min_cover: when the face is so near an edge that centring would need a smaller window, the window stays this
            share of the largest one and lies as near to the face as the frame allows.
    """
    height, width = frame_size
    aspect = target_size[1] / target_size[0]
    largest = min(float(height), width / aspect)
    x, y = float(face[0] + face[2]) / 2, float(face[1] + face[3]) / 2
    centred = min(2 * min(x, width - x) / aspect, y / row, (height - y) / (1 - row))
    window_height = min(largest, max(centred, min_cover * largest))
    rows = max(2, min(height, round(window_height)))
    columns = max(2, min(width, round(window_height * aspect)))
    left = min(max(round(x - columns / 2), 0), width - columns)
    top = min(max(round(y - row * rows), 0), height - rows)
    return Window(left, top, columns, rows)


def crop_frames(frames: Iterable[NDArray[np.uint8]], window: Window, height: int, width: int) -> Frames:
    """Crop and resize every frame; RGB uint8 [T, height, width, 3]."""
    return np.stack([window.cut(frame, height, width) for frame in frames])


def sample_indices(count: int, samples: int) -> NDArray[np.int64]:
    """At most `samples` indices spread evenly over 0..count-1, both ends included."""
    return np.unique(np.round(np.linspace(0, count - 1, min(samples, count))).astype(np.int64))
