"""Anti-aliased painting of soft shapes over all frames of a clip at once.

Everything here works on float32 arrays [T, h, w] with + - * / sqrt min max only: IEEE arithmetic is exact to the last
bit on every CPU for these, whereas exp, sin or matmul are not. A shape is a signed distance (negative inside, in head
units); `Patch.cover` turns it into an anti-aliased coverage in [0, 1] and `Patch.paint` composites a colour with it.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tavr_synthetic.colours import Colour

Plane = npt.NDArray[np.floating[Any]]
"""float32 [T, h, w], or anything that broadcasts to it. (numpy's stubs take float32 times a Python float for float64,
hence the wide type; `Patch.paint` asserts that it never is.)"""
Curve = npt.NDArray[np.float64]
"""float64 [T]."""


def per_frame(curve: Curve | float) -> Plane:
    """A curve [T] as float32 [T, 1, 1], or a number as [1, 1, 1]."""
    return np.asarray(curve, dtype=np.float32).reshape(-1, 1, 1)


def clamp(values: Plane) -> Plane:
    """Values limited to [0, 1]."""
    return np.minimum(np.maximum(values, np.float32(0)), np.float32(1))


def smoothstep(values: Plane) -> Plane:
    """0 below 0, 1 above 1, smooth between."""
    limited = clamp(values)
    return limited * limited * (3 - 2 * limited)


def triangle_wave(values: Plane) -> Plane:
    """Period 1, from 0 to 1 and back: the exact stand-in for a sine in textures."""
    return np.abs(2 * (values - np.floor(values)) - 1)


def blob(x: Plane, y: Plane, rx: Plane | float, ry: Plane | float, square: float = 0.0) -> Plane:
    """Distance to an ellipse of radii rx, ry around 0, morphed towards a rounded box as `square` goes from 0 to 1.

    The implicit function is divided by its gradient: exact in sign, right to first order at the edge, which is what
    anti-aliasing needs even for thin shapes.
    """
    radius_x, radius_y = (r if isinstance(r, np.ndarray) else np.float32(r) for r in (rx, ry))
    u = x / radius_x
    v = y / radius_y
    u2, v2 = u * u, v * v
    circle = np.sqrt(u2 + v2)
    norm = circle
    if square > 0:
        norm = norm + np.float32(square) * (np.sqrt(np.sqrt(u2 * u2 + v2 * v2)) - norm)
    u, v = u / radius_x, v / radius_y
    gradient = np.maximum(np.sqrt(u * u + v * v), np.float32(1e-6))
    distance = (norm - 1) * circle / gradient
    return np.where(circle > np.float32(1e-4), distance, -np.minimum(radius_x, radius_y))


def smooth_union(first: Plane, second: Plane, reach: float) -> Plane:
    """Union of two distances with a rounded seam of width `reach`."""
    near = np.maximum(np.float32(reach) - np.abs(first - second), np.float32(0)) * np.float32(1 / reach)
    return np.minimum(first, second) - near * near * np.float32(reach / 4)


@dataclass(frozen=True)
class Placement:
    """Local coordinates of a canvas: origin [T] in pixels, roll [T] as cosine and sine, pixels per head unit."""

    origin_x: Curve
    origin_y: Curve
    cos_roll: Curve
    sin_roll: Curve
    unit: float


@dataclass(frozen=True)
class Patch:
    """A window on the canvas with local coordinates in head units.

    pixels: view [3, T, h, w] of the canvas; silhouette: view [T, h, w] of the person's coverage; x, y: [T, h, w];
    unit: pixels per head unit; shade: light on the surface, broadcasts to [T, h, w]; tint: colour of the light;
    stencil: coverage [T, h, w] that limits all paint.
    """

    pixels: npt.NDArray[np.float32]
    silhouette: Plane
    x: Plane
    y: Plane
    unit: float
    shade: Plane
    tint: Colour
    stencil: Plane | None = None

    def crop(self, left: Curve | float, right: Curve | float, top: Curve | float, bottom: Curve | float) -> "Patch":
        """The smallest window that holds these local extents in every frame (with one pixel of margin)."""
        margin = 1.5 / self.unit
        inside_x = (self.x >= per_frame(left) - margin) & (self.x <= per_frame(right) + margin)
        inside = inside_x & (self.y >= per_frame(top) - margin) & (self.y <= per_frame(bottom) + margin)
        columns = np.flatnonzero(inside.any(axis=(0, 1)))
        rows = np.flatnonzero(inside.any(axis=(0, 2)))
        if len(columns) == 0 or len(rows) == 0:
            columns = rows = np.zeros(1, dtype=np.intp)
        window = (..., slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
        return replace(
            self,
            pixels=self.pixels[window],
            silhouette=self.silhouette[window],
            x=self.x[window],
            y=self.y[window],
            shade=self.shade[window] if self.shade.shape[-1] > 1 else self.shade,
            stencil=None if self.stencil is None else self.stencil[window],
        )

    def lit(self, shade: Plane) -> "Patch":
        """The same window under another light."""
        return replace(self, shade=shade)

    def within(self, coverage: Plane) -> "Patch":
        """The same window where nothing can be painted outside `coverage`."""
        return replace(self, stencil=coverage)

    def cover(self, distance: Plane, softness: float = 0.0) -> Plane:
        """Coverage [T, h, w] of a shape; the edge is one pixel wide, or `softness` head units when that is more."""
        edge = softness * self.unit
        if edge <= 1.0:
            return clamp(0.5 - distance * np.float32(self.unit))
        return smoothstep(0.5 - distance * np.float32(self.unit / edge))

    def paint(self, coverage: Plane, colour: Colour, solid: bool = False, shaded: bool = True) -> None:
        """Composite a colour under this patch's light; `solid` shapes extend the person's silhouette."""
        if self.stencil is not None:
            coverage = coverage * self.stencil
        assert coverage.dtype == np.float32, coverage.dtype
        for channel in range(3):
            tone = np.float32(colour[channel] * self.tint[channel])
            target = self.pixels[channel]
            target += coverage * ((self.shade * tone if shaded else tone) - target)
        if solid:
            np.maximum(self.silhouette, coverage, out=self.silhouette)

    def darken(self, coverage: Plane, factor: float) -> None:
        """Multiply what is there by `factor` where covered: contact shadows (factor < 1) and sheen (factor > 1)."""
        self.pixels[...] *= 1 + coverage * np.float32(factor - 1)


@dataclass(frozen=True)
class Canvas:
    """The clip being painted: pixels float32 [3, T, H, W], the person's coverage [T, H, W], the light's colour."""

    pixels: npt.NDArray[np.float32]
    silhouette: Plane
    tint: Colour

    def window(self, box: tuple[int, int, int, int], placement: Placement) -> Patch:
        """The pixels x0, y0, x1, y1 with local coordinates that move and roll with `placement`."""
        x0, y0, x1, y1 = box
        rows = (np.arange(y0, y1) + 0.5).astype(np.float32).reshape(1, -1, 1)
        columns = (np.arange(x0, x1) + 0.5).astype(np.float32).reshape(1, 1, -1)
        dx, dy = columns - per_frame(placement.origin_x), rows - per_frame(placement.origin_y)
        cos = per_frame(placement.cos_roll / placement.unit)
        sin = per_frame(placement.sin_roll / placement.unit)
        return Patch(
            pixels=self.pixels[..., y0:y1, x0:x1],
            silhouette=self.silhouette[..., y0:y1, x0:x1],
            x=dx * cos + dy * sin,
            y=dy * cos - dx * sin,
            unit=placement.unit,
            shade=np.ones((1, 1, 1), dtype=np.float32),
            tint=self.tint,
        )
