"""What a picture shows, as plain frozen data: everything that drawing, captions and truth need, and nothing random.

A scene shows exactly one of: a thing, one to three people, a face close-up or a hand close-up. `Scene.from_json` is
strict: an unknown or missing field, or a wrong type, is an error that names it.
"""

import dataclasses
import json
import types
import typing
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where something stands: the centre in parts of the picture, half its extent, its tilt and whether it is
    mirrored."""

    x: float
    y: float
    scale: float
    tilt: float = 0.0  # degrees, clockwise
    flip: bool = False


@dataclass(frozen=True)
class Thing:
    kind: str  # a name in CLASSES
    colour: str  # a name in palette.COLOURS; a subject brings its own and says ""
    place: Place
    pose: float = 0.5  # 0..1: how far legs, tails, wings, sails are moved
    size: str = ""  # "small", "big" or nothing; the word for the caption
    subject: str = ""  # a name in SUBJECTS, or nothing


@dataclass(frozen=True)
class Hand:
    tone: int  # index into palette.SKIN
    gesture: str  # a name in hands.GESTURES
    sleeve: str  # colour name
    place: Place


@dataclass(frozen=True)
class Person:
    sex: str  # "woman" or "man"
    tone: int
    hair: str  # a name in people.HAIR_STYLES
    hair_colour: str
    expression: str  # a name in people.EXPRESSIONS
    top: str  # colour of the clothes
    bottom: str
    gestures: tuple[str, str]  # what the hands at the picture's left and right show
    arms: tuple[str, str]  # names in people.ARMS
    place: Place
    beard: bool = False


@dataclass(frozen=True)
class Scene:
    background: str  # a name in backgrounds.BACKGROUNDS
    style: str = "plain"  # a name in STYLES, or "plain"
    seed: int = 0  # textures, small shifts of colour and the caption's wording
    thing: Thing | None = None
    people: tuple[Person, ...] = ()
    face: Person | None = None
    hand: Hand | None = None

    def __post_init__(self) -> None:
        shown = [self.thing is not None, bool(self.people), self.face is not None, self.hand is not None]
        if sum(shown) != 1:
            raise ValueError("a scene shows exactly one of thing, people, face, hand")

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "Scene":
        return _read(Scene, json.loads(text), "scene")


def _read(kind: typing.Any, value: typing.Any, path: str) -> typing.Any:
    """`value` from JSON as a `kind`, checked down to the leaves."""
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError(f"{path}: expected an object")
        hints = typing.get_type_hints(kind)
        for name in value:
            if name not in hints:
                raise ValueError(f"{path}.{name}: unknown field")
        for field in dataclasses.fields(kind):
            if field.name not in value and field.default is dataclasses.MISSING:
                raise ValueError(f"{path}.{field.name}: missing")
        return kind(**{name: _read(hints[name], item, f"{path}.{name}") for name, item in value.items()})
    if isinstance(kind, types.UnionType):  # only `X | None` is used
        return None if value is None else _read(typing.get_args(kind)[0], value, path)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{path}: expected a list")
        items = typing.get_args(kind)
        if items[-1] is not Ellipsis and len(items) != len(value):
            raise ValueError(f"{path}: expected {len(items)} entries")
        return tuple(_read(items[0], item, f"{path}[{index}]") for index, item in enumerate(value))
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{path}: expected {kind.__name__}")
    return value
