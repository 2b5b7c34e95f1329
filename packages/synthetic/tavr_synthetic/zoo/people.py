"""Train the tiny YOLO11-seg person segmenter through ultralytics and export it to ONNX.

`python -m tavr_synthetic.zoo.people --out packages/synthetic/zoo/people --epochs 12`
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from tavr_perception.people import PersonSegmenter
from tavr_records.process import OFFLINE

from tavr_synthetic.zoo.onnx_files import save_plain
from tavr_synthetic.zoo.stills import (
    CLIP_SIZE,
    TRAINING_SEED,
    UNSEEN_SEED,
    StillsConfig,
    empty_rooms,
    load_stills,
    random_view,
    soften,
    view,
)

IMAGE_SIZE = 128
IMAGES = 3000
EMPTY = 900
VALIDATION = 64
METADATA = ("author", "batch", "channels", "imgsz", "license", "names", "stride", "task", "version")
ARCHITECTURE = """
nc: 1
scales:
  n: [0.50, 0.125, 896]
backbone:
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, Conv, [128, 3, 2]]
  - [-1, 2, C3k2, [256, False, 0.25]]
  - [-1, 1, Conv, [256, 3, 2]]
  - [-1, 2, C3k2, [512, False, 0.25]]
  - [-1, 1, Conv, [512, 3, 2]]
  - [-1, 2, C3k2, [512, True]]
  - [-1, 1, Conv, [1024, 3, 2]]
  - [-1, 2, C3k2, [1024, True]]
  - [-1, 1, SPPF, [1024, 5]]
  - [-1, 2, C2PSA, [1024]]
head:
  - [-1, 1, nn.Upsample, [None, 2, "nearest"]]
  - [[-1, 6], 1, Concat, [1]]
  - [-1, 2, C3k2, [512, False]]
  - [-1, 1, nn.Upsample, [None, 2, "nearest"]]
  - [[-1, 4], 1, Concat, [1]]
  - [-1, 2, C3k2, [256, False]]
  - [-1, 1, Conv, [256, 3, 2]]
  - [[-1, 13], 1, Concat, [1]]
  - [-1, 2, C3k2, [512, False]]
  - [-1, 1, Conv, [512, 3, 2]]
  - [[-1, 10], 1, Concat, [1]]
  - [-1, 2, C3k2, [1024, True]]
  - [[16, 19, 22], 1, Segment, [nc, 32, 256]]
"""
"""ultralytics' yolo11-seg.yaml at half of the width of its `n` scale (at most 112 channels), one class."""


def polygons(mask: NDArray[np.bool_]) -> list[NDArray[np.float32]]:
    """Outlines [n, 2] of the mask's parts in fractions of width and height, traced on a four times finer grid."""
    fine = np.kron(mask.astype(np.uint8), np.ones((4, 4), np.uint8))
    contours, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    limit = np.array([fine.shape[1], fine.shape[0]], np.float32)
    return [(c[::4, 0].astype(np.float32) + 0.5) / limit for c in contours if cv2.contourArea(c) > 16 * 12]


def write_dataset(folder: Path, cache: Path, seed: int) -> Path:
    """Images and YOLO label files of people and empty rooms; returns the data set's yaml."""
    stills = load_stills(StillsConfig(IMAGES + VALIDATION, 1, 1, TRAINING_SEED), cache)
    rooms = empty_rooms(EMPTY, TRAINING_SEED)
    rng = np.random.default_rng([seed, 0x796F])
    for part in ("train", "val"):
        (folder / "images" / part).mkdir(parents=True)
        (folder / "labels" / part).mkdir(parents=True)
    for index in range(IMAGES + VALIDATION + EMPTY):
        part = "val" if index < VALIDATION else "train"
        matrix = random_view(rng, CLIP_SIZE)
        if index < IMAGES + VALIDATION:
            frame = np.asarray(stills.frames[index])
            mask = view(np.asarray(stills.masks[index]).astype(np.uint8) * 255, matrix, CLIP_SIZE) > 127
            lines = ["0 " + " ".join(f"{v:.5f}" for v in p.reshape(-1)) for p in polygons(mask)]
        else:
            frame, lines = rooms[index - IMAGES - VALIDATION], []
        image = soften(view(frame, matrix, CLIP_SIZE), rng)
        cv2.imwrite(str(folder / "images" / part / f"{index:05d}.png"), image[..., ::-1])
        (folder / "labels" / part / f"{index:05d}.txt").write_text("\n".join(lines))
    data = folder / "data.yaml"
    data.write_text(f"path: {folder}\ntrain: images/train\nval: images/val\nnames:\n  0: person\n")
    return data


