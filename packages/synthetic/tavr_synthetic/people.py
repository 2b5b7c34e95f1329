"""Who is on screen: a person is a handful of strong traits drawn from one seed.

Lengths are in head units: the head is 2 units tall (crown at -1, chin at +1) before `FaceShape.height` scales it.
"""

from dataclasses import dataclass, replace

import numpy as np

from tavr_synthetic.colours import CLOTHES, EYES, FRAMES, HAIR, SKIN, Colour, jittered, mixed

HAIR_STYLES = (
    "bald", "buzz", "receding", "short", "side part", "quiff", "fringe", "bob",
    "long", "wavy", "curly", "afro", "bun", "ponytail", "pigtails", "mohawk",
)  # fmt: skip
BEARD_STYLES = ("none", "stubble", "moustache", "goatee", "chinstrap", "full")
GLASSES_STYLES = ("none", "round", "square", "heavy", "half")
PATTERNS = ("plain", "stripes", "pinstripes", "checks", "dots", "jacket", "suit", "hoodie")
AGE_GROUPS = ("0-19", "19-30", "31-45", "46-60", "60+")
LANGUAGES = {
    "White": ("English", "Polish", "German", "Russian", "French", "Portuguese", "Spanish", "Italian"),
    "Asian": ("Chinese", "Korean", "Japanese", "Thai", "Hindi", "Arabic"),
    "Black": ("English", "French", "Portuguese", "Arabic"),
}


@dataclass(frozen=True)
class FaceShape:
    """Head outline: width and height are factors around 1; jaw in [0, 1] goes from pointed to square."""

    width: float
    height: float
    jaw: float
    jaw_width: float
    ear_size: float


@dataclass(frozen=True)
class Hair:
    """volume: how far it stands off the skull; hairline > 0 is lower; parting: signed distance from the middle."""

    style: str
    colour: Colour
    colour_name: str
    volume: float
    hairline: float
    parting: float


@dataclass(frozen=True)
class Eyes:
    """size is a factor around 1, spacing half the distance of the pupils, roundness the openness, tilt a slope."""

    colour: Colour
    size: float
    roundness: float
    spacing: float
    tilt: float


@dataclass(frozen=True)
class Brows:
    """thickness in head units; arch bends, tilt slopes."""

    colour: Colour
    thickness: float
    arch: float
    tilt: float


@dataclass(frozen=True)
class Nose:
    """Factors around 1."""

    width: float
    length: float


@dataclass(frozen=True)
class Mouth:
    """width: half the mouth, fullness: a lip, both in head units; smile bends the corners up."""

    colour: Colour
    width: float
    fullness: float
    smile: float


@dataclass(frozen=True)
class Beard:
    """One of BEARD_STYLES."""

    style: str
    colour: Colour


@dataclass(frozen=True)
class Glasses:
    """One of GLASSES_STYLES."""

    style: str
    colour: Colour


@dataclass(frozen=True)
class Clothing:
    """pattern: one of PATTERNS; accent: its second colour; shoulders: a factor around 1."""

    pattern: str
    colour: Colour
    colour_name: str
    accent: Colour
    accent_name: str
    shoulders: float


@dataclass(frozen=True)
class Voice:
    """f0 in Hz; formant_scale relative to an adult male tract; rate in syllables a second; breath in [0, 1]."""

    f0: float
    formant_scale: float
    rate: float
    breath: float


@dataclass(frozen=True)
class Person:
    """seed is the identity; everything else follows from it."""

    seed: int
    gender: str
    age_group: str
    ethnicity: str
    language: str
    skin: Colour
    face: FaceShape
    hair: Hair
    eyes: Eyes
    brows: Brows
    nose: Nose
    mouth: Mouth
    beard: Beard
    glasses: Glasses
    clothing: Clothing
    voice: Voice


def _pick(rng: np.random.Generator, options: tuple[str, ...], weights: tuple[float, ...] | None = None) -> str:
    probabilities = None if weights is None else np.asarray(weights) / sum(weights)
    return options[int(rng.choice(len(options), p=probabilities))]


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def _sample_hair(rng: np.random.Generator, gender: str, ethnicity: str, age: str) -> Hair:
    men = (3, 3, 3, 4, 4, 4, 3, 0.5, 1, 1, 3, 2, 0.5, 0.5, 0, 1)
    women = (0.3, 0.7, 0, 1.5, 2, 1, 3, 4, 4, 4, 3, 2, 3, 3, 2, 0.5)
    style = _pick(rng, HAIR_STYLES, men if gender == "Male" else women)
    natural = {
        "White": (2, 3, 4, 2, 2.5, 4, 1.5, 1, 1, 0.5, 0.5, 0.4, 0.5),
        "Asian": (6, 4, 2, 0.5, 0.3, 0.8, 0.8, 1, 1, 0.5, 0.5, 0.4, 0.5),
        "Black": (6, 3, 1, 0.8, 0.3, 1.0, 0.6, 1, 1, 0.5, 0.5, 0.4, 0.5),
    }[ethnicity]
    weights = [float(w) for w in natural]
    weights[7] *= {"60+": 8.0, "46-60": 2.0}.get(age, 0.2)
    weights[8] *= {"60+": 8.0, "46-60": 1.0}.get(age, 0.2)
    name = _pick(rng, tuple(HAIR), tuple(weights))
    return Hair(
        style=style,
        colour=jittered(HAIR[name], rng, 0.04),
        colour_name=name,
        volume=_uniform(rng, 0.05, 0.16),
        hairline=_uniform(rng, -0.08, 0.10),
        parting=_uniform(rng, 0.10, 0.28) * (1 if rng.random() < 0.5 else -1),
    )


