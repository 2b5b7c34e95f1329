"""Tensor shapes used in signatures (jaxtyping; checked in tests only). `_` is a free axis: frame counts differ."""

from jaxtyping import Bool, Float, UInt8
from torch import Tensor

Latents = Float[Tensor, "channels _ height width"]
"""Wan-normalised video latents [C, latent frames, height / 8, width / 8]."""
AudioWindows = Float[Tensor, "_ window layers features"]
"""Speech features around each latent frame [latent frames, window, encoder layers, feature size]."""
AudioFeatures = Float[Tensor, "_ layers features"]
"""Speech features, one row a pixel frame at 25 fps [frames, encoder layers, feature size]."""
TextEmbeds = Float[Tensor, "_ text_features"]
"""Unpadded prompt embeddings [tokens, text encoder width]."""
TokenGrid = Bool[Tensor, "_ rows columns"]
"""Which tokens of the 2x2-patched latent grid to keep [latent frames, height / 16, width / 16]."""
TokenPlane = Bool[Tensor, "rows columns"]
"""Which tokens of one frame to keep [height / 16, width / 16]."""
Tokens = Float[Tensor, "_ width"]
"""Packed tokens of several samples, one row a token [tokens, width]."""
Heads = Float[Tensor, "_ heads head_dim"]
"""Keys or values of several tokens [tokens, heads, head size]."""
FrameMap = Float[Tensor, "frames ref_frames"]
"""Share of attention from each target latent frame to each reference latent frame."""
Times = Float[Tensor, " batch"]
"""One time a sample."""
Frames = UInt8[Tensor, "_ pixel_height pixel_width 3"]
"""RGB pixel frames."""
