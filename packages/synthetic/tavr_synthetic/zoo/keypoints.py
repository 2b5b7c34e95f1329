"""Train the tiny face keypoint estimator in Sapiens' format (transformers' Sapiens2 pose classes).

`python -m tavr_synthetic.zoo.keypoints --out packages/synthetic/zoo/keypoints --steps 3000`
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tavr_perception.keypoints import CROP_PADDING, KeypointEstimator, face_boxes
from torch import Tensor, nn
from tqdm import tqdm
from transformers import Sapiens2Config, Sapiens2ForPoseEstimation, Sapiens2ImageProcessor

from tavr_synthetic.render import KEYPOINT_NAMES
from tavr_synthetic.zoo.stills import (
    CLIP_SIZE,
    SOURCE_SIZE,
    TRAINING,
    TRAINING_SEED,
    UNSEEN_SEED,
    Stills,
    StillsConfig,
    empty_rooms,
    load_stills,
    moved,
    random_view,
    soften,
    view,
)

DOWNSCALE = 2
SIGMA = 1.6
"""Standard deviation of a heat map's peak, in its own pixels."""
BATCH = 32
EMPTY_SHARE = 0.25
PEAK_WEIGHT = 30.0
NO_FACE_BELOW = 0.5
"""Score that tells a face (0.64 in the mean) from none (0.15 in the mean)."""
CHOICE_WEIGHT, CHOICE_SCALE = 0.02, 12.0


def build_model() -> Any:
    """Sapiens2's pose estimator, narrow: 4 layers of width 80, patches of 8, heat maps at half size."""
    names: dict[int, str] = dict(enumerate(KEYPOINT_NAMES))
    config = Sapiens2Config(
        patch_size=8,
        image_size=list(CLIP_SIZE),
        hidden_size=80,
        intermediate_size=160,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_attention_heads=4,
        num_register_tokens=2,
        pos_embed_rescale=None,
        id2label=names,
        label2id={name: index for index, name in names.items()},
        head_config={"upsample_out_channels": [40, 32], "conv_out_channels": [32], "conv_kernel_sizes": [1]},
    )
    return Sapiens2ForPoseEstimation(config)


def build_processor() -> Any:
    """The image processor that frames and decodes as the model was trained."""
    height, width = CLIP_SIZE
    return Sapiens2ImageProcessor(
        size={"height": height, "width": width},
        keypoint_heatmap_downscale_factor=DOWNSCALE,
        keypoint_heatmap_sigma=SIGMA,
    )


def heat_maps(points: NDArray[np.float32]) -> Tensor:
    """Gaussian peaks [B, K, h, w] at points [B, K, 2] (pixels, continuous); Sapiens' pixel-to-heat-map mapping."""
    height, width = CLIP_SIZE[0] // DOWNSCALE, CLIP_SIZE[1] // DOWNSCALE
    factor = (width - 1) / (CLIP_SIZE[1] - 1)
    # The processor widens the crop to the network's shape; only the shorter side's factor differs, by half a percent.
    crop_height = (CLIP_SIZE[1] - 1) * CLIP_SIZE[0] / CLIP_SIZE[1]
    factor_y = (height - 1) / crop_height
    middle_y = (CLIP_SIZE[0] - 1) / 2
    at = torch.from_numpy(points) - 0.5
    x = at[..., 0] * factor
    y = (at[..., 1] - middle_y) * factor_y + (height - 1) / 2
    across = torch.exp(-((torch.arange(width) - x[..., None]) ** 2) / (2 * SIGMA**2))
    down = torch.exp(-((torch.arange(height) - y[..., None]) ** 2) / (2 * SIGMA**2))
    return down[..., :, None] * across[..., None, :]


