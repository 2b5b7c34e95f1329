"""Train the tiny Wan VAE: `python -m tavr_synthetic.zoo.vae --out DIR`.

Same class, strides (4, 8, 8) and latent channels (16) as Wan2.1's VAE (diffusers AutoencoderKLWan), narrower; its first
halving is Wan2.2's pixel shuffle and its levels have Wan2.2's averaging shortcuts, since with so few channels the plain
Wan2.1 stack did not learn colour in a quarter of an hour (docs/log.md).
"""

import argparse
import json
import time
from dataclasses import dataclass, replace
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
LATENT_WEIGHT = 1e-3
FACE_WEIGHT = 2.0
EDGE_WEIGHT = 0.5
COLOUR_WEIGHT = 1.0
UNSEEN = CorpusConfig(12, 97, 64, 112, 9_000_000)
"""Clips of people that no training saw."""


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


def reconstruction_loss(output: Tensor, target: Tensor, weight: Tensor, motion_weight: float) -> Tensor:
    """Weighted L1 of pixels, of their spatial differences, of 8x8 means and of changes from frame to frame.

    Tensors are [B, 3, T, H, W] in [-1, 1].
    """
    difference = (output - target) * weight
    edges = (difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()) / 2
    colour = avg_pool3d(difference, (1, 8, 8)).abs().mean()
    loss = difference.abs().mean() + 0.5 * difference.square().mean() + EDGE_WEIGHT * edges + COLOUR_WEIGHT * colour
    if motion_weight and output.shape[2] > 1:
        loss = loss + motion_weight * difference.diff(dim=2).abs().mean()
    return loss


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


@dataclass(frozen=True)
class Plan:
    """What a training sees and how it learns.

    Attributes:
        corpus: its clips.
        batches: (clips, frames) of its batches, in turn.
        muon_rate, adam_rate: learning rates at their highest, after `warm_up` steps.
        motion_weight: of the loss on changes from frame to frame.
        latent_noise: standard deviation of what is added to the latents before they are decoded.
        encoder: whether the encoder learns too.
    """

    corpus: CorpusConfig
    batches: tuple[tuple[int, int], ...]
    muon_rate: float
    adam_rate: float
    warm_up: int
    motion_weight: float
    latent_noise: float
    encoder: bool


WHOLE = Plan(
    corpus=CorpusConfig(5000, 21, 64, 112, 2_000_000),
    batches=((4, 5), (16, 1), (2, 9), (16, 1), (4, 5), (16, 1)),
    muon_rate=0.02,
    adam_rate=3e-3,
    warm_up=50,
    motion_weight=0.0,
    latent_noise=0.05,
    encoder=True,
)
DECODER = Plan(
    corpus=CorpusConfig(600, 97, 64, 112, 7_000_000),
    batches=((2, 21), (1, 97), (2, 33), (1, 65), (4, 5)),
    muon_rate=0.006,
    adam_rate=1e-3,
    warm_up=20,
    motion_weight=2.0,
    latent_noise=0.1,
    encoder=False,
)
"""The decoder alone, on clips that are long and really move on: it learns to keep its quality over time and to pass
from one latent's frames to the next one's without a jump. Every latent that another network has learnt stays."""


def train(vae: AutoencoderKLWan, plan: Plan, cache: Path, minutes: float, seed: int) -> int:
    """Train until the time is up; returns the steps done."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    frames, boxes = load_corpus(plan.corpus, cache)
    vae.encoder.requires_grad_(plan.encoder)
    vae.quant_conv.requires_grad_(plan.encoder)
    optimizer = MuonWithAdamW(vae, plan.muon_rate, plan.adam_rate)
    started, step = time.monotonic(), 0
    with tqdm(total=int(minutes * 60), unit="s") as bar:
        while (elapsed := time.monotonic() - started) < minutes * 60:
            clips, length = plan.batches[step % len(plan.batches)]
            pixels, weight = sample_batch(rng, frames, boxes, clips, length, (64, 64))
            with torch.set_grad_enabled(plan.encoder):
                latents = vae.encode(pixels).latent_dist.mode()
            output = vae.decode(latents + plan.latent_noise * torch.randn_like(latents)).sample
            loss = reconstruction_loss(output, pixels, weight, plan.motion_weight)
            (loss + LATENT_WEIGHT * latents.square().mean()).backward()
            optimizer.step(min(1, (step + 1) / plan.warm_up) * max(0.02, 1 - elapsed / (minutes * 60)))
            step += 1
            bar.n = int(elapsed)
            bar.set_postfix(step=step, loss=f"{loss.item():.4f}", length=length)
    return step


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


@torch.no_grad()
def measure(vae: AutoencoderKLWan, frames: np.ndarray) -> dict[str, float]:
    """How well unseen clips [N, 4k + 1, H, W, 3] come back.

    Returns:
        Means over the clips: PSNR in dB of the whole, of the first 21 frames and of the last four frames; and the
        change between the last frame of a latent and the first of the next over the median change of neighbours, of
        the clips (`boundary_real`) and of what comes back (`boundary`).
    """
    found: list[dict[str, float]] = []
    for clip in frames:
        pixels = to_pixels(clip)
        output = vae.decode(vae.encode(pixels).latent_dist.mode()).sample.clamp(-1, 1)
        errors = (output - pixels).square().mean(dim=(0, 1, 3, 4)).numpy()
        spans = {"psnr_db": errors, "first_21": errors[:21], "last_4": errors[-4:]}
        psnr = {name: float(10 * np.log10(4 / of.mean())) for name, of in spans.items()}
        found.append(psnr | {"boundary": boundary_ratio(output), "boundary_real": boundary_ratio(pixels)})
    return {name: round(float(np.mean([row[name] for row in found])), 3) for name in found[0]}


def boundary_ratio(pixels: Tensor) -> float:
    """Mean change at the boundaries of latents over the median change of neighbours, of a clip [1, 3, T, H, W]."""
    changes = pixels.diff(dim=2).abs().mean(dim=(0, 1, 3, 4))
    return float(changes[::4].mean() / changes.median())


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path(".work/zoo"))
    parser.add_argument("--minutes", type=float, default=25.0, help="of the whole; 0: only the decoder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", type=Path, default=None, help="go on from these weights")
    parser.add_argument("--decoder-minutes", type=float, default=45.0, help="then the decoder alone on long clips")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    resumed = arguments.resume is not None
    vae = AutoencoderKLWan.from_pretrained(arguments.resume, torch_dtype=torch.float32) if resumed else build_vae()
    steps = {"whole": 0, "decoder": 0}
    if arguments.minutes:
        gentle = 0.5 if resumed else 1.0
        plan = replace(WHOLE, muon_rate=WHOLE.muon_rate * gentle, adam_rate=WHOLE.adam_rate * gentle)
        steps["whole"] = train(vae, plan, arguments.cache, arguments.minutes, arguments.seed)
        normalise(vae, load_corpus(WHOLE.corpus, arguments.cache)[0][:64])
    if arguments.decoder_minutes:
        steps["decoder"] = train(vae, DECODER, arguments.cache, arguments.decoder_minutes, arguments.seed)
    vae.to(torch.bfloat16).save_pretrained(arguments.out)
    unseen = load_corpus(UNSEEN, arguments.cache)[0]
    print(json.dumps(steps | measure(vae.float(), unseen)))


if __name__ == "__main__":
    main()
