"""Named colours of rooms, clothes, hair and skin, as sRGB in [0, 1]."""

import numpy as np

Colour = tuple[float, float, float]

WALLS: dict[str, Colour] = {
    "white": (0.90, 0.90, 0.88),
    "cream": (0.90, 0.84, 0.70),
    "grey": (0.55, 0.56, 0.58),
    "charcoal": (0.20, 0.21, 0.24),
    "sky blue": (0.52, 0.70, 0.86),
    "navy": (0.12, 0.18, 0.36),
    "teal": (0.13, 0.46, 0.47),
    "green": (0.30, 0.52, 0.28),
    "olive": (0.45, 0.46, 0.24),
    "mint": (0.68, 0.86, 0.76),
    "yellow": (0.90, 0.77, 0.30),
    "orange": (0.86, 0.50, 0.20),
    "terracotta": (0.70, 0.36, 0.26),
    "red": (0.68, 0.18, 0.18),
    "pink": (0.90, 0.64, 0.70),
    "purple": (0.42, 0.26, 0.52),
    "lavender": (0.70, 0.64, 0.84),
    "brown": (0.42, 0.28, 0.18),
}

CLOTHES: dict[str, Colour] = {
    "white": (0.90, 0.90, 0.90),
    "black": (0.09, 0.09, 0.10),
    "grey": (0.48, 0.49, 0.51),
    "navy": (0.11, 0.15, 0.34),
    "blue": (0.16, 0.36, 0.72),
    "light blue": (0.55, 0.74, 0.90),
    "teal": (0.08, 0.50, 0.50),
    "green": (0.16, 0.48, 0.22),
    "olive": (0.42, 0.43, 0.20),
    "yellow": (0.92, 0.78, 0.20),
    "orange": (0.90, 0.46, 0.12),
    "red": (0.76, 0.12, 0.14),
    "burgundy": (0.42, 0.08, 0.16),
    "pink": (0.92, 0.56, 0.66),
    "purple": (0.44, 0.22, 0.58),
    "beige": (0.80, 0.70, 0.54),
    "brown": (0.40, 0.25, 0.14),
}

HAIR: dict[str, Colour] = {
    "black": (0.06, 0.05, 0.06),
    "dark brown": (0.20, 0.12, 0.08),
    "brown": (0.36, 0.22, 0.12),
    "auburn": (0.48, 0.19, 0.09),
    "ginger": (0.74, 0.36, 0.12),
    "blond": (0.84, 0.68, 0.36),
    "platinum": (0.92, 0.87, 0.72),
    "grey": (0.55, 0.55, 0.56),
    "white": (0.88, 0.88, 0.88),
    "blue": (0.14, 0.30, 0.70),
    "pink": (0.90, 0.38, 0.62),
    "green": (0.14, 0.50, 0.28),
    "purple": (0.45, 0.20, 0.60),
}

SKIN: dict[str, tuple[Colour, ...]] = {
    "White": ((0.96, 0.80, 0.71), (0.93, 0.74, 0.62), (0.88, 0.67, 0.53)),
    "Asian": ((0.92, 0.75, 0.58), (0.85, 0.64, 0.45), (0.72, 0.50, 0.34)),
    "Black": ((0.56, 0.37, 0.26), (0.42, 0.27, 0.19), (0.29, 0.18, 0.13)),
}

EYES: dict[str, Colour] = {
    "dark brown": (0.16, 0.09, 0.05),
    "brown": (0.36, 0.20, 0.09),
    "hazel": (0.48, 0.38, 0.14),
    "green": (0.22, 0.48, 0.28),
    "blue": (0.20, 0.42, 0.76),
    "grey": (0.46, 0.52, 0.56),
}

FRAMES: dict[str, Colour] = {
    "black": (0.06, 0.06, 0.07),
    "brown": (0.34, 0.18, 0.08),
    "gold": (0.78, 0.60, 0.20),
    "red": (0.72, 0.10, 0.12),
    "blue": (0.12, 0.26, 0.66),
    "white": (0.94, 0.94, 0.94),
}


def scaled(colour: Colour, factor: float) -> Colour:
    """The colour made darker (factor < 1) or brighter, kept within [0, 1]."""
    return tuple(min(1.0, max(0.0, c * factor)) for c in colour)  # pyright: ignore[reportReturnType]  # always three


def mixed(first: Colour, second: Colour, weight: float) -> Colour:
    """`first` with `weight` of `second` in it."""
    r, g, b = (a + weight * (c - a) for a, c in zip(first, second, strict=True))
    return r, g, b


def jittered(colour: Colour, rng: np.random.Generator, amount: float) -> Colour:
    """The colour moved by up to `amount` in brightness and a third of it in each channel."""
    common = rng.uniform(-amount, amount)
    r, g, b = (float(min(1.0, max(0.0, c + common + rng.uniform(-amount, amount) / 3))) for c in colour)
    return r, g, b
