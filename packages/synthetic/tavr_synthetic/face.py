"""The face: head outline, ears, eyes, brows, nose, mouth, beard and glasses, painted back to front."""

import numpy as np

from tavr_synthetic.canvas import Curve, Patch, Plane, blob, per_frame, smooth_union
from tavr_synthetic.colours import Colour, mixed, scaled
from tavr_synthetic.motion import Motion
from tavr_synthetic.people import Person
from tavr_synthetic.pose import HeadPose

EYE_Y = -0.06
BROW_Y = -0.32
NOSE_Y = 0.28
MOUTH_Y = 0.56
JAW_DROP = 0.11
JAW_DEPTH = 0.30
MOUTH_DEPTH = 0.58
NOSE_DEPTH = 0.84
WHITE: Colour = (0.95, 0.95, 0.93)


def head_outline(person: Person, pose: HeadPose, mouth_open: Curve, x: Plane, y: Plane) -> Plane:
    """Distance [T, h, w] to the bare head: a cranium and a jaw that drops with the mouth, smoothly joined."""
    face = person.face
    skull_x, skull_y = pose.place(0.0, -0.26 * face.height, -0.08)
    cranium = blob(x - per_frame(skull_x), y - per_frame(skull_y), 0.75 * face.width, 0.74 * face.height)
    jaw_x, jaw_y = pose.place(0.0, 0.22 * face.height, JAW_DEPTH)
    drop = per_frame(JAW_DROP * 0.5 * mouth_open)
    jaw = blob(
        x - per_frame(jaw_x),
        y - per_frame(jaw_y) - drop,
        0.64 * face.width * face.jaw_width,
        drop + np.float32(0.78 * face.height),
        square=0.55 * face.jaw,
    )
    return smooth_union(cranium, jaw, 0.30)


def paint_ears(patch: Patch, person: Person, pose: HeadPose) -> None:
    """Two ears behind the head; the far one hides as the head turns."""
    size = person.face.ear_size
    for side in (-1, 1):
        ear_x, ear_y = pose.place(side * 0.75 * person.face.width, 0.04, -0.12)
        window = patch.crop(ear_x - 0.2, ear_x + 0.2, ear_y - 0.3, ear_y + 0.3)
        x, y = window.x - per_frame(ear_x), window.y - per_frame(ear_y)
        window.paint(window.cover(blob(x, y, 0.12 * size, 0.20 * size)), scaled(person.skin, 0.93), solid=True)
        inner = window.cover(blob(x, y, 0.06 * size, 0.12 * size), softness=0.06)
        window.paint(inner, mixed(scaled(person.skin, 0.7), (0.5, 0.2, 0.15), 0.25))


def paint_skin(patch: Patch, person: Person, pose: HeadPose, head: Plane) -> None:
    """Bare skin, of coverage `head` [T, h, w], with flushed cheeks."""
    patch.paint(head, person.skin, solid=True)
    patch = patch.within(head)
    flushed = mixed(person.skin, (0.80, 0.30, 0.28), 0.35)
    for side in (-1, 1):
        cheek_x, cheek_y = pose.place(side * 0.42, 0.30)
        window = patch.crop(cheek_x - 0.3, cheek_x + 0.3, cheek_y - 0.3, cheek_y + 0.3)
        soft = window.cover(blob(window.x - per_frame(cheek_x), window.y - per_frame(cheek_y), 0.14, 0.12), 0.25)
        window.paint(soft * np.float32(0.45), flushed)


def eye_geometry(person: Person, pose: HeadPose, side: int) -> tuple[Curve, Curve, Curve, float]:
    """Centre x, y [T], half width [T] and half height of the eye at image `side` (-1 left, 1 right)."""
    across = side * person.eyes.spacing * person.face.width
    x, y = pose.place(across, EYE_Y)
    half = 0.165 * person.eyes.size
    return x, y, half * pose.stretch(across, EYE_Y), 0.095 * person.eyes.size * person.eyes.roundness


def paint_eyes(patch: Patch, person: Person, pose: HeadPose, motion: Motion) -> None:
    """Sockets, whites, irises with pupils and a glint, upper lash line; lids close by flattening the opening."""
    for side in (-1, 1):
        eye_x, eye_y, half, tall = eye_geometry(person, pose, side)
        window = patch.crop(eye_x - 0.34, eye_x + 0.34, eye_y - 0.28, eye_y + 0.28)
        x, y = window.x - per_frame(eye_x), window.y - per_frame(eye_y)
        y = y + np.float32(side * person.eyes.tilt) * x
        socket = window.cover(blob(x, y + np.float32(0.03), per_frame(half) * 1.25, tall * 1.5), 0.12)
        window.paint(socket * np.float32(0.45), scaled(person.skin, 0.72))
        # The lids meet a little below the middle of the open eye.
        opening = np.maximum(motion.eye_open, 0.0)
        lid_y = y - per_frame(0.45 * tall * (1 - opening))
        lashes = blob(x, lid_y + np.float32(0.022), per_frame(half) * 1.12, per_frame(tall * opening + 0.032))
        window.paint(window.cover(lashes), scaled(person.brows.colour, 0.45))
        white = window.cover(blob(x, lid_y - np.float32(0.012), per_frame(half), per_frame(tall * opening + 0.004)))
        white = white * per_frame(np.minimum(1.0, opening * 4))
        window.paint(white, WHITE)
        gaze_x = x - per_frame(0.45 * half * motion.gaze_x)
        gaze_y = y - per_frame(0.4 * tall * motion.gaze_y)
        iris_size = 0.098 * person.eyes.size
        iris = blob(gaze_x, gaze_y, iris_size, iris_size)
        window.paint(np.minimum(white, window.cover(iris)), person.eyes.colour)
        window.paint(np.minimum(white, window.cover(iris + np.float32(0.055 * person.eyes.size))), (0.03, 0.03, 0.04))
        glint = blob(gaze_x + np.float32(0.035), gaze_y + np.float32(0.035), 0.026, 0.026)
        window.paint(np.minimum(white, window.cover(glint)), (1.0, 1.0, 1.0), shaded=False)


