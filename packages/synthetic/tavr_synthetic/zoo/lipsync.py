"""Train the tiny SyncNet: `python -m tavr_synthetic.zoo.lipsync --out DIR --cache DIR`.

Writes DIR/lipsync (model.safetensors in float16 and config.json). Every five-crop window has to find its own sound
among all windows of its clip; the softmax runs over negative distances, so that Sync-C and Sync-D keep their meaning.
Prints how well matched sound is told from shifted sound on people never seen.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from tavr_perception.lipsync import LipSync, crop_faces, to_int16
from tavr_perception.mfcc import mfcc
from tavr_perception.syncnet import FRAMES, MFCC_PER_FRAME, MFCC_STEPS, SyncNet, SyncNetConfig
from torch import Tensor, nn

from tavr_synthetic.people import sample_person
from tavr_synthetic.speech import synthesize
from tavr_synthetic.zoo.corpus import FPS, SAMPLE_RATE, CorpusConfig, load_corpus
from tavr_synthetic.zoo.speech import degrade

CORPUS = CorpusConfig(clips=1200, frames=21, height=64, width=112, first_seed=1_000_000)
HELD_OUT = CorpusConfig(clips=120, frames=21, height=64, width=112, first_seed=3_000_000)
CONFIG = SyncNetConfig(width=0.1875, embedding=64, crop_size=64, crop_scale=0.8, crop_shift=0.35, edge="overlap")
WINDOWS = CORPUS.frames - FRAMES
BATCH = 12
PIXEL_SCALE, PIXEL_MEAN = 60.0, 120.0
"""Training sees (pixel - mean) / scale; both are folded into the first convolution before saving."""


@dataclass(frozen=True)
class Clips:
    """frames uint8 [N, T, H, W, 3], face boxes float32 [N, T, 4], sound float32 [N, samples]."""

    frames: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    sound: NDArray[np.float32]


def load_clips(config: CorpusConfig, cache: Path) -> Clips:
    """The corpus and, made again from the same seeds, its sound."""
    frames, boxes = load_corpus(config, cache)
    seconds = config.frames / FPS
    seeds = range(config.first_seed, config.first_seed + config.clips)
    sound = np.stack([synthesize(sample_person(seed).voice, seed, seconds, SAMPLE_RATE).waveform for seed in seeds])
    return Clips(frames, boxes, sound)


def jittered_boxes(boxes: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """The track as another detector might draw it: moved and scaled as a whole, and a little restless."""
    size = float((boxes[:, 3] - boxes[:, 1]).mean())
    moved = rng.normal(0, 0.05, 2) + rng.normal(0, 0.012, (len(boxes), 2))
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 + moved * size
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 * rng.uniform(0.88, 1.15, 2) * rng.normal(1, 0.012, (len(boxes), 1))
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)


def worn(crops: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
    """Crops as cameras, codecs and decoders leave them: blur, noise, other brightness, mirrored."""
    pictures = crops.astype(np.float32)
    if rng.random() < 0.5:
        sigma = float(rng.uniform(0.4, 2.0))
        pictures = np.stack([cv2.GaussianBlur(picture, (0, 0), sigma) for picture in pictures])
    if rng.random() < 0.5:
        pictures = pictures[:, :, ::-1]
    pictures = (pictures - 128) * np.float32(rng.uniform(0.75, 1.2)) + np.float32(128 + rng.uniform(-25, 25))
    noise = rng.standard_normal(pictures.shape, dtype=np.float32) * np.float32(rng.uniform(0, 8))
    return (pictures + noise).astype(np.float32)


def sound_windows(waveform: NDArray[np.float32]) -> Tensor:
    """MFCC windows [WINDOWS, 1, 13, 20]."""
    rows = torch.from_numpy(mfcc(to_int16(waveform), SAMPLE_RATE)).float()
    return rows.T.unfold(1, MFCC_STEPS, MFCC_PER_FRAME)[:, :WINDOWS].permute(1, 0, 2).unsqueeze(1)


def draw_batch(data: Clips, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Crops [B, 3, T, S, S] and sound windows [B * WINDOWS, 1, 13, 20] of random clips."""
    visual: list[Tensor] = []
    audio: list[Tensor] = []
    for index in rng.integers(len(data.frames), size=BATCH):
        boxes = jittered_boxes(data.boxes[index], rng)
        crops = worn(crop_faces(data.frames[index], boxes, CONFIG), rng)[: WINDOWS + FRAMES - 1]
        visual.append(torch.from_numpy((crops - PIXEL_MEAN) / PIXEL_SCALE).permute(3, 0, 1, 2))
        audio.append(sound_windows(np.clip(degrade(data.sound[index], rng), -1, 1)))
    return torch.stack(visual).float(), torch.cat(audio)


