"""Train the tiny Wan VAE: `python -m tavr_synthetic.zoo.vae --out DIR`.

Same class, strides (4, 8, 8) and latent channels (16) as Wan2.1's VAE (diffusers AutoencoderKLWan), narrower; its first
halving is Wan2.2's pixel shuffle and its levels have Wan2.2's averaging shortcuts, since with so few channels the plain
Wan2.1 stack did not learn colour in a quarter of an hour (docs/log.md).
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanAttentionBlock, WanResidualBlock
from torch import Tensor
from torch.nn.functional import avg_pool3d
from tqdm import tqdm

from tavr_synthetic.zoo.corpus import CorpusConfig, load_corpus
from tavr_synthetic.zoo.muon import MuonWithAdamW

ARCHITECTURE = {
    "base_dim": 16,
    "decoder_base_dim": 16,
    "z_dim": 16,
    "dim_mult": [1, 4, 4],
    "num_res_blocks": 1,
    "temperal_downsample": [True, True],
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "is_residual": True,
    "scale_factor_spatial": 8,
}
LATENT_NOISE = 0.05
LATENT_WEIGHT = 1e-3
FACE_WEIGHT = 2.0
EDGE_WEIGHT = 0.5
COLOUR_WEIGHT = 1.0


def build_vae() -> AutoencoderKLWan:
    """A fresh tiny VAE whose latents are not yet normalised (mean 0, std 1)."""
    vae = AutoencoderKLWan(**ARCHITECTURE, latents_mean=[0.0] * 16, latents_std=[1.0] * 16)
    for module in vae.modules():  # residual branches start silent: the first thing learnt is the linear map
        if isinstance(module, WanResidualBlock):
            torch.nn.init.zeros_(module.conv2.weight)
            torch.nn.init.zeros_(module.conv2.bias)
        elif isinstance(module, WanAttentionBlock):
            torch.nn.init.zeros_(module.proj.weight)
            torch.nn.init.zeros_(module.proj.bias)
    return vae


def reconstruction_loss(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted L1 of pixels, of their spatial differences and of 8x8 means; tensors [B, 3, T, H, W] in [-1, 1]."""
    difference = (output - target) * weight
    edges = (difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()) / 2
    colour = avg_pool3d(difference, (1, 8, 8)).abs().mean()
    return difference.abs().mean() + 0.5 * difference.square().mean() + EDGE_WEIGHT * edges + COLOUR_WEIGHT * colour


