"""What a size costs: tokens, FLOPs, bytes and GPU time, from the code that shapes the model.

Parameters are those of a `TAVRTransformer3DModel` on the meta device, tokens those its `plan` lays out. FLOPs are a
formula over that layout, two a multiply-add, of matrix products only (as torch's FlopCounterMode, which the tests hold
it to): norms, softmax, rotations and the solver are not counted, nor are the VAE and the encoders.

One layer of reference self-attention (paper Eq. 2, Table 4) costs, with m main and r reference tokens of width d,

    4 m (m + r) d + 4 r^2 d + 8 (m + r) d^2
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from tavr_records.errors import InputError

from tavr_model.conditions import Conditions, SampleInputs
from tavr_model.guidance import BRANCHES
from tavr_model.packing import FrameGroup, SampleLayout
from tavr_model.specs import WanSpec
from tavr_model.token_selection import LATENT_PIXELS, TOKEN_PIXELS, latent_frames
from tavr_model.transformer import TAVRTransformer3DModel

BFLOAT16_BYTES = 2


@dataclass(frozen=True)
class TransformerShape:
    """The sizes that FLOPs depend on; `audio_inputs` is window * layers * features, `patch_inputs` channels * patch."""

    layers: int
    width: int
    ffn_dim: int
    patch_inputs: int
    patch_outputs: int
    text_dim: int
    text_len: int
    freq_dim: int
    audio_inputs: int
    audio_hidden: int
    audio_tokens: int


@dataclass(frozen=True)
class Selection:
    """Measured shares of tokens that token selection keeps (paper section 3.1), in (0, 1]; 1 and 1 select nothing.

    Attributes:
        background: of the background frame's tokens, those with a visible pixel.
        face: of the reference's tokens, those inside the face box, over all its latent frames.
    """

    background: float = 1.0
    face: float = 1.0


@dataclass(frozen=True)
class Clip:
    """One generated clip: pixel frames and pixels, reference frames, prompt tokens without padding.

    `ref_text_tokens` is the length of the reference stream's own prompt; 0 is the null prompt, which the pipeline uses.
    """

    frames: int
    height: int
    width: int
    ref_frames: int
    text_tokens: int
    ref_text_tokens: int = 0


@dataclass(frozen=True)
class Prompt:
    """A prompt of `tokens` tokens; equal prompts are projected once a pass, the null prompt has no tokens."""

    name: str
    tokens: int

    def keys(self, text_len: int) -> int:
        """Keys of the text attention: the tokens, and one for all the padding (see `PackedText`)."""
        return min(self.tokens + 1, text_len)


@dataclass(frozen=True)
class Stream:
    """Tokens of one sample that share a prompt and their keys: the main tokens, or the reference tokens.

    Attributes:
        tokens: queries of the self-attention.
        keys: its keys.
        target: tokens that are projected to a velocity.
        prompt: what the text attention reads.
        heard: tokens with audio. audio_slots: the same, padded to the fullest frame. audio_frames: their frames.
    """

    tokens: int
    keys: int
    target: int
    prompt: Prompt
    heard: int
    audio_slots: int
    audio_frames: int


@dataclass(frozen=True)
class BlockFlops:
    """FLOPs of one transformer block in one pass, by operation; keys and values count as projections."""

    self_projections: int
    self_attention: int
    text_projections: int
    text_attention: int
    audio_projections: int
    audio_attention: int
    feed_forward: int

    @property
    def ref_self_attention(self) -> int:
        """The reference self-attention layer, the quantity of the paper's Table 4."""
        return self.self_projections + self.self_attention

    @property
    def total(self) -> int:
        """The whole block."""
        return sum(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True)
class ForwardFlops:
    """FLOPs of one pass: `layers` equal blocks, and the embeddings and the output projection outside of them."""

    block: BlockFlops
    layers: int
    outside: int

    @property
    def total(self) -> int:
        """The whole pass."""
        return self.layers * self.block.total + self.outside


