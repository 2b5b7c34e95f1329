"""Neck, shoulders and clothes."""

import numpy as np

from tavr_synthetic.canvas import Patch, Plane, blob, clamp, triangle_wave
from tavr_synthetic.colours import Colour, scaled
from tavr_synthetic.people import Person

SHOULDER_Y = 1.16


def _stripes(patch: Patch, values: Plane, period: float, share: float) -> Plane:
    """Coverage of soft stripes: `share` of each `period` (head units) of `values` is covered."""
    wave = triangle_wave(values * np.float32(1 / period))
    slope = period * 0.5 * patch.unit
    return clamp(0.5 + (np.float32(share) - wave) * np.float32(slope))


def _pattern(patch: Patch, pattern: str) -> Plane | None:
    """Coverage of the accent colour, or None for plain cloth."""
    x, y = patch.x, patch.y
    if pattern == "stripes":
        return _stripes(patch, y, 0.34, 0.5)
    if pattern == "pinstripes":
        return _stripes(patch, x, 0.30, 0.28)
    if pattern == "checks":
        return np.float32(0.75) * (_stripes(patch, x, 0.5, 0.5) + _stripes(patch, y, 0.5, 0.5)) * np.float32(0.66)
    if pattern == "dots":
        u = triangle_wave(x * np.float32(1 / 0.36)) * np.float32(0.18)
        v = triangle_wave(y * np.float32(1 / 0.36)) * np.float32(0.18)
        return patch.cover(np.sqrt(u * u + v * v) - np.float32(0.085))
    return None


def paint_torso(patch: Patch, person: Person) -> None:
    """Shoulders under cloth, arms turned away from the light at both ends."""
    clothing = person.clothing
    x, y = patch.x, patch.y
    slope = np.float32(0.048) * np.minimum(np.abs(x), np.float32(1.2))
    shoulders = blob(x, y - np.float32(SHOULDER_Y + 1.45), 1.95 * clothing.shoulders, 1.50, 0.45) + slope
    shape = patch.cover(shoulders)
    patch.paint(shape, clothing.colour, solid=True)
    accent = _pattern(patch, clothing.pattern)
    if accent is not None:
        patch.paint(np.minimum(shape, accent), clothing.accent)
    fold = patch.cover(np.float32(1.25) - np.abs(x) + np.float32(0.15) * y, 0.9) * shape
    patch.darken(fold, 0.68)


def _neck(person: Person, x: Plane, y: Plane) -> Plane:
    """Distance to the neck, from behind the chin to the chest."""
    return blob(x, y - np.float32(0.85), 0.36 if person.gender == "Male" else 0.30, 0.85, 0.8)


def paint_neck(patch: Patch, person: Person) -> None:
    """Neck with the chin's shadow; the torso is painted over its foot."""
    neck = patch.cover(_neck(person, patch.x, patch.y))
    patch.paint(neck, scaled(person.skin, 0.90), solid=True)
    shadow = blob(patch.x, patch.y - np.float32(0.88), 0.38, 0.34)
    patch.darken(patch.cover(shadow, 0.25) * neck, 0.60)


def _wedge(x: Plane, y: Plane, foot: float, slope: float) -> Plane:
    """Distance to a downward wedge that ends at y = `foot`."""
    return np.abs(x) - (np.float32(foot) - y) * np.float32(slope)


def paint_collar(patch: Patch, person: Person) -> None:
    """What shows at the neck opening: skin, a shirt with or without a tie, or a hood with cords."""
    clothing = person.clothing
    x, y = patch.x, patch.y
    opening = _wedge(x, y, 1.52, 0.62)
    if clothing.pattern in ("jacket", "suit"):
        shirt = np.maximum(_wedge(x, y, 2.6, 0.42), np.float32(1.22) - y)
        cloth = clothing.accent if clothing.pattern == "jacket" else (0.93, 0.93, 0.92)
        patch.paint(patch.cover(shirt) * patch.silhouette, cloth)
        opening = _wedge(x, y, 1.62, 0.6)
    if clothing.pattern != "hoodie":
        bare = np.maximum(np.maximum(_neck(person, x, y), opening), np.float32(1.0) - y)
        patch.paint(patch.cover(bare), scaled(person.skin, 0.84))
    if clothing.pattern == "suit":
        knot = np.float32(1.45)
        tie = np.maximum(np.abs(x) - np.float32(0.05) - np.float32(0.10) * (y - knot), knot - y)
        patch.paint(patch.cover(tie), clothing.accent)
    if clothing.pattern == "hoodie":
        collar = np.abs(blob(x, y - np.float32(1.18), 0.52, 0.24, 0.3)) - np.float32(0.10)
        collar = np.maximum(collar, np.float32(1.12) - y)
        patch.paint(patch.cover(collar), scaled(clothing.colour, 0.72), solid=True)
        _paint_cords(patch, x, y, clothing.accent)


def _paint_cords(patch: Patch, x: Plane, y: Plane, colour: Colour) -> None:
    """Two drawstrings."""
    cord = np.maximum(np.abs(np.abs(x) - np.float32(0.20)) - np.float32(0.028), -(y - np.float32(1.42)))
    patch.paint(patch.cover(cord), colour)
