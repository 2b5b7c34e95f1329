"""TAVRTransformer3DModel: Wan2.1's transformer with reference self-attention and audio cross-attention (section 3.1).

Parameter names are those of diffusers' WanTransformer3DModel; what TAVR adds is `audio_projector` and, in each block,
`norm_audio` and `audio_cross_attn`. Its output projection starts at zero, so a loaded base behaves as before.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.normalization import FP32LayerNorm
from diffusers.models.transformers.transformer_wan import (
    WanAttention,
    WanAttnProcessor,
    WanRotaryPosEmbed,
    WanTimeTextImageEmbedding,
    WanTransformer3DModel,
    WanTransformerBlock,
)
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tavr_model.attention import (
    PackedText,
    audio_cross_attention,
    pack_text,
    reference_self_attention,
    text_cross_attention,
)
from tavr_model.attention_map import AttentionProbe
from tavr_model.audio import WINDOW, AudioProjector
from tavr_model.conditions import Conditions, SampleInputs
from tavr_model.packing import PackedLayout, RopeOffsets, plan_packing, unpatchify
from tavr_model.reference_cache import ReferenceCache, ReferenceRecorder
from tavr_model.rope import gather_rotary
from tavr_model.shapes import AudioTokens, Latents, Modulation, Rotary, TimeRows, Times, TokenIndex, Tokens

_AUDIO = ("audio_projector.", ".norm_audio.", ".audio_cross_attn.")


def is_audio_parameter(name: str) -> bool:
    """Whether a parameter of this name is one that TAVR adds to Wan's."""
    return any(part in name for part in _AUDIO)


@dataclass(frozen=True)
class BlockContext:
    """What every block reads: layout, rotations, time modulation [rows, 6, d], text, audio tokens [F, L, d].

    `references` has the cached reference stream of each sample, if any; `recorder` takes down those computed here,
    and `probe` the attention between frames.
    """

    layout: PackedLayout
    rotary: Rotary
    modulation: Modulation
    text: PackedText
    audio: AudioTokens | None
    audio_tokens: TokenIndex | None
    references: tuple[ReferenceCache | None, ...]
    recorder: ReferenceRecorder | None
    probe: AttentionProbe | None


def modulate(normed: Tokens, shift: TimeRows, scale: TimeRows, segments: Sequence[tuple[int, int]]) -> Tokens:
    """Normed * (1 + scale) + shift with one row of shift / scale [rows, d] a segment; nothing is made per token."""
    pieces = normed.split([length for length, _ in segments])
    shifts, scales = shift.unbind(0), (1 + scale).unbind(0)
    parts = zip(pieces, segments, strict=True)
    return torch.cat([torch.addcmul(shifts[row], piece, scales[row]) for piece, (_, row) in parts])


def add_gated(hidden: Tokens, update: Tokens, gate: TimeRows, segments: Sequence[tuple[int, int]]) -> Tokens:
    """Hidden + update * gate with one row of gate [rows, d] a segment, in float32."""
    lengths = [length for length, _ in segments]
    gates = gate.unbind(0)
    pieces = zip(hidden.float().split(lengths), update.float().split(lengths), segments, strict=True)
    return torch.cat([torch.addcmul(h, u, gates[row]) for h, u, (_, row) in pieces]).type_as(hidden)


