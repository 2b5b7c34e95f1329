"""Descriptions in the manner of TalkVid: the room, the light, the framing, the clothes and what the head does.

They never name traits of the face (hair, skin, eyes, beard, glasses): identity has to come from the reference video.
"""

import numpy as np

from tavr_synthetic.motion import Motion
from tavr_synthetic.people import Clothing, Person
from tavr_synthetic.scenes import Light, Scene

ROOMS = {
    "gradient": "a plain {0} wall with a soft glow",
    "stripes": "{0} wallpaper with {1} stripes",
    "bookshelf": "a {0} bookshelf full of books",
    "window": "a {0} wall with a window",
    "bricks": "a wall of {0} bricks",
    "dots": "a {0} wall with {1} dots",
    "plants": "green leaves in front of a {0} wall",
    "abstract": "a blurred pattern of {0}, {1} and {2}",
    "curtain": "a {0} curtain",
    "panels": "a wall of wooden panels",
    "pictures": "a {0} wall with framed pictures",
    "bokeh": "a dark room with {0} and {1} lights out of focus",
    "tiles": "a wall of {0} tiles with some {1} and {2} ones",
    "skyline": "a city skyline {3}",
    "sunset": "hills under a sunset sky",
}
CLOTHES = {
    "plain": "a {0} sweater",
    "stripes": "a {0} shirt with {1} stripes",
    "pinstripes": "a {0} shirt with thin {1} stripes",
    "checks": "a {0} shirt with {1} checks",
    "dots": "a {0} top with {1} dots",
    "jacket": "a {0} jacket over a {1} top",
    "suit": "a {0} suit with a white shirt and a {1} tie",
    "hoodie": "a {0} hoodie",
}
OPENINGS = (
    "The video shows a person speaking to the camera",
    "A person is talking in front of the camera",
    "The image sequence shows a person who speaks in a recorded conversation",
    "A person gives a talk, filmed from the chest up",
)
STILL_TURN = 0.09
"""Radians of yaw under which a head counts as facing the camera."""


def _with_article(phrase: str) -> str:
    """'a orange ...' read aloud."""
    return " ".join(
        "an" if word == "a" and following[:1] in "aeiou" else word
        for word, following in zip(phrase.split(" "), [*phrase.split(" ")[1:], ""], strict=True)
    )


def describe_room(scene: Scene) -> str:
    """The background in a few words."""
    return _with_article(ROOMS[scene.kind].format(*scene.colour_names, "at night" if scene.night else "by day"))


def describe_light(light: Light) -> str:
    """Temperature, strength and side of the light."""
    strength = "dim" if light.gain < 0.88 else "bright" if light.gain > 0.98 else "even"
    across = light.direction[0]
    side = "from the left" if across < -0.25 else "from the right" if across > 0.25 else "from the front"
    return f"{strength} {light.name} light {side}"


def describe_clothing(clothing: Clothing) -> str:
    """What the person wears."""
    return _with_article(CLOTHES[clothing.pattern].format(clothing.colour_name, clothing.accent_name))


def describe_motion(motion: Motion) -> str:
    """Where the head faces and whether it turns, nods or keeps still."""
    start, end = float(motion.yaw[0]), float(motion.yaw[-1])
    if abs(end - start) > STILL_TURN:
        return f"The head turns slowly to the {'right' if end > start else 'left'}"
    middle = float(np.mean(motion.yaw))
    if abs(middle) < STILL_TURN:
        return "The head faces the camera and moves only a little"
    return f"The head is turned slightly to the {'right' if middle > 0 else 'left'}"


def describe(person: Person, scene: Scene, motion: Motion, rng: np.random.Generator) -> str:
    """A paragraph about the clip; `rng` chooses the wording only."""
    opening = OPENINGS[int(rng.integers(len(OPENINGS)))]
    blinks = ", and the eyes blink" if float(motion.eye_open.min()) < 0.2 else ""
    facts = [
        f"The background is {describe_room(scene)}.",
        f"The scene has {describe_light(scene.light)}.",
        f"{describe_motion(motion)} while the lips move{blinks}.",
    ]
    order = rng.permutation(len(facts))
    wearing = describe_clothing(person.clothing)
    return " ".join([f"{opening}, wearing {wearing}.", *(facts[int(i)] for i in order), "The camera does not move."])