def train(out: Path, epochs: int, seed: int, cache: Path) -> None:
    """Train from scratch on one thread and write `out/model.onnx`."""
    for name, value in OFFLINE.items():
        os.environ.setdefault(name, value)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ.setdefault("YOLO_CONFIG_DIR", str(folder))
        import torch
        from ultralytics import YOLO

        data = write_dataset(folder / "data", cache, seed)
        architecture = folder / "yolo11n-seg.yaml"
        architecture.write_text(ARCHITECTURE)
        model: Any = YOLO(str(architecture), task="segment")
        settings: dict[str, Any] = {
            "data": str(data), "epochs": epochs, "imgsz": IMAGE_SIZE, "batch": 16, "device": "cpu", "workers": 0,
            "seed": seed, "deterministic": True, "amp": False, "plots": False, "val": False, "cache": True,
            "project": str(folder / "runs"), "name": "people", "exist_ok": True, "verbose": False,
            "mosaic": 0.0, "scale": 0.15, "translate": 0.08, "fliplr": 0.5, "hsv_h": 0.02, "hsv_s": 0.4, "hsv_v": 0.3,
            "erasing": 0.0, "mask_ratio": 2, "overlap_mask": False, "optimizer": "AdamW", "lr0": 0.002, "lrf": 0.02,
            "cos_lr": True, "warmup_epochs": 1.0, "close_mosaic": 0,
        }  # fmt: skip
        torch.set_num_threads(1)
        model.train(**settings)
        best: Any = YOLO(str(folder / "runs" / "people" / "weights" / "last.pt"))
        exported = best.export(format="onnx", imgsz=IMAGE_SIZE, device="cpu", simplify=False, dynamic=False)
        out.mkdir(parents=True, exist_ok=True)
        graph = onnx.load(exported)
        notes = {p.key: p.value for p in graph.metadata_props if p.key in METADATA}
        save_plain(graph, out / "model.onnx", notes)


def measure(out: Path, count: int, cache: Path) -> dict[str, float]:
    """Mask IoU on unseen people in unseen scenes, sharp and softened; share of false pixels in empty rooms."""
    segmenter = PersonSegmenter(out)
    stills = load_stills(StillsConfig(count, 1, 1, UNSEEN_SEED), cache)
    rng = np.random.default_rng(1)
    plain = random_view(rng, CLIP_SIZE, spread=0.0)
    sharp = np.stack([view(np.asarray(frame), plain, CLIP_SIZE) for frame in stills.frames])
    soft = np.stack([soften(frame, rng) for frame in sharp])
    truth = np.stack([view(mask.astype(np.uint8) * 255, plain, CLIP_SIZE) > 127 for mask in np.asarray(stills.masks)])
    rooms = np.stack([view(room, plain, CLIP_SIZE) for room in empty_rooms(count, UNSEEN_SEED)])
    result = {"people": float(count)}
    for name, frames in (("iou", sharp), ("iou_softened", soft)):
        found = segmenter.masks(frames)
        overlap = (found & truth).sum(axis=(1, 2)) / (found | truth).sum(axis=(1, 2))
        result[name], result[f"{name}_worst"] = float(overlap.mean()), float(overlap.min())
    result["false_pixels_in_empty_rooms"] = float(segmenter.masks(rooms).mean())
    return result


def main() -> None:
    """Train, export, measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "tavr-zoo")
    arguments = parser.parse_args()
    train(arguments.out, arguments.epochs, arguments.seed, arguments.cache)
    print(json.dumps({"role": "people", **measure(arguments.out, 200, arguments.cache)}))


if __name__ == "__main__":
    main()
