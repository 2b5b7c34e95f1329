"""The network once more, as its definition reads: nothing packed, nothing dropped, everything masked.

Every sample keeps its whole grids, padded to the longest of the batch; one joint attention under the block mask of
Eq. 2, one time a token, every prompt padded to `text_len`, audio by a mask between tokens and frames. It shares the
weights with the model and no code but diffusers' own modules.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from tavr_model.conditions import SampleInputs
from torch import Tensor

REFERENCE, BACKGROUND, MOTION, TARGET, NOTHING = range(5)


@dataclass
class Padded:
    """[B, S, ...]: tokens, what kind they are, whether they are kept, positions (t, h, w), frame of their audio."""

    tokens: Tensor
    kind: Tensor
    kept: Tensor
    positions: Tensor
    frame: Tensor


def pad_batch(model, samples: Sequence[SampleInputs]) -> tuple[Padded, list[Tensor | None]]:
    """Reference, background, motion, target of each sample (not the packed order), and its audio [F, L, d]."""
    config, rows, audio = model.config, [], []
    for sample in samples:
        c, windows, parts = sample.conditions, [], []
        motion = 0 if c.motion_latents is None else c.motion_latents.shape[1]
        driving = (None, None) if c.driving_audio is None else (c.driving_audio[:motion], c.driving_audio[motion:])
        for kind, latents, keep, offset, heard in (
            (REFERENCE, c.ref_latents, c.ref_face_tokens, config["reference_offset"], c.ref_audio),
            (BACKGROUND, c.bg_latents, c.bg_tokens, config["background_offset"], None),
            (MOTION, c.motion_latents, None, config["target_offset"], driving[0]),
            (TARGET, sample.latents, None, config["target_offset"] + motion, driving[1]),
        ):
            if latents is None:
                continue
            embedded = model.patch_embedding(latents[None])[0]
            frames, height, width = embedded.shape[1:]
            index = torch.cartesian_prod(torch.arange(frames), torch.arange(height), torch.arange(width))
            first = sum(len(part) for part in windows)
            parts.append((
                embedded.flatten(1).T,
                torch.full((len(index),), kind),
                torch.ones(len(index), dtype=torch.bool) if keep is None else keep.flatten(),
                index + torch.tensor([offset, 0, 0]),
                index[:, 0] + first if heard is not None else torch.full((len(index),), -1),
            ))  # fmt: skip
            windows += [] if heard is None else [heard]
        rows.append([torch.cat(column) for column in zip(*parts, strict=True)])
        audio.append(model.audio_projector(torch.cat(windows)) if windows else None)
    fills = (0.0, NOTHING, False, 0, -1)
    columns = zip(*rows, strict=True)
    padded = (torch.nn.utils.rnn.pad_sequence(c, True, fill) for c, fill in zip(columns, fills, strict=True))
    return Padded(*padded), audio


def rotation(model, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines [B, S, 1, head dim] from the formula of RoPE, every angle twice, as Wan lays them out."""
    rope = model.rope
    angles = [
        positions[..., axis, None].double() * 1e4 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        for axis, dim in enumerate((rope.t_dim, rope.h_dim, rope.w_dim))
    ]
    doubled = torch.cat(angles, -1).repeat_interleave(2, -1).unsqueeze(2)
    return doubled.cos().float(), doubled.sin().float()


def dense_velocities(model, samples: Sequence[SampleInputs], timesteps: Tensor) -> list[Tensor]:
    """What `model(samples, timesteps)` must be."""
    batch, audio = pad_batch(model, samples)
    is_ref, is_target = batch.kind == REFERENCE, batch.kind == TARGET
    # Reference tokens see the reference, all others see everything; where there is no token the row does not matter.
    seen = batch.kept[:, None, :] & (is_ref[:, None, :] | ~is_ref[:, :, None]) | (batch.kind == NOTHING)[:, :, None]
    times = torch.where(is_target, timesteps[:, None], 0.0)
    temb, modulation, prompt, _ = model.condition_embedder(
        times.flatten(), _prompts(model, [s.conditions.text_embeds for s in samples]), None, times.shape[1]
    )
    none = [s.conditions.text_embeds[:0] for s in samples]
    others = [
        n if s.conditions.ref_text_embeds is None else s.conditions.ref_text_embeds
        for s, n in zip(samples, none, strict=True)
    ]
    ref_prompt = model.condition_embedder.text_embedder(_prompts(model, others))
    rotary = rotation(model, batch.positions)
    hidden, given = batch.tokens, modulation.unflatten(2, (6, -1))
    for block in model.blocks:
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (block.scale_shift_table + given).unbind(2)
        normed = block.norm1(hidden) * (1 + scale) + shift
        hidden = hidden + gate * block.attn1(normed, None, seen[:, None], rotary)
        normed = block.norm2(hidden)
        read = torch.where(is_ref[..., None], block.attn2(normed, ref_prompt), block.attn2(normed, prompt))
        hidden = hidden + read
        hidden = hidden + _heard(block, hidden, batch.frame, audio)
        normed = block.norm3(hidden) * (1 + ffn_scale) + ffn_shift
        hidden = hidden + ffn_gate * block.ffn(normed)
    shift, scale = (model.scale_shift_table + temb[:, :, None]).unbind(2)
    out = model.proj_out(model.norm_out(hidden) * (1 + scale) + shift)
    return [_unpatch(row[at], sample.latents) for row, at, sample in zip(out, is_target, samples, strict=True)]


def _prompts(model, prompts: Sequence[Tensor]) -> Tensor:
    return torch.stack([F.pad(prompt, (0, 0, 0, model.config["text_len"] - len(prompt))) for prompt in prompts])


def _heard(block, hidden: Tensor, frame: Tensor, audio: Sequence[Tensor | None]) -> Tensor:
    """The audio attention of each sample under the mask between its tokens and its frames; zero without audio."""
    updates = []
    for tokens, at, windows in zip(hidden, frame, audio, strict=True):
        if windows is None:
            updates.append(torch.zeros_like(tokens))
            continue
        frames, length, _ = windows.shape
        owner = torch.arange(frames).repeat_interleave(length)
        mask = (owner[None] == at[:, None]) | (at < 0)[:, None]
        update = block.audio_cross_attn(block.norm_audio(tokens)[None], windows.flatten(0, 1)[None], mask[None, None])[
            0
        ]
        updates.append(torch.where((at >= 0)[:, None], update, 0.0))
    return torch.stack(updates)


def _unpatch(tokens: Tensor, like: Tensor) -> Tensor:
    """Wan's own order of a patch, for patches of (1, 2, 2)."""
    channels, frames, height, width = like.shape
    patches = tokens.reshape(frames, height // 2, width // 2, 1, 2, 2, channels)
    return torch.einsum("fhwtpqc->cfthpwq", patches).reshape(like.shape)
