"""Speech for the transformer: windows of encoder features around each latent frame, projected to L tokens of width d.

Choice 7: eight pixel frames a latent frame, 4j-5 .. 4j+2 for the global latent j (its own four and two on each side),
all layers of the speech encoder; latent 0 reads the same way, with zeros before the first frame (as HuMo).
"""

import torch
from torch import nn

from tavr_model.shapes import AudioFeatures, AudioTokens, AudioWindows

FRAMES_PER_LATENT = 4
WINDOW = 8
LEAD = 5


def audio_windows(
    features: AudioFeatures, frames: int, first_latent: int = 0, start_frame: int = 0, window: int = WINDOW
) -> AudioWindows:
    """Cut [frames, window, layers, features] from per-frame `features` [F, layers, features] at 25 fps.

    Args:
        features: of the whole clip.
        frames: number of latent frames to serve.
        first_latent: global index of the first of them (> 0 in the later windows of a long video).
        start_frame: pixel frame of `features` that latent 0 encodes (a reference window starts inside its clip).
        window: frames a latent frame hears.

    Frames before the start or beyond the end of `features` are zeros.
    """
    latents = torch.arange(first_latent, first_latent + frames)
    rows = start_frame + FRAMES_PER_LATENT * latents[:, None] - LEAD + torch.arange(window)[None]
    inside = (rows >= 0) & (rows < len(features))
    cut = features[rows.clamp(0, max(len(features) - 1, 0))]
    return cut * inside[..., None, None].to(cut.dtype)


class AudioProjector(nn.Module):
    """A window of speech features to L audio tokens of the transformer's width (shape of MultiTalk's projector)."""

    def __init__(  # noqa: PLR0913 - the shape of two ends and a middle
        self, window: int, layers: int, features: int, hidden: int, tokens: int, width: int
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self.linear_1 = nn.Linear(window * layers * features, hidden)
        self.linear_2 = nn.Linear(hidden, hidden)
        self.linear_3 = nn.Linear(hidden, tokens * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, windows: AudioWindows) -> AudioTokens:
        """[F, window, layers, features] -> [F, L, width]."""
        hidden = torch.relu(self.linear_1(windows.flatten(1)))
        hidden = torch.relu(self.linear_2(hidden))
        return self.norm(self.linear_3(hidden).unflatten(-1, (self.tokens, -1)))
