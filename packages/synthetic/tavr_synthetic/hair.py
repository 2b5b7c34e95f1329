"""Hair: a mass behind the head, locks beside the neck, and a cap with a window for the face in front."""

import numpy as np

from tavr_synthetic.canvas import Patch, Plane, blob, per_frame, triangle_wave
from tavr_synthetic.colours import scaled
from tavr_synthetic.people import Person
from tavr_synthetic.pose import HeadPose

BEHIND: dict[str, tuple[float, float, float, float]] = {
    # centre y, radius x, radius y, squareness
    "bob": (0.02, 0.98, 0.98, 0.45),
    "long": (0.50, 0.98, 1.50, 0.40),
    "wavy": (0.42, 1.12, 1.40, 0.35),
    "curly": (-0.18, 1.05, 0.98, 0.10),
    "afro": (-0.30, 1.26, 1.14, 0.05),
    "ponytail": (-0.10, 0.86, 0.86, 0.0),
}
SIDE_LENGTH = {
    "buzz": -0.10, "receding": 0.10, "short": -0.05, "side part": 0.0, "quiff": -0.15, "fringe": 0.05,
    "bob": 0.85, "long": 1.3, "wavy": 1.2, "curly": 0.55, "afro": 0.10, "bun": -0.02, "ponytail": 0.0,
    "pigtails": 0.0, "mohawk": -0.20,
}  # fmt: skip


def _texture(person: Person, x: Plane, y: Plane) -> Plane:
    """Brightness [T, h, w] around 1: strands for straight hair, tufts for curls."""
    if person.hair.style in ("curly", "afro", "wavy"):
        tufts = triangle_wave(2.6 * x + 0.7 * y) * triangle_wave(2.3 * y - 0.6 * x)
        return np.float32(0.78) + np.float32(0.75) * tufts
    strands = triangle_wave(3.1 * x + 0.5 * y * x) * np.float32(0.22)
    band = triangle_wave(0.55 * y + 0.35 * x * x - np.float32(0.05)) * np.float32(0.38)
    return np.float32(0.76) + strands + band


def _scallops(person: Person, x: Plane, y: Plane) -> Plane | np.float32:
    """Bumps of the outline, in head units."""
    if person.hair.style in ("curly", "afro"):
        return np.float32(0.14) * triangle_wave(2.1 * x + 0.25) * triangle_wave(2.1 * y) - np.float32(0.04)
    if person.hair.style == "wavy":
        return np.float32(0.09) * triangle_wave(2.2 * y + 0.6 * x) - np.float32(0.04)
    return np.float32(0)


def paint_behind(patch: Patch, person: Person, pose: HeadPose) -> None:
    """The mass of hair seen behind neck and shoulders."""
    hair = person.hair
    dark = scaled(hair.colour, 0.72)
    lit = patch.lit(patch.shade * _texture(person, patch.x, patch.y))
    if hair.style in BEHIND:
        centre, rx, ry, square = BEHIND[hair.style]
        grow = hair.volume - 0.08
        x0, y0 = pose.place(0.0, centre, -0.30)
        x, y = patch.x - per_frame(x0), patch.y - per_frame(y0)
        mass = blob(x, y, rx * person.face.width + grow, ry + grow, square) - _scallops(person, x, y)
        lit.paint(patch.cover(mass), dark, solid=True)
    if hair.style == "bun":
        x0, y0 = pose.place(0.0, -1.16 * person.face.height, -0.1)
        bun = blob(patch.x - per_frame(x0), patch.y - per_frame(y0), 0.36, 0.32)
        lit.paint(patch.cover(bun), hair.colour, solid=True)
    if hair.style in ("ponytail", "pigtails"):
        sides = (-1, 1) if hair.style == "pigtails" else (1 if hair.parting > 0 else -1,)
        for side in sides:
            x0, y0 = pose.place(side * 1.02 * person.face.width, 0.22, -0.35)
            x, y = patch.x - per_frame(x0), patch.y - per_frame(y0)
            tail = blob(x - np.float32(side * 0.10) * y, y, 0.26, 0.66)
            lit.paint(patch.cover(tail), scaled(hair.colour, 0.9), solid=True)


