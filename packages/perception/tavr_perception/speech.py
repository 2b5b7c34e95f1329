"""Speech features for audio conditioning: every hidden state of a Wav2Vec2 model, one row a video frame.

Paper section 3.1 conditions on wav2vec2 features; which layers and windows are used is the model's choice, so all
hidden states are returned (facts: peers take one, all, or groups of them).
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

from tavr_perception.weight_files import require_files

SAMPLE_RATE = 16000
REQUIRED = ("config.json", "model.safetensors", "preprocessor_config.json")


def frame_positions(frames: int, fps: float, stride: int, receptive_field: int) -> NDArray[np.float64]:
    """Where the middle of each video frame lies on the axis of hidden states, float64 [frames].

    Frame f shows the samples from f/fps to (f+1)/fps seconds, so sample 0 belongs to frame 0. Hidden state j sees the
    samples j*stride ... j*stride + receptive_field - 1; both are represented by their middles.
    """
    middles = (np.arange(frames) + 0.5) * SAMPLE_RATE / fps
    return (middles - receptive_field / 2) / stride


def interpolate_rows(rows: NDArray[np.float32], positions: NDArray[np.float64]) -> NDArray[np.float32]:
    """Linear interpolation of rows [n, ...] at fractional row numbers [m]; the ends hold beyond the first and last."""
    clamped = np.clip(positions, 0.0, len(rows) - 1)
    lower = np.minimum(np.floor(clamped).astype(np.intp), max(len(rows) - 2, 0))
    upper = np.minimum(lower + 1, len(rows) - 1)
    weight = (clamped - lower).astype(np.float32).reshape(-1, *([1] * (rows.ndim - 1)))
    return (rows[lower] * (1 - weight) + rows[upper] * weight).astype(np.float32)


class SpeechEncoder:
    """Wav2Vec2 from a local directory (config.json, model.safetensors, preprocessor_config.json)."""

    def __init__(self, directory: Path) -> None:
        """Load offline in float32; InputError names a missing file."""
        require_files(directory, REQUIRED, "speech")
        self._extractor = Wav2Vec2FeatureExtractor.from_pretrained(directory, local_files_only=True)
        self._model = Wav2Vec2Model.from_pretrained(directory, local_files_only=True, dtype=torch.float32).eval()
        config = self._model.config
        self._stride = int(np.prod(config.conv_stride))
        field = 1
        for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
            field = (field - 1) * stride + kernel
        self._receptive_field = int(field)

    @property
    def layers(self) -> int:
        """Hidden states a frame: the projected convolution features and the output of every layer."""
        return int(self._model.config.num_hidden_layers) + 1

    @property
    def dim(self) -> int:
        """Width of a hidden state."""
        return int(self._model.config.hidden_size)

    @torch.no_grad()
    def encode(self, waveform: NDArray[np.float32], frames: int, fps: float) -> NDArray[np.float32]:
        """Hidden states float32 [frames, layers, dim] of mono 16 kHz samples [n] in [-1, 1].

        The sound is cut, or filled with silence, to exactly `frames / fps` seconds before encoding, so that what is
        not in the video has no influence. ValueError for a waveform that is not one-dimensional or not finite.
        """
        if waveform.ndim != 1 or frames < 1:
            raise ValueError(f"expected samples [n] and frames >= 1, got {waveform.shape} and {frames}")
        if not np.isfinite(waveform).all():
            raise ValueError("the waveform holds values that are not finite")
        samples = max(round(frames * SAMPLE_RATE / fps), self._receptive_field)
        sound = np.zeros(samples, np.float32)
        kept = min(samples, len(waveform))
        sound[:kept] = waveform[:kept]
        batch = self._extractor(sound, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        states = self._model(batch["input_values"], output_hidden_states=True).hidden_states
        rows = torch.stack(states, dim=2)[0].numpy()
        return interpolate_rows(rows, frame_positions(frames, fps, self._stride, self._receptive_field))
