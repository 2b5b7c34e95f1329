"""The SyncNet v2 network: a visual CNN over five face crops and an audio CNN over twenty MFCC steps.

With `SyncNetConfig(width=1.0, crop_size=224, ...)` the parameter names and shapes are those of the public
`syncnet_v2.model`, so its tensors load after a one-time conversion to safetensors.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

FRAMES, MFCC_STEPS, MFCC_PER_FRAME = 5, 20, 4
AUDIO_CHANNELS = (64, 192, 384, 256, 256, 512)
VISUAL_CHANNELS = (96, 256, 256, 256, 256, 512)
HIDDEN = 512


@dataclass(frozen=True)
class SyncNetConfig:
    """Sizes and conventions of a checkpoint (its config.json).

    width: factor on the published channel counts. embedding: features per window. crop_size: pixels of a square crop.
    crop_scale, crop_shift: the crop is a square of half-side `crop_scale * s` around the face box's centre moved down
    by `crop_shift * s`, where s is half of the box's longer side (published: 1.4 and 0.4). edge: "zeros" compares
    with zero features beyond the ends, as published; "overlap" averages only over windows that exist.
    """

    width: float
    embedding: int
    crop_size: int
    crop_scale: float
    crop_shift: float
    edge: str


def spatial_size(crop_size: int) -> int:
    """Side of the feature map under the last visual convolution: 6 for the published 224."""
    size = (crop_size - 7) // 2 + 1
    size = (size - 3) // 2 + 1
    size = (size + 2 - 5) // 2 + 1
    size = (size + 2 - 3) // 2 + 1
    return (size - 3) // 2 + 1


def _audio_cnn(channels: tuple[int, ...]) -> nn.Sequential:
    a, b, c, d, e, f = channels
    return nn.Sequential(
        nn.Conv2d(1, a, (3, 3), (1, 1), (1, 1)), nn.BatchNorm2d(a), nn.ReLU(),
        nn.MaxPool2d((1, 1), (1, 1)),
        nn.Conv2d(a, b, (3, 3), (1, 1), (1, 1)), nn.BatchNorm2d(b), nn.ReLU(),
        nn.MaxPool2d((3, 3), (1, 2)),
        nn.Conv2d(b, c, (3, 3), 1, (1, 1)), nn.BatchNorm2d(c), nn.ReLU(),
        nn.Conv2d(c, d, (3, 3), 1, (1, 1)), nn.BatchNorm2d(d), nn.ReLU(),
        nn.Conv2d(d, e, (3, 3), 1, (1, 1)), nn.BatchNorm2d(e), nn.ReLU(),
        nn.MaxPool2d((3, 3), (2, 2)),
        nn.Conv2d(e, f, (5, 4)), nn.BatchNorm2d(f), nn.ReLU(),
    )  # fmt: skip


def _visual_cnn(channels: tuple[int, ...], last_kernel: int) -> nn.Sequential:
    a, b, c, d, e, f = channels
    return nn.Sequential(
        nn.Conv3d(3, a, (FRAMES, 7, 7), (1, 2, 2)), nn.BatchNorm3d(a), nn.ReLU(),
        nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
        nn.Conv3d(a, b, (1, 5, 5), (1, 2, 2), (0, 1, 1)), nn.BatchNorm3d(b), nn.ReLU(),
        nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        nn.Conv3d(b, c, (1, 3, 3), 1, (0, 1, 1)), nn.BatchNorm3d(c), nn.ReLU(),
        nn.Conv3d(c, d, (1, 3, 3), 1, (0, 1, 1)), nn.BatchNorm3d(d), nn.ReLU(),
        nn.Conv3d(d, e, (1, 3, 3), 1, (0, 1, 1)), nn.BatchNorm3d(e), nn.ReLU(),
        nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
        nn.Conv3d(e, f, (1, last_kernel, last_kernel)), nn.BatchNorm3d(f), nn.ReLU(),
    )  # fmt: skip


def _projection(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class SyncNet(nn.Module):
    """Two towers whose features lie close together when mouth and sound belong together."""

    def __init__(self, config: SyncNetConfig) -> None:
        super().__init__()
        audio = tuple(round(count * config.width) for count in AUDIO_CHANNELS)
        visual = tuple(round(count * config.width) for count in VISUAL_CHANNELS)
        hidden = round(HIDDEN * config.width)
        self.netcnnaud = _audio_cnn(audio)
        self.netfcaud = _projection(audio[-1], hidden, config.embedding)
        self.netfclip = _projection(visual[-1], hidden, config.embedding)
        self.netcnnlip = _visual_cnn(visual, spatial_size(config.crop_size))

    def forward_audio(self, mfcc: Tensor) -> Tensor:
        """Features [N, embedding] of MFCC windows [N, 1, 13, 20]."""
        return self.netfcaud(self.netcnnaud(mfcc).flatten(1))

    def forward_visual(self, crops: Tensor) -> Tensor:
        """Features [N, T - 4, embedding] of BGR crops [N, 3, T, S, S] in 0..255: one a window of five frames.

        Only the first convolution spans frames, so a whole clip gives exactly the features of its windows one by one.
        """
        features = self.netcnnlip(crops).flatten(2).transpose(1, 2)
        count, windows, _ = features.shape
        return self.netfclip(features.flatten(0, 1)).view(count, windows, -1)


def audio_windows(mfcc: Tensor, count: int) -> Tensor:
    """Windows [count, 1, 13, 20] of MFCC rows [n, 13]: window v begins at step 4 v."""
    steps = mfcc.T.unfold(1, MFCC_STEPS, MFCC_PER_FRAME)[:, :count]
    return steps.permute(1, 0, 2).unsqueeze(1).contiguous()


def offset_distances(visual: Tensor, audio: Tensor, max_offset: int, edge: str) -> Tensor:
    """Mean distance [2 * max_offset + 1] between visual window i and audio window i + k - max_offset.

    visual, audio: [W, embedding]. The distance is torch's pairwise_distance, as published.
    """
    count = len(visual)
    distances: list[Tensor] = []
    for shift in range(-max_offset, max_offset + 1):
        low, high = max(0, -shift), min(count, count - shift)
        if edge == "zeros":
            partner = torch.zeros_like(audio)
            partner[low:high] = audio[low + shift : high + shift]
            distances.append(nn.functional.pairwise_distance(visual, partner).mean())
        else:
            distances.append(
                nn.functional.pairwise_distance(visual[low:high], audio[low + shift : high + shift]).mean()
            )
    return torch.stack(distances)