def brow_height(motion: Motion) -> Curve:
    """How far [T] a brow sits above its rest position, in head units."""
    return 0.055 * motion.brow_raise


def paint_brows(patch: Patch, person: Person, pose: HeadPose, motion: Motion) -> None:
    """Two bent bars that rise with `brow_raise`."""
    brows = person.brows
    for side in (-1, 1):
        across = side * person.eyes.spacing * person.face.width * 1.04
        brow_x, brow_y = pose.place(across, BROW_Y - brow_height(motion))
        window = patch.crop(brow_x - 0.28, brow_x + 0.28, brow_y - 0.2, brow_y + 0.2)
        stretch = per_frame(pose.stretch(across, BROW_Y))
        x = (window.x - per_frame(brow_x)) / stretch
        y = window.y - per_frame(brow_y)
        y = y - np.float32(brows.arch) * x * x + np.float32(side * brows.tilt) * x
        bar = blob(x, y, 0.215, brows.thickness, square=0.5)
        window.paint(window.cover(bar), brows.colour)


def paint_nose(patch: Patch, person: Person, pose: HeadPose, light_x: float) -> None:
    """A shaded flank away from the light, a lit ridge, a tip with its shadow below and nostrils."""
    nose = person.nose
    tip = NOSE_Y * nose.length
    ridge_x, ridge_y = pose.place(0.0, tip - 0.20, NOSE_DEPTH - 0.12)
    tip_x, tip_y = pose.place(0.0, tip, NOSE_DEPTH)
    window = patch.crop(tip_x - 0.4, tip_x + 0.4, tip_y - 0.6, tip_y + 0.25)
    shadow_side = -1.0 if light_x > 0 else 1.0
    dark, lit = scaled(person.skin, 0.66), scaled(person.skin, 1.16)
    x, y = window.x - per_frame(ridge_x), window.y - per_frame(ridge_y)
    flank = blob(x - np.float32(shadow_side * 0.085 * nose.width), y, 0.065, 0.24)
    window.paint(window.cover(flank, 0.10) * np.float32(0.60), dark)
    window.paint(window.cover(blob(x + np.float32(shadow_side * 0.01), y, 0.05, 0.24), 0.06) * np.float32(0.6), lit)
    x, y = window.x - per_frame(tip_x), window.y - per_frame(tip_y)
    under = blob(x, y - np.float32(0.085), 0.17 * nose.width, 0.045)
    window.paint(window.cover(under, 0.08) * np.float32(0.7), scaled(dark, 0.85))
    window.paint(window.cover(blob(x, y, 0.125 * nose.width, 0.085), 0.05), scaled(person.skin, 1.03))
    window.paint(window.cover(blob(x, y + np.float32(0.02), 0.05, 0.04), 0.06) * np.float32(0.6), lit)
    for side in (-1, 1):
        nostril = blob(x - np.float32(side * 0.075 * nose.width), y - np.float32(0.065), 0.034, 0.026)
        window.paint(window.cover(nostril) * np.float32(0.85), scaled(dark, 0.45))


def mouth_geometry(person: Person, pose: HeadPose, mouth_open: Curve) -> tuple[Curve, Curve, Curve, Curve]:
    """Centre x, y [T], half width [T] and half height of the opening [T] of the mouth."""
    x, y = pose.place(0.0, MOUTH_Y, MOUTH_DEPTH)
    half = person.mouth.width * pose.stretch(0.0, MOUTH_Y) * (1 - 0.16 * mouth_open)
    return x, y + 0.08 * mouth_open, half, 0.165 * mouth_open


