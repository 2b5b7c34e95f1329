"""Pixels to Wan-normalised latents and back, shared by latents, preferences, benchmark and generation."""

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from torch import Tensor

from tavr_model.shapes import Frames, Latents


def _statistics(vae: AutoencoderKLWan, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each latent channel, [1, C, 1, 1, 1]."""
    return tuple(  # type: ignore[return-value]
        torch.tensor(values, device=like.device, dtype=like.dtype).view(1, -1, 1, 1, 1)
        for values in (vae.config["latents_mean"], vae.config["latents_std"])
    )


@torch.no_grad()
def encode_video(vae: AutoencoderKLWan, frames: Frames) -> Latents:
    """Encode uint8 RGB [T, H, W, 3] (H, W multiples of 8) to (mode - mean) / std, float32 [C, 1 + (T-1)//4, H/8, W/8].

    Frames beyond the last 4k + 1 are dropped by the VAE.
    """
    weight = next(vae.parameters())
    pixels = frames.to(weight.device).permute(3, 0, 1, 2)[None].to(weight.dtype) / 127.5 - 1
    latents = vae.encode(pixels).latent_dist.mode()  # pyright: ignore[reportAttributeAccessIssue]
    mean, std = _statistics(vae, latents)
    return ((latents - mean) / std)[0].float()


@torch.no_grad()
def decode_latents(vae: AutoencoderKLWan, latents: Latents) -> Frames:
    """Decode normalised latents [C, T, h, w] to uint8 RGB [1 + 4 (T-1), 8h, 8w, 3]."""
    weight = next(vae.parameters())
    stacked = latents[None].to(weight.device, weight.dtype)
    mean, std = _statistics(vae, stacked)
    pixels = vae.decode(stacked * std + mean, return_dict=False)[0][0]
    return ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 3, 0).contiguous().cpu()
