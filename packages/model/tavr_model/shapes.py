"""Shapes of tensors and arrays in signatures (jaxtyping; checked in tests only). `_` is a free axis: counts differ."""

import numpy as np
from jaxtyping import Bool, Complex, Float, Float32, Float64, Int, Real, Shaped, UInt8
from torch import Tensor

Latents = Float[Tensor, "channels _ height width"]
"""Wan-normalised video latents, and their noise and velocity [C, latent frames, height / 8, width / 8]."""
RefLatents = Float[Tensor, "channels _ ref_height ref_width"]
"""Latents of a reference video, which may be of another size than the video that is made."""
AudioWindows = Float[Tensor, "_ window layers features"]
"""Speech features around each latent frame [latent frames, window, encoder layers, feature size]."""
AudioFeatures = Float[Tensor, "_ layers features"]
"""Speech features, one row a pixel frame at 25 fps [frames, encoder layers, feature size]."""
AudioTokens = Float[Tensor, "_ audio_tokens width"]
"""Audio tokens of each latent frame [latent frames, L, width]."""
TextEmbeds = Float[Tensor, "_ text_features"]
"""Unpadded prompt embeddings [tokens, text encoder width]."""
TextBias = Float[Tensor, "1 1 1 _"]
"""What is added to the attention logits of a prompt's tokens."""
TokenGrid = Bool[Tensor, "_ ref_rows ref_columns"]
"""Which tokens of a reference's 2x2-patched latent grid to keep [latent frames, height / 16, width / 16]."""
TokenPlane = Bool[Tensor, "rows columns"]
"""Which tokens of one frame to keep [height / 16, width / 16]."""
LatentPlane = Bool[Tensor, "height width"]
"""Which places of one latent frame count [height / 8, width / 8]."""
Tokens = Float[Tensor, "tokens width"]
"""Packed tokens of several samples, one row a token [tokens, width]."""
Patches = Float[Tensor, "_ patch"]
"""Tokens before their embedding and after the output projection [tokens, channels * patch]."""
Positions = Int[Tensor, "tokens 3"]
"""Rotary positions (t, h, w) of tokens."""
Rotary = Complex[Tensor, "tokens 1 half_head"]
"""Rotations of tokens, the same for every head [tokens, 1, head size / 2]."""
TokenIndex = Int[Tensor, " _"]
"""Places of tokens in the packed sequence."""
Heads = Float[Tensor, "_ heads head_dim"]
"""Keys or values of several tokens [tokens, heads, head size]."""
TimeRows = Float[Tensor, "rows width"]
"""One row of a shift, a scale or a gate for each time of a batch [times, width]."""
Modulation = Float[Tensor, "rows 6 width"]
"""The six rows of each time of a batch that a block reads."""
FrameMap = Float[Tensor, "frames ref_frames"]
"""Share of attention from each target latent frame to each reference latent frame."""
Times = Real[Tensor, " batch"]
"""One time a sample; the solver's are whole numbers."""
Scalar = Float[Tensor, ""]
"""One number."""
SampleErrors = Float[Tensor, " batch"]
"""One error a sample."""
PairValues = Float[Tensor, " pairs"]
"""One value a preference pair."""
Frames = UInt8[Tensor, "_ pixel_height pixel_width 3"]
"""RGB pixel frames."""
NormWeight = Float[Tensor, " width"]
"""The scale of a norm."""
Features = Float[Tensor, "*any width"]
"""Rows of the network's width, in any arrangement."""
AnyHeads = Float[Tensor, "*any heads head_dim"]
"""`Heads` in any arrangement."""
AnyRotary = Complex[Tensor, "*any 1 half_head"]
"""`Rotary` likewise."""
AnyFloats = Float[Tensor, "..."]
"""Floating point of any shape."""
AnyTensor = Shaped[Tensor, "..."]
"""A tensor whose shape and type its key tells."""

FrameArray = UInt8[np.ndarray, "_ pixel_height pixel_width 3"]
"""RGB pixel frames, as an array."""
RefFrameArray = UInt8[np.ndarray, "_ ref_pixel_height ref_pixel_width 3"]
"""The same of a reference video, which may be of another size."""
PictureArray = UInt8[np.ndarray, "pixel_height pixel_width 3"]
"""One RGB picture."""
HoleArray = Bool[np.ndarray, "pixel_height pixel_width"]
"""Where a person is, or may be, in pixels."""
GridArray = Bool[np.ndarray, "_ rows columns"]
"""`TokenGrid` as an array."""
PlaneArray = Bool[np.ndarray, "rows columns"]
"""`TokenPlane` or `LatentPlane` as an array."""
BoxArray = Float[np.ndarray, "_ 4"]
"""Boxes x0, y0, x1, y1 in pixels, one a frame, NaN where there is none."""
Waveform = Float32[np.ndarray, " _"]
"""Mono samples at 16 kHz in [-1, 1]."""
SpeechArray = Float32[np.ndarray, "frames layers features"]
"""`AudioFeatures` as an array."""
RowArray = Float32[np.ndarray, "_ *row"]
"""Rows of any shape."""
PlaceRowArray = Float32[np.ndarray, "frames *row"]
"""One of them a frame."""
PlaceArray = Float64[np.ndarray, " frames"]
"""Fractional row numbers."""
FrameMapArray = Float32[np.ndarray, "_ ref_frames"]
"""`FrameMap` as an array."""
