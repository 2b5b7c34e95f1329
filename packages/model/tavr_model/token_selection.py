"""Which tokens enter the sequence (paper section 3.1, Token Selection): faces of the reference, visible background.

A token is a 2x2 patch of latents, that is 16x16 pixels; a latent frame k >= 1 covers pixel frames 4k-3 .. 4k.
"""

import math

import numpy as np

from tavr_model.shapes import BoxArray, FrameArray, GridArray, HoleArray, PictureArray, PlaneArray

TOKEN_PIXELS = 16
LATENT_PIXELS = 8
GREY = 127
"""What fills the hole in the background image: the middle of the VAE's input range."""


def latent_frames(pixel_frames: int) -> int:
    """Latent frames of a clip of `pixel_frames` frames: 1 + (n - 1) // 4; trailing frames are dropped by the VAE."""
    return 1 + (pixel_frames - 1) // 4


def covered_frames(latent_frame: int) -> range:
    """Pixel frames that a latent frame covers: 0 for the first, 4k-3 .. 4k for k >= 1."""
    return range(1) if latent_frame == 0 else range(4 * latent_frame - 3, 4 * latent_frame + 1)


def face_tokens(boxes: BoxArray, height: int, width: int) -> GridArray:
    """Tokens inside the face box, per latent frame.

    The box of a latent frame is the union over its pixel frames, widened to whole tokens (floor / ceil by 16).

    Args:
        boxes: [frames, 4] x0, y0, x1, y1 in pixels; NaN where no face was found. Expanding the box is the caller's.
        height: of the frame in pixels, a multiple of 16.
        width: likewise.

    Returns:
        bool [latent frames, height / 16, width / 16]; a latent frame without a face keeps nothing.
    """
    kept = np.zeros((latent_frames(len(boxes)), height // TOKEN_PIXELS, width // TOKEN_PIXELS), np.bool_)
    for index in range(len(kept)):
        covered = boxes[covered_frames(index).start : covered_frames(index).stop]
        covered = covered[np.isfinite(covered).all(axis=1)]
        if len(covered) == 0:
            continue
        x0, y0 = covered[:, :2].min(axis=0)
        x1, y1 = covered[:, 2:].max(axis=0)
        rows = slice(max(0, math.floor(y0 / TOKEN_PIXELS)), max(0, math.ceil(y1 / TOKEN_PIXELS)))
        columns = slice(max(0, math.floor(x0 / TOKEN_PIXELS)), max(0, math.ceil(x1 / TOKEN_PIXELS)))
        kept[index, rows, columns] = True
    return kept


def mask_background(frame: PictureArray, hole: HoleArray) -> FrameArray:
    """The background image I_bg [H, W, 3] as a clip of one frame [1, H, W, 3]: the hole [H, W] is grey."""
    masked = frame.copy()
    masked[hole] = GREY
    return masked[None]


def background_tokens(hole: HoleArray) -> PlaneArray:
    """Background tokens to keep, bool [height / 16, width / 16]: those with a pixel outside `hole` [height, width]."""
    height, width = hole.shape
    blocks = hole.reshape(height // TOKEN_PIXELS, TOKEN_PIXELS, width // TOKEN_PIXELS, TOKEN_PIXELS)
    return np.asarray(~blocks.all(axis=(1, 3)))


def foreground_mask(hole: HoleArray) -> PlaneArray:
    """The mask `m` of Eq. 7 on the latent grid, bool [height / 8, width / 8]: the hole, max-pooled."""
    height, width = hole.shape
    blocks = hole.reshape(height // LATENT_PIXELS, LATENT_PIXELS, width // LATENT_PIXELS, LATENT_PIXELS)
    return np.asarray(blocks.any(axis=(1, 3)))
