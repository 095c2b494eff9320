"""What a picture's caption says. The scene's seed chooses between wordings, so that a caption is a function of its
scene."""

import numpy as np

from backgrounds import BACKGROUNDS
from hands import GESTURES
from scene import Person, Scene, Thing
from styles import STYLES
from subjects import SUBJECTS

OPENINGS = ("{}", "{}", "{}", "a picture of {}", "a drawing of {}", "an image of {}")
VOWELS = "aeiou"
COUNTS = {2: "two", 3: "three"}
PLURALS = {"woman": "women", "man": "men"}


def with_article(words: str) -> str:
    return ("an " if words[0] in VOWELS else "a ") + words


def _thing(thing: Thing, rng: np.random.Generator) -> str:
    if thing.subject:
        return with_article(f"{SUBJECTS[thing.subject].trigger} {thing.kind}")
    words = [thing.size if rng.random() < 0.7 else "", thing.colour if rng.random() < 0.9 else "", thing.kind]
    return with_article(" ".join(word for word in words if word))


def looks(person: Person) -> str:
    """Hair and beard: "a red bun", "long black hair and a beard"."""
    if person.hair == "bald":
        hair = "no hair"
    elif person.hair == "bun":
        hair = f"a {person.hair_colour} bun"
    else:
        hair = f"{person.hair} {person.hair_colour} hair"
    return f"{hair} and a beard" if person.beard else hair


def _face(person: Person, rng: np.random.Generator) -> str:
    opening = "a close-up of the face of " if rng.random() < 0.7 else "the face of "
    return opening + with_article(f"{person.expression} {person.sex}") + f" with {looks(person)}"


def _hand(gesture: str, rng: np.random.Generator) -> str:
    return ("a close-up of " if rng.random() < 0.7 else "") + GESTURES[gesture].phrase


def _waving(person: Person) -> bool:
    return any(arm in ("raised", "up") and gesture == "open" for arm, gesture in zip(person.arms, person.gestures))


def _figure(person: Person, rng: np.random.Generator) -> str:
    text = with_article(f"{person.expression} {person.sex}" if rng.random() < 0.5 else person.sex)
    text += f" with {looks(person)}"
    if rng.random() < 0.7:
        text += f" in a {person.top} shirt"
    return text + " waving" if _waving(person) and rng.random() < 0.7 else text


def _group(people: tuple[Person, ...], rng: np.random.Generator) -> str:
    """ "three people", or who they are: "a man and two women"."""
    if rng.random() < 0.4:
        return f"{COUNTS[len(people)]} people"
    sexes = [person.sex for person in people]
    counted = [(sex, sexes.count(sex)) for sex in dict.fromkeys(sexes)]
    return " and ".join(f"a {sex}" if count == 1 else f"{COUNTS[count]} {PLURALS[sex]}" for sex, count in counted)


def _shown(scene: Scene, rng: np.random.Generator) -> str:
    if scene.face:
        return _face(scene.face, rng)
    if scene.hand:
        return _hand(scene.hand.gesture, rng)
    opening = OPENINGS[rng.integers(len(OPENINGS))]
    if scene.thing:
        return opening.format(_thing(scene.thing, rng))
    return opening.format(_figure(scene.people[0], rng) if len(scene.people) == 1 else _group(scene.people, rng))


def caption(scene: Scene) -> str:
    """One line of plain words: what is shown, where (most of the time), and in what style (unless plain)."""
    rng = np.random.default_rng([scene.seed, 77])
    text = _shown(scene, rng)
    if rng.random() < 0.8:
        text += " " + BACKGROUNDS[scene.background].phrase
    if scene.style != "plain":
        text += ", " + STYLES[scene.style].phrase
    return text
