"""Where the person sits: the kind and colours of a static background, and the light of the room."""

from dataclasses import dataclass

import numpy as np

from tavr_synthetic.colours import WALLS, Colour, jittered

KINDS = (
    "gradient", "stripes", "bookshelf", "window", "bricks", "dots", "plants", "abstract", "curtain", "panels",
    "pictures", "bokeh", "tiles", "skyline", "sunset",
)  # fmt: skip
LIGHT_NAMES = {"warm": (1.08, 0.98, 0.84), "neutral": (1.0, 1.0, 1.0), "cool": (0.88, 0.98, 1.10)}


@dataclass(frozen=True)
class Light:
    """direction: unit vector towards the light (x right, y down, z to the viewer); tint: colour times gain."""

    name: str
    direction: tuple[float, float, float]
    ambient: float
    diffuse: float
    gain: float
    tint: Colour


@dataclass(frozen=True)
class Scene:
    """kind: one of KINDS; colours with their names, main one first; blur: radius in picture heights."""

    seed: int
    kind: str
    colours: tuple[Colour, Colour, Colour]
    colour_names: tuple[str, str, str]
    light: Light
    blur: float
    night: bool


def _sample_light(rng: np.random.Generator) -> Light:
    side = rng.uniform(-0.85, 0.85)
    up = -rng.uniform(0.15, 0.6)
    toward = rng.uniform(0.55, 0.9)
    length = float(np.sqrt(side * side + up * up + toward * toward))
    name = tuple(LIGHT_NAMES)[int(rng.integers(3))]
    gain = float(rng.uniform(0.78, 1.08))
    r, g, b = (c * gain for c in LIGHT_NAMES[name])
    ambient = float(rng.uniform(0.45, 0.65))
    direction = (float(side / length), float(up / length), float(toward / length))
    return Light(name, direction, ambient, (1.06 - ambient) / max(0.6, direction[2]), gain, (r, g, b))


def sample_scene(seed: int) -> Scene:
    """The room of this seed."""
    rng = np.random.default_rng([seed, 0x7363])
    kind = KINDS[int(rng.integers(len(KINDS)))]
    names = tuple(WALLS)
    first, second, third = (names[int(i)] for i in rng.permutation(len(names))[:3])
    colours = tuple(jittered(WALLS[n], rng, 0.05) for n in (first, second, third))
    return Scene(
        seed=seed,
        kind=kind,
        colours=(colours[0], colours[1], colours[2]),
        colour_names=(first, second, third),
        light=_sample_light(rng),
        blur=float(rng.uniform(0.0, 0.03)),
        night=bool(rng.random() < 0.5),
    )
