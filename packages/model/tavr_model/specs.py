"""Published facts of checkpoints; nothing here is a choice.

Wan2.1: wan/configs and diffusers' conversion. Wav2Vec2: config.json of facebook/wav2vec2-base-960h.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class WanSpec:
    """Shape of a Wan2.1 text-to-video transformer."""

    name: str
    num_attention_heads: int
    attention_head_dim: int
    num_layers: int
    ffn_dim: int
    in_channels: int = 16
    out_channels: int = 16
    text_dim: int = 4096
    text_len: int = 512
    freq_dim: int = 256
    patch_size: tuple[int, int, int] = (1, 2, 2)
    rope_max_seq_len: int = 1024

    @property
    def width(self) -> int:
        """d, the size of a token."""
        return self.num_attention_heads * self.attention_head_dim


@dataclass(frozen=True)
class SpeechSpec:
    """Shape of a speech encoder's output: hidden states a frame (the convolutions', every layer's) and their size."""

    name: str
    hidden_states: int
    features: int


WAN_T2V_1_3B = WanSpec("Wan2.1-T2V-1.3B", 12, 128, 30, 8960)
WAN_T2V_14B = WanSpec("Wan2.1-T2V-14B", 40, 128, 40, 13824)
WAV2VEC2_BASE = SpeechSpec("wav2vec2-base-960h", 13, 768)

# latents = (z - mean) / std, per channel of the Wan2.1 VAE.
VAE_LATENTS_MEAN = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)  # fmt: skip
VAE_LATENTS_STD = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
)  # fmt: skip
VAE_SPATIAL_STRIDE = 8
VAE_TEMPORAL_STRIDE = 4