def sample_batch(  # noqa: PLR0913 - a crop has this many facts
    rng: np.random.Generator, frames: np.ndarray, boxes: np.ndarray, batch: int, length: int, crop: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Random space-time crops: pixels [B, 3, length, h, w] in [-1, 1] and loss weights (faces weigh more)."""
    clips, total, height, width = frames.shape[:4]
    pixels, weights = [], []
    for clip in rng.integers(0, clips, batch):
        start = rng.integers(0, total - length + 1)
        y, x = rng.integers(0, height - crop[0] + 1), rng.integers(0, width - crop[1] + 1)
        window = frames[clip, start : start + length, y : y + crop[0], x : x + crop[1]]
        weight = np.ones((1, length, *crop), np.float32)
        x0, y0, x1, y1 = (int(v) for v in boxes[clip, start])
        weight[..., max(y0 - y, 0) : max(y1 - y, 0), max(x0 - x, 0) : max(x1 - x, 0)] = FACE_WEIGHT
        pixels.append(torch.from_numpy(np.array(window)).permute(3, 0, 1, 2).float() / 127.5 - 1)
        weights.append(torch.from_numpy(weight))
    return torch.stack(pixels), torch.stack(weights)


def train(out: Path, cache: Path, minutes: float, seed: int, resume: Path | None) -> None:
    """Train until the time is up, then fix the latent statistics and write the weights in bfloat16."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    frames, boxes = load_corpus(CorpusConfig(5000, 21, 64, 112, 2_000_000), cache)
    vae = build_vae() if resume is None else AutoencoderKLWan.from_pretrained(resume)
    gentle = 1.0 if resume is None else 0.5
    optimizer = MuonWithAdamW(vae, muon_rate=0.02 * gentle, adam_rate=3e-3 * gentle)
    started, step = time.monotonic(), 0
    with tqdm(total=int(minutes * 60), unit="s") as bar:
        while (elapsed := time.monotonic() - started) < minutes * 60:
            done = elapsed / (minutes * 60)
            length = (5, 1, 9, 1, 5, 1)[step % 6]
            pixels, weight = sample_batch(
                rng, frames, boxes, 16 if length == 1 else 4 if length == 5 else 2, length, (64, 64)
            )
            latents = vae.encode(pixels).latent_dist.mode()
            output = vae.decode(latents + LATENT_NOISE * torch.randn_like(latents)).sample
            loss = reconstruction_loss(output, pixels, weight) + LATENT_WEIGHT * latents.square().mean()
            loss.backward()
            optimizer.step(min(1, (step + 1) / 50) * max(0.02, 1 - done))
            step += 1
            bar.n = int(elapsed)
            bar.set_postfix(step=step, loss=f"{loss.item():.4f}")
    normalise(vae, frames[:64])
    vae.to(torch.bfloat16).save_pretrained(out)
    print(json.dumps({"steps": step, **measure(vae.float(), frames_unseen(cache))}))


def train_decoder(out: Path, cache: Path, minutes: float, seed: int, resume: Path) -> None:
    """Go on with the decoder alone on clips longer than `train` shows, so that it keeps its quality over time.

    The encoder, and with it every latent that another network has learnt, stays as it is. Clips are played forward and
    back to be longer than the corpus has them.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    frames, boxes = load_corpus(CorpusConfig(5000, 21, 64, 112, 2_000_000), cache)
    vae = AutoencoderKLWan.from_pretrained(resume, torch_dtype=torch.float32)
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    optimizer = MuonWithAdamW(vae, muon_rate=0.006, adam_rate=1e-3)
    started, step = time.monotonic(), 0
    with tqdm(total=int(minutes * 60), unit="s") as bar:
        while (elapsed := time.monotonic() - started) < minutes * 60:
            length = (21, 13, 33, 21, 5)[step % 5]
            pixels, weight = sample_batch(rng, frames, boxes, 2 if length > 5 else 4, min(length, 21), (64, 64))
            pixels, weight = (torch.cat([part, part.flip(2)[:, :, 1:]], 2)[:, :, :length] for part in (pixels, weight))
            with torch.no_grad():
                latents = vae.encode(pixels).latent_dist.mode()
            output = vae.decode(latents + LATENT_NOISE * torch.randn_like(latents)).sample
            loss = reconstruction_loss(output, pixels, weight)
            loss.backward()
            optimizer.step(min(1, (step + 1) / 20) * max(0.02, 1 - elapsed / (minutes * 60)))
            step += 1
            bar.n = int(elapsed)
            bar.set_postfix(step=step, loss=f"{loss.item():.4f}", length=length)
    vae.to(torch.bfloat16).save_pretrained(out)
    print(json.dumps({"steps": step, **measure(vae.float(), frames_unseen(cache))}))


@torch.no_grad()
def normalise(vae: AutoencoderKLWan, frames: np.ndarray) -> None:
    """Write the per-channel mean and standard deviation of the latents into the configuration."""
    latents = torch.cat([vae.encode(to_pixels(clip)).latent_dist.mode() for clip in frames])
    mean, std = latents.mean(dim=(0, 2, 3, 4)), latents.std(dim=(0, 2, 3, 4))
    vae.register_to_config(
        latents_mean=[round(float(v), 4) for v in mean], latents_std=[round(float(v), 4) for v in std]
    )


def to_pixels(frames: np.ndarray) -> Tensor:
    """uint8 [T, H, W, 3] to float [1, 3, T, H, W] in [-1, 1]."""
    return torch.from_numpy(np.array(frames)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1


def frames_unseen(cache: Path) -> np.ndarray:
    """Clips of people that no training saw, [24, 21, 64, 112, 3]."""
    return load_corpus(CorpusConfig(24, 21, 64, 112, 9_000_000), cache)[0]


@torch.no_grad()
def measure(vae: AutoencoderKLWan, frames: np.ndarray) -> dict[str, float]:
    """Mean PSNR in dB of reconstructing unseen clips, and of their last four frames."""
    errors: list[float] = []
    last: list[float] = []
    for clip in frames:
        pixels = to_pixels(clip)
        output = vae.decode(vae.encode(pixels).latent_dist.mode()).sample.clamp(-1, 1)
        errors.append(float((output - pixels).square().mean()))
        last.append(float((output - pixels)[:, :, -4:].square().mean()))
    return {name: float(np.mean(10 * np.log10(4 / np.array(of)))) for name, of in (("psnr_db", errors), ("last", last))}


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path(".work/zoo"))
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", type=Path, default=None, help="go on from these weights")
    parser.add_argument("--decoder-minutes", type=float, default=14.0, help="then the decoder alone on longer clips")
    parser.add_argument("--decoder-only", action="store_true", help="nothing but that, from the weights of --resume")
    arguments = parser.parse_args()
    start = arguments.resume
    if not arguments.decoder_only:
        train(arguments.out, arguments.cache, arguments.minutes, arguments.seed, arguments.resume)
        start = arguments.out
    if start is None:
        parser.error("--decoder-only goes on from weights: give --resume")
    train_decoder(arguments.out, arguments.cache, arguments.decoder_minutes, arguments.seed, start)


if __name__ == "__main__":
    main()
