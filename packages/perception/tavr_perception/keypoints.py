"""Where the face is: Sapiens' pose estimator (transformers' Sapiens2 classes) and the face box its keypoints span."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tavr_records.errors import InputError

REMEDY = "run the stage `weights`, which fetches and verifies the pinned weights"
FACE_KEYPOINTS: dict[int, tuple[int, ...]] = {
    308: (0, 1, 2, *range(70, 308)),  # Goliath: nose, eyes, then the dense face
    133: (0, 1, 2, *range(23, 91)),  # COCO whole body
    17: (0, 1, 2),  # COCO body
}
"""Which outputs of a published checkpoint lie on the face, by its number of keypoints; others are all face."""
CROP_PADDING = 1.25
"""The image processor crops this much more than the box it is given."""
BATCH = 32


@dataclass(frozen=True)
class Keypoints:
    """xy: float32 [T, K, 2] in pixels (pixel i spans i to i + 1); scores: float32 [T, K], from about 0 (none) to 1."""

    xy: NDArray[np.float32]
    scores: NDArray[np.float32]


class KeypointEstimator:
    """A Sapiens pose checkpoint and its image processor (`save_pretrained`); the whole frame is the crop.

    Raises:
        InputError: the directory lacks a file.
    """

    def __init__(self, directory: Path) -> None:
        for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
            if not (directory / name).is_file():
                raise InputError(f"{directory / name}: missing; {REMEDY}")
        import torch
        from transformers import Sapiens2ForPoseEstimation, Sapiens2ImageProcessor

        self._torch: Any = torch
        self._processor: Any = Sapiens2ImageProcessor.from_pretrained(directory, local_files_only=True)
        model: Any = Sapiens2ForPoseEstimation.from_pretrained(directory, local_files_only=True, dtype=torch.float32)
        self._model: Any = model.eval()
        labels = int(model.config.num_labels)
        self._face = np.array(FACE_KEYPOINTS.get(labels, tuple(range(labels))))
        self.names = tuple(str(model.config.id2label[int(index)]) for index in self._face)

    def estimate(self, frames: NDArray[np.uint8]) -> Keypoints:
        """Face keypoints of each frame; frames are RGB uint8 [T, H, W, 3]."""
        height, width = frames.shape[1:3]
        box = whole_frame_box(height, width)
        xy = np.zeros((len(frames), len(self._face), 2), np.float32)
        scores = np.zeros(xy.shape[:2], np.float32)
        for start in range(0, len(frames), BATCH):
            images = list(frames[start : start + BATCH])
            boxes = [[box]] * len(images)
            inputs = self._processor(images, boxes=boxes, return_tensors="pt")
            with self._torch.inference_mode():
                outputs = self._model(pixel_values=inputs["pixel_values"])
            kernel = blur_kernel(self._processor.keypoint_heatmap_sigma)
            results = self._processor.post_process_pose_estimation(outputs, boxes=boxes, kernel_size=kernel)
            for index, (person,) in enumerate(results, start):
                xy[index] = person["keypoints"].numpy()[self._face] + 0.5  # Sapiens counts from pixel centres
                scores[index] = person["scores"].numpy()[self._face]
        return Keypoints(xy, scores)


def whole_frame_box(height: int, width: int) -> list[float]:
    """The xywh box (pixels) whose padded crop runs from the first pixel's centre to the last one's."""
    margin = 0.5 - 0.5 / CROP_PADDING
    return [margin * (width - 1), margin * (height - 1), (width - 1) / CROP_PADDING, (height - 1) / CROP_PADDING]


def blur_kernel(sigma: float) -> int:
    """Size of the blur before sub-pixel decoding: 11 at Sapiens' sigma of 6, 3 for small heat maps."""
    return max(3, 2 * round(sigma) - 1)


def face_boxes(keypoints: Keypoints, min_score: float, expand: float) -> NDArray[np.float32]:
    """Boxes float32 [T, 4] xyxy around the keypoints that score at least `min_score`, NaN where there is no face.

    A frame has a face when at least half of its keypoints reach `min_score`. `expand` is the factor by which width and
    height grow about the middle. Boxes are not cut to the frame.
    """
    boxes = np.full((len(keypoints.xy), 4), np.nan, np.float32)
    for index, (xy, scores) in enumerate(zip(keypoints.xy, keypoints.scores, strict=True)):
        seen = scores >= min_score
        if 2 * int(seen.sum()) < len(scores):
            continue
        low, high = xy[seen].min(axis=0), xy[seen].max(axis=0)
        middle, half = (low + high) / 2, expand * (high - low) / 2
        boxes[index] = np.concatenate([middle - half, middle + half])
    return boxes