def _sample_clothing(rng: np.random.Generator) -> Clothing:
    names = tuple(CLOTHES)
    first = _pick(rng, names)
    second = _pick(rng, tuple(n for n in names if n != first))
    return Clothing(
        pattern=_pick(rng, PATTERNS, (4, 2, 1.5, 1.5, 1.5, 2, 2, 2)),
        colour=jittered(CLOTHES[first], rng, 0.03),
        colour_name=first,
        accent=jittered(CLOTHES[second], rng, 0.03),
        accent_name=second,
        shoulders=_uniform(rng, 0.88, 1.15),
    )


def _sample_voice(rng: np.random.Generator, gender: str, age: str) -> Voice:
    low, high, tract = (88.0, 150.0, 1.0) if gender == "Male" else (165.0, 250.0, 1.16)
    if age == "0-19":
        low, high, tract = low * 1.15, high * 1.15, tract * 1.06
    return Voice(
        f0=_uniform(rng, low, high),
        formant_scale=tract * _uniform(rng, 0.92, 1.08),
        rate=_uniform(rng, 3.2, 5.0),
        breath=_uniform(rng, 0.0, 0.5),
    )


def _sample_face_parts(
    rng: np.random.Generator, gender: str, ethnicity: str, skin: Colour, hair: Hair
) -> tuple[Eyes, Brows, Nose, Mouth, Beard, Glasses]:
    eye_weights = {"White": (2, 3, 2, 2, 4, 2), "Asian": (6, 4, 1, 0.3, 0.3, 0.3), "Black": (6, 4, 1, 0.4, 0.4, 0.3)}
    eye_colour = EYES[_pick(rng, tuple(EYES), eye_weights[ethnicity])]
    eyes = Eyes(
        colour=jittered(eye_colour, rng, 0.03),
        size=_uniform(rng, 0.84, 1.22),
        roundness=_uniform(rng, 0.66, 1.0) if ethnicity == "Asian" else _uniform(rng, 0.74, 1.1),
        spacing=_uniform(rng, 0.30, 0.39),
        tilt=_uniform(rng, -0.16, 0.16),
    )
    brow_colour = mixed(hair.colour, (0.10, 0.07, 0.05), _uniform(rng, 0.25, 0.6))
    brows = Brows(
        colour=brow_colour,
        thickness=_uniform(rng, 0.028, 0.085),
        arch=_uniform(rng, 0.2, 1.8),
        tilt=_uniform(rng, -0.22, 0.22),
    )
    nose = Nose(width=_uniform(rng, 0.75, 1.35), length=_uniform(rng, 0.82, 1.18))
    natural_lip = mixed(skin, (0.66, 0.24, 0.24), _uniform(rng, 0.35, 0.6))
    lipstick = ((0.72, 0.08, 0.16), (0.84, 0.30, 0.44), (0.50, 0.10, 0.22))[int(rng.integers(3))]
    made_up = gender == "Female" and rng.random() < 0.5
    mouth = Mouth(
        colour=mixed(natural_lip, lipstick, 0.8 if made_up else 0.0),
        width=_uniform(rng, 0.24, 0.35),
        fullness=_uniform(rng, 0.040, 0.085),
        smile=_uniform(rng, -0.25, 0.65),
    )
    beard_weights = (5, 2, 2, 2, 1.2, 4) if gender == "Male" else (1, 0, 0, 0, 0, 0)
    beard_colour = mixed(hair.colour, (0.22, 0.14, 0.09), 0.15)
    beard = Beard(style=_pick(rng, BEARD_STYLES, beard_weights), colour=beard_colour)
    frame = FRAMES[_pick(rng, tuple(FRAMES), (5, 2, 2, 1.5, 1.5, 1))]
    glasses = Glasses(style=_pick(rng, GLASSES_STYLES, (6, 1.4, 1.4, 1.2, 0.8)), colour=frame)
    return eyes, brows, nose, mouth, beard, glasses


def sample_person(seed: int) -> Person:
    """The person of this seed; the same seed is the same person in every scene and clip."""
    rng = np.random.default_rng([seed, 0x7065])
    gender = _pick(rng, ("Male", "Female"))
    ethnicity = _pick(rng, ("White", "Asian", "Black"), (4, 3, 3))
    age = _pick(rng, AGE_GROUPS, (1, 4, 4, 3, 2))
    tones = SKIN[ethnicity]
    skin = jittered(mixed(tones[int(rng.integers(3))], tones[int(rng.integers(3))], 0.3), rng, 0.03)
    face = FaceShape(
        width=_uniform(rng, 0.86, 1.14),
        height=_uniform(rng, 0.93, 1.07),
        jaw=_uniform(rng, 0.0, 0.75),
        jaw_width=_uniform(rng, 0.78, 1.06),
        ear_size=_uniform(rng, 0.8, 1.3),
    )
    hair = _sample_hair(rng, gender, ethnicity, age)
    eyes, brows, nose, mouth, beard, glasses = _sample_face_parts(rng, gender, ethnicity, skin, hair)
    return Person(
        seed=seed,
        gender=gender,
        age_group=age,
        ethnicity=ethnicity,
        language=_pick(rng, LANGUAGES[ethnicity]),
        skin=skin,
        face=face,
        hair=hair,
        eyes=eyes,
        brows=brows,
        nose=nose,
        mouth=mouth,
        beard=beard,
        glasses=glasses,
        clothing=_sample_clothing(rng),
        voice=_sample_voice(rng, gender, age),
    )


def dressed(person: Person, seed: int) -> Person:
    """The same person in the clothes of another day; the build of the shoulders stays."""
    other = _sample_clothing(np.random.default_rng([seed, 0x636C]))
    return replace(person, clothing=replace(other, shoulders=person.clothing.shoulders))
