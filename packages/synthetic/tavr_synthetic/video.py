"""Write rendered frames and sound as a real mp4: h264 and aac, the same bytes every time.

Colours go to YUV in integer arithmetic here, because the scaler's vector code differs between CPUs; x264 runs with one
thread and `cpu-independent=1`, because its output depends on both otherwise; containers carry no time stamps. The aac
encoder is the one part whose bytes still differ between CPUs with and without FMA.
"""

from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import numpy.typing as npt
from tavr_records.atomic import atomic_file

Frames = npt.NDArray[np.uint8]
AAC_BIT_RATE = 64_000
AAC_FRAME = 1024


def _weighted(frames: npt.NDArray[np.int32], weights: tuple[int, int, int]) -> npt.NDArray[np.int32]:
    """Weighted sum of the three channels, [T, H, W]."""
    return frames[..., 0] * weights[0] + frames[..., 1] * weights[1] + frames[..., 2] * weights[2]


def to_yuv420p(frames: Frames) -> Frames:
    """RGB [T, H, W, 3] to planar BT.601 limited-range YUV 4:2:0, uint8 [T, H * 3 / 2, W]; H and W must be even."""
    count, height, width, _ = frames.shape
    wide = frames.astype(np.int32)
    luma = ((_weighted(wide, (66, 129, 25)) + 128) >> 8) + 16
    blocks = wide.reshape(count, height // 2, 2, width // 2, 2, 3)
    mean = blocks[:, :, 0, :, 0] + blocks[:, :, 0, :, 1] + blocks[:, :, 1, :, 0] + blocks[:, :, 1, :, 1]
    blue = ((_weighted(mean, (-38, -74, 112)) + 512) >> 10) + 128
    red = ((_weighted(mean, (112, -94, -18)) + 512) >> 10) + 128
    planes = [plane.reshape(count, -1) for plane in (luma, blue, red)]
    return np.concatenate(planes, axis=1).astype(np.uint8).reshape(count, height * 3 // 2, width)


def _encode_sound(container: Any, stream: Any, waveform: npt.NDArray[np.float32], sample_rate: int) -> None:
    """Feed a mono waveform to the aac stream, one codec frame at a time."""
    for start in range(0, len(waveform), AAC_FRAME):
        chunk = waveform[None, start : start + AAC_FRAME]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(chunk), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = sample_rate, start, Fraction(1, sample_rate)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def write_mp4(  # noqa: PLR0913 - a container has this many facts
    path: Path,
    frames: Frames,
    waveform: npt.NDArray[np.float32] | None,
    fps: float,
    sample_rate: int = 16000,
    crf: int = 17,
    preset: str = "medium",
) -> Path:
    """Write frames uint8 [T, H, W, 3] and mono sound float32 [samples] (None: no audio track); returns `path`.

    The file appears under its name only when it is complete. ValueError when H or W is odd or there is no frame.
    """
    count, height, width, _ = frames.shape
    if count == 0 or height % 2 or width % 2:
        raise ValueError(f"mp4 needs at least one frame and even sizes, not {count} frames of {height}x{width}")
    rate = Fraction(fps).limit_denominator(1001)
    with atomic_file(path) as temporary, av.open(str(temporary), "w", "mp4", options={"fflags": "+bitexact"}) as file:
        container = cast("Any", file)
        video = container.add_stream("libx264", rate=rate)
        video.height, video.width, video.pix_fmt = height, width, "yuv420p"
        video.options = {"crf": str(crf), "preset": preset, "threads": "1", "flags": "+bitexact"}
        video.options |= {"x264-params": "cpu-independent=1"}
        sound = None
        if waveform is not None:
            sound = container.add_stream("aac", rate=sample_rate, layout="mono")
            sound.bit_rate = AAC_BIT_RATE
            sound.options = {"flags": "+bitexact", "threads": "1"}
        for index, plane in enumerate(to_yuv420p(frames)):
            frame = av.VideoFrame.from_ndarray(plane, format="yuv420p")
            frame.pts, frame.time_base = index, 1 / rate
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None and waveform is not None:
            _encode_sound(container, sound, waveform, sample_rate)
    return path
