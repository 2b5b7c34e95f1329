"""Draw a talking head over a static background, with the truth about every frame."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tavr_synthetic.backgrounds import paint_background
from tavr_synthetic.body import paint_collar, paint_neck, paint_torso
from tavr_synthetic.canvas import Canvas, Curve, Patch, Placement, Plane
from tavr_synthetic.face import (
    BROW_Y,
    JAW_DEPTH,
    JAW_DROP,
    NOSE_DEPTH,
    NOSE_Y,
    brow_height,
    eye_geometry,
    head_outline,
    mouth_geometry,
    paint_beard,
    paint_brows,
    paint_ears,
    paint_eyes,
    paint_glasses,
    paint_mouth,
    paint_nose,
    paint_skin,
)
from tavr_synthetic.hair import paint_behind, paint_cap, paint_locks
from tavr_synthetic.motion import Motion
from tavr_synthetic.people import Person
from tavr_synthetic.pose import HeadPose, pose_head
from tavr_synthetic.scenes import Light, Scene

KEYPOINT_NAMES = (
    "left_eye", "right_eye", "nose", "mouth_left", "mouth_right",
    "jaw_0", "jaw_1", "jaw_2", "jaw_3", "chin", "jaw_5", "jaw_6", "jaw_7", "jaw_8",
    "left_brow_outer", "left_brow_inner", "right_brow_inner", "right_brow_outer",
    "left_eye_outer", "left_eye_inner", "right_eye_inner", "right_eye_outer",
    "lip_top", "lip_bottom", "inner_lip_top", "inner_lip_bottom", "forehead",
)  # fmt: skip
"""Left and right are those of the picture; the first five are insightface's alignment points."""

DEFAULT_CENTER = (0.5, 0.475)
BODY_FOLLOWS = 0.45
"""Share of the head's translation that the shoulders take part in."""


@dataclass(frozen=True)
class Truth:
    """What a perfect perception would say.

    person_mask bool [T, H, W]; face_box float32 [T, 4] as x0, y0, x1, y1 in pixels (forehead to chin, jaw to jaw,
    within the frame); keypoints float32 [T, K, 2] in pixels (see KEYPOINT_NAMES); mouth_open float32 [T] in [0, 1].
    """

    person_mask: npt.NDArray[np.bool_]
    face_box: npt.NDArray[np.float32]
    keypoints: npt.NDArray[np.float32]
    mouth_open: npt.NDArray[np.float32]


def _shade(patch: Patch, person: Person, light: Light) -> Plane:
    """Lambert shading [T, h, w] of the head, taken for an ellipsoid."""
    nx = patch.x * np.float32(1 / (1.02 * person.face.width))
    ny = patch.y * np.float32(1 / (1.25 * person.face.height))
    nz = np.sqrt(np.maximum(1 - nx * nx - ny * ny, np.float32(0.04)))
    lx, ly, lz = (np.float32(component) for component in light.direction)
    lambert = np.maximum(nx * lx + ny * ly + nz * lz, np.float32(0))
    return np.float32(light.ambient) + np.float32(light.diffuse) * lambert


def _head_box(plane: Placement, height: int, width: int) -> tuple[int, int, int, int]:
    """Pixels that head and hair can reach in any frame."""
    left, right = float(plane.origin_x.min()), float(plane.origin_x.max())
    top, bottom = float(plane.origin_y.min()), float(plane.origin_y.max())
    return (
        min(width - 1, max(0, int(left - 1.75 * plane.unit))),
        min(height - 1, max(0, int(top - 1.75 * plane.unit))),
        max(1, min(width, int(right + 1.75 * plane.unit) + 1)),
        max(1, min(height, int(bottom + 2.1 * plane.unit) + 1)),
    )


def _place_body(motion: Motion, plane: Placement, rest: tuple[float, float]) -> Placement:
    """The shoulders: upright, at `rest` (pixels) plus a share of the head's shift."""
    return Placement(
        origin_x=rest[0] + BODY_FOLLOWS * plane.unit * motion.shift_x,
        origin_y=rest[1] + BODY_FOLLOWS * plane.unit * motion.shift_y,
        cos_roll=np.ones_like(motion.roll),
        sin_roll=np.zeros_like(motion.roll),
        unit=plane.unit,
    )


def _keypoints(person: Person, pose: HeadPose, motion: Motion, mouth_open: Curve) -> npt.NDArray[np.float32]:
    """Where the named points are, float32 [T, K, 2] in pixels."""
    face = person.face
    points: dict[str, tuple[Curve, Curve]] = {}
    for side, name in ((-1, "left"), (1, "right")):
        x, y, half, _ = eye_geometry(person, pose, side)
        points[f"{name}_eye"] = (x, y)
        points[f"{name}_eye_outer"] = (x + side * half, y)
        points[f"{name}_eye_inner"] = (x - side * half, y)
        across = person.eyes.spacing * face.width * 1.04
        brow_y = BROW_Y - brow_height(motion)
        points[f"{name}_brow_outer"] = pose.place(side * (across + 0.2), brow_y)
        points[f"{name}_brow_inner"] = pose.place(side * (across - 0.2), brow_y)
    points["nose"] = pose.place(0.0, NOSE_Y * person.nose.length, NOSE_DEPTH)
    x, y, half, gap = mouth_geometry(person, pose, mouth_open)
    corner = person.mouth.smile * half * half
    points["mouth_left"], points["mouth_right"] = (x - half, y - corner), (x + half, y - corner)
    lip = person.mouth.fullness
    points["lip_top"], points["lip_bottom"] = (x, y - gap - lip), (x, y + gap + lip)
    points["inner_lip_top"], points["inner_lip_bottom"] = (x, y - gap), (x, y + gap)
    points["forehead"] = pose.place(0.0, -0.72 * face.height, 0.45)
    for index in range(9):
        angle = np.pi * (1 - index / 8)
        lower = float(np.sin(angle))
        reach = 0.72 * face.width + (0.64 * face.jaw_width - 0.72) * face.width * lower
        jaw_x, jaw_y = pose.place(reach * float(np.cos(angle)), (0.05 + 0.95 * lower) * face.height, JAW_DEPTH * lower)
        points["chin" if index == 4 else f"jaw_{index}"] = (jaw_x, jaw_y + JAW_DROP * lower * mouth_open)
    return np.stack([pose.to_pixels(*points[name]) for name in KEYPOINT_NAMES], axis=1)


