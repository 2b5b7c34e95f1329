"""Train the tiny ArcFace on thousands of rendered people and export it for insightface.

`python -m tavr_synthetic.zoo.identity --out packages/synthetic/zoo/identity --steps 6000`

Needs the detector (`zoo.detector`) in the same directory for the measurement. Writes `models/tiny/w600k.onnx`.
"""

import argparse
import json
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tavr_perception.identity import FaceEmbeddings, FaceIdentity, chamfer_similarity
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from tavr_synthetic.zoo.detector import PACK, export
from tavr_synthetic.zoo.stills import (
    CLIP_SIZE,
    TRAINING,
    UNSEEN_SEED,
    Stills,
    StillsConfig,
    load_stills,
    moved,
    random_view,
    soften,
    view,
)

CROP = 112
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
"""insightface's five points of an aligned 112 x 112 face."""
DIMENSION = 256
PEOPLE_A_BATCH, STILLS_A_PERSON = 64, 2
MARGIN, SCALE = 0.3, 32.0
PAIR_MARGIN, PAIR_SCALE = 0.2, 16.0
KEYPOINT_JITTER = 0.8
"""How far (pixels of 64 x 112) the detector's keypoints stray from the truth."""


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch norm, PReLU, as ArcFace's backbones have it."""
    layer = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.PReLU(outputs))


class Residual(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(width, width), nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, width, h, w] to the same."""
        return x + self.body(x)


class Embedder(nn.Module):
    """Aligned faces [B, 3, 112, 112] in [-1, 1] to embeddings [B, 256] (not normalised).

    The tiny world's faces are 35 pixels tall, so the first step halves the picture without loss.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.AvgPool2d(2),
            conv(3, 32, 2),
            conv(32, 64, 2),
            Residual(64),
            conv(64, 128, 2),
            Residual(128),
            nn.Conv2d(128, 128, 7, groups=128, bias=False),
            nn.BatchNorm2d(128),
            nn.Flatten(),
            nn.Linear(128, DIMENSION, bias=False),
            nn.BatchNorm1d(DIMENSION),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class."""
        return self.features(pixels)


def margin_loss(embeddings: Tensor, centres: Tensor, person: Tensor, margin: float) -> Tensor:
    """Additive angular margin softmax (ArcFace): the true class's angle grows by `margin`."""
    cosine = functional.linear(functional.normalize(embeddings), functional.normalize(centres))
    cosine = cosine.clamp(-1 + 1e-6, 1 - 1e-6)
    own = cosine.gather(1, person[:, None])
    # Past pi - margin the shifted cosine would fall again; go on linearly there, as insightface does.
    shifted = torch.cos(torch.acos(own) + margin)
    shifted = torch.where(own > -np.cos(margin), shifted, own - margin * np.sin(margin))
    logits = cosine.scatter(1, person[:, None], shifted)
    return functional.cross_entropy(SCALE * logits, person)


def pair_loss(embeddings: Tensor) -> Tensor:
    """Rows 2i and 2i + 1 are one person: each must pick the other among the batch's people, with a margin.

    It teaches from the first step, long before the centres of thousands of people have settled.
    """
    first, second = functional.normalize(embeddings).view(-1, 2, embeddings.shape[1]).unbind(1)
    logits = PAIR_SCALE * (first @ second.T - PAIR_MARGIN * torch.eye(len(first)))
    target = torch.arange(len(first))
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2


def align(frame: NDArray[np.uint8], points: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The least-squares similarity of insightface's `norm_crop`, in closed form."""
    source, target = points - points.mean(0), TEMPLATE - TEMPLATE.mean(0)
    power = (source**2).sum()
    a = (source * target).sum() / power
    b = (source[:, 0] * target[:, 1] - source[:, 1] * target[:, 0]).sum() / power
    rotation = np.array([[a, -b], [b, a]], np.float32)
    shift = TEMPLATE.mean(0) - rotation @ points.mean(0)
    matrix = np.concatenate([rotation, shift[:, None]], axis=1)
    return cv2.warpAffine(frame, matrix, (CROP, CROP), borderValue=0.0).astype(np.uint8)


def sample_batch(rng: np.random.Generator, stills: Stills, people: int, per_person: int) -> tuple[Tensor, Tensor]:
    """Aligned, softened faces of `PEOPLE_A_BATCH` persons: pixels [B, 3, 112, 112] in [-1, 1], person [B]."""
    persons = rng.choice(people, PEOPLE_A_BATCH, replace=False)
    chosen = np.repeat(persons, STILLS_A_PERSON)
    which = np.concatenate([rng.permutation(per_person)[:STILLS_A_PERSON] for _ in persons])
    pixels = np.empty((len(chosen), CROP, CROP, 3), np.uint8)
    for row, index in enumerate(chosen * per_person + which):
        matrix = random_view(rng, CLIP_SIZE)
        frame = soften(view(np.asarray(stills.frames[index]), matrix, CLIP_SIZE), rng)
        points = moved(stills.keypoints[index, :5], matrix) + rng.normal(0, KEYPOINT_JITTER, (5, 2))
        pixels[row] = align(frame, points.astype(np.float32))
    planes = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127.5) / 127.5
    return planes, torch.from_numpy(chosen)


