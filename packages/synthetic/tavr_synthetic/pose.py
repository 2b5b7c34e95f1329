"""Pseudo-3D: where points of the face lie in the picture under yaw, pitch, roll and translation.

Head coordinates: x to image right, y down, z to the viewer, in head units around the middle of the head. Yaw and pitch
move points within the head plane by their depth; roll (about the neck), translation and scale take the plane to pixels.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tavr_synthetic.canvas import Placement
from tavr_synthetic.motion import Curve, Motion

NECK_PIVOT = 0.95
HEAD_UNITS_PER_FRAME_HEIGHT = 0.30


def surface_depth(x: float, y: float) -> float:
    """Depth z of the face surface, an ellipsoid."""
    return 0.62 * float(np.sqrt(max(0.0, 1.0 - (x / 0.86) ** 2 - (y / 1.15) ** 2)))


@dataclass(frozen=True)
class HeadPose:
    """Per-frame transform: the placement of the head plane, whose origin is head point (0, 0, 0), and its turn [T]."""

    plane: Placement
    sin_yaw: Curve
    cos_yaw: Curve
    sin_pitch: Curve
    cos_pitch: Curve

    def place(self, x: float, y: float | Curve, z: float | None = None) -> tuple[Curve, Curve]:
        """Head-plane coordinates ([T], [T]) of a point of the head; z defaults to the face surface."""
        depth = surface_depth(x, float(np.mean(y))) if z is None else z
        plane_x = x * self.cos_yaw + depth * self.sin_yaw
        turned = depth * self.cos_yaw - x * self.sin_yaw
        return plane_x, y * self.cos_pitch + turned * self.sin_pitch

    def stretch(self, x: float, y: float) -> Curve:
        """Horizontal foreshortening [T] of a small feature on the surface at (x, y), 1 when seen frontally."""
        step = 0.1
        right, _ = self.place(x + step, y)
        left, _ = self.place(x - step, y)
        return np.clip((right - left) / (2 * step), 0.45, 1.2)

    def to_pixels(self, x: Curve, y: Curve) -> npt.NDArray[np.float32]:
        """Pixel positions float32 [T, 2] of head-plane points."""
        plane = self.plane
        across = plane.origin_x + plane.unit * (x * plane.cos_roll - y * plane.sin_roll)
        down = plane.origin_y + plane.unit * (x * plane.sin_roll + y * plane.cos_roll)
        return np.stack([across, down], axis=-1).astype(np.float32)


def pose_head(motion: Motion, height: int, width: int, center: tuple[float, float], scale: float) -> HeadPose:
    """The transform for a head at `center` (fractions of width and height) of a height x width picture."""
    unit = HEAD_UNITS_PER_FRAME_HEIGHT * height * scale
    sin_roll, cos_roll = np.sin(motion.roll), np.cos(motion.roll)
    # Roll turns about the neck: the middle of the head swings by the lever between them.
    swing_x = motion.shift_x + NECK_PIVOT * sin_roll
    swing_y = motion.shift_y + NECK_PIVOT * (1 - cos_roll)
    return HeadPose(
        plane=Placement(
            origin_x=center[0] * width + unit * swing_x,
            origin_y=center[1] * height + unit * swing_y,
            cos_roll=cos_roll,
            sin_roll=sin_roll,
            unit=unit,
        ),
        sin_yaw=np.sin(motion.yaw),
        cos_yaw=np.cos(motion.yaw),
        sin_pitch=np.sin(motion.pitch),
        cos_pitch=np.cos(motion.pitch),
    )