def sample_batch(
    rng: np.random.Generator, stills: Stills, rooms: NDArray[np.uint8], size: int
) -> tuple[Tensor, Tensor]:
    """Pixels [B, 3, 64, 112] in [0, 1] of softened views and their heat maps (zero in empty rooms)."""
    frames = np.empty((size, *CLIP_SIZE, 3), np.uint8)
    points = np.full((size, len(KEYPOINT_NAMES), 2), -1e3, np.float32)
    for row in range(size):
        matrix = random_view(rng, CLIP_SIZE, spread=1.0 if rng.random() < 0.8 else 2.0)
        if rng.random() < EMPTY_SHARE:
            frame = rooms[rng.integers(len(rooms))]
        else:
            index = int(rng.integers(len(stills.frames)))
            frame = np.asarray(stills.frames[index])
            points[row] = moved(stills.keypoints[index], matrix)
        frames[row] = soften(view(frame, matrix, CLIP_SIZE), rng)
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255, heat_maps(points)


def heat_loss(heat: Tensor, target: Tensor) -> Tensor:
    """Squared error that weighs peaks, and the choice of the right place among all: [B, K, h, w] each.

    The second term is a softmax over places; squared error alone is slow to tell one eye from the other.
    """
    squared = ((1 + PEAK_WEIGHT * target) * (heat - target).square()).mean()
    mass = target.flatten(2)
    places = mass / mass.sum(-1, keepdim=True).clamp(min=1e-6)
    choice = -(places * (CHOICE_SCALE * heat.flatten(2)).log_softmax(-1)).sum(-1).mean()
    return squared + CHOICE_WEIGHT * choice


def train(out: Path, steps: int, seed: int, cache: Path) -> None:
    """Train on one thread and save model and processor (float16)."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 0x6B70])
    stills = load_stills(TRAINING, cache)
    rooms = empty_rooms(6000, TRAINING_SEED)
    model, processor = build_model(), build_processor()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (processor.image_mean, processor.image_std))
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    for step in (bar := tqdm(range(steps))):
        pixels, target = sample_batch(rng, stills, rooms, BATCH)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            heat = model(pixel_values=(pixels - mean) / std).heatmaps
        loss = heat_loss(heat.float(), target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.4f}")
    model.eval().half().save_pretrained(out)
    processor.save_pretrained(out)


def measure(out: Path, people: int, cache: Path) -> dict[str, float]:
    """Mean keypoint error (pixels of 64 x 112), scores with and without a face, face-box overlap, on unseen people."""
    estimator = KeypointEstimator(out)
    stills = load_stills(StillsConfig(people, 1, 1, UNSEEN_SEED), cache)
    rng = np.random.default_rng(1)
    matrix = random_view(rng, CLIP_SIZE, spread=0.0)
    sharp = np.stack([view(np.asarray(frame), matrix, CLIP_SIZE) for frame in stills.frames])
    truth = stills.keypoints * np.array([CLIP_SIZE[1] / SOURCE_SIZE[1], CLIP_SIZE[0] / SOURCE_SIZE[0]], np.float32)
    result: dict[str, float] = {"people": people, "crop_padding": CROP_PADDING}
    for name, frames in (("", sharp), ("_softened", np.stack([soften(frame, rng) for frame in sharp]))):
        found = estimator.estimate(frames)
        error = np.linalg.norm(found.xy - truth, axis=-1)
        result |= {
            f"error_px{name}": float(error.mean()),
            f"error_px_p95{name}": float(np.quantile(error, 0.95)),
            f"score{name}": float(found.scores.mean()),
            f"score_p01{name}": float(np.quantile(np.median(found.scores, axis=1), 0.01)),
            f"faces{name}": float(np.isfinite(face_boxes(found, NO_FACE_BELOW, 1.0)).all(axis=1).mean()),
        }
    rooms = np.stack([view(room, matrix, CLIP_SIZE) for room in empty_rooms(people, UNSEEN_SEED)])
    empty = estimator.estimate(rooms)
    result["score_without_face"] = float(empty.scores.mean())
    result["score_without_face_p99"] = float(np.quantile(np.median(empty.scores, axis=1), 0.99))
    result["faces_in_empty_rooms"] = float(np.isfinite(face_boxes(empty, NO_FACE_BELOW, 1.0)).all(axis=1).mean())
    return result


def main() -> None:
    """Train, save, measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "tavr-zoo")
    arguments = parser.parse_args()
    train(arguments.out, arguments.steps, arguments.seed, arguments.cache)
    print(json.dumps({"role": "keypoints", **measure(arguments.out, 500, arguments.cache)}))


if __name__ == "__main__":
    main()
