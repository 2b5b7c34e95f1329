"""What is cut out of a clip before encoding: windows of frames, face boxes, and the hole where the person was."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Window:
    """Frames start .. start + frames - 1 of a clip; `frames` is 4k + 1, which is what the VAE uses."""

    name: str
    start: int
    frames: int

    @property
    def span(self) -> slice:
        """The window's frames."""
        return slice(self.start, self.start + self.frames)


def cut_windows(frames: int, num_frames: int, ref_frames_max: int, long_frames_max: int) -> list[Window]:
    """Target and long window of a clip and, after the target, its reference window; none when it is too short for both.

    Target and reference never share a frame: a model that may copy its target learns nothing else. The long window
    begins with the target and is at least as long.
    """
    rest = min(ref_frames_max, frames - num_frames)
    if rest < 1:
        return []
    whole = max(num_frames, min(long_frames_max, frames))
    return [
        Window("target0", 0, num_frames),
        Window("ref0", num_frames, _encoded(rest)),
        Window("long0", 0, _encoded(whole)),
    ]


def _encoded(frames: int) -> int:
    """How many of so many frames the VAE encodes."""
    return 4 * ((frames - 1) // 4) + 1


def fill_boxes(found: NDArray[np.floating], positions: NDArray[np.int64], frames: int) -> NDArray[np.float32]:
    """Boxes [frames, 4] with the `found` ones at their positions and NaN elsewhere."""
    boxes = np.full((frames, 4), np.nan, np.float32)
    boxes[positions] = found
    return boxes


def person_hole(masks: NDArray[np.bool_], boxes: NDArray[np.floating], dilation: int) -> NDArray[np.bool_]:
    """Where the person is in any frame, bool [H, W]: all masks and face boxes together, dilated.

    Args:
        masks: people in at least one frame, [n, H, W].
        boxes: face boxes, [m, 4] xyxy or NaN; a face belongs to the person even where the masks miss it.
        dilation: pixels to grow by, with a round brush; what little of the person stays visible would leak its motion.
    """
    hole = np.asarray(masks.any(axis=0), np.uint8)
    for x0, y0, x1, y1 in boxes[np.isfinite(boxes).all(axis=1)].tolist():
        rows = slice(max(0, math.floor(y0)), max(0, math.ceil(y1)))
        hole[rows, max(0, math.floor(x0)) : max(0, math.ceil(x1))] = 1
    if dilation:
        brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * dilation + 1, 2 * dilation + 1))
        hole = np.asarray(cv2.dilate(hole, brush), np.uint8)
    return hole > 0