@dataclass(frozen=True)
class ClipCost:
    """What generating one clip takes.

    Attributes:
        tokens: of one branch.
        forward: one pass of the branch with text and audio, reference stream included.
        reference: one pass over the reference stream alone; None without a reference.
        step: FLOPs of one solver step, all guidance branches, reference streams included.
        clip: FLOPs of all steps. cached_clip: likewise with the reference stream computed once.
        cache_bytes: the reference stream's keys and values in all blocks, bfloat16.
    """

    tokens: SampleLayout
    forward: ForwardFlops
    reference: ForwardFlops | None
    step: int
    clip: int
    cached_clip: int
    cache_bytes: int

    @property
    def cache_speedup(self) -> float:
        """FLOPs without the cache over FLOPs with it."""
        return self.clip / self.cached_clip


def spec_config(spec: WanSpec) -> dict[str, Any]:
    """A published shape as arguments of diffusers' WanTransformer3DModel."""
    names = ("num_attention_heads", "attention_head_dim", "num_layers", "ffn_dim", "in_channels", "out_channels",
             "text_dim", "freq_dim", "patch_size", "rope_max_seq_len")  # fmt: skip
    return {name: getattr(spec, name) for name in names}


def meta_transformer(config: Mapping[str, Any]) -> TAVRTransformer3DModel:
    """The model of these arguments without any memory; arguments of the base that TAVR does not have are left out."""
    names = TAVRTransformer3DModel._get_init_keys(TAVRTransformer3DModel)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    with torch.device("meta"):
        return TAVRTransformer3DModel(**{name: value for name, value in config.items() if name in names})


def transformer_shape(model: TAVRTransformer3DModel) -> TransformerShape:
    """Read the sizes off a model's configuration."""
    config = model.config
    patch = math.prod(config["patch_size"])
    return TransformerShape(
        layers=config["num_layers"],
        width=config["num_attention_heads"] * config["attention_head_dim"],
        ffn_dim=config["ffn_dim"],
        patch_inputs=config["in_channels"] * patch,
        patch_outputs=config["out_channels"] * patch,
        text_dim=config["text_dim"],
        text_len=config["text_len"],
        freq_dim=config["freq_dim"],
        audio_inputs=config["audio_window"] * config["audio_layers"] * config["audio_features"],
        audio_hidden=config["audio_hidden"],
        audio_tokens=config["audio_tokens"],
    )