def _face_box(keypoints: npt.NDArray[np.float32], height: int, width: int) -> npt.NDArray[np.float32]:
    """Box around jaw and forehead [T, 4], kept within the frame."""
    names = [i for i, name in enumerate(KEYPOINT_NAMES) if name.startswith("jaw") or name in ("chin", "forehead")]
    outline = keypoints[:, names]
    box = np.concatenate([outline.min(axis=1), outline.max(axis=1)], axis=1)
    limit = np.array([width, height, width, height], dtype=np.float32)
    return np.minimum(np.maximum(box, np.float32(0)), limit)


def _paint_body(body: Patch, person: Person, light: Light) -> None:
    """Neck, torso and collar, brighter on the side of the light."""
    slope = np.float32(0.24 * light.direction[0]) * np.minimum(np.maximum(body.x, np.float32(-1.5)), np.float32(1.5))
    lit = body.lit(np.float32(0.96) + slope)
    paint_neck(lit, person)
    paint_torso(lit, person)
    paint_collar(lit, person)


@dataclass(frozen=True)
class _Take:
    """What a head does and in which light: motion, mouth_open [T], light."""

    motion: Motion
    mouth_open: Curve
    light: Light


def _paint_head(head: Patch, person: Person, pose: HeadPose, take: _Take) -> None:
    """Everything from the ears to the glasses, back to front."""
    paint_ears(head, person, pose)
    outline = head_outline(person, pose, take.mouth_open, head.x, head.y)
    skin = head.cover(outline)
    paint_skin(head, person, pose, skin)
    face = head.within(skin)
    paint_eyes(face, person, pose, take.motion)
    paint_nose(face, person, pose, take.light.direction[0])
    paint_beard(head, person, pose, outline, take.mouth_open)
    paint_mouth(face, person, pose, take.mouth_open)
    paint_brows(face, person, pose, take.motion)
    paint_cap(head, person, pose)
    paint_glasses(head, person, pose)


def to_bytes(picture: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """[0, 1] to 0..255, rounded."""
    scaled = np.minimum(np.maximum(picture, np.float32(0)), np.float32(1)) * np.float32(255) + np.float32(0.5)
    return scaled.astype(np.uint8)


def render_clip(  # noqa: PLR0913 - who, where, how and the camera are eight facts
    person: Person,
    scene: Scene,
    motion: Motion,
    mouth_open: npt.NDArray[np.float32],
    height: int,
    width: int,
    center: tuple[float, float] = DEFAULT_CENTER,
    scale: float = 1.0,
) -> tuple[npt.NDArray[np.uint8], Truth]:
    """Frames uint8 [T, height, width, 3] and their truth.

    `center` is the middle of the head as fractions (of width, of height); `scale` 1 makes the head about 0.57 of the
    height, the face (forehead to chin) about half of it. `mouth_open` and `motion` must have the same length.
    """
    if len(mouth_open) != motion.frames:
        raise ValueError(f"mouth_open has {len(mouth_open)} frames, motion {motion.frames}")
    frames = motion.frames
    opening = np.asarray(mouth_open, dtype=np.float64)
    pose = pose_head(motion, height, width, center, scale)
    pixels = np.empty((3, frames, height, width), dtype=np.float32)
    pixels[...] = paint_background(scene, height, width).transpose(2, 0, 1)[:, None]
    canvas = Canvas(pixels, np.zeros((frames, height, width), dtype=np.float32), scene.light.tint)
    shoulders = _place_body(motion, pose.plane, (center[0] * width, center[1] * height))
    top = max(0, min(height - 1, int(shoulders.origin_y.min() + 0.15 * pose.plane.unit)))
    head = canvas.window(_head_box(pose.plane, height, width), pose.plane)
    head = head.lit(_shade(head, person, scene.light))
    paint_behind(head, person, pose)
    _paint_body(canvas.window((0, top, width, height), shoulders), person, scene.light)
    paint_locks(head, person, pose)
    _paint_head(head, person, pose, _Take(motion, opening, scene.light))
    keypoints = _keypoints(person, pose, motion, opening)
    truth = Truth(
        person_mask=canvas.silhouette > np.float32(0.5),
        face_box=_face_box(keypoints, height, width),
        keypoints=keypoints,
        mouth_open=np.asarray(mouth_open, dtype=np.float32),
    )
    return np.ascontiguousarray(to_bytes(pixels).transpose(1, 2, 3, 0)), truth


def render_room(scene: Scene, frames: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """The same room without anyone in it, uint8 [frames, height, width, 3]."""
    still = to_bytes(paint_background(scene, height, width))
    return np.repeat(still[None], frames, axis=0)
