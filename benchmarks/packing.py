"""A ragged batch packed into one sequence, against the same batch padded to its longest sample under a key mask.

Both sides are the reference self-attention (paper Eq. 2) and the FFN of one block with their norms and residuals, by
the same weights and the same norm and rotation functions, so that they differ in the layout only. Time modulation and
the cross-attentions are left out of both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from diffusers.models.transformers.transformer_wan import WanAttention
from tavr_model.attention import reference_self_attention
from tavr_model.conditions import Conditions, SampleInputs
from tavr_model.packing import PackedLayout
from tavr_model.rms_norm import rms_norm
from tavr_model.rope import gather_rotary, rotate
from tavr_model.transformer import TAVRTransformer3DModel, TAVRTransformerBlock
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.case import Case, same_output, seconds
from benchmarks.method import Target
from benchmarks.scale_model import scale_model

OF_BOUND = 0.95
LATENT_SIZE = (14, 24)


@dataclass(frozen=True)
class StreamFrames:
    """Latent frames of one sample: `main` (target and one background frame, or none) and `reference`; all tokens."""

    main: int
    reference: int


# References of 20 to 48 pixel frames, as `encode_references` gets them; then stills and clips of 1 to 21 latents.
REFERENCE_ONLY = tuple(StreamFrames(0, frames) for frames in (12, 11, 8, 8, 7, 6, 5, 5))
MIXED = tuple(StreamFrames(*frames) for frames in ((22, 12), (14, 9), (6, 5), (4, 5), (2, 2), (2, 2)))


@dataclass(frozen=True)
class PackedBatch:
    """Tokens [N, d] of all samples in `layout`'s order, and their rotations [N, 1, head_dim / 2]."""

    hidden: Tensor
    rotary: Tensor
    layout: PackedLayout


@dataclass(frozen=True)
class PaddedBatch:
    """The same tokens as [B, M + R, d]: each sample's main tokens padded to M, then its reference tokens to R.

    Attributes:
        hidden: [B, M + R, d], zeros where there is no token.
        rotary: [B, M + R, 1, head_dim / 2].
        keys: bool [B, 1, 1, M + R], True where there is a token.
        main: M; 0 when no sample has main tokens.
    """

    hidden: Tensor
    rotary: Tensor
    keys: Tensor
    main: int


def packed_batch(model: TAVRTransformer3DModel, frames: Sequence[StreamFrames], seed: int = 0) -> PackedBatch:
    """Lay out samples of these latent frames as the model does, with normal tokens of `seed` of the model's width."""
    config, generator = model.config, torch.Generator().manual_seed(seed)
    channels = config["in_channels"]
    layout = model.plan([_sample(channels, one) for one in frames])
    width = config["num_attention_heads"] * config["attention_head_dim"]
    hidden = torch.randn(len(layout.patches), width, generator=generator)
    return PackedBatch(hidden, gather_rotary(model.rope, layout.positions), layout)


def _sample(channels: int, frames: StreamFrames) -> SampleInputs:
    def latents(count: int) -> Tensor:
        return torch.zeros(channels, count, *LATENT_SIZE)

    conditions = Conditions(
        text_embeds=torch.zeros(0, 1),
        bg_latents=latents(1) if frames.main else None,
        ref_latents=latents(frames.reference),
    )
    return SampleInputs(latents(max(frames.main - 1, 0)), conditions)