def paint_locks(patch: Patch, person: Person, pose: HeadPose) -> None:
    """Long hair that falls in front of the shoulders."""
    hair = person.hair
    if hair.style not in ("long", "wavy"):
        return
    lit = patch.lit(patch.shade * _texture(person, patch.x, patch.y))
    for side in (-1, 1):
        x0, y0 = pose.place(side * 0.80 * person.face.width, 0.85, -0.05)
        x, y = patch.x - per_frame(x0), patch.y - per_frame(y0)
        lock = blob(x - np.float32(side * 0.10) * y, y, 0.24 + hair.volume, 0.95, 0.3) - _scallops(person, x, y)
        lit.paint(patch.cover(lock), scaled(hair.colour, 0.92), solid=True)


def _face_window(person: Person, pose: HeadPose, x: Plane, y: Plane) -> Plane:
    """Distance to the opening that leaves the face free."""
    hair = person.hair
    top = -0.58 + hair.hairline
    if hair.style == "receding":
        top = -1.25
    if hair.style == "fringe":
        top = -0.36 + 0.5 * hair.hairline
    if hair.style == "bob" and hair.hairline < 0:
        top = -0.38
    centre, tall = (top + 1.5) / 2, (1.5 - top) / 2
    x0, y0 = pose.place(0.0, centre, 0.42)
    shift = hair.parting * 0.35 if hair.style in ("side part", "long", "ponytail", "bun") else 0.0
    u, v = x - per_frame(x0) - np.float32(shift), y - per_frame(y0)
    tilt = 0.30 * hair.parting / 0.2 if hair.style in ("side part", "quiff", "long") else 0.0
    v = v + np.float32(tilt) * u * np.float32(0.5)
    wide = 0.60 if hair.style in ("bob", "long", "wavy", "curly") else 0.66
    square = 0.75 if hair.style in ("fringe", "bob", "buzz", "short") else 0.25
    return blob(u, v, wide * person.face.width, tall, square)


def paint_cap(patch: Patch, person: Person, pose: HeadPose) -> None:
    """The hair on the skull, in front of the forehead and ears."""
    hair, face = person.hair, person.face
    if hair.style == "bald":
        sheen_x, sheen_y = pose.place(-0.15, -0.70, 0.5)
        gloss = blob(patch.x - per_frame(sheen_x), patch.y - per_frame(sheen_y), 0.20, 0.10)
        patch.paint(patch.cover(gloss, 0.25) * np.float32(0.35), scaled(person.skin, 1.3))
        return
    volume = 0.025 if hair.style in ("buzz", "receding", "mohawk") else hair.volume
    x0, y0 = pose.place(0.0, -0.24 * face.height, -0.10)
    x, y = patch.x - per_frame(x0), patch.y - per_frame(y0)
    cap = blob(x, y, 0.77 * face.width + volume * 0.8, 0.76 * face.height + volume, 0.06) - _scallops(person, x, y)
    if hair.style == "quiff":
        tuft = blob(x - np.float32(hair.parting), y + np.float32(0.70), 0.46 * face.width, 0.22 + volume, 0.3)
        cap = np.minimum(cap, tuft)
    sides = patch.y - per_frame(y0 + 0.24 + SIDE_LENGTH[hair.style])
    shape = np.maximum(np.maximum(cap, -_face_window(person, pose, patch.x, patch.y)), sides)
    shadow = patch.cover(shape - np.float32(0.06), 0.10) * np.float32(0.30) * patch.silhouette
    patch.darken(shadow, 0.55)
    lit = patch.lit(patch.shade * _texture(person, patch.x, patch.y))
    opacity = 0.72 if hair.style in ("buzz", "mohawk") else 1.0
    lit.paint(patch.cover(shape) * np.float32(opacity), hair.colour, solid=True)
    if hair.style == "mohawk":
        crest = blob(x, y + np.float32(0.62 * face.height), 0.20, 0.46, 0.4)
        lit.paint(patch.cover(crest), hair.colour, solid=True)
