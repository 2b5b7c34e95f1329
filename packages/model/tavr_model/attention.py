"""The three attentions of a TAVR block on packed tokens (paper Eq. 2-5), through Wan's own attention modules.

Linear layers see the whole packed batch at once; only the softmax runs per sample, on views of the packed tensors. It
goes through diffusers' dispatcher, so `model.set_attention_backend("flash")` and its kin choose the kernel: torch's own
(the default), FlashAttention, flex, and what else is installed. The text attention of a padded prompt has a bias, which
those kernels do not take; it stays with torch's.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttention
from torch import Tensor, nn

from tavr_model.attention_map import AttentionProbe
from tavr_model.packing import FrameGroup, PackedLayout
from tavr_model.reference_cache import KeyValue, ReferenceRecorder
from tavr_model.rms_norm import rms_norm
from tavr_model.rope import rotate
from tavr_model.shapes import AnyFloats, AudioTokens, Rotary, TextBias, TextEmbeds, Tokens


@dataclass(frozen=True)
class PackedText:
    """Prompts of a batch in one sequence: `tokens` [S, d], each prompt's real tokens and one padding token.

    Wan pads every prompt with zero embeddings to `text_len` and masks nothing. All padding tokens are equal, so one of
    them with log(padding count) added to its logit gives the same softmax: `biases` holds that row (or None).
    `target` and `reference` name the prompt of each sample's main and reference tokens.
    """

    tokens: Tokens
    lengths: tuple[int, ...]
    biases: tuple[TextBias | None, ...]
    target: tuple[int, ...]
    reference: tuple[int, ...]


def pack_text(
    prompts: Sequence[TextEmbeds], target: Sequence[int], reference: Sequence[int], text_len: int
) -> tuple[TextEmbeds, PackedText]:
    """Raw embeddings [S, text features] of all prompts with one padding row each, and the plan (tokens unset).

    Raises:
        ValueError: a prompt longer than `text_len`.
    """
    rows: list[Tensor] = []
    biases: list[Tensor | None] = []
    for prompt in prompts:
        padding = text_len - len(prompt)
        if padding < 0:
            raise ValueError(f"a prompt of {len(prompt)} tokens exceeds text_len {text_len}; encode it truncated")
        rows.append(prompt)
        if padding == 0:
            biases.append(None)
            continue
        rows.append(prompt.new_zeros(1, prompt.shape[1]))
        bias = torch.zeros(1, 1, 1, len(prompt) + 1, device=prompt.device)
        bias[..., -1] = math.log(padding)
        biases.append(bias)
    raw = torch.cat(rows)
    lengths = tuple(len(p) + (0 if b is None else 1) for p, b in zip(prompts, biases, strict=True))
    return raw, PackedText(raw, lengths, tuple(biases), tuple(target), tuple(reference))


def softmax_dtype(value: AnyFloats) -> torch.dtype:
    """Precision of the softmax: that of `value`; float32 on a CPU, whose bfloat16 kernel is slow backward."""
    return torch.float32 if value.device.type == "cpu" else value.dtype


def _without_autocast(device_type: str) -> AbstractContextManager[object]:
    """Autocast off; the meta device has none to turn off."""
    if torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


def _softmax_attention(
    attn: WanAttention, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Attention of query [B, n, H, D] over key / value [B, m, H, D] -> [B, n, H, D], outside of any autocast."""
    dtype = softmax_dtype(value)
    chosen: AttentionBackendName | None = getattr(attn.processor, "_attention_backend", None)
    backend = chosen if bias is None else AttentionBackendName.NATIVE
    with _without_autocast(value.device.type):
        return dispatch_attention_fn(query.to(dtype), key.to(dtype), value.to(dtype), bias, backend=backend)


