"""One packed sequence for a ragged batch: where each sample's tokens lie, and how they are routed through attention.

Per sample the order is [z | z_m | z_bg | z_ref]: the first part carries the sample's time t, the rest time 0; the
first three are the queries of Eq. 2 (`main`), all four its keys. Nothing is padded and dropped tokens never enter.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tavr_model.conditions import SampleInputs
from tavr_model.rope import grid_positions
from tavr_model.shapes import AudioWindows, Latents, Patches, Positions, TokenIndex

Grid = tuple[int, int, int]


@dataclass(frozen=True)
class RopeOffsets:
    """First temporal position of each token kind; motion frames precede the target within its own range."""

    target: int
    background: int
    reference: int


@dataclass(frozen=True)
class SampleLayout:
    """Token counts of one sample, and the token grid (frames, rows, columns) of its target.

    `reference_frames` splits the reference's tokens, cached ones too, by their latent frame.
    """

    grid: Grid
    target: int
    motion: int
    background: int
    reference: int
    reference_frames: tuple[int, ...]

    @property
    def main(self) -> int:
        """Tokens that attend to everything: target, motion and background."""
        return self.target + self.motion + self.background

    @property
    def total(self) -> int:
        """All tokens of the sample."""
        return self.main + self.reference


@dataclass(frozen=True)
class FrameGroup:
    """Frames whose tokens attend to their own audio, as one [frames, width] block of token slots.

    `gather` fills the slots from the group's tokens (a token is repeated where a frame has fewer than `width`), and
    `scatter` reads them back; both are None when every frame has exactly `width` tokens.
    """

    tokens: TokenIndex
    frames: int
    width: int
    gather: TokenIndex | None
    scatter: TokenIndex | None


@dataclass(frozen=True)
class PackedLayout:
    """The plan of a packed batch; `patches` [N, C * patch] are its tokens before embedding."""

    samples: tuple[SampleLayout, ...]
    patches: Patches
    positions: Positions
    audio_groups: tuple[FrameGroup, ...]
    audio_windows: AudioWindows | None

    @property
    def segments(self) -> list[tuple[int, int]]:
        """(token count, row of the time table) of each run of equal time; row len(samples) is time 0."""
        clean = len(self.samples)
        runs = [((s.target, row), (s.total - s.target, clean)) for row, s in enumerate(self.samples)]
        return [run for pair in runs for run in pair if run[0]]


def patchify(latents: Latents, patch: Grid) -> Patches:
    """[C, T, h, w] -> [tokens, C * pt * ph * pw], in the order of Wan's patch embedding."""
    channels = latents.shape[0]
    frames, rows, columns = (size // step for size, step in zip(latents.shape[1:], patch, strict=True))
    blocks = latents.reshape(channels, frames, patch[0], rows, patch[1], columns, patch[2])
    return blocks.permute(1, 3, 5, 0, 2, 4, 6).reshape(frames * rows * columns, channels * math.prod(patch))


def unpatchify(tokens: Patches, grid: Grid, patch: Grid) -> Latents:
    """[tokens, pt * ph * pw * C] (Wan's output order) -> [C, T, h, w]."""
    blocks = tokens.reshape(*grid, *patch, tokens.shape[1] // math.prod(patch)).permute(6, 0, 3, 1, 4, 2, 5)
    return blocks.flatten(5, 6).flatten(3, 4).flatten(1, 2)


@dataclass(frozen=True)
class _Kind:
    """Kept tokens of one kind of one sample, frame after frame; `counts` are those of each latent frame."""

    patches: Tensor
    positions: Tensor
    counts: Tensor


def _kind(latents: Tensor | None, keep: Tensor | None, patch: Grid, offset: int, like: Tensor) -> _Kind:
    """Patchify, position on the full grid, then keep the selected tokens."""
    if latents is None:
        none = torch.zeros(0, dtype=torch.long)
        return _Kind(like[:0], none.reshape(0, 3), none)
    frames, rows, columns = (size // step for size, step in zip(latents.shape[1:], patch, strict=True))
    patches, positions = patchify(latents, patch), grid_positions(frames, rows, columns, offset)
    counts = torch.full((frames,), rows * columns)
    if keep is not None:
        if keep.numel() != len(patches):
            raise ValueError(f"token mask {tuple(keep.shape)} does not fit the token grid {(frames, rows, columns)}")
        kept = keep.flatten().cpu()
        counts, chosen = kept.view(frames, -1).sum(1), kept.nonzero().squeeze(1)
        patches, positions = patches[chosen.to(patches.device)], positions[chosen]
    return _Kind(patches, positions, counts)


def plan_packing(samples: Sequence[SampleInputs], patch: Grid, offsets: RopeOffsets) -> PackedLayout:
    """Lay out a batch of samples as one sequence (see the module's docstring for the order)."""
    layouts: list[SampleLayout] = []
    patches: list[Tensor] = []
    positions: list[Tensor] = []
    dense, ragged = _FrameCollector(), _FrameCollector()
    start = 0
    for sample in samples:
        c = sample.conditions
        motion_frames = 0 if c.motion_latents is None else c.motion_latents.shape[1]
        z = _kind(sample.latents, None, patch, offsets.target + motion_frames, sample.latents.new_zeros(0))
        motion = _kind(c.motion_latents, None, patch, offsets.target, z.patches)
        background = _kind(c.bg_latents, c.bg_tokens, patch, offsets.background, z.patches)
        ref_latents, ref_audio = (None, None) if sample.reference is not None else (c.ref_latents, c.ref_audio)
        reference = _kind(ref_latents, c.ref_face_tokens, patch, offsets.reference, z.patches)
        frames, rows, columns = (size // step for size, step in zip(sample.latents.shape[1:], patch, strict=True))
        counts = [len(kind.patches) for kind in (z, motion, background, reference)]
        if c.driving_audio is not None:
            dense.add(z.counts, start, c.driving_audio[motion_frames:])
            dense.add(motion.counts, start + counts[0], c.driving_audio[:motion_frames])
        if ref_audio is not None:
            ragged.add(reference.counts, start + sum(counts[:3]), ref_audio)
        by_frame = tuple(reference.counts.tolist()) if sample.reference is None else sample.reference.frames
        layouts.append(SampleLayout((frames, rows, columns), *counts, reference_frames=by_frame))
        for kind in (z, motion, background, reference):
            patches.append(kind.patches)
            positions.append(kind.positions)
        start += sum(counts)
    windows, device = [*dense.windows, *ragged.windows], patches[0].device
    return PackedLayout(
        samples=tuple(layouts),
        patches=torch.cat(patches),
        positions=torch.cat(positions),
        audio_groups=tuple(group for group in (dense.group(device), ragged.group(device)) if group is not None),
        audio_windows=torch.cat(windows) if windows else None,
    )


class _FrameCollector:
    """Collects (frame, token) runs of several samples into one FrameGroup; frames without tokens are left out."""

    def __init__(self) -> None:
        self.windows: list[Tensor] = []
        self._tokens: list[Tensor] = []
        self._counts: list[int] = []

    def add(self, counts: Tensor, start: int, windows: Tensor) -> None:
        """Tokens `start`.. lie in latent frames of `counts` tokens each, whose audio is `windows`."""
        if len(counts) != len(windows):
            raise ValueError(f"{len(windows)} audio windows for {len(counts)} latent frames; one window each is needed")
        present = counts.nonzero().squeeze(1)
        if len(present) == 0:
            return
        self.windows.append(windows if len(present) == len(windows) else windows[present.to(windows.device)])
        self._tokens.append(torch.arange(start, start + int(counts.sum())))
        self._counts.extend(counts[present].tolist())

    def group(self, device: torch.device) -> FrameGroup | None:
        """The collected frames as one block of slots."""
        if not self._counts:
            return None
        tokens, frames, width = torch.cat(self._tokens).to(device), len(self._counts), max(self._counts)
        if min(self._counts) == width:
            return FrameGroup(tokens, frames, width, None, None)
        counts = torch.tensor(self._counts)
        first = counts.cumsum(0) - counts
        slot = torch.arange(width)[None]
        gather = (first[:, None] + slot.minimum(counts[:, None] - 1)).flatten()
        scatter = (slot < counts[:, None]).flatten().nonzero().squeeze(1)
        return FrameGroup(tokens, frames, width, gather.to(device), scatter.to(device))
