"""Speech features for audio conditioning: every hidden state of a Wav2Vec2 model, one row a video frame.

Paper section 3.1 conditions on wav2vec2 features; which layers and windows are used is the model's choice, so all
hidden states are returned (facts: peers take one, all, or groups of them).
"""

from pathlib import Path

import numpy as np
import torch
from tavr_records.weight_files import require_files
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

from tavr_model.shapes import PlaceArray, PlaceRowArray, RowArray, SpeechArray, Waveform

SAMPLE_RATE = 16000
REQUIRED = ("config.json", "model.safetensors", "preprocessor_config.json")


def frame_positions(frames: int, fps: float, stride: int, receptive_field: int) -> PlaceArray:
    """Where the middle of each video frame lies on the axis of hidden states, float64 [frames].

    Frame f shows the samples from f/fps to (f+1)/fps seconds, so sample 0 belongs to frame 0. Hidden state j sees the
    samples j*stride ... j*stride + receptive_field - 1; both are represented by their middles.
    """
    middles = (np.arange(frames) + 0.5) * SAMPLE_RATE / fps
    return (middles - receptive_field / 2) / stride


def interpolate_rows(rows: RowArray, positions: PlaceArray) -> PlaceRowArray:
    """Linear interpolation of rows [n, ...] at fractional row numbers [m]; the ends hold beyond the first and last."""
    clamped = np.clip(positions, 0.0, len(rows) - 1)
    lower = np.minimum(np.floor(clamped).astype(np.intp), max(len(rows) - 2, 0))
    upper = np.minimum(lower + 1, len(rows) - 1)
    weight = (clamped - lower).astype(np.float32).reshape(-1, *([1] * (rows.ndim - 1)))
    return (rows[lower] * (1 - weight) + rows[upper] * weight).astype(np.float32)


@torch.no_grad()
def speech_features(
    model: Wav2Vec2Model,
    extractor: Wav2Vec2FeatureExtractor,
    waveform: Waveform,
    frames: int,
    fps: float,
) -> SpeechArray:
    """Hidden states float32 [frames, layers, dim] of mono 16 kHz samples [n] in [-1, 1].

    Layers are the projected convolution features and the output of every layer. The sound is cut, or filled with
    silence, to exactly `frames / fps` seconds before encoding, so that what is not in the video has no influence.

    Raises:
        ValueError: a waveform that is not one-dimensional or not finite, or no frame.
    """
    if waveform.ndim != 1 or frames < 1:
        raise ValueError(f"expected samples [n] and frames >= 1, got {waveform.shape} and {frames}")
    if not np.isfinite(waveform).all():
        raise ValueError("the waveform holds values that are not finite")
    stride, field = _stride_and_field(model)
    samples = max(round(frames * SAMPLE_RATE / fps), field)
    sound = np.zeros(samples, np.float32)
    kept = min(samples, len(waveform))
    sound[:kept] = waveform[:kept]
    batch = extractor(sound, sampling_rate=SAMPLE_RATE, return_tensors="pt")
    states = model(batch["input_values"].to(model.device, model.dtype), output_hidden_states=True).hidden_states
    rows = torch.stack(states, dim=2)[0].float().cpu().numpy()
    return interpolate_rows(rows, frame_positions(frames, fps, stride, field))


def _stride_and_field(model: Wav2Vec2Model) -> tuple[int, int]:
    """Samples between two hidden states, and samples that one of them sees."""
    kernels, strides = model.config.conv_kernel, model.config.conv_stride
    field = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        field = (field - 1) * stride + kernel
    return int(np.prod(strides)), int(field)


class SpeechEncoder:
    """Wav2Vec2 from a local directory (config.json, model.safetensors, preprocessor_config.json)."""

    def __init__(self, directory: Path) -> None:
        """Load offline in float32; InputError names a missing file."""
        require_files(directory, REQUIRED, "speech")
        self._extractor = Wav2Vec2FeatureExtractor.from_pretrained(directory, local_files_only=True)
        self._model = Wav2Vec2Model.from_pretrained(directory, local_files_only=True, dtype=torch.float32).eval()

    @property
    def layers(self) -> int:
        """Hidden states a frame."""
        return int(self._model.config.num_hidden_layers) + 1

    @property
    def dim(self) -> int:
        """Width of a hidden state."""
        return int(self._model.config.hidden_size)

    def encode(self, waveform: Waveform, frames: int, fps: float) -> SpeechArray:
        """`speech_features` of this encoder."""
        return speech_features(self._model, self._extractor, waveform, frames, fps)