def matching_loss(visual: Tensor, audio: Tensor) -> Tensor:
    """Cross entropy of finding each window's sound, and each sound's window, in its clip; both [B, W, embedding].

    A window one frame off shows nearly the same mouth; such neighbours are left out of the competition.
    """
    distances = (visual[:, :, None] - audio[:, None] + 1e-6).square().sum(-1).sqrt()
    count = visual.shape[1]
    apart = (torch.arange(count)[:, None] - torch.arange(count)[None]).abs()
    logits = (-distances).masked_fill(apart == 1, float("-inf"))
    target = torch.arange(count).expand(len(visual), -1)
    rows = nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())
    columns = nn.functional.cross_entropy(logits.transpose(1, 2).flatten(0, 1), target.flatten())
    return (rows + columns) / 2


def fold_pixels(network: SyncNet) -> None:
    """Make the trained network take raw pixels 0..255, as the published one does."""
    first = network.netcnnlip[0]
    assert isinstance(first, nn.Conv3d)
    assert first.bias is not None
    with torch.no_grad():
        first.weight /= PIXEL_SCALE
        first.bias -= first.weight.sum(dim=(1, 2, 3, 4)) * PIXEL_MEAN


def train(data: Clips, steps: int, seed: int) -> SyncNet:
    """The network after `steps` batches."""
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 6])
    network = SyncNet(CONFIG).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        pictures, sound = draw_batch(data, rng)
        visual = network.forward_visual(pictures)
        audio = network.forward_audio(sound).view(BATCH, WINDOWS, -1)
        loss = matching_loss(visual, audio)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            print(json.dumps({"step": step, "loss": round(float(loss.detach()), 4)}), flush=True)
    fold_pixels(network)
    return network.eval()


def save(network: SyncNet, directory: Path) -> None:
    """model.safetensors in float16 (batch norm's statistics in float32) and config.json."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        tensors[name] = (tensor if "running" in name else tensor.half()).contiguous()
    save_file(tensors, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(asdict(CONFIG), indent=2) + "\n")


def auc(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    """Chance that a random positive lies below a random negative (distances: lower means matched)."""
    ranks = np.argsort(np.argsort(np.concatenate([positive, negative]), kind="stable"), kind="stable") + 1.0
    above = ranks[: len(positive)].sum() - len(positive) * (len(positive) + 1) / 2
    return float(1 - above / (len(positive) * len(negative)))


def measure(directory: Path, data: Clips) -> dict[str, float]:
    """Windows and whole clips of unseen people: matched against shifted by 4 to 8 frames, and the offset found."""
    lipsync = LipSync(directory)
    matched: list[float] = []
    shifted: list[float] = []
    clip_matched: list[float] = []
    clip_shifted: list[float] = []
    offsets: list[int] = []
    confidences: list[float] = []
    rng = np.random.default_rng(23)
    for index in range(len(data.frames)):
        boxes = jittered_boxes(data.boxes[index], rng)
        visual, audio = lipsync.features(data.frames[index], boxes, data.sound[index])
        table = torch.cdist(visual, audio).numpy()
        matched += np.diagonal(table).tolist()
        clip_matched.append(float(np.diagonal(table).mean()))
        for shift in (-8, -6, -4, 4, 6, 8):
            shifted += np.diagonal(table, shift).tolist()
            clip_shifted.append(float(np.diagonal(table, shift).mean()))
        score = lipsync.score(data.frames[index], boxes, data.sound[index], FPS)
        offsets.append(score.offset)
        confidences.append(score.sync_c)
    return {
        "window_auc": round(auc(np.array(matched), np.array(shifted)), 4),
        "clip_auc": round(auc(np.array(clip_matched), np.array(clip_shifted)), 4),
        "offset_zero": round(float(np.mean(np.array(offsets) == 0)), 4),
        "offset_within_one": round(float(np.mean(np.abs(offsets) <= 1)), 4),
        "sync_c_mean": round(float(np.mean(confidences)), 3),
        "sync_d_mean": round(float(np.mean(clip_matched)), 3),
    }


def main() -> None:
    """Train, save and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="writes OUT/lipsync")
    parser.add_argument("--cache", type=Path, required=True, help="where rendered clips are kept between runs")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = train(load_clips(CORPUS, options.cache), options.steps, options.seed)
    save(network, options.out / "lipsync")
    print(json.dumps(measure(options.out / "lipsync", load_clips(HELD_OUT, options.cache))), flush=True)


if __name__ == "__main__":
    main()
