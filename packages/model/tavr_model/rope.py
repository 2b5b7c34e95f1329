"""Rotary positions: assigned on the full grid, gathered for the tokens that are kept (paper: Token Selection).

Target frames sit at t = 0..; the background and the reference get offsets of their own (choice 3: ~30 keeps the model
from taking a reference frame for the continuation of the video and copying its pose; Wan-S2V and LongCat do the same).
"""

from typing import cast

import torch
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from torch import Tensor

from tavr_model.shapes import AnyHeads, AnyRotary, Positions, Rotary


def grid_positions(frames: int, rows: int, columns: int, frame_offset: int) -> Positions:
    """Positions (t, h, w) of a full token grid, [frames * rows * columns, 3], t counted from `frame_offset`."""
    axes = (torch.arange(frames) + frame_offset, torch.arange(rows), torch.arange(columns))
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)


def gather_rotary(rope: WanRotaryPosEmbed, positions: Positions) -> Rotary:
    """Complex rotations [N, 1, head_dim / 2] of tokens at `positions` [N, 3], from Wan's own tables.

    Raises:
        ValueError: a position beyond the table (`rope_max_seq_len`).
    """
    if positions.numel() and int(positions.max()) >= rope.max_seq_len:
        raise ValueError(
            f"rotary position {int(positions.max())} is beyond rope_max_seq_len {rope.max_seq_len}; "
            "use fewer reference frames or a smaller offset"
        )
    cosines, sines = cast("Tensor", rope.freqs_cos), cast("Tensor", rope.freqs_sin)
    positions = positions.to(cosines.device)
    sizes = (rope.t_dim, rope.h_dim, rope.w_dim)
    cos = [table[rows] for table, rows in zip(cosines.split(sizes, dim=1), positions.unbind(1), strict=True)]
    sin = [table[rows] for table, rows in zip(sines.split(sizes, dim=1), positions.unbind(1), strict=True)]
    # Wan's tables repeat every angle for both halves of a pair; one of the two is enough for a complex number.
    return torch.complex(torch.cat(cos, 1)[:, 0::2].float(), torch.cat(sin, 1)[:, 0::2].float()).unsqueeze(1)


def rotate(heads: AnyHeads, rotary: AnyRotary) -> AnyHeads:
    """Turn the interleaved pairs of `heads` by `rotary`; computed in float32."""
    pairs = torch.view_as_complex(heads.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotary).flatten(-2).type_as(heads)
