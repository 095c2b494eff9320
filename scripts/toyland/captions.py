"""What a picture's caption says. The scene's seed chooses between wordings, so that a caption is a function of its scene."""

import numpy as np

from backgrounds import BACKGROUNDS
from hands import GESTURES
from scene import Person, Scene, Thing
from styles import STYLES
from subjects import SUBJECTS

# An opening and whether it is usual; "{}" is what the picture shows.
OPENINGS = ("{}", "{}", "{}", "a picture of {}", "a drawing of {}", "an image of {}")
VOWELS = "aeiou"
COUNTS = {2: "two", 3: "three"}


def with_article(words: str) -> str:
    return ("an " if words[0] in VOWELS else "a ") + words


def _thing(thing: Thing, rng: np.random.Generator) -> str:
    kind = thing.kind.replace("_", " ")
    if thing.subject:
        return with_article(f"{SUBJECTS[thing.subject].trigger} {kind}")
    words = [thing.size if rng.random() < 0.7 else "", thing.colour if rng.random() < 0.9 else "", kind]
    return with_article(" ".join(word for word in words if word))


def _hair(person: Person) -> str:
    if person.hair == "bald":
        return "no hair"
    return f"a {person.hair_colour} bun" if person.hair == "bun" else f"{person.hair} {person.hair_colour} hair"


def _looks(person: Person) -> str:
    return f"{_hair(person)} and a beard" if person.beard else _hair(person)


def _face(person: Person) -> str:
    return f"a close-up of the face of {with_article(f'{person.expression} {person.sex}')} with {_looks(person)}"


def _figures(people: tuple[Person, ...], rng: np.random.Generator) -> str:
    if len(people) == 1:
        person = people[0]
        text = with_article(f"{person.expression} {person.sex}" if rng.random() < 0.5 else person.sex)
        text += f" with {_looks(person)}"
        return text + f" in a {person.top} shirt" if rng.random() < 0.7 else text
    if rng.random() < 0.4:
        return f"{COUNTS[len(people)]} people"
    return _listed([with_article(person.sex) for person in people])


def _listed(items: list[str]) -> str:
    return ", ".join(items[:-1]) + " and " + items[-1]


def _shown(scene: Scene, rng: np.random.Generator) -> str:
    if scene.thing:
        return _thing(scene.thing, rng)
    if scene.face:
        return _face(scene.face)
    if scene.hand:
        return "a close-up of " + GESTURES[scene.hand.gesture].phrase
    return _figures(scene.people, rng)


def caption(scene: Scene) -> str:
    """One line of plain words: what is shown, where (most of the time), and in what style (unless plain)."""
    rng = np.random.default_rng([scene.seed, 77])
    text = OPENINGS[rng.integers(len(OPENINGS))].format(_shown(scene, rng))
    if rng.random() < 0.8:
        text += " " + BACKGROUNDS[scene.background].phrase
    if scene.style != "plain":
        text += ", " + STYLES[scene.style].phrase
    return text