def meta_sample(model: TAVRTransformer3DModel, clip: Clip, selection: Selection) -> SampleInputs:
    """One sample of this size without memory; selected tokens are spread evenly over the reference's frames.

    Raises:
        InputError: a size that is no multiple of 16, no frames, a prompt beyond `text_len`, a reference beyond the
            rotary table, a share outside (0, 1].
    """
    _check(model, clip, selection)
    config = model.config
    size = (clip.height // LATENT_PIXELS, clip.width // LATENT_PIXELS)
    grid = (clip.height // TOKEN_PIXELS, clip.width // TOKEN_PIXELS)
    frames, ref_frames = latent_frames(clip.frames), latent_frames(clip.ref_frames)
    windows = (config["audio_window"], config["audio_layers"], config["audio_features"])
    channels, text_dim = config["in_channels"], config["text_dim"]
    with torch.device("meta"):
        latents = torch.empty(channels, frames, *size)
        conditions = Conditions(
            text_embeds=torch.empty(clip.text_tokens, text_dim),
            driving_audio=torch.empty(frames, *windows),
            ref_latents=torch.empty(channels, ref_frames, *size),
            ref_audio=torch.empty(ref_frames, *windows),
            bg_latents=torch.empty(channels, 1, *size),
            ref_text_embeds=torch.empty(clip.ref_text_tokens, text_dim) if clip.ref_text_tokens else None,
        )
    return SampleInputs(
        latents,
        replace(
            conditions,
            ref_face_tokens=_kept_tokens(ref_frames, grid, selection.face),
            bg_tokens=_kept_tokens(1, grid, selection.background)[0],
        ),
    )


def _check(model: TAVRTransformer3DModel, clip: Clip, selection: Selection) -> None:
    config = model.config
    for name in ("height", "width"):
        value = getattr(clip, name)
        if value < TOKEN_PIXELS or value % TOKEN_PIXELS:
            raise InputError(f"{name} is {value}; give a multiple of {TOKEN_PIXELS} pixels")
    for name in ("frames", "ref_frames"):
        if getattr(clip, name) < 1:
            raise InputError(f"{name} is {getattr(clip, name)}; give at least 1 pixel frame")
    for name in ("text_tokens", "ref_text_tokens"):
        if not 0 <= getattr(clip, name) <= config["text_len"]:
            raise InputError(f"{name} is {getattr(clip, name)}; give 0 to text_len, {config['text_len']}")
    last = config["reference_offset"] + latent_frames(clip.ref_frames) - 1
    if last >= config["rope_max_seq_len"]:
        most = 4 * (config["rope_max_seq_len"] - config["reference_offset"] - 1) + 4
        raise InputError(f"ref_frames is {clip.ref_frames}; the rotary table holds at most {most}")
    for name in ("background", "face"):
        if not 0 < getattr(selection, name) <= 1:
            raise InputError(f"{name} share is {getattr(selection, name)}; give a share in (0, 1]")


def _kept_tokens(frames: int, grid: tuple[int, int], share: float) -> torch.Tensor:
    """Bool [frames, rows, columns], `share` of them true, at most one more in one frame than in another."""
    plane = math.prod(grid)
    kept = max(1, round(share * frames * plane))
    counts = torch.full((frames, 1), kept // frames)
    counts[: kept % frames] += 1
    return (torch.arange(plane)[None] < counts).view(frames, *grid)


def sample_streams(model: TAVRTransformer3DModel, sample: SampleInputs) -> tuple[SampleLayout, Stream, Stream | None]:
    """The sample's token counts, its main stream and its reference stream, as the model lays them out."""
    given, plan = sample.conditions, model.plan([sample])
    (tokens,) = plan.samples
    groups = list(plan.audio_groups)
    driving = groups.pop(0) if given.driving_audio is not None else None
    ref = groups.pop() if groups else None
    prompt, ref_prompt = _prompt("target", given.text_embeds), _prompt("reference", given.ref_text_embeds)
    main = Stream(tokens.main, tokens.total, tokens.target, prompt, *_heard(driving))
    if tokens.reference == 0:
        return tokens, main, None
    return tokens, main, Stream(tokens.reference, tokens.reference, 0, ref_prompt, *_heard(ref))


def _prompt(name: str, embeds: torch.Tensor | None) -> Prompt:
    return Prompt(name, len(embeds)) if embeds is not None and len(embeds) else Prompt("null", 0)


def _heard(group: FrameGroup | None) -> tuple[int, int, int]:
    """Tokens with audio, the slots they are spread over, and their frames."""
    return (0, 0, 0) if group is None else (len(group.tokens), group.frames * group.width, group.frames)


def _attention(queries: int, keys: int, width: int) -> int:
    """FLOPs of query-key and weight-value products; the softmax over one key is not computed."""
    return 4 * queries * keys * width if keys > 1 else 0


def forward_flops(
    shape: TransformerShape, streams: Sequence[Stream], prompts: Sequence[Prompt], samples: int
) -> ForwardFlops:
    """FLOPs of one pass over `streams` of a packed batch.

    Args:
        shape: of the transformer.
        streams: the main streams of all samples, and the reference streams that are not cached.
        prompts: all prompts the batch brings along, read or not; repeated ones are projected once.
        samples: of the batch; each has a time, and there is time 0.
    """
    d, square = shape.width, shape.width**2
    tokens, heard = sum(s.tokens for s in streams), sum(s.heard for s in streams)
    frames = sum(s.audio_frames for s in streams)
    text_rows = sum(prompt.keys(shape.text_len) for prompt in set(prompts))
    block = BlockFlops(
        self_projections=8 * tokens * square,
        self_attention=sum(_attention(s.tokens, s.keys, d) for s in streams),
        text_projections=4 * (tokens + text_rows) * square,
        text_attention=sum(_attention(s.tokens, s.prompt.keys(shape.text_len), d) for s in streams),
        audio_projections=4 * (heard + frames * shape.audio_tokens) * square,
        audio_attention=sum(4 * s.audio_slots * shape.audio_tokens * d for s in streams),
        feed_forward=4 * tokens * d * shape.ffn_dim,
    )
    outside = (
        2 * tokens * shape.patch_inputs * d
        + 2 * sum(s.target for s in streams) * d * shape.patch_outputs
        + 2 * text_rows * (shape.text_dim * d + square)
        + 2 * (samples + 1) * (shape.freq_dim * d + 7 * square)
        + 2 * frames * shape.audio_hidden * (shape.audio_inputs + shape.audio_hidden + shape.audio_tokens * d)
    )
    return ForwardFlops(block, shape.layers, outside)


def clip_cost(
    model: TAVRTransformer3DModel, clip: Clip, selection: Selection, steps: int, branches: Sequence[str] = BRANCHES
) -> ClipCost:
    """The cost of one clip: `steps` solver steps of the guidance `branches` (of null, text, full), a pass each.

    Raises:
        InputError: see `meta_sample`; no steps.
    """
    if steps < 1:
        raise InputError(f"steps is {steps}; give at least 1")
    shape = transformer_shape(model)
    tokens, main, reference = sample_streams(model, meta_sample(model, clip, selection))
    null = Prompt("null", 0)
    mains = [replace(main, prompt=null) if name == "null" else main for name in branches]
    ref = [] if reference is None else [reference]
    ref_prompt = reference.prompt if reference is not None else null

    def flops(streams: Sequence[Stream], prompt: Prompt) -> ForwardFlops:
        return forward_flops(shape, streams, [prompt, ref_prompt], 1)

    step = sum(flops([stream, *ref], stream.prompt).total for stream in mains)
    cached_step = sum(flops([stream], stream.prompt).total for stream in mains)
    encoded = flops(ref, null) if ref else None
    return ClipCost(
        tokens=tokens,
        forward=flops([main, *ref], main.prompt),
        reference=encoded,
        step=step,
        clip=steps * step,
        cached_clip=steps * cached_step + (encoded.total if encoded else 0),
        cache_bytes=2 * shape.layers * tokens.reference * shape.width * BFLOAT16_BYTES,
    )


def split_selected(tokens: SampleLayout, selected: int) -> Selection:
    """The selection that keeps `selected` tokens in all, the background whole first, then the reference.

    `tokens` are the counts without selection. Of all splits this one costs most; of the paper's 37,715 tokens it makes
    36.47 TFLOPs a reference self-attention layer, the nearest to its 36.56 (docs/cost.md).

    Raises:
        InputError: fewer tokens than the target's and one of each other kind, or more than there are.
    """
    least = tokens.target + tokens.motion + 2
    if not least <= selected <= tokens.total:
        raise InputError(f"selected_tokens is {selected}; give {least} to {tokens.total}")
    kept = selected - tokens.target - tokens.motion
    background = min(tokens.background, kept - 1)
    return Selection(background / tokens.background, (kept - background) / tokens.reference)


def ref_self_attention_range(shape: TransformerShape, tokens: SampleLayout, selected: int) -> tuple[int, int]:
    """Least and most FLOPs of one reference self-attention layer over all splits of `selected` tokens.

    `tokens` are the counts without selection; background and reference share what is left beside the target.
    """
    fixed, d = tokens.target + tokens.motion, shape.width
    kept = selected - fixed
    splits = range(max(0, kept - tokens.reference), min(tokens.background, kept) + 1)
    costs = [
        _attention(fixed + background, selected, d)
        + _attention(kept - background, kept - background, d)
        + 8 * selected * d**2
        for background in splits
    ]
    return min(costs), max(costs)