def train(out: Path, steps: int, seed: int, cache: Path) -> None:
    """Train on one thread, the class loss and its margin growing over the first third; write the ONNX file."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 0xFACE])
    stills = load_stills(TRAINING, cache)
    embedder = Embedder()
    centres = nn.Parameter(torch.randn(TRAINING.people, DIMENSION) * 0.05)
    groups = [{"params": embedder.parameters(), "weight_decay": 5e-4}, {"params": [centres], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps, pct_start=0.1)
    for step in (bar := tqdm(range(steps))):
        pixels, person = sample_batch(rng, stills, TRAINING.people, TRAINING.scenes * TRAINING.poses)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            embeddings = embedder(pixels)
        progress = min(1.0, 3 * step / steps)
        classes = margin_loss(embeddings.float(), centres, person, MARGIN * progress)
        loss = pair_loss(embeddings.float()) + 0.5 * progress * classes
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(embedder.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}", classes=f"{classes.item():.2f}")
    models = out / "models" / PACK
    models.mkdir(parents=True, exist_ok=True)
    export(embedder.eval(), torch.zeros(1, 3, CROP, CROP), models / "w600k.onnx", ["embedding"])


def area_under_curve(same: NDArray[np.float64], different: NDArray[np.float64]) -> float:
    """Probability that a same-person pair is more similar than a different-person pair."""
    order = np.argsort(np.concatenate([same, different]), kind="stable")
    ranks = np.empty(len(order))
    ranks[order] = np.arange(1, len(order) + 1)
    return float((ranks[: len(same)].sum() - len(same) * (len(same) + 1) / 2) / (len(same) * len(different)))


def measure(out: Path, people: int, cache: Path) -> dict[str, float]:
    """Verification on unseen people, two unseen scenes each, through detect + align + embed."""
    identity = FaceIdentity(out)
    stills = load_stills(StillsConfig(people, 2, 2, UNSEEN_SEED), cache)
    matrix = random_view(np.random.default_rng(0), CLIP_SIZE, spread=0.0)
    frames = np.stack([view(np.asarray(frame), matrix, CLIP_SIZE) for frame in stills.frames])
    result: dict[str, float] = {"people": people}
    rng = np.random.default_rng(1)
    sharp = identity.embed(frames)
    for name, strength in (("sharp", 0.0), ("softened", 0.5), ("very_soft", 1.5)):
        probe = sharp if name == "sharp" else identity.embed(np.stack([soften(f, rng, strength) for f in frames]))
        result |= {f"{key}_{name}": value for key, value in verification(sharp, probe, people).items()}
    for sigma in (0.6, 1.0, 1.5, 2.0):
        blurred = identity.embed(np.stack([cv2.GaussianBlur(f, (0, 0), sigma).astype(np.uint8) for f in frames]))
        both = sharp.found & blurred.found
        result[f"same_frame_after_blur_{sigma}"] = float((sharp.vectors * blurred.vectors).sum(-1)[both].mean())
    return result


def verification(gallery: FaceEmbeddings, probe: FaceEmbeddings, people: int) -> dict[str, float]:
    """Gallery: scene 0, probe: scene 1; frame against frame, and Chamfer similarity of two frames each."""

    def scene(faces: FaceEmbeddings, number: int) -> FaceEmbeddings:
        rows = np.arange(people)[:, None] * 4 + 2 * number + np.arange(2)
        return FaceEmbeddings(faces.vectors[rows.ravel()], faces.found[rows.ravel()], faces.boxes[rows.ravel()])

    first, second = scene(gallery, 0), scene(probe, 1)
    cosines = (first.vectors[::2] @ second.vectors[::2].T).astype(np.float64)
    same, different = np.diag(cosines), cosines[~np.eye(people, dtype=bool)]
    chamfer = [
        chamfer_similarity(
            FaceEmbeddings(first.vectors[2 * i : 2 * i + 2], first.found[2 * i : 2 * i + 2], first.boxes[:2]),
            FaceEmbeddings(second.vectors[2 * i : 2 * i + 2], second.found[2 * i : 2 * i + 2], second.boxes[:2]),
        ).value
        for i in range(people)
    ]
    return {
        "auc": area_under_curve(same, different),
        "same": float(same.mean()),
        "same_p05": float(np.quantile(same, 0.05)),
        "different": float(different.mean()),
        "different_p95": float(np.quantile(different, 0.95)),
        "rank1": float((cosines.argmax(1) == np.arange(people)).mean()),
        "chamfer_same": float(np.mean(chamfer)),
        "found": float(probe.found.mean()),
    }


def main() -> None:
    """Train, export, measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "tavr-zoo")
    arguments = parser.parse_args()
    train(arguments.out, arguments.steps, arguments.seed, arguments.cache)
    print(json.dumps({"role": "identity", **measure(arguments.out, 500, arguments.cache)}))


if __name__ == "__main__":
    main()
