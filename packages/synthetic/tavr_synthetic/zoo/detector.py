"""Train the tiny face detector in SCRFD's format, which insightface's `FaceAnalysis` runs.

`python -m tavr_synthetic.zoo.detector --out packages/synthetic/zoo/identity --steps 3000`

Nine outputs: scores [n, 1], box distances [n, 4] and keypoint offsets [n, 10] (in strides) at strides 8, 16 and 32,
two anchors a cell. Writes `models/tiny/det.onnx` and the directory's `config.json`.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from tavr_synthetic.zoo.onnx_files import save_plain
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

PACK = "tiny"
INPUT = 128
STRIDES = (8, 16, 32)
FACE_SIZES = ((12.0, 56.0), (34.0, 104.0), (80.0, 400.0))
"""Face sizes (square root of the area, in input pixels) that each stride answers for; they overlap."""
ANCHORS = 2
BATCH = 32
EMPTY_SHARE = 0.2
DET_THRESH = 0.8  # every unseen face scores above 0.9; at 0.5, one empty room in five has a "face"


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU."""
    layer = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Detector(nn.Module):
    """A small backbone, a top-down path, one head for all strides; pixels [B, 3, 128, 128] are (rgb - 127.5) / 128."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 12, 2), conv(12, 16, 2), conv(16, 16))
        self.stages = nn.ModuleList(
            [
                nn.Sequential(conv(16, 32, 2), conv(32, 32)),
                nn.Sequential(conv(32, 48, 2), conv(48, 48)),
                nn.Sequential(conv(48, 64, 2), conv(64, 48)),
            ]
        )
        self.laterals = nn.ModuleList([nn.Conv2d(width, 32, 1) for width in (32, 48, 48)])
        self.head = nn.Sequential(conv(32, 48), conv(48, 48))
        self.score = nn.Conv2d(48, ANCHORS, 1)
        self.box = nn.Conv2d(48, ANCHORS * 4, 1)
        self.points = nn.Conv2d(48, ANCHORS * 10, 1)
        self.scale = nn.Parameter(torch.ones(3))
        nn.init.constant_(self.score.bias, -4.0)  # pyright: ignore[reportArgumentType]  # the layer has a bias

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Logits [B, n, 1] of three strides, then boxes [B, n, 4], then keypoints [B, n, 10]."""
        features: list[Tensor] = []
        x = self.stem(pixels)
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        x = self.laterals[2](features[2])
        merged = [x]
        for index in (1, 0):
            x = self.laterals[index](features[index]) + functional.interpolate(x, scale_factor=2.0, mode="nearest")
            merged.insert(0, x)
        heads = [self.head(feature) for feature in merged]
        scores = [_rows(self.score(h), 1) for h in heads]
        boxes = [_rows(self.box(h), 4) * self.scale[i] for i, h in enumerate(heads)]
        points = [_rows(self.points(h), 10) for h in heads]
        return (*scores, *boxes, *points)


class Exported(nn.Module):
    """The network as SCRFD publishes it: one picture, probabilities, no batch axis in the outputs."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Scores [n, 1], boxes [n, 4], keypoints [n, 10] of the only picture."""
        outputs = self.detector(pixels)
        return tuple(o[0].sigmoid() if i < len(STRIDES) else o[0] for i, o in enumerate(outputs))


def _rows(maps: Tensor, width: int) -> Tensor:
    """[B, anchors * width, h, w] to [B, h * w * anchors, width]."""
    batch, _, height, across = maps.shape
    return maps.permute(0, 2, 3, 1).reshape(batch, height * across * ANCHORS, width)


