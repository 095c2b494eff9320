"""People: heads with hair and expressions, and whole figures with arms and hands."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hands import GESTURES, HandDrawer, draw_hand
from palette import HAIR, INK, RGB, SKIN, WHITE, dark, mix, named
from scene import Person
from sketch import Pen, Point, Sketch

FACE_PARTS = {
    "left_eye": (-0.24, 0.04),
    "right_eye": (0.24, 0.04),
    "left_brow": (-0.25, -0.2),
    "right_brow": (0.25, -0.2),
    "mouth": (0.0, 0.42),
}


@dataclass(frozen=True)
class Expression:
    slant: float  # brows: how far their inner ends are lowered
    lift: float  # brows: how far they are raised
    curve: float  # of the closed mouth: corners up (+) or down (-)
    open: tuple[float, float] | None = None  # half width and half height of an open mouth
    eye: float = 1.0  # how wide the eyes are


EXPRESSIONS: dict[str, Expression] = {
    "calm": Expression(0.0, 0.0, 0.02),
    "smiling": Expression(0.0, 0.03, 0.16),
    "laughing": Expression(0.0, 0.05, 0.2, open=(0.26, 0.2), eye=0.85),
    "sad": Expression(-0.11, 0.03, -0.15),
    "angry": Expression(0.14, -0.04, -0.1, eye=0.85),
    "surprised": Expression(0.0, 0.11, 0.0, open=(0.11, 0.16), eye=1.25),
}

LIPS: dict[str, RGB] = {"woman": (196, 44, 64), "man": (120, 44, 40), "dark ground": (232, 116, 110)}

HAIR_STYLES = ("short", "long", "curly", "bun", "spiky", "bald")


def _hair_behind(pen: Pen, style: str, colour: RGB) -> None:
    if style == "long":
        pen.blob(
            [
                (0, -0.86), (0.6, -0.6), (0.76, 0.1), (0.78, 0.86), (0.4, 0.98), (-0.4, 0.98), (-0.78, 0.86),
                (-0.76, 0.1), (-0.6, -0.6),
            ],
            dark(colour, 0.15),
        )
    elif style == "curly":
        ring = [
            (0.66 * math.cos(t), -0.22 + 0.62 * math.sin(t))
            for t in (math.radians(20 + d) for d in range(130, 291, 32))
        ]
        for x, y in [(-0.66, 0.22), *ring, (0.66, 0.22), (0.7, -0.1), (0.5, -0.55)]:
            pen.oval(x, y, 0.27, fill=colour)
    elif style == "bun":
        pen.oval(0, -0.88, 0.26, fill=colour)


def _hair_front(pen: Pen, style: str, colour: RGB) -> None:
    if style == "short":
        pen.blob(
            [
                (-0.62, 0.02), (-0.64, -0.42), (-0.36, -0.76), (0.06, -0.84), (0.44, -0.72), (0.66, -0.36),
                (0.62, 0.02), (0.5, -0.24), (0.2, -0.36), (-0.2, -0.44), (-0.46, -0.3),
            ],
            colour,
        )
    elif style == "long":
        pen.blob(
            [
                (-0.64, 0.3), (-0.68, -0.34), (-0.36, -0.78), (0.06, -0.86), (0.46, -0.72), (0.7, -0.3), (0.66, 0.3),
                (0.54, -0.14), (0.3, -0.42), (0.0, -0.5), (-0.34, -0.3), (-0.54, -0.06),
            ],
            colour,
        )
    elif style == "curly":
        for x, y in ((-0.5, -0.46), (-0.24, -0.6), (0.06, -0.64), (0.34, -0.56), (0.54, -0.38)):
            pen.oval(x, y, 0.23, fill=colour)
    elif style == "bun":
        pen.blob(
            [
                (-0.62, -0.02), (-0.6, -0.46), (-0.3, -0.76), (0.3, -0.76), (0.6, -0.46), (0.62, -0.02),
                (0.42, -0.36), (0, -0.46), (-0.42, -0.36),
            ],
            colour,
        )
    elif style == "spiky":
        pen.poly(
            [
                (-0.62, 0.0), (-0.74, -0.44), (-0.52, -0.5), (-0.5, -0.86), (-0.2, -0.7), (0.0, -1.02), (0.2, -0.7),
                (0.5, -0.86), (0.54, -0.5), (0.74, -0.44), (0.62, 0.0), (0.44, -0.3), (0.2, -0.22), (0, -0.36),
                (-0.2, -0.22), (-0.44, -0.3),
            ],
            colour,
        )


def draw_head(
    pen: Pen, person: Person, parts: Sequence[tuple[str, Point]] = tuple(FACE_PARTS.items())
) -> None:
    """A head in a frame of about -1..1, and its face box and parts into the sketch. `parts`: what is drawn, and where;
    others than FACE_PARTS are for pictures of broken faces (human_faults.py)."""
    skin, hair = SKIN[person.tone], HAIR[person.hair_colour]
    mood = EXPRESSIONS[person.expression]
    man = person.sex == "man"
    jaw = 0.46 if man else 0.36
    _hair_behind(pen, person.hair, hair)
    for s in (-1, 1):
        pen.oval(s * 0.62, 0.08, 0.13, 0.17, fill=dark(skin, 0.08))
    pen.blob(
        [
            (0, -0.72), (0.44, -0.58), (0.62, -0.1), (0.56, 0.34), (jaw, 0.62), (0, 0.76), (-jaw, 0.62),
            (-0.56, 0.34), (-0.62, -0.1), (-0.44, -0.58),
        ],
        skin,
    )
    bounds = pen.sketch.shapes[-1].path.computeTightBounds()
    if not man:
        for s in (-1, 1):
            pen.oval(s * 0.4, 0.3, 0.12, 0.09, fill=mix(skin, (240, 90, 100), 0.35), line=None)
    if person.beard:
        pen.blob(
            [
                (-0.58, 0.16), (-0.36, 0.34), (0, 0.27), (0.36, 0.34), (0.58, 0.16), (0.52, 0.58), (0.28, 0.8),
                (0, 0.86), (-0.28, 0.8), (-0.52, 0.58),
            ],
            hair,
        )
    for name, at in parts:
        if name.endswith("eye"):
            _eye(pen, person, at)
        elif name.endswith("brow"):
            _brow(pen, person, -1 if name.startswith("left") else 1, at)
    pen.stroke([(0.02, 0.08), (0.07, 0.22), (-0.03, 0.25)], dark(skin, 0.35), 0.05)
    for name, at in parts:
        if name == "mouth":
            _mouth(pen, mood, LIPS["dark ground" if person.beard or person.tone > 3 else person.sex], at)
    _hair_front(pen, person.hair, hair)
    places = {}
    for name, (x, y) in FACE_PARTS.items():
        point = pen.matrix.mapXY(x, y - (mood.lift if name.endswith("brow") else 0))
        places[name] = (point.x(), point.y())
    pen.sketch.faces.append((bounds, person.expression, places))


def _eye(pen: Pen, person: Person, at: Point) -> None:
    (x, y), wide = at, EXPRESSIONS[person.expression].eye
    pen.oval(x, y, 0.15, 0.135 * wide, fill=WHITE, line=dark(SKIN[person.tone], 0.6))
    pen.oval(x, y + 0.01, 0.085, fill=(84, 52, 34) if person.tone > 2 else (60, 96, 120), line=None)
    pen.oval(x, y + 0.01, 0.045, fill=INK, line=None)
    if person.sex != "man":
        pen.stroke([(x - 0.16, y - 0.06), (x, y - 0.14 * wide), (x + 0.16, y - 0.06)], INK, 0.05)


def _brow(pen: Pen, person: Person, s: int, at: Point) -> None:
    mood = EXPRESSIONS[person.expression]
    x, y = at[0], at[1] - mood.lift
    pen.stroke(
        [(x + s * 0.15, y + 0.03 - mood.slant / 2), (x, y - 0.02), (x - s * 0.14, y + 0.02 + mood.slant)],
        dark(HAIR[person.hair_colour], 0.35) if person.hair != "bald" else dark(SKIN[person.tone], 0.6),
        0.1 if person.sex == "man" else 0.065,
    )


def _mouth(pen: Pen, mood: Expression, lips: RGB, at: Point) -> None:
    x, y = at
    if mood.open is None:
        pen.stroke(
            [(x - 0.22, y - mood.curve / 2), (x, y + mood.curve / 2), (x + 0.22, y - mood.curve / 2)], lips, 0.08
        )
        return
    w, h = mood.open
    if mood.curve:  # a laugh: flat above, teeth in it
        pen.blob(
            [
                (x - w, y - h * 0.5), (x, y - h * 0.4), (x + w, y - h * 0.5), (x + w * 0.6, y + h * 0.6),
                (x, y + h * 0.9), (x - w * 0.6, y + h * 0.6),
            ],
            (120, 20, 36),
            line=None,
        )
        pen.poly(
            [(x - w * 0.75, y - h * 0.38), (x + w * 0.75, y - h * 0.38), (x + w * 0.6, y), (x - w * 0.6, y)],
            WHITE,
            None,
        )
    else:
        pen.oval(x, y, w, h, fill=(120, 20, 36), line=lips)


@dataclass(frozen=True)
class Artist:
    """Draws the parts that can be broken: hands in their frame, heads in theirs."""

    hand: HandDrawer = draw_hand
    head: Callable[[Pen, Person], None] = draw_head


# Arms: elbow, wrist and the way the fingers point (degrees from straight up), for the arm at the picture's right.
ARMS: dict[str, tuple[Point, Point, float]] = {
    "down": ((0.34, 0.2), (0.37, 0.4), 180),
    "raised": ((0.42, 0.26), (0.44, 0.06), 0),
    "up": ((0.46, 0.06), (0.58, -0.26), 14),
    "out": ((0.48, 0.14), (0.66, 0.1), 80),
}
_HAND = 0.165  # half a hand's height in a figure's frame


def draw_figure(sketch: Sketch, person: Person, artist: Artist = Artist()) -> None:
    """A whole person, feet at y = 1, with a big head and big hands so that both can be read at 64x64."""
    place = person.place
    pen = sketch.pen(place.x, place.y, place.scale)
    top, bottom, skin = named(person.top), named(person.bottom), SKIN[person.tone]
    for s in (-1, 1):
        pen.limb((s * 0.12, 0.5), (s * 0.14, 0.9), 0.11, 0.1, skin if person.sex == "woman" else bottom)
        pen.oval(s * 0.18, 0.95, 0.15, 0.07, fill=INK)
    for s, gesture, arm in zip((-1, 1), person.gestures, person.arms):
        elbow, wrist, turn = ARMS[arm]
        side = pen.inner(0, 0, flip=s < 0)
        side.limb((0.22, 0.06), elbow, 0.1, 0.09, top)
        side.limb(elbow, wrist, 0.09, 0.08, top)
        angle = math.radians(turn)
        hand = side.inner(
            wrist[0] + math.sin(angle) * 0.7 * _HAND,
            wrist[1] - math.cos(angle) * 0.7 * _HAND,
            _HAND,
            turn,
            flip=turn < 90,
        )  # thumbs towards the head when raised, forward when hanging
        sketch.hands.append((artist.hand(hand, skin, GESTURES[gesture]), gesture))
    if person.sex == "woman":
        pen.poly([(-0.22, 0.36), (0.22, 0.36), (0.34, 0.74), (-0.34, 0.74)], bottom)
    else:
        pen.rect(-0.23, 0.36, 0.23, 0.6, bottom, 0.05)
    pen.limb((0, -0.2), (0, 0.0), 0.09, 0.09, dark(skin, 0.1))
    pen.blob([(-0.14, -0.04), (0.14, -0.04), (0.29, 0.06), (0.25, 0.44), (-0.25, 0.44), (-0.29, 0.06)], top)
    artist.head(pen.inner(0, -0.5, 0.46), person)


def draw_close_up(sketch: Sketch, person: Person, artist: Artist = Artist()) -> None:
    """A head that fills the picture, on its pen."""
    place = person.place
    pen = sketch.pen(place.x, place.y, place.scale, place.tilt, place.flip)
    if person.hair == "long":
        pen.rect(-0.74, 0.3, 0.74, 1.1, dark(HAIR[person.hair_colour], 0.15), 0.2)
    pen.limb((0, 0.5), (0, 1.1), 0.26, 0.3, dark(SKIN[person.tone], 0.12))
    pen.blob(
        [(-0.3, 0.94), (0.3, 0.94), (0.9, 1.1), (1.2, 1.6), (1.2, 2.4), (-1.2, 2.4), (-1.2, 1.6), (-0.9, 1.1)],
        named(person.top),
    )
    artist.head(pen, person)
