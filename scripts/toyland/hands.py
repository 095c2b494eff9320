"""Hands: a palm, four fingers and a thumb, each extended or folded. All five are always drawn, so a hand never has
another number."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import skia

from palette import RGB, SKIN, dark, light
from scene import Hand
from sketch import Pen, Sketch, smooth_path, taper_path

DIGITS = ("thumb", "index", "middle", "ring", "little")


@dataclass(frozen=True)
class Gesture:
    extended: tuple[str, ...]  # names in DIGITS
    phrase: str  # "an open hand"
    turned: bool = False  # lies on its side, the thumb upward
    spread: float = 1.0  # how far the fingers fan out
    close_up: tuple[float, float, float] = (0.0, 0.0, 1.0)  # shift and enlargement that fill a picture with it


GESTURES: dict[str, Gesture] = {
    "fist": Gesture((), "a fist", close_up=(0.0, -0.42, 1.35)),
    "point": Gesture(("index",), "a hand pointing up with one finger"),
    "thumbs up": Gesture(("thumb",), "a thumbs up", turned=True, close_up=(-0.3, 0.22, 1.12)),
    "peace": Gesture(("index", "middle"), "a hand showing a peace sign with two fingers", spread=1.5),
    "horns": Gesture(("index", "little"), "a hand making horns with two fingers"),
    "l": Gesture(("thumb", "index"), "a hand showing a thumb and a finger"),
    "three": Gesture(("index", "middle", "ring"), "a hand showing three fingers", spread=1.3),
    "four": Gesture(("index", "middle", "ring", "little"), "a hand showing four fingers", spread=1.1),
    "open": Gesture(DIGITS, "an open hand with five fingers", spread=1.1),
}

Finger = tuple[float, float, float, float, float]
# Of each finger: where its knuckle is, its length, its radius and by how many degrees it leans when the hand is open.
FINGERS: dict[str, Finger] = {
    "little": (-0.36, -0.02, 0.56, 0.1, -24),
    "ring": (-0.135, -0.12, 0.76, 0.12, -8),
    "middle": (0.1, -0.14, 0.84, 0.125, 4),
    "index": (0.33, -0.06, 0.74, 0.12, 17),
}
_PALM = [
    (-0.46, 0.0), (-0.2, -0.13), (0.2, -0.14), (0.44, -0.02), (0.46, 0.34), (0.28, 0.74), (-0.28, 0.74),
    (-0.46, 0.36),
]


def draw_hand(
    pen: Pen, skin: RGB, gesture: Gesture, fingers: Mapping[str, Finger] = FINGERS, thumb: bool = True
) -> skia.Rect:
    """Draws a hand in a frame with its wrist at (0, 0.8) and its middle finger's tip near (0, -1); returns its bounds
    in the picture. Other `fingers`, or no `thumb`, are for pictures of broken hands (human_faults.py)."""
    first = len(pen.sketch.shapes)
    fold, crease = light(skin, 0.1), dark(skin, 0.4)
    whole = smooth_path(_PALM, closed=True)  # palm and extended digits are one outline
    for name, (x, y, length, radius, lean) in fingers.items():
        if name in gesture.extended:
            angle = math.radians(lean * gesture.spread)
            tip = (x + length * math.sin(angle), y - length * math.cos(angle))
            whole = skia.Op(whole, taper_path((x, y + 0.15), tip, radius * 1.06, radius * 0.88), skia.kUnion_PathOp)
    if "thumb" in gesture.extended:
        tip = (0.92, 0.16) if gesture.turned else (0.86, -0.06)
        whole = skia.Op(whole, taper_path((0.26, 0.46), tip, 0.2, 0.115), skia.kUnion_PathOp)
    pen.path(whole, skin)
    for name, (x, y, _, radius, _) in fingers.items():
        if name not in gesture.extended:
            pen.limb((x, y), (x * 0.9, y + 0.36), radius * 1.05, radius, fold)
    if "thumb" in gesture.extended:
        pen.stroke([(0.2, 0.24), (0.08, 0.42), (0.1, 0.66)], crease, 0.035)
        pen.stroke([(-0.34, 0.22), (-0.1, 0.16), (0.24, 0.18)], crease, 0.035)
    elif thumb:
        pen.limb((0.34, 0.5), (-0.02, 0.32), 0.18, 0.115, fold)
    bounds = skia.Rect()
    for shape in pen.sketch.shapes[first:]:
        bounds.join(shape.path.computeTightBounds())
    return bounds


HandDrawer = Callable[[Pen, RGB, Gesture], skia.Rect]


def draw_close_up(sketch: Sketch, hand: Hand, sleeve: RGB, draw: HandDrawer = draw_hand) -> None:
    """One hand that fills the picture, with the end of its sleeve."""
    gesture, place = GESTURES[hand.gesture], hand.place
    pen = sketch.pen(place.x, place.y, place.scale, place.tilt, place.flip)
    pen = pen.inner(*gesture.close_up, tilt=-90 if gesture.turned else 0)
    skin = SKIN[hand.tone]
    pen.limb((0, 0.6), (0, 1.6), 0.3, 0.36, skin)
    pen.rect(-0.46, 1.02, 0.46, 3.0, sleeve, 0.08)
    pen.rect(-0.52, 0.9, 0.52, 1.16, light(sleeve, 0.3), 0.08)
    sketch.hands.append((draw(pen, skin, gesture), hand.gesture))
