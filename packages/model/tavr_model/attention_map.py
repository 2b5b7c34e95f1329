"""Which reference frames a generated frame looks at (paper Figure 1a): the attention of Eq. 2, added up by frame."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tavr_model.shapes import FrameMap, Heads


class AttentionProbe:
    """Adds up the share of attention that each target frame of one sample gives to each reference frame."""

    def __init__(self, sample: int) -> None:
        """Watch sample number `sample` of the batch."""
        self.sample = sample
        self._blocks: list[Tensor] = []

    def add(self, query: Heads, key: Heads, frames: int, reference: Sequence[int]) -> None:
        """Take in one block.

        Args:
            query: of the target's tokens [frames * n, heads, head dim], frame after frame.
            key: of all tokens that they attend to, the reference's last [m, heads, head dim].
            frames: latent frames of the target.
            reference: tokens of each reference frame.
        """
        rows: list[Tensor] = []
        keys = key.float().permute(1, 2, 0)
        for tokens in query.float().chunk(frames):
            weights = (tokens.transpose(0, 1) @ keys / query.shape[-1] ** 0.5).softmax(dim=-1)
            by_token = weights.mean(dim=(0, 1))[-sum(reference) :]
            rows.append(torch.stack([part.sum() for part in by_token.split(list(reference))]))
        self._blocks.append(torch.stack(rows))

    def map(self) -> FrameMap:
        """Mean over the blocks, [target latent frames, reference latent frames]; a row adds up to at most 1."""
        return torch.stack(self._blocks).mean(dim=0)
