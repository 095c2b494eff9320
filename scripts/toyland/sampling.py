"""Which scenes there are: every sampler is a pure function of its arguments."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from backgrounds import PLAIN
from scene import Place, Scene, Thing
from styles import STYLES
from subjects import SUBJECTS, Subject
from things import CLASSES

T = TypeVar("T")
_PURPOSES = ("base", "class", "subject", "style", "people", "face", "hand")
KNOWN_STYLES = tuple(name for name, style in STYLES.items() if style.base_known)
GROUND = 0.93  # where feet stand, in picture units
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
    scale = rng.uniform(*SIZES[size])
    free = max(0.0, 0.47 - scale)  # room to move sideways without leaving the picture
    y = 0.49 + rng.uniform(-0.6, 0.6) * free if CLASSES[kind].floats else GROUND - scale - rng.uniform(0, 0.03)
    place = Place(float(0.5 + rng.uniform(-0.9, 0.9) * free), float(y), float(scale), float(rng.uniform(-5, 5)), bool(rng.random() < 0.5))
    colour = "" if subject else _pick(rng, CLASSES[kind].colours)
    thing = Thing(kind, colour, place, float(rng.random()), size, subject)
    return Scene(_background(rng, kind), style, _scene_seed(rng), thing=thing)


def class_scene(name: str, seed: int, style: str = "plain") -> Scene:
    return _thing_scene(_rng("class", list(CLASSES).index(name), seed), name, style)


def subject_scene(subject: str | Subject, index_or_seed: int, style: str = "plain") -> Scene:
    """A picture of a subject; indexes 0 to 4 are its five reference pictures. The same index in another style is the same scene."""
    subject = SUBJECTS[subject] if isinstance(subject, str) else subject
    rng = _rng("subject", list(SUBJECTS).index(subject.name), index_or_seed)
    return _thing_scene(rng, subject.kind, style, subject.name)


def style_scene(style: str, seed: int) -> Scene:
    """A picture of some class in this style. The same seed in another style is the same scene."""
    rng = _rng("style", seed)
    return _thing_scene(rng, _pick(rng, tuple(CLASSES)), style)


def sample_base(seed: int) -> Scene:
    """A picture of the base world: no subject, and no style but plain and the known ones."""
    rng = _rng("base", seed)
    style = _pick(rng, KNOWN_STYLES) if rng.random() < 0.36 else "plain"
    return _thing_scene(rng, _pick(rng, tuple(CLASSES)), style)
