"""Lip sync of a video: Sync-D, Sync-C and the offset (paper section 4, metrics), as published for SyncNet v2.

25 frames and 16,000 samples a second; a window is 5 face crops against 20 MFCC steps. Rule for short clips: a clip of
n frames has n - 5 windows, and offsets are searched over +-min(15, windows // 2); from 35 frames on that is the
published +-15.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from scipy.signal import medfilt
from tavr_records.errors import InputError
from tavr_records.weight_files import require_files

from tavr_perception.mfcc import mfcc
from tavr_perception.syncnet import FRAMES, SyncNet, SyncNetConfig, audio_windows, offset_distances

SAMPLE_RATE, FPS = 16000, 25
MAX_OFFSET = 15
TRACK_SMOOTHING = 13
BORDER = (110, 110, 110)
CHUNK = 128
"""Audio windows a forward pass; visual frames a forward pass are four more."""

Frames = NDArray[np.uint8]
Boxes = NDArray[np.float32]


@dataclass(frozen=True)
class SyncScore:
    """sync_c: median minus minimum over offsets of the mean distance (higher is better); sync_d: the minimum (lower).

    offset in frames, published sign: sound that comes k frames late gives -k. All NaN / 0 when no frame has a face.
    """

    sync_c: float
    sync_d: float
    offset: int


def filled_boxes(boxes: Boxes) -> Boxes | None:
    """Boxes [T, 4] with the rows that are not finite interpolated from their neighbours; None when all are missing."""
    found = np.isfinite(boxes).all(axis=1)
    if not found.any():
        return None
    rows = np.arange(len(boxes))
    return np.stack([np.interp(rows, rows[found], boxes[found, side]) for side in range(4)], axis=1).astype(np.float32)


def crop_faces(frames: Frames, boxes: Boxes, config: SyncNetConfig) -> Frames:
    """BGR squares uint8 [T, S, S, 3] along the median-smoothed face track `boxes` [T, 4] (x0, y0, x1, y1)."""
    length = min(TRACK_SMOOTHING, len(boxes) - (1 - len(boxes) % 2))
    half = medfilt(np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]) / 2, length)
    x, y = medfilt((boxes[:, 0] + boxes[:, 2]) / 2, length), medfilt((boxes[:, 1] + boxes[:, 3]) / 2, length)
    # medfilt takes zeros beyond the ends; there the unsmoothed track holds.
    edge = length // 2
    for smooth, raw in (
        (half, np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]) / 2),
        (x, (boxes[:, 0] + boxes[:, 2]) / 2),
        (y, (boxes[:, 1] + boxes[:, 3]) / 2),
    ):
        smooth[:edge], smooth[len(raw) - edge :] = raw[:edge], raw[len(raw) - edge :]
    crops = np.empty((len(frames), config.crop_size, config.crop_size, 3), np.uint8)
    for index, frame in enumerate(frames):
        reach = max(float(half[index]) * config.crop_scale, 1.0)
        left, top = float(x[index]) - reach, float(y[index]) + float(half[index]) * config.crop_shift - reach
        scale = config.crop_size / (2 * reach)
        matrix = np.array([[scale, 0, -left * scale - 0.5 + 0.5 * scale], [0, scale, -top * scale - 0.5 + 0.5 * scale]])
        square = (config.crop_size, config.crop_size)
        crops[index] = cv2.warpAffine(frame, matrix, square, flags=cv2.INTER_LINEAR, borderValue=BORDER)[..., ::-1]
    return crops


def to_int16(waveform: NDArray[np.float32]) -> NDArray[np.int16]:
    """Samples in [-1, 1] on the 16-bit grid that the published features are computed on."""
    return np.clip(np.round(waveform.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)


class LipSync:
    """SyncNet from a local directory: `model.safetensors` and `config.json` (fields of SyncNetConfig)."""

    def __init__(self, directory: Path) -> None:
        """Load offline; InputError names a missing file or a bad field."""
        require_files(directory, ("config.json", "model.safetensors"), "lipsync")
        values = json.loads((directory / "config.json").read_text())
        if set(values) != {field.name for field in fields(SyncNetConfig)}:
            raise InputError(f"{directory / 'config.json'}: fields {sorted(values)} are not those of SyncNetConfig")
        if values["edge"] not in ("zeros", "overlap"):
            raise InputError(f'{directory / "config.json"}: edge is {values["edge"]!r}; write "zeros" or "overlap"')
        self.config = SyncNetConfig(**values)
        self._network = SyncNet(self.config)
        state = {name: tensor.float() for name, tensor in load_file(directory / "model.safetensors").items()}
        state |= {name: x for name, x in self._network.named_buffers() if name.endswith("num_batches_tracked")}
        self._network.load_state_dict(state)
        self._network.eval()

    @torch.no_grad()
    def features(
        self, frames: Frames, boxes: Boxes, waveform: NDArray[np.float32]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Visual and audio features [W, embedding] of a clip; `boxes` without gaps. W = frames both have, minus 5."""
        samples_a_frame = SAMPLE_RATE // FPS
        count = min(len(frames), len(waveform) // samples_a_frame) - FRAMES
        if count < 3:
            raise ValueError(
                f"{len(frames)} frames and {len(waveform)} samples are too short: 8 frames and their sound"
            )
        crops = crop_faces(frames[: count + FRAMES - 1], boxes[: count + FRAMES - 1], self.config)
        pixels = torch.from_numpy(crops).permute(3, 0, 1, 2).float()
        sound = audio_windows(torch.from_numpy(mfcc(to_int16(waveform), SAMPLE_RATE)).float(), count)
        visual = [
            self._network.forward_visual(pixels[None, :, start : min(start + CHUNK, count) + FRAMES - 1])[0]
            for start in range(0, count, CHUNK)
        ]
        audio = [self._network.forward_audio(sound[start : start + CHUNK]) for start in range(0, count, CHUNK)]
        return torch.cat(visual), torch.cat(audio)

    def score(self, frames: Frames, boxes: Boxes, waveform: NDArray[np.float32], fps: float) -> SyncScore:
        """Sync of frames uint8 [T, H, W, 3] RGB, face boxes float32 [T, 4] (NaN: no face) and 16 kHz samples [n].

        Frames without a face take their box from the neighbours. ValueError when fps is not 25 or the clip is shorter
        than 8 frames.
        """
        if fps != FPS:
            raise ValueError(f"SyncNet is defined at {FPS} frames a second, got {fps}; resample the video first")
        track = filled_boxes(boxes)
        if track is None:
            return SyncScore(float("nan"), float("nan"), 0)
        visual, audio = self.features(frames, track, waveform)
        reach = min(MAX_OFFSET, len(visual) // 2)
        distances = offset_distances(visual, audio, reach, self.config.edge)
        best = int(distances.argmin())
        lowest = float(distances[best])
        return SyncScore(float(distances.median()) - lowest, lowest, reach - best)