def _attend(attn: WanAttention, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """One sample's attention: query [n, H, D] over key / value [m, H, D] -> [n, H, D]."""
    if key.shape[0] == 1:  # the softmax over one key is 1
        return value.to(softmax_dtype(value)).expand(query.shape[0], -1, -1)
    if bias is not None:
        bias = bias.to(softmax_dtype(value)).expand(1, 1, query.shape[0], -1)
    return _softmax_attention(attn, query[None], key[None], value[None], bias)[0]


def _normed(norm: nn.RMSNorm, projected: Tensor, heads: int) -> Tensor:
    """Wan's RMS norm across all heads in float32, then the head axis split off: [..., H, D]."""
    return rms_norm(projected, norm.weight, norm.eps or 1e-6).unflatten(-1, (heads, -1))


def _heads(attn: WanAttention, query: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised query and key (float32) and value, each [..., H, D]."""
    value = attn.to_v(context).unflatten(-1, (attn.heads, -1))
    query = _normed(attn.norm_q, attn.to_q(query), attn.heads)
    return query, _normed(attn.norm_k, attn.to_k(context), attn.heads), value


def _project_out(attn: WanAttention, attended: Tensor, hidden: Tensor) -> Tensor:
    """The output projection, in the precision of the layer's input."""
    return attn.to_out[0](attended.type_as(hidden))


def reference_self_attention(  # noqa: PLR0913 - the layer and its input, then where the reference stream comes from
    attn: WanAttention,
    hidden: Tokens,
    layout: PackedLayout,
    rotary: Rotary,
    cached: Sequence[KeyValue | None],
    recorder: ReferenceRecorder | None = None,
    probe: AttentionProbe | None = None,
) -> Tokens:
    """Eq. 2 in two steps: [z, z_bg] attend to [z, z_bg, z_ref]; z_ref attends to itself, by the same layer.

    hidden [N, d] -> [N, d]; equal to one joint attention under the corresponding block mask. `cached` has a sample's
    z_ref as keys and values where its tokens are not in `hidden`; `recorder` takes down those that are, `probe` where
    the target looks.
    """
    query, key, value = _heads(attn, hidden, hidden)
    query, key = (rotate(heads, rotary) for heads in (query, key))
    sizes = [sample.total for sample in layout.samples]
    out: list[Tensor] = []
    recorded: list[KeyValue] = []
    split = (tensor.split(sizes) for tensor in (query, key, value))
    for number, (sample, given, q, k, v) in enumerate(zip(layout.samples, cached, *split, strict=True)):
        parts = [sample.main, sample.reference]
        main, reference = q.split(parts)
        ref_key, ref_value = k.split(parts)[1], v.split(parts)[1]
        if sample.main:
            out.append(_attend(attn, main, *(k, v) if given is None else _with_reference(k, v, given)))
        if sample.reference:
            out.append(_attend(attn, reference, ref_key, ref_value))
        if probe is not None and probe.sample == number:
            keys = k if given is None else torch.cat([k, given[0].to(k.dtype)])
            probe.add(q[: sample.target], keys, sample.grid[0], sample.reference_frames)
        if recorder is not None:
            recorded.append((ref_key.to(softmax_dtype(v)), ref_value))
    if recorder is not None:
        recorder.add(recorded, [sample.reference_frames for sample in layout.samples])
    return _project_out(attn, torch.cat(out).flatten(1), hidden)


def _with_reference(key: Tensor, value: Tensor, reference: KeyValue) -> tuple[Tensor, Tensor]:
    """A sample's own keys and values, then the cached ones of its reference."""
    keys, values = reference
    return torch.cat([key.to(keys.dtype), keys]), torch.cat([value, values])


def text_cross_attention(attn: WanAttention, hidden: Tokens, layout: PackedLayout, text: PackedText) -> Tokens:
    """Each sample's main tokens read its prompt, its reference tokens the reference prompt; hidden [N, d] -> [N, d]."""
    query, key, value = _heads(attn, hidden, text.tokens)
    keys, values = key.split(text.lengths), value.split(text.lengths)
    sizes = [size for sample in layout.samples for size in (sample.main, sample.reference)]
    prompts = [prompt for pair in zip(text.target, text.reference, strict=True) for prompt in pair]
    out = [
        _attend(attn, q, keys[prompt], values[prompt], text.biases[prompt])
        for q, prompt in zip(query.split(sizes), prompts, strict=True)
        if len(q)
    ]
    return _project_out(attn, torch.cat(out).flatten(1), hidden)


def audio_cross_attention(
    attn: WanAttention, hidden: Tokens, groups: Sequence[FrameGroup], audio: AudioTokens
) -> Tokens:
    """Eq. 3-5: the tokens of each latent frame attend to the L audio tokens of that frame.

    `hidden` [A, d] are the tokens of all groups in group order (background tokens are not among them), `audio`
    [F, L, d] the audio tokens of all groups' frames.
    """
    query, key, value = _heads(attn, hidden, audio)
    frames = [group.frames for group in groups]
    tokens = [len(group.tokens) for group in groups]
    out: list[Tensor] = []
    for group, q, k, v in zip(groups, query.split(tokens), key.split(frames), value.split(frames), strict=True):
        slots = q if group.gather is None else q.index_select(0, group.gather)
        slots = slots.unflatten(0, (group.frames, group.width))
        block = _softmax_attention(attn, slots, k, v).flatten(2).flatten(0, 1)
        out.append(block if group.scatter is None else block.index_select(0, group.scatter))
    return _project_out(attn, torch.cat(out), hidden)