class TAVRTransformerBlock(WanTransformerBlock):
    """Wan's block with an audio cross-attention after the text cross-attention, no gate (as HuMo)."""

    def __init__(  # noqa: PLR0913 - Wan's block has these arguments
        self, dim: int, ffn_dim: int, num_heads: int, qk_norm: str | None, cross_attn_norm: bool, eps: float
    ) -> None:
        super().__init__(dim, ffn_dim, num_heads, qk_norm or "rms_norm_across_heads", cross_attn_norm, eps)
        self.norm_audio = FP32LayerNorm(dim, eps, elementwise_affine=True)
        head = dim // num_heads
        self.audio_cross_attn = WanAttention(
            dim, num_heads, head, eps, cross_attention_dim_head=head, processor=WanAttnProcessor()
        )

    def forward(self, hidden: Tokens, context: BlockContext, index: int) -> Tokens:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Packed tokens [N, d] -> [N, d] in block `index`; norms, modulation and residuals in float32 as in Wan."""
        layout, segments = context.layout, context.layout.segments
        table = self.scale_shift_table.float() + context.modulation.float()
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = table.unbind(1)

        normed = modulate(self.norm1(hidden.float()), shift, scale, segments).type_as(hidden)
        cached = [None if cache is None else cache.block(index) for cache in context.references]
        attended = reference_self_attention(
            self.attn1, normed, layout, context.rotary, cached, context.recorder, context.probe
        )
        hidden = add_gated(hidden, attended, gate, segments)

        normed = self.norm2(hidden.float()).type_as(hidden)
        hidden = hidden + text_cross_attention(self.attn2, normed, layout, context.text)

        if context.audio is not None and context.audio_tokens is not None:
            normed = self.norm_audio(hidden.index_select(0, context.audio_tokens).float()).type_as(hidden)
            heard = audio_cross_attention(self.audio_cross_attn, normed, layout.audio_groups, context.audio)
            hidden = hidden.index_add(0, context.audio_tokens, heard.type_as(hidden))

        normed = modulate(self.norm3(hidden.float()), ffn_shift, ffn_scale, segments).type_as(hidden)
        return add_gated(hidden, self.ffn(normed), ffn_gate, segments)


class TAVRTransformer3DModel(ModelMixin, ConfigMixin, PeftAdapterMixin):
    """The velocity network f_theta of the paper.

    Wan's arguments are diffusers'. TAVR's:
        text_len: length to which the base pads prompts with zero embeddings (512 in Wan2.1).
        audio_window, audio_layers, audio_features: shape of a window of speech features (choice 7).
        audio_tokens: L, audio tokens a latent frame (32, as MultiTalk). audio_hidden: width inside the projector.
        target_offset, background_offset, reference_offset: temporal rotary positions (choice 3: 0, 30, 31).
    """

    _supports_gradient_checkpointing = True
    _skip_layerwise_casting_patterns = ("patch_embedding", "condition_embedder", "norm")
    _no_split_modules = ("TAVRTransformerBlock",)
    _repeated_blocks = ("TAVRTransformerBlock",)
    _keep_in_fp32_modules = [  # noqa: RUF012 - diffusers takes no tuple: it would keep nothing in float32
        "rope", "time_embedder", "scale_shift_table", "norm1", "norm2", "norm3", "norm_audio",
    ]  # fmt: skip

    @register_to_config
    def __init__(  # noqa: PLR0913 - Wan's arguments, then TAVR's
        self,
        patch_size: Sequence[int] = (1, 2, 2),
        num_attention_heads: int = 40,
        attention_head_dim: int = 128,
        in_channels: int = 16,
        out_channels: int = 16,
        text_dim: int = 4096,
        freq_dim: int = 256,
        ffn_dim: int = 13824,
        num_layers: int = 40,
        cross_attn_norm: bool = True,
        qk_norm: str | None = "rms_norm_across_heads",
        eps: float = 1e-6,
        rope_max_seq_len: int = 1024,
        text_len: int = 512,  # noqa: ARG002 - read from the configuration, as the offsets below
        audio_window: int = WINDOW,
        audio_layers: int = 12,
        audio_features: int = 768,
        audio_tokens: int = 32,
        audio_hidden: int = 512,
        target_offset: int = 0,  # noqa: ARG002
        background_offset: int = 30,  # noqa: ARG002
        reference_offset: int = 31,  # noqa: ARG002
    ) -> None:
        super().__init__()
        width, patch = num_attention_heads * attention_head_dim, tuple(patch_size)
        self.rope = WanRotaryPosEmbed(attention_head_dim, patch, rope_max_seq_len)  # pyright: ignore[reportArgumentType]
        self.patch_embedding = nn.Conv3d(in_channels, width, kernel_size=patch, stride=patch)  # pyright: ignore[reportArgumentType]
        self.condition_embedder = WanTimeTextImageEmbedding(
            dim=width, time_freq_dim=freq_dim, time_proj_dim=width * 6, text_embed_dim=text_dim
        )
        self.audio_projector = AudioProjector(
            audio_window, audio_layers, audio_features, audio_hidden, audio_tokens, width
        )
        self.blocks = nn.ModuleList(
            TAVRTransformerBlock(width, ffn_dim, num_attention_heads, qk_norm, cross_attn_norm, eps)
            for _ in range(num_layers)
        )
        self.norm_out = FP32LayerNorm(width, eps, elementwise_affine=False)
        self.proj_out = nn.Linear(width, out_channels * math.prod(patch_size))
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, width) / width**0.5)
        self.gradient_checkpointing = False
        self.silence_audio()

    def silence_audio(self) -> None:
        """Zero the output projection of every audio attention: the model then ignores audio."""
        for block in self.blocks:
            nn.init.zeros_(block.audio_cross_attn.to_out[0].weight)  # type: ignore[union-attr]
            nn.init.zeros_(block.audio_cross_attn.to_out[0].bias)  # type: ignore[union-attr]

    def audio_sizes(self) -> dict[str, int]:
        """Elements of every parameter that TAVR adds to Wan's, by name."""
        return {name: value.numel() for name, value in self.named_parameters() if is_audio_parameter(name)}

    @classmethod
    def from_base(cls, directory: str | Path, seed: int = 0, **tavr_config: int) -> "TAVRTransformer3DModel":
        """Load a diffusers WanTransformer3DModel checkpoint; the audio layers are drawn from `seed`, silent.

        `tavr_config` holds TAVR's own constructor arguments (text_len, audio_*, *_offset).

        Raises:
            ValueError: the base's parameters are not exactly this model's without the audio layers.
        """
        base = WanTransformer3DModel.from_pretrained(str(directory), torch_dtype=torch.float32)
        names = set(cls._get_init_keys(cls)) - {"self"}
        config: dict[str, Any] = {name: value for name, value in base.config.items() if name in names}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            arguments: dict[str, Any] = config | tavr_config
            model = cls(**arguments)
        mismatch = model.load_state_dict(base.state_dict(), strict=False, assign=True)
        missing = [name for name in mismatch.missing_keys if not is_audio_parameter(name)]
        if missing or mismatch.unexpected_keys:
            extra = mismatch.unexpected_keys
            raise ValueError(f"{directory}: not a Wan2.1 T2V base: lacks {missing}, has also {extra}")
        return model.eval()

    def plan(self, samples: Sequence[SampleInputs]) -> PackedLayout:
        """The packed sequence of a batch, at the positions that this model's offsets say."""
        config = self.config
        offsets = RopeOffsets(config["target_offset"], config["background_offset"], config["reference_offset"])
        return plan_packing(samples, tuple(config["patch_size"]), offsets)

    def encode_references(self, conditions: Sequence[Conditions]) -> list[ReferenceCache]:
        """Compute the reference streams of several clips, for `SampleInputs.reference`.

        They go through `forward`, so that whatever offloads or casts the network there does so here.

        Raises:
            ValueError: conditions without a reference.
        """
        samples: list[SampleInputs] = []
        for given in conditions:
            if given.ref_latents is None:
                raise ValueError("conditions without ref_latents have no reference stream to encode")
            reference = replace(given.drop(text=True), driving_audio=None, bg_latents=None, motion_latents=None)
            samples.append(SampleInputs(given.ref_latents[:, :0], reference))
        recorder = ReferenceRecorder()
        self(samples, torch.zeros(len(samples)), recorder)
        return recorder.caches()

    def forward(
        self,
        samples: Sequence[SampleInputs],
        timesteps: Times,
        recorder: ReferenceRecorder | None = None,
        probe: AttentionProbe | None = None,
    ) -> list[Latents]:
        """Predict the velocity (noise - latents) of a ragged batch, packed into one sequence.

        Args:
            samples: B samples; sizes, reference lengths and masks may differ.
            timesteps: [B] in the network's unit, t * 1000 (0 clean, 1000 noise).
            recorder: takes down the reference streams of all samples.
            probe: takes down where one sample's target looks.

        Returns:
            B velocities, each of its sample's latent shape.
        """
        layout = self.plan(samples)
        weight = self.patch_embedding.weight
        hidden = nn.functional.linear(layout.patches.to(weight.dtype), weight.flatten(1), self.patch_embedding.bias).to(
            weight.dtype
        )
        context, temb = self._context(samples, timesteps, layout, hidden, recorder, probe)
        for index, block in enumerate(self.blocks):
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                hidden = checkpoint(block, hidden, context, index, use_reentrant=False)
            else:
                hidden = block(hidden, context, index)
        return self._project_out(hidden, layout, temb)

    def _context(  # noqa: PLR0913 - all that a pass is given
        self,
        samples: Sequence[SampleInputs],
        timesteps: Tensor,
        layout: PackedLayout,
        hidden: Tensor,
        recorder: ReferenceRecorder | None,
        probe: AttentionProbe | None,
    ) -> tuple[BlockContext, Tensor]:
        """Embed time, text and audio once for all blocks; also the time embeddings [B + 1, d] for the output."""
        text, plan = _gather_prompts(samples, self.config["text_len"])
        given = timesteps.to(hidden.device, torch.float32)
        times = torch.cat([given, given.new_zeros(1)])
        temb, projected, tokens, _ = self.condition_embedder(times, text.to(hidden.dtype))
        text_plan = PackedText(tokens, plan.lengths, plan.biases, plan.target, plan.reference)
        audio, audio_tokens = None, None
        if layout.audio_windows is not None:
            audio = self.audio_projector(layout.audio_windows.to(hidden.dtype))
            audio_tokens = torch.cat([group.tokens for group in layout.audio_groups])
        rotary = gather_rotary(self.rope, layout.positions)
        modulation = projected.unflatten(1, (6, -1))
        references = tuple(sample.reference for sample in samples)
        context = BlockContext(layout, rotary, modulation, text_plan, audio, audio_tokens, references, recorder, probe)
        return context, temb

    def _project_out(self, hidden: Tensor, layout: PackedLayout, temb: Tensor) -> list[Tensor]:
        """Keep the target tokens only, undo the patches."""
        parts = [size for sample in layout.samples for size in (sample.target, sample.total - sample.target)]
        target = torch.cat(hidden.split(parts)[0::2])
        shift, scale = (self.scale_shift_table.float() + temb.float().unsqueeze(1)).unbind(1)
        lengths = [sample.target for sample in layout.samples]
        segments = [(length, row) for row, length in enumerate(lengths)]
        normed = modulate(self.norm_out(target.float()), shift, scale, segments).type_as(hidden)
        patch: tuple[int, int, int] = tuple(self.config["patch_size"])
        outputs = self.proj_out(normed).split(lengths)
        return [unpatchify(out, sample.grid, patch) for out, sample in zip(outputs, layout.samples, strict=True)]


def _gather_prompts(samples: Sequence[SampleInputs], text_len: int) -> tuple[Tensor, PackedText]:
    """All prompts of a batch, equal tensors once: targets' own and the reference stream's."""
    prompts: list[Tensor] = []
    index: dict[int, int] = {}

    def place(prompt: Tensor) -> int:
        key = id(prompt) if len(prompt) else 0
        if key not in index:
            index[key] = len(prompts)
            prompts.append(prompt)
        return index[key]

    target = [place(sample.conditions.text_embeds) for sample in samples]
    empty = samples[0].conditions.text_embeds[:0]
    references = [sample.conditions.ref_text_embeds for sample in samples]
    reference = [place(empty if prompt is None else prompt) for prompt in references]
    return pack_text(prompts, target, reference, text_len)
