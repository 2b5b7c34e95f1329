"""Decoding one media file: frames with their times, honouring variable frame rate and rotation, and the sound in step.

A media file holds its record's section alone, so its first frame is time 0. Sound is placed by its own time stamps
relative to that frame: earlier samples are cut off, a later start is filled with silence.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from numpy.typing import NDArray
from tavr_records.media import Waveform


class RefusedClipError(Exception):
    """The file gives no clip; `rule` and `reason` go to quarantine."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(rule, reason)
        self.rule, self.reason = rule, reason


@dataclass(frozen=True)
class Footage:
    """Decoded frames, still in the file's own pixel format, with the time of each in seconds from the first.

    `seconds` is how long the pictures last: up to the end of the last decoded frame.
    """

    pictures: list[av.VideoFrame]
    times: NDArray[np.float64]
    seconds: float

    def frame(self, index: int) -> NDArray[np.uint8]:
        """One frame as RGB uint8 [H, W, 3], turned upright."""
        picture = self.pictures[index]
        turns = round(int(picture.rotation) / 90) % 4
        return np.ascontiguousarray(np.rot90(picture.to_ndarray(format="rgb24"), turns), np.uint8)

    def small(self, index: int, width: int) -> NDArray[np.uint8]:
        """One frame as BGR uint8 at most `width` pixels wide, for cut detection."""
        picture = self.pictures[index]
        factor = min(1.0, width / picture.width)
        columns, rows = max(2, round(picture.width * factor)), max(2, round(picture.height * factor))
        return np.asarray(picture.to_ndarray(format="bgr24", width=columns, height=rows), np.uint8)


def decode(path: Path, seconds: float, sample_rate: int) -> tuple[Footage, Waveform]:
    """Decode the first `seconds` of a file: its pictures, and its sound as mono float32 from the first frame on.

    Raises:
        RefusedClipError: rule `no_audio` or `unreadable`.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise RefusedClipError("unreadable", "no video stream")
            footage, start = _decode_video(container, seconds)
            if not container.streams.audio:
                raise RefusedClipError("no_audio", "no audio stream")
        with av.open(str(path)) as container:
            return footage, _decode_audio(container, start, footage.seconds, sample_rate)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise RefusedClipError("unreadable", f"cannot be decoded ({_reason(error)})") from error


def _decode_video(container: Any, seconds: float) -> tuple[Footage, float]:
    """Frames within `seconds` of the first one (and one more, to choose the nearest from), and the first one's time."""
    stream = container.streams.video[0]
    pictures: list[av.VideoFrame] = []
    times: list[float] = []
    for picture in container.decode(stream):
        if picture.pts is None:
            continue
        time = float(picture.pts * picture.time_base)
        if times and time <= times[-1]:
            continue  # a stamp that goes backwards belongs to a damaged frame
        pictures.append(picture)
        times.append(time)
        if time - times[0] > seconds:
            break
    if not pictures:
        raise RefusedClipError("unreadable", "no frame in the video stream")
    stamps = np.asarray(times, np.float64) - times[0]
    step = float(np.median(np.diff(stamps))) if len(stamps) > 1 else 1.0 / float(stream.average_rate or 25)
    return Footage(pictures, stamps, float(stamps[-1]) + step), times[0]


def _decode_audio(container: Any, start: float, seconds: float, sample_rate: int) -> Waveform:
    """Mono sound at `sample_rate` from time `start` on, at most `seconds` long."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=sample_rate)
    stream = container.streams.audio[0]
    chunks: list[NDArray[Any]] = []
    first: float | None = None
    for sound in container.decode(stream):
        if first is None:
            first = float(sound.pts * sound.time_base) if sound.pts is not None else start
        chunks.extend(out.to_ndarray()[0] for out in resampler.resample(sound))
        if float(sound.samples) and sum(map(len, chunks)) > (start - first + seconds + 1) * sample_rate:
            break
    else:
        chunks.extend(out.to_ndarray()[0] for out in resampler.resample(None))
    if first is None or not any(map(len, chunks)):
        raise RefusedClipError("no_audio", "no sample in the audio stream")
    waveform = np.concatenate(chunks).astype(np.float32)
    return place_sound(waveform, round((first - start) * sample_rate), round(seconds * sample_rate))


def place_sound(waveform: Waveform, delay: int, length: int) -> Waveform:
    """Shift sound that starts `delay` samples after the first frame (negative: before) to it; cut at `length`."""
    if delay < 0:
        waveform = waveform[-delay:]
    elif delay > 0:
        waveform = np.concatenate([np.zeros(min(delay, length), np.float32), waveform])
    return waveform[:length]


def nearest_frames(times: NDArray[np.float64], fps: int, count: int) -> NDArray[np.int64]:
    """For each of `count` instants k / fps, the index of the frame nearest in time; ties go to the earlier frame."""
    instants = np.arange(count, dtype=np.float64) / fps
    after = np.clip(np.searchsorted(times, instants), 0, len(times) - 1)
    before = np.maximum(after - 1, 0)
    return np.where(instants - times[before] <= times[after] - instants, before, after)


def _reason(error: BaseException) -> str:
    """Why a file cannot be decoded, without its path: what goes to quarantine must not depend on the machine."""
    without_path = getattr(error, "strerror", None)
    if without_path:
        return str(without_path)
    return str(error).splitlines()[0] if str(error) else type(error).__name__
