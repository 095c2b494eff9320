"""Which scenes there are: every sampler is a pure function of its arguments."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from backgrounds import PLAIN
from hands import GESTURES
from palette import COLOURS, HAIR, SKIN
from people import EXPRESSIONS, HAIR_STYLES
from scene import Hand, Person, Place, Scene, Thing
from styles import STYLES
from subjects import SUBJECTS, Subject
from things import CLASSES

T = TypeVar("T")
_PURPOSES = ("base", "class", "subject", "style", "people", "face", "hand")
KNOWN_STYLES = tuple(name for name, style in STYLES.items() if style.base_known)
CLOTHES = tuple(COLOURS)
FIGURE_GESTURES = ("open", "open", "fist", "point", "peace", "three", "thumbs up")
FIGURES = {1: (0.48, (0.5,)), 2: (0.44, (0.26, 0.74)), 3: (0.33, (0.185, 0.5, 0.815))}  # how many: size and places
GROUND = 0.93  # where feet stand, in picture units
SUBJECT_SIZE = (0.4, 0.45)
SIZES = {"small": (0.29, 0.33), "": (0.37, 0.43), "big": (0.44, 0.46)}


def _rng(purpose: str, *seeds: int) -> np.random.Generator:
    return np.random.default_rng([_PURPOSES.index(purpose), *seeds])


def _pick(rng: np.random.Generator, items: Sequence[T]) -> T:
    return items[rng.integers(len(items))]


def _scene_seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def _background(rng: np.random.Generator, kind: str) -> str:
    if rng.random() < 0.45:
        return "plain " + _pick(rng, tuple(PLAIN))
    return _pick(rng, CLASSES[kind].backgrounds)


def _thing_scene(rng: np.random.Generator, kind: str, style: str, subject: str = "") -> Scene:
    size = "" if subject else _pick(rng, ("small", "", "", "", "big"))
    scale = rng.uniform(*(SUBJECT_SIZE if subject else SIZES[size]))
    free = max(0.0, 0.47 - scale)  # room to move sideways without leaving the picture
    y = 0.49 + rng.uniform(-0.6, 0.6) * free if CLASSES[kind].floats else GROUND - scale - rng.uniform(0, 0.03)
    place = Place(
        float(0.5 + rng.uniform(-0.9, 0.9) * free),
        float(y),
        float(scale),
        float(rng.uniform(-5, 5)),
        bool(rng.random() < 0.5),
    )
    colour = "" if subject else _pick(rng, CLASSES[kind].colours)
    thing = Thing(kind, colour, place, float(rng.random()), size, subject)
    return Scene(_background(rng, kind), style, _scene_seed(rng), thing=thing)


def class_scene(name: str, seed: int, style: str = "plain") -> Scene:
    return _thing_scene(_rng("class", list(CLASSES).index(name), seed), name, style)


def subject_scene(subject: str | Subject, index_or_seed: int, style: str = "plain") -> Scene:
    """A picture of a subject; indexes 0 to 4 are its five reference pictures. The same index in another style is the
    same scene."""
    subject = SUBJECTS[subject] if isinstance(subject, str) else subject
    rng = _rng("subject", list(SUBJECTS).index(subject.name), index_or_seed)
    return _thing_scene(rng, subject.kind, style, subject.name)


def style_scene(style: str, seed: int) -> Scene:
    """A picture of some class in this style. The same seed in another style is the same scene."""
    rng = _rng("style", seed)
    return _thing_scene(rng, _pick(rng, tuple(CLASSES)), style)


def _person(rng: np.random.Generator, place: Place, arms: tuple[str, str]) -> Person:
    """A person with tone, sex and hair drawn evenly and independently."""
    sex = _pick(rng, ("woman", "man"))
    hair = _pick(rng, HAIR_STYLES[:-1] if sex == "woman" else HAIR_STYLES)
    return Person(
        sex=sex,
        tone=int(rng.integers(len(SKIN))),
        hair=hair,
        hair_colour=_pick(rng, tuple(HAIR)),
        expression=_pick(rng, tuple(EXPRESSIONS)),
        top=_pick(rng, CLOTHES),
        bottom=_pick(rng, CLOTHES),
        gestures=tuple(_pick(rng, FIGURE_GESTURES) if arm != "down" else "open" for arm in arms),
        arms=arms,
        place=place,
        beard=bool(sex == "man" and hair != "long" and rng.random() < 0.35),
    )


def person_scene(seed: int, people: int | None = None, style: str = "plain") -> Scene:
    """One to three whole figures side by side; without `people` the seed chooses how many."""
    rng = _rng("people", seed, people or 0)
    count = people or int(rng.integers(1, 4))
    scale, xs = FIGURES[count]
    arms = [[_pick(rng, ("down", "raised") + (("up", "out") if count == 1 else ())) for _ in range(2)] for _ in xs]
    for left, right in zip(arms, arms[1:]):  # raised hands of neighbours would cover each other
        if left[1] == right[0] == "raised":
            right[0] = "down"
    size = scale * rng.uniform(0.96, 1.0)
    figures = tuple(
        _person(
            rng,
            Place(float(x + rng.uniform(-0.01, 0.01)), float(0.97 - size + 0.02 * rng.random()), float(size)),
            tuple(pair),
        )
        for x, pair in zip(xs, arms)
    )
    return Scene(_people_background(rng), style, _scene_seed(rng), people=figures)


def _people_background(rng: np.random.Generator) -> str:
    return (
        "plain " + _pick(rng, tuple(PLAIN))
        if rng.random() < 0.5
        else _pick(rng, ("grass", "beach", "room", "street", "snow"))
    )


def face_scene(seed: int, style: str = "plain") -> Scene:
    rng = _rng("face", seed)
    place = Place(
        float(0.5 + rng.uniform(-0.04, 0.04)),
        float(0.49 + rng.uniform(-0.03, 0.03)),
        float(rng.uniform(0.4, 0.47)),
        float(rng.uniform(-7, 7)),
    )
    return Scene(_people_background(rng), style, _scene_seed(rng), face=_person(rng, place, ("down", "down")))


def hand_scene(seed: int, style: str = "plain") -> Scene:
    rng = _rng("hand", seed)
    scale = rng.uniform(0.37, 0.42)
    place = Place(
        float(0.5 + rng.uniform(-0.04, 0.04)),
        float(0.51 + rng.uniform(-0.02, 0.02)),
        float(scale),
        float(rng.uniform(-12, 12)),
        bool(rng.random() < 0.5),
    )
    hand = Hand(int(rng.integers(len(SKIN))), _pick(rng, tuple(GESTURES)), _pick(rng, CLOTHES), place)
    return Scene(_people_background(rng), style, _scene_seed(rng), hand=hand)


def sample_base(seed: int) -> Scene:
    """A picture of the base world: no subject, and no style but plain and the known ones. 65 in 100 show a class, 35
    people."""
    rng = _rng("base", seed)
    style = _pick(rng, KNOWN_STYLES) if rng.random() < 0.36 else "plain"
    kind, inner = rng.random(), int(rng.integers(2**31))
    if kind < 0.65:
        return class_scene(_pick(rng, tuple(CLASSES)), inner, style)
    if kind < 0.77:
        return person_scene(inner, style=style)
    return face_scene(inner, style) if kind < 0.89 else hand_scene(inner, style)