def _padded(packed: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """[N, ...] -> [B, M + R, ...] for samples of (main, reference) tokens, zeros elsewhere."""
    pieces = packed.split([size for pair in sizes for size in pair])
    return torch.cat([pad_sequence(list(pieces[part::2]), batch_first=True) for part in (0, 1)], dim=1)


def _sizes(layout: PackedLayout) -> list[tuple[int, int]]:
    return [(sample.main, sample.reference) for sample in layout.samples]


def padded_batch(batch: PackedBatch) -> PaddedBatch:
    """The same tokens, padded."""
    sizes = _sizes(batch.layout)
    keys = _padded(torch.ones(len(batch.hidden), dtype=torch.bool), sizes)[:, None, None]
    return PaddedBatch(_padded(batch.hidden, sizes), _padded(batch.rotary, sizes), keys, max(main for main, _ in sizes))


def packed_block(block: TAVRTransformerBlock, batch: PackedBatch) -> Tensor:
    """Self-attention and FFN of the block on packed tokens, by the model's own attention: [N, d]."""
    none = [None] * len(batch.layout.samples)
    return _block(
        block,
        batch.hidden,
        lambda normed: reference_self_attention(block.attn1, normed, batch.layout, batch.rotary, none),
    )


def padded_block(block: TAVRTransformerBlock, batch: PaddedBatch) -> Tensor:
    """The same on padded tokens, [B, M + R, d]; what it gives where there is no token means nothing."""
    return _block(block, batch.hidden, lambda normed: _padded_attention(block.attn1, normed, batch))


def _block(block: TAVRTransformerBlock, hidden: Tensor, attention: Callable[[Tensor], Tensor]) -> Tensor:
    hidden = hidden + attention(block.norm1(hidden))
    return hidden + block.ffn(block.norm3(hidden))


def _padded_attention(attn: WanAttention, hidden: Tensor, batch: PaddedBatch) -> Tensor:
    """Eq. 2 in two calls of SDPA: main tokens over all keys, reference tokens over the reference's."""

    def heads(projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (attn.heads, -1))

    query = rotate(heads(rms_norm(attn.to_q(hidden), attn.norm_q.weight, attn.norm_q.eps or 1e-6)), batch.rotary)
    key = rotate(heads(rms_norm(attn.to_k(hidden), attn.norm_k.weight, attn.norm_k.eps or 1e-6)), batch.rotary)
    query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, heads(attn.to_v(hidden))))
    main = batch.main
    parts = [_masked(query[:, :, main:], key[:, :, main:], value[:, :, main:], batch.keys[..., main:])]
    if main:
        parts.insert(0, _masked(query[:, :, :main], key, value, batch.keys))
    attended = torch.cat(parts, dim=2).transpose(1, 2).flatten(2)
    return attn.to_out[0](attended)


def _masked(query: Tensor, key: Tensor, value: Tensor, keys: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, attn_mask=keys)


def unpadded(padded: Tensor, batch: PackedBatch) -> Tensor:
    """[B, M + R, d] -> [N, d], the tokens in packed order."""
    sizes = _sizes(batch.layout)
    main = max(size for size, _ in sizes)
    rows = [(row[:m], row[main : main + r]) for row, (m, r) in zip(padded.unbind(0), sizes, strict=True)]
    return torch.cat([part for pair in rows for part in pair])


def padding(batch: PackedBatch) -> float:
    """Padding tokens over tokens, 0 for a batch without padding."""
    sizes = _sizes(batch.layout)
    longest = max(main for main, _ in sizes) + max(reference for _, reference in sizes)
    return len(sizes) * longest / len(batch.hidden) - 1


def counted_flops(work: Callable[[], object]) -> int:
    """FLOPs of matrix products and attention, by torch's FlopCounterMode."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def flop_bound(block: TAVRTransformerBlock, packed: PackedBatch, padded: PaddedBatch) -> float:
    """The padded block's FLOPs over the packed block's."""
    return counted_flops(lambda: padded_block(block, padded)) / counted_flops(lambda: packed_block(block, packed))


def packing_case(what: str, frames: Sequence[StreamFrames]) -> Case:
    """Packed against padded on a batch of these samples."""
    model = scale_model()
    block = cast("TAVRTransformerBlock", model.blocks[0])
    packed = packed_batch(model, frames)
    padded = padded_batch(packed)
    same_output(unpadded(padded_block(block, padded), packed), packed_block(block, packed))
    bound = flop_bound(block, packed, padded)
    return Case(
        what=f"self-attention and FFN of one block, packed: {len(frames)} {what}",
        anchor=f"padded by {padding(packed):.0%}, SDPA with a key mask",
        analytic=bound,
        target=Target(OF_BOUND * bound),
        run_anchor=lambda: seconds(lambda: padded_block(block, padded)),
        run_ours=lambda: seconds(lambda: packed_block(block, packed)),
    )