def paint_mouth(patch: Patch, person: Person, pose: HeadPose, mouth_open: Curve) -> None:
    """Lips around a dark opening that shows upper teeth and a tongue as it widens."""
    mouth = person.mouth
    mouth_x, mouth_y, half, gap = mouth_geometry(person, pose, mouth_open)
    window = patch.crop(mouth_x - 0.5, mouth_x + 0.5, mouth_y - 0.32, mouth_y + 0.40)
    x, y = window.x - per_frame(mouth_x), window.y - per_frame(mouth_y)
    y = y + np.float32(mouth.smile) * x * x
    below = window.cover(blob(x, y - per_frame(gap + 0.13), per_frame(half * 0.6), 0.03), 0.10)
    window.paint(below * np.float32(0.5), scaled(person.skin, 0.72))
    lips = window.cover(blob(x, y, per_frame(half), per_frame(gap + mouth.fullness)))
    window.paint(lips, mouth.colour)
    upper = np.minimum(lips, window.cover(y + per_frame(gap * 0.6), 0.06))
    window.paint(upper * np.float32(0.6), scaled(mouth.colour, 0.72))
    inside = window.cover(blob(x, y, per_frame(half * 0.88), per_frame(np.maximum(gap, 0.014))))
    window.paint(inside, (0.16, 0.04, 0.05))
    tongue = window.cover(
        blob(x, y - per_frame(gap * 0.75), per_frame(half * 0.55), per_frame(gap * 0.55 + 0.002)), 0.03
    )
    window.paint(np.minimum(inside, tongue), (0.72, 0.30, 0.32))
    teeth = window.cover(y + per_frame(gap * 0.42)) * window.cover(np.abs(x) - per_frame(half * 0.72))
    shown = per_frame(np.minimum(1.0, gap / 0.05))
    window.paint(np.minimum(inside, teeth) * shown, (0.93, 0.91, 0.86))


def paint_beard(patch: Patch, person: Person, pose: HeadPose, outline: Plane, mouth_open: Curve) -> None:
    """Facial hair below the cheeks, cut to the head's outline; painted before the mouth."""
    style = person.beard.style
    if style == "none":
        return
    x0, y0 = pose.place(0.0, MOUTH_Y, MOUTH_DEPTH)
    x = patch.x - per_frame(x0)
    y = patch.y - per_frame(y0 + 0.06 * mouth_open)
    moustache = blob(x, y + np.float32(0.115) - 0.4 * x * x, 0.30, 0.062, square=0.3)
    chin = blob(x, y - np.float32(0.26), 0.25, 0.24)
    cheeks = -blob(x, y + np.float32(0.36), 0.56, 0.52)
    rim = np.maximum(-(outline + np.float32(0.13)), -(y + np.float32(0.55)))
    shapes = {
        "moustache": moustache,
        "goatee": np.minimum(moustache, chin),
        "chinstrap": np.maximum(rim, -(y + np.float32(0.5))),
        "full": np.minimum(moustache, np.maximum(cheeks, -(y + np.float32(0.52)))),
        "stubble": np.minimum(moustache, np.maximum(cheeks, -(y + np.float32(0.45)))),
    }
    # A real beard stands a little off the chin.
    reach = {"full": 0.07, "chinstrap": 0.03, "goatee": 0.04}.get(style, 0.0)
    shape = np.maximum(shapes[style], outline - np.float32(reach))
    opacity = 0.42 if style == "stubble" else 1.0
    patch.paint(patch.cover(shape, 0.06) * np.float32(opacity), person.beard.colour, solid=style != "stubble")


def paint_glasses(patch: Patch, person: Person, pose: HeadPose) -> None:
    """Frames, bridge and temple arms; lenses are clear with a faint sheen."""
    style = person.glasses.style
    if style == "none":
        return
    square = {"round": 0.0, "square": 0.9, "heavy": 0.6, "half": 0.7}[style]
    line = {"round": 0.030, "square": 0.034, "heavy": 0.058, "half": 0.036}[style]
    across = 0.355 * person.face.width
    rx, ry = (0.25, 0.24) if style == "round" else (0.275, 0.20)
    centres = [pose.place(side * across, EYE_Y + 0.03, 0.66) for side in (-1, 1)]
    window = patch.crop(centres[0][0] - 0.75, centres[1][0] + 0.75, centres[0][1] - 0.4, centres[1][1] + 0.4)
    frame = None
    for side, (lens_x, lens_y) in zip((-1, 1), centres, strict=True):
        stretch = per_frame(pose.stretch(side * across, EYE_Y))
        x, y = (window.x - per_frame(lens_x)) / stretch, window.y - per_frame(lens_y)
        lens = blob(x, y, rx, ry, square)
        window.paint(window.cover(lens) * np.float32(0.10), (0.85, 0.92, 1.0), shaded=False)
        ring = np.abs(lens) - np.float32(line)
        if style == "half":
            ring = np.maximum(ring, y - np.float32(0.02))
        arm = np.maximum(np.abs(y + np.float32(0.06)) - np.float32(line), np.abs(x - side * 0.42) - np.float32(0.18))
        part = np.minimum(ring, arm)
        frame = part if frame is None else np.minimum(frame, part)
    middle_x, middle_y = pose.place(0.0, EYE_Y + 0.03, 0.76)
    x, y = window.x - per_frame(middle_x), window.y - per_frame(middle_y)
    bridge = np.maximum(np.abs(y + np.float32(0.04)) - np.float32(line), np.abs(x) - np.float32(0.14))
    assert frame is not None
    head_only = window.silhouette
    window.paint(np.minimum(window.cover(np.minimum(frame, bridge)), head_only), person.glasses.colour)
