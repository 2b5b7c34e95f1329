"""Static textured backgrounds, one painter for each kind of scene.

Coordinates: u to the right and v down, both in picture heights, so that a scene looks alike at any size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tavr_synthetic.canvas import clamp, smoothstep, triangle_wave
from tavr_synthetic.colours import CLOTHES, Colour, mixed, scaled
from tavr_synthetic.scenes import Scene

Picture = npt.NDArray[np.float32]
"""[H, W, 3] in [0, 1]."""
Field = npt.NDArray[np.floating[Any]]
"""float32 [H, W] (see `canvas.Plane`)."""


@dataclass(frozen=True)
class Wall:
    """The picture being painted, with coordinates u to the right and v down, in picture heights, of every pixel."""

    picture: Picture
    u: Field
    v: Field

    @property
    def pixel(self) -> float:
        """Size of a pixel in picture heights."""
        return 1.0 / self.v.shape[0]

    def edge(self, distance: Field, width: float = 1.0) -> Field:
        """Anti-aliased coverage where `distance` (picture heights, positive inside) is positive."""
        return clamp(distance * np.float32(1 / (self.pixel * width)) + np.float32(0.5))

    def base(self, colour: Colour) -> None:
        """One colour everywhere."""
        self.picture[...] = np.asarray(colour, dtype=np.float32)

    def fill(self, coverage: Field, colour: Colour) -> None:
        """Composite a colour onto the picture."""
        for channel in range(3):
            target = self.picture[..., channel]
            target += coverage * (np.float32(colour[channel]) - target)

    def box(self, left: float, right: float, top: float, bottom: float) -> Field:
        """Coverage of a rectangle."""
        across = np.minimum(self.u - np.float32(left), np.float32(right) - self.u)
        down = np.minimum(self.v - np.float32(top), np.float32(bottom) - self.v)
        return self.edge(np.minimum(across, down))

    def disc(self, x: float, y: float, radius: float, softness: float = 1.0) -> Field:
        """Coverage of a disc whose edge is `softness` pixels wide."""
        du, dv = self.u - np.float32(x), self.v - np.float32(y)
        return self.edge(np.float32(radius) - np.sqrt(du * du + dv * dv), softness)


def _noise(rng: np.random.Generator, u: Field, v: Field, cells: int) -> Field:
    """Smooth value noise in [0, 1] with `cells` cells a picture height."""
    grid = rng.random((cells + 3, cells * 2 + 5)).astype(np.float32)
    x = np.maximum(u + np.float32(0.2), 0) * cells
    y = np.maximum(v, 0) * cells
    column = np.minimum(np.floor(x).astype(np.intp), grid.shape[1] - 2)
    row = np.minimum(np.floor(y).astype(np.intp), grid.shape[0] - 2)
    fx, fy = smoothstep(x - column.astype(np.float32)), smoothstep(y - row.astype(np.float32))
    top = grid[row, column] + fx * (grid[row, column + 1] - grid[row, column])
    low = grid[row + 1, column] + fx * (grid[row + 1, column + 1] - grid[row + 1, column])
    return top + fy * (low - top)


def _gradient(scene: Scene, rng: np.random.Generator, wall: Wall) -> None:
    u, v = wall.u, wall.v
    slope = float(rng.uniform(-0.5, 0.5))
    wall.base(scene.colours[0])
    wall.fill(clamp(v + slope * (u - np.float32(0.9))), scaled(scene.colours[0], 0.45))
    x, y = rng.uniform(0.2, 1.5), rng.uniform(0.1, 0.5)
    du, dv = u - np.float32(x), v - np.float32(y)
    glow = smoothstep(1 - np.sqrt(du * du + dv * dv) * np.float32(1 / 0.7))
    wall.fill(glow * np.float32(0.55), mixed(scene.colours[0], (1.0, 1.0, 1.0), 0.6))


def _stripes(scene: Scene, rng: np.random.Generator, wall: Wall) -> None:
    u, v = wall.u, wall.v
    period = rng.uniform(0.14, 0.34)
    lean = rng.choice([0.0, 0.0, 0.6, -0.6])
    wall.base(scene.colours[0])
    wave = triangle_wave((u + np.float32(lean) * v) * np.float32(1 / period))
    edge = np.float32(0.5 * period / wall.pixel)
    wall.fill(clamp(0.5 + (np.float32(rng.uniform(0.3, 0.6)) - wave) * edge), scene.colours[1])


def _bookshelf(scene: Scene, rng: np.random.Generator, wall: Wall) -> None:
    wall.base(scaled(scene.colours[0], 0.35))
    rows = int(rng.integers(3, 5))
    spines = [*scene.colours, *CLOTHES.values()]
    for row in range(rows):
        floor = (row + 1) / rows
        x = -0.02
        while x < 2.4:
            wide, tall = rng.uniform(0.035, 0.10), rng.uniform(0.60, 0.86) / rows
            if rng.random() < 0.88:
                colour = scaled(spines[int(rng.integers(len(spines)))], rng.uniform(0.6, 1.0))
                wall.fill(wall.box(x, x + wide * 0.92, floor - tall, floor), colour)
            x += wide
        wall.fill(wall.box(-1, 9, floor - 0.03, floor), scaled(scene.colours[0], 0.8))


def _window(scene: Scene, rng: np.random.Generator, wall: Wall) -> None:
    u, v = wall.u, wall.v
    wall.base(scene.colours[0])
    wall.fill(smoothstep(v - np.float32(0.2)) * np.float32(0.5), scaled(scene.colours[0], 0.5))
    left = rng.choice([rng.uniform(0.0, 0.2), rng.uniform(0.9, 1.1)])
    wide, top, bottom = rng.uniform(0.5, 0.8), rng.uniform(-0.05, 0.1), rng.uniform(0.6, 0.85)
    frame = mixed(scene.colours[1], (1.0, 1.0, 1.0), 0.5)
    wall.fill(wall.box(left - 0.03, left + wide + 0.03, top - 0.03, bottom + 0.03), frame)
    pane = wall.box(left, left + wide, top, bottom)
    wall.fill(pane, (0.80, 0.90, 0.98))
    hills = np.float32(bottom - 0.22) + np.float32(0.12) * triangle_wave(u * np.float32(rng.uniform(0.8, 1.6)))
    wall.fill(pane * clamp((v - hills) * np.float32(1 / wall.pixel)), (0.38, 0.58, 0.34))
    middle = left + wide / 2
    wall.fill(wall.box(middle - 0.015, middle + 0.015, top, bottom), frame)
    cross = (top + bottom) / 2
    wall.fill(wall.box(left, left + wide, cross - 0.015, cross + 0.015), frame)


def _bricks(scene: Scene, rng: np.random.Generator, wall: Wall) -> None:
    u, v = wall.u, wall.v
    tall = float(rng.uniform(0.075, 0.13))
    wide = tall * float(rng.uniform(1.8, 2.6))
    row = np.floor(v * np.float32(1 / tall))
    shifted = u * np.float32(1 / wide) + np.float32(0.5) * (row - 2 * np.floor(row / 2))
    column = np.floor(shifted)
    brightness = rng.random((40, 60)).astype(np.float32)
    tone = brightness[row.astype(np.intp) % 40, column.astype(np.intp) % 60]
    wall.base(scaled(scene.colours[0], 0.8))
    wall.fill(tone, scaled(scene.colours[0], 1.15))
    joint = np.minimum(
        np.minimum(shifted - column, column + 1 - shifted) * np.float32(wide),
        np.minimum(v * np.float32(1 / tall) - row, row + 1 - v * np.float32(1 / tall)) * np.float32(tall),
    )
    line = wall.edge(np.float32(0.010) - joint)
    wall.fill(line, mixed(scene.colours[1], (0.8, 0.8, 0.78), 0.6))


def _dots(scene: Scene, rng: np.random.Generator, wall: Wall) -> None:
    u, v = wall.u, wall.v
    pitch = float(rng.uniform(0.16, 0.28))
    wall.base(scene.colours[0])
    row = np.floor(v * np.float32(1 / pitch))
    shifted = u * np.float32(1 / pitch) + np.float32(0.5) * (row - 2 * np.floor(row / 2))
    du = (shifted - np.floor(shifted) - np.float32(0.5)) * np.float32(pitch)
    dv = (v * np.float32(1 / pitch) - row - np.float32(0.5)) * np.float32(pitch)
    radius = np.float32(pitch * rng.uniform(0.22, 0.36))
    wall.fill(wall.edge(radius - np.sqrt(du * du + dv * dv)), scene.colours[1])


def _plants(scene: Scene, rng: np.random.Generator, wall: Wall) -> None:
    u, v = wall.u, wall.v
    wall.base(mixed(scene.colours[0], (0.9, 0.9, 0.85), 0.35))
    for _ in range(int(rng.integers(26, 46))):
        x, y = rng.uniform(-0.05, 1.85), rng.uniform(0.0, 1.05)
        if 0.55 < x < 1.2 and rng.random() < 0.5:
            continue
        long, thin = rng.uniform(0.10, 0.24), rng.uniform(0.02, 0.06)
        cos, sin = _direction(rng)
        du, dv = u - np.float32(x), v - np.float32(y)
        along, across = du * cos + dv * sin, dv * cos - du * sin
        width = np.float32(thin) * (1 - along * along * np.float32(1 / long**2))
        leaf = wall.edge(width - np.abs(across))
        green = mixed((0.14, 0.40, 0.16), (0.50, 0.66, 0.24), rng.random())
        wall.fill(leaf * (np.abs(along) < np.float32(long)), scaled(green, rng.uniform(0.6, 1.1)))


def _abstract(scene: Scene, rng: np.random.Generator, wall: Wall) -> None:
    u, v = wall.u, wall.v
    wall.base(scene.colours[0])
    wall.fill(smoothstep(2.2 * _noise(rng, u, v, 2) - np.float32(0.6)), scene.colours[1])
    wall.fill(smoothstep(2.6 * _noise(rng, u, v, 3) - np.float32(1.2)), scene.colours[2])


def _curtain(scene: Scene, rng: np.random.Generator, wall: Wall) -> None:
    u, v = wall.u, wall.v
    period = float(rng.uniform(0.12, 0.24))
    wall.base(scaled(scene.colours[0], 0.5))
    wobble = np.float32(0.35) * _noise(rng, u, v * np.float32(0.3), 4)
    wall.fill(smoothstep(triangle_wave(u * np.float32(1 / period) + wobble)), scaled(scene.colours[0], 1.1))
    wall.fill(clamp((v - np.float32(0.3)) * np.float32(0.5)), scaled(scene.colours[0], 0.4))


def _panels(scene: Scene, rng: np.random.Generator, wall: Wall) -> None:
    u, v = wall.u, wall.v
    wood = mixed(scene.colours[0], (0.48, 0.30, 0.16), 0.6)
    wide = float(rng.uniform(0.14, 0.28))
    plank = np.floor(u * np.float32(1 / wide))
    tones = rng.random(40).astype(np.float32)[plank.astype(np.intp) % 40]
    wall.base(scaled(wood, 0.8))
    wall.fill(tones, scaled(wood, 1.2))
    grain = triangle_wave(9 * _noise(rng, u * np.float32(2.5), v * np.float32(0.4), 3))
    wall.fill(grain * np.float32(0.22), scaled(wood, 0.55))
    gap = np.abs(u * np.float32(1 / wide) - plank - np.float32(0.5)) * np.float32(wide)
    seam = wall.edge(gap - np.float32(wide / 2 - 0.008))
    wall.fill(seam, scaled(wood, 0.4))


def _pictures(scene: Scene, rng: np.random.Generator, wall: Wall) -> None:
    u, v = wall.u, wall.v
    wall.base(scene.colours[0])
    wall.fill(clamp(v) * np.float32(0.4), scaled(scene.colours[0], 0.6))
    for x in (rng.uniform(0.0, 0.15), rng.uniform(0.5, 0.75), rng.uniform(1.2, 1.4)):
        wide, tall, top = rng.uniform(0.24, 0.42), rng.uniform(0.24, 0.46), rng.uniform(0.02, 0.2)
        edge = (0.10, 0.08, 0.07) if rng.random() < 0.5 else (0.92, 0.90, 0.86)
        wall.fill(wall.box(x - 0.025, x + wide + 0.025, top - 0.025, top + tall + 0.025), edge)
        inside = wall.box(x, x + wide, top, top + tall)
        order = rng.permutation(3)
        wall.fill(inside, mixed(scene.colours[int(order[0])], (1.0, 1.0, 1.0), 0.35))
        art = smoothstep(3 * _noise(rng, u, v, 5) - np.float32(1.0))
        wall.fill(inside * art, scene.colours[int(order[1])])
        sun = wall.disc(x + wide * rng.uniform(0.3, 0.7), top + tall * 0.4, wide * 0.2)
        wall.fill(inside * sun, scene.colours[int(order[2])])


def _bokeh(scene: Scene, rng: np.random.Generator, wall: Wall) -> None:
    u, v = wall.u, wall.v
    wall.base(scaled(scene.colours[0], 0.30))
    wall.fill(_noise(rng, u, v, 2) * np.float32(0.8), scaled(scene.colours[1], 0.5))
    for _ in range(int(rng.integers(22, 40))):
        colour = mixed(scene.colours[int(rng.integers(3))], (1.0, 0.86, 0.55), rng.uniform(0.2, 0.8))
        disc = wall.disc(rng.uniform(0, 1.8), rng.uniform(0, 1), rng.uniform(0.03, 0.09), softness=2)
        wall.fill(disc * np.float32(rng.uniform(0.35, 0.9)), colour)


def _tiles(scene: Scene, rng: np.random.Generator, wall: Wall) -> None:
    u, v = wall.u, wall.v
    side = float(rng.uniform(0.14, 0.26))
    column, row = np.floor(u * np.float32(1 / side)), np.floor(v * np.float32(1 / side))
    choice = rng.integers(0, 3, size=(20, 40))[row.astype(np.intp) % 20, column.astype(np.intp) % 40]
    wall.base(scene.colours[0])
    for index in (1, 2):
        other = mixed(scene.colours[0], scene.colours[index], 0.75)
        wall.fill((choice == index).astype(np.float32), other)
    gap = np.maximum(
        np.abs(u * np.float32(1 / side) - column - np.float32(0.5)),
        np.abs(v * np.float32(1 / side) - row - np.float32(0.5)),
    ) * np.float32(side)
    seam = wall.edge(gap - np.float32(side / 2 - 0.007))
    wall.fill(seam, (0.88, 0.88, 0.86))


def _skyline(scene: Scene, rng: np.random.Generator, wall: Wall) -> None:
    u, v = wall.u, wall.v
    night = scene.night
    sky = (0.08, 0.09, 0.22) if night else mixed((0.62, 0.80, 0.95), scene.colours[0], 0.25)
    wall.base(sky)
    wall.fill(clamp(v), mixed(sky, (0.95, 0.75, 0.55), 0.35))
    x = -0.05
    while x < 1.9:
        wide, top = rng.uniform(0.12, 0.26), rng.uniform(0.08, 0.55)
        front = scaled(scene.colours[int(rng.integers(3))], rng.uniform(0.25, 0.5) if night else rng.uniform(0.5, 0.9))
        block = wall.box(x, x + wide, top, 2.0)
        wall.fill(block, front)
        lit = triangle_wave(u * np.float32(14)) * triangle_wave(v * np.float32(11)) > np.float32(0.34)
        inner = wall.box(x + 0.02, x + wide - 0.02, top + 0.04, 2.0)
        wall.fill(inner * lit * np.float32(0.85), (0.98, 0.86, 0.46) if night else scaled(front, 0.5))
        x += wide + rng.uniform(0.0, 0.05)


def _sunset(scene: Scene, rng: np.random.Generator, wall: Wall) -> None:
    u, v = wall.u, wall.v
    wall.base(mixed(scene.colours[1], (0.35, 0.45, 0.75), 0.5))
    wall.fill(smoothstep(v * np.float32(1.3)), mixed(scene.colours[2], (1.0, 0.72, 0.40), 0.7))
    wall.fill(wall.disc(rng.uniform(0.1, 1.7), rng.uniform(0.2, 0.5), 0.11), (1.0, 0.95, 0.78))
    for layer in range(3):
        rate = np.float32(rng.uniform(0.6, 1.4) * (1 + 0.5 * layer))
        ridge = np.float32(0.42 + 0.18 * layer) + np.float32(0.16) * triangle_wave(u * rate + np.float32(rng.random()))
        tone = scaled(mixed(scene.colours[0], (0.25, 0.28, 0.40), 0.5), 0.9 - 0.25 * layer)
        wall.fill(wall.edge(v - ridge), tone)


Painter = Callable[[Scene, np.random.Generator, Wall], None]
PAINTERS: dict[str, Painter] = {
    "gradient": _gradient,
    "stripes": _stripes,
    "bookshelf": _bookshelf,
    "window": _window,
    "bricks": _bricks,
    "dots": _dots,
    "plants": _plants,
    "abstract": _abstract,
    "curtain": _curtain,
    "panels": _panels,
    "pictures": _pictures,
    "bokeh": _bokeh,
    "tiles": _tiles,
    "skyline": _skyline,
    "sunset": _sunset,
}


def _direction(rng: np.random.Generator) -> tuple[np.float32, np.float32]:
    angle = rng.uniform(0, np.pi)
    return np.float32(np.cos(angle)), np.float32(np.sin(angle))


def box_blur(picture: npt.NDArray[np.float32], radius: int, axis: int) -> npt.NDArray[np.float32]:
    """Mean over 2 * radius + 1 neighbours along an axis, edges repeated; sums run in a fixed order."""
    before, after = (np.repeat(np.take(picture, [edge], axis), radius, axis) for edge in (0, -1))
    padded = np.concatenate([before, picture, after], axis)
    length = picture.shape[axis]
    total = np.take(padded, range(length), axis)
    for shift in range(1, 2 * radius + 1):
        total = total + np.take(padded, range(shift, shift + length), axis)
    return total * np.float32(1 / (2 * radius + 1))


def paint_background(scene: Scene, height: int, width: int) -> Picture:
    """The empty room, float32 [height, width, 3] in [0, 1], under the scene's light."""
    rng = np.random.default_rng([scene.seed, 0x6267])
    v, u = np.meshgrid(
        ((np.arange(height) + 0.5) / height).astype(np.float32),
        ((np.arange(width) + 0.5) / height).astype(np.float32),
        indexing="ij",
    )
    picture = np.empty((height, width, 3), dtype=np.float32)
    PAINTERS[scene.kind](scene, rng, Wall(picture, u, v))
    radius = round(scene.blur * height)
    if radius > 0:
        picture = box_blur(box_blur(picture, radius, 0), radius, 1)
    # The lamp's side of the room is brighter.
    fall = 1 + np.float32(0.22 * scene.light.direction[0]) * (u - np.float32(0.5 * width / height))
    picture *= fall[..., None] * np.asarray(scene.light.tint, dtype=np.float32)
    return clamp(picture)