def anchor_centres(stride: int) -> Tensor:
    """Centres [n, 2] (x, y) of one stride as SCRFD counts them: at the cell's first pixel, anchors innermost."""
    cells = torch.arange(INPUT // stride, dtype=torch.float32) * stride
    y, x = torch.meshgrid(cells, cells, indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 1, 2).expand(-1, ANCHORS, 2).reshape(-1, 2)


@dataclass(frozen=True)
class Batch:
    """pixels [B, 3, 128, 128]; boxes [B, 4] and points [B, 5, 2] in input pixels; face bool [B]."""

    pixels: Tensor
    boxes: Tensor
    points: Tensor
    face: Tensor


def to_input(frame: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float, float]:
    """Resize into the upper left of a black square as insightface does; returns it with the factors of x and y."""
    height, width = frame.shape[:2]
    new_height = int(INPUT * height / width)
    square = np.zeros((INPUT, INPUT, 3), np.uint8)
    square[:new_height] = cv2.resize(frame, (INPUT, new_height))
    return square, INPUT / width, new_height / height


def sample_batch(rng: np.random.Generator, stills: Stills, rooms: NDArray[np.uint8], size: int) -> Batch:
    """Softened views of people and of empty rooms; now and then zoomed far in or out."""
    pixels = np.zeros((size, INPUT, INPUT, 3), np.uint8)
    boxes, points = np.zeros((size, 4), np.float32), np.zeros((size, 5, 2), np.float32)
    face = np.zeros(size, np.bool_)
    for row in range(size):
        matrix = random_view(rng, CLIP_SIZE, spread=1.0 if rng.random() < 0.8 else 2.2)
        if rng.random() < EMPTY_SHARE:
            frame = rooms[rng.integers(len(rooms))]
        else:
            index = int(rng.integers(len(stills.frames)))
            frame, face[row] = np.asarray(stills.frames[index]), True
            corners = moved(stills.boxes[index].reshape(2, 2), matrix)
            limit = np.array([CLIP_SIZE[1], CLIP_SIZE[0]], np.float32)
            boxes[row] = np.clip(corners, 0, limit).reshape(4)
            points[row] = moved(stills.keypoints[index, :5], matrix)
        pixels[row], factor_x, factor_y = to_input(soften(view(frame, matrix, CLIP_SIZE), rng))
        boxes[row] *= (factor_x, factor_y, factor_x, factor_y)
        points[row] *= (factor_x, factor_y)
    planes = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127.5) / 128
    return Batch(planes, torch.from_numpy(boxes), torch.from_numpy(points), torch.from_numpy(face))


def detection_loss(outputs: tuple[Tensor, ...], batch: Batch) -> Tensor:
    """Focal loss of the scores, overlap loss of the boxes, smooth L1 of the keypoints, over all strides."""
    levels = len(STRIDES)
    total, positives = torch.zeros(()), torch.zeros(())
    size = ((batch.boxes[:, 2:] - batch.boxes[:, :2]).prod(-1)).sqrt()
    middle = (batch.boxes[:, :2] + batch.boxes[:, 2:]) / 2
    for level, stride in enumerate(STRIDES):
        centres = anchor_centres(stride)
        away = ((centres[None] + stride / 2 - middle[:, None]) / size.clamp(min=1)[:, None, None]).abs().amax(-1)
        reach = torch.maximum(0.16 * torch.ones_like(size), 0.55 * stride / size.clamp(min=1))
        low, high = FACE_SIZES[level]
        answers = batch.face & (size >= low) & (size < high)
        positive = (away < reach[:, None]) & answers[:, None]
        ignored = (away < 0.4) & batch.face[:, None] & ~positive
        logits = outputs[level][..., 0]
        probability = logits.sigmoid()
        target = positive.float()
        focus = torch.where(positive, 1 - probability, probability).square()
        weight = torch.where(positive, 0.6, 0.4) * focus * (~ignored)
        total = total + (weight * functional.binary_cross_entropy_with_logits(logits, target, reduction="none")).sum()
        positives = positives + positive.sum()
        if not bool(positive.any()):
            continue
        owner = positive.nonzero()[:, 0]
        at = centres[positive.nonzero()[:, 1]]
        distances = outputs[levels + level][positive] * stride
        predicted = torch.cat([at - distances[:, :2], at + distances[:, 2:]], -1)
        total = total + 2.0 * overlap_loss(predicted, batch.boxes[owner]).sum()
        offsets = (batch.points[owner] - at[:, None]).reshape(-1, 10) / stride
        error = functional.smooth_l1_loss(outputs[2 * levels + level][positive], offsets, reduction="none", beta=0.1)
        total = total + (0.15 * stride * error.sum(-1)).sum()
    return total / positives.clamp(min=1)


