"""What a picture's caption says. The scene's seed chooses between wordings, so that a caption is a function of its scene."""

import numpy as np

from backgrounds import BACKGROUNDS
from scene import Scene, Thing
from styles import STYLES
from subjects import SUBJECTS

# An opening and whether it is usual; "{}" is what the picture shows.
OPENINGS = ("{}", "{}", "{}", "a picture of {}", "a drawing of {}", "an image of {}")
VOWELS = "aeiou"


def with_article(words: str) -> str:
    return ("an " if words[0] in VOWELS else "a ") + words


def _thing(thing: Thing, rng: np.random.Generator) -> str:
    kind = thing.kind.replace("_", " ")
    if thing.subject:
        return with_article(f"{SUBJECTS[thing.subject].trigger} {kind}")
    words = [thing.size if rng.random() < 0.7 else "", thing.colour if rng.random() < 0.9 else "", kind]
    return with_article(" ".join(word for word in words if word))


def caption(scene: Scene) -> str:
    """One line of plain words: what is shown, where (most of the time), and in what style (unless plain)."""
    rng = np.random.default_rng([scene.seed, 77])
    text = OPENINGS[rng.integers(len(OPENINGS))].format(_thing(scene.thing, rng))
    if rng.random() < 0.8:
        text += " " + BACKGROUNDS[scene.background].phrase
    if scene.style != "plain":
        text += ", " + STYLES[scene.style].phrase
    return text
