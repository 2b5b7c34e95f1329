"""Reading and writing clips: h264 / aac mp4 and PCM wav through PyAV. One x264 thread, so that bytes are stable."""

import wave
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import av.error
import numpy as np
from av.codec.context import Flags
from numpy.typing import NDArray

from tavr_records.atomic import atomic_file
from tavr_records.errors import InputError

Frames = NDArray[np.uint8]  # [T, H, W, 3] RGB
Waveform = NDArray[np.float32]  # [n], -1..1, mono


def read_video(path: Path) -> tuple[Frames, float]:
    """Decode every frame as RGB uint8 [T, H, W, 3], with the stream's average rate in frames per second.

    Raises:
        InputError: missing or broken file, no video stream, no frame.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"{path}: no video stream; give an mp4 with h264 video")
            stream = container.streams.video[0]
            rate = float(stream.average_rate or 0)
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(f"{path}: not a readable video ({error}); fetch it again") from error
    if not frames:
        raise InputError(f"{path}: no frame in the video stream; fetch it again")
    return np.stack(frames).astype(np.uint8), rate


def read_audio(path: Path, sample_rate: int) -> Waveform:
    """Decode the first audio stream as mono float32 [n] at `sample_rate` Hz.

    Raises:
        InputError: missing or broken file, or no audio stream.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise InputError(f"{path}: no audio stream; a talking avatar needs speech")
            resampler = av.AudioResampler(format="flt", layout="mono", rate=sample_rate)
            chunks: list[NDArray[Any]] = []
            for frame in container.decode(container.streams.audio[0]):
                chunks.extend(out.to_ndarray()[0] for out in resampler.resample(frame))
            chunks.extend(out.to_ndarray()[0] for out in resampler.resample(None))
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(f"{path}: not readable audio ({error}); fetch it again") from error
    return np.concatenate(chunks).astype(np.float32) if chunks else np.zeros(0, np.float32)


def write_video(  # noqa: PLR0913 - a container has this many facts
    path: Path,
    frames: Frames,
    fps: int,
    waveform: Waveform | None = None,
    sample_rate: int = 16000,
    crf: int = 12,
) -> None:
    """Write h264 (yuv420p, one thread, bit-exact) and, with a waveform, aac; H and W must be even."""
    options = {"fflags": "+bitexact", "movflags": "+faststart"}
    with atomic_file(path) as temporary, av.open(str(temporary), "w", options=options) as container:
        video = cast("Any", container.add_stream("libx264", rate=Fraction(fps)))
        video.height, video.width, video.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        video.options = {
            "crf": str(crf),
            "preset": "medium",
            "threads": "1",
            "x264-params": "threads=1:cpu-independent=1",
        }
        video.codec_context.flags |= Flags.bitexact.value
        audio = None
        if waveform is not None:
            audio = cast("Any", container.add_stream("aac", rate=sample_rate))
            audio.layout = "mono"
            audio.codec_context.flags |= Flags.bitexact.value
        for image in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(video.encode())
        if audio is not None and waveform is not None:
            _encode_audio(container, audio, waveform, sample_rate)


def _encode_audio(container: Any, stream: Any, waveform: Waveform, sample_rate: int) -> None:
    """Feed the whole waveform to an aac stream."""
    frame = av.AudioFrame.from_ndarray(waveform.astype(np.float32)[None], format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = sample_rate, 0, Fraction(1, sample_rate)
    fifo = av.AudioFifo()
    fifo.write(frame)
    while (chunk := fifo.read(1024, partial=True)) is not None:
        container.mux(stream.encode(chunk))
    container.mux(stream.encode())


def write_wav(path: Path, waveform: Waveform, sample_rate: int) -> None:
    """Write 16-bit PCM mono."""
    samples = np.clip(np.round(waveform * 32767.0), -32768, 32767).astype("<i2")
    with atomic_file(path) as temporary, wave.open(str(temporary), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(samples.tobytes())