def overlap_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """1 - generalised IoU of xyxy boxes [n, 4]."""
    low = torch.maximum(predicted[:, :2], truth[:, :2])
    high = torch.minimum(predicted[:, 2:], truth[:, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = [(b[:, 2:] - b[:, :2]).clamp(min=0).prod(-1) for b in (predicted, truth)]
    union = areas[0] + areas[1] - shared
    hull_low = torch.minimum(predicted[:, :2], truth[:, :2])
    hull_high = torch.maximum(predicted[:, 2:], truth[:, 2:])
    hull = (hull_high - hull_low).clamp(min=0).prod(-1)
    return 1 - shared / union.clamp(min=1e-6) + (hull - union) / hull.clamp(min=1e-6)


def train(out: Path, steps: int, seed: int, cache: Path) -> None:
    """Train on one thread and write the ONNX file and config.json."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 0xDE7])
    stills = load_stills(TRAINING, cache)
    rooms = empty_rooms(3000, TRAINING_SEED)
    detector = Detector()
    optimizer = torch.optim.AdamW(detector.parameters(), lr=3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    for step in (bar := tqdm(range(steps))):
        batch = sample_batch(rng, stills, rooms, BATCH)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = detector(batch.pixels)
        loss = detection_loss(tuple(output.float() for output in outputs), batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(detector.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}")
    models = out / "models" / PACK
    models.mkdir(parents=True, exist_ok=True)
    export(Exported(detector).eval(), torch.zeros(1, 3, INPUT, INPUT), models / "det.onnx", _output_names())
    config = {"pack": PACK, "det_size": [INPUT, INPUT], "det_thresh": DET_THRESH}
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _output_names() -> list[str]:
    return [f"{kind}_{stride}" for kind in ("score", "bbox", "kps") for stride in STRIDES]


def export(network: nn.Module, example: Tensor, path: Path, outputs: list[str]) -> None:
    """Write ONNX with the weights inside and one fixed input named `pixels`."""
    program: Any = torch.onnx.export(
        network, (example,), dynamo=True, input_names=["pixels"], output_names=outputs, verbose=False
    )
    save_plain(program.model_proto, path)


def measure(out: Path, count: int, cache: Path) -> dict[str, float]:
    """Recall, box IoU and keypoint error (pixels of 64 x 112) on unseen people; false faces in empty rooms."""
    from insightface.app import FaceAnalysis

    config = json.loads((out / "config.json").read_text())
    app: Any = FaceAnalysis(name=str(out / "models" / config["pack"]), allowed_modules=["detection"])
    app.prepare(ctx_id=-1, det_thresh=config["det_thresh"], det_size=tuple(config["det_size"]))
    stills = load_stills(StillsConfig(count, 1, 1, UNSEEN_SEED), cache)
    rng = np.random.default_rng(1)
    matrix = random_view(rng, CLIP_SIZE, spread=0.0)
    scale = np.tile([CLIP_SIZE[1] / SOURCE_SIZE[1], CLIP_SIZE[0] / SOURCE_SIZE[0]], 2)
    result: dict[str, float] = {"people": count}
    for name in ("", "_softened"):
        hits, overlaps, errors, faces_found = 0, [], [], 0
        for index in range(count):
            frame = view(np.asarray(stills.frames[index]), matrix, CLIP_SIZE)
            faces = app.get(np.ascontiguousarray((soften(frame, rng) if name else frame)[..., ::-1]))
            faces_found += len(faces)
            box = stills.boxes[index] * scale
            best = max(faces, key=lambda face: face.det_score, default=None)
            overlap = _iou(best.bbox, box) if best is not None else 0.0
            if best is not None and overlap >= 0.5:
                hits += 1
                overlaps.append(overlap)
                errors.append(float(np.linalg.norm(best.kps - stills.keypoints[index, :5] * scale[:2], axis=-1).mean()))
        result |= {f"recall{name}": hits / count, f"faces_a_frame{name}": faces_found / count}
        result |= {f"box_iou{name}": float(np.mean(overlaps)), f"keypoint_error_px{name}": float(np.mean(errors))}
    rooms = [view(room, matrix, CLIP_SIZE) for room in empty_rooms(500, UNSEEN_SEED)]
    result["rooms_with_a_face"] = sum(bool(app.get(np.ascontiguousarray(room[..., ::-1]))) for room in rooms) / 500
    return result


def _iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:4], b[2:4])
    shared = float(np.prod(np.maximum(high - low, 0)))
    return shared / (float(np.prod(a[2:4] - a[:2])) + float(np.prod(b[2:4] - b[:2])) - shared)


def main() -> None:
    """Train, export, measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "tavr-zoo")
    arguments = parser.parse_args()
    train(arguments.out, arguments.steps, arguments.seed, arguments.cache)
    print(json.dumps({"role": "detector", **measure(arguments.out, 1000, arguments.cache)}))


if __name__ == "__main__":
    main()
