"""Hands and faces that are drawn whole or broken on purpose, and what exactly was drawn: lessons for the judges.

An `Observer` is the artist of one picture. It varies what is harmless (lengths, leans, places, within what a good
picture may show) and breaks a share of the hands and heads, each in one of the ways in which generated pictures fail.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import skia

from hands import DIGITS, FINGERS, GESTURES, Finger, Gesture, draw_hand
from palette import RGB
from people import EXPRESSIONS, FACE_PARTS, Artist, draw_head
from scene import Person
from sketch import Pen, Point

PARTS = tuple(FACE_PARTS)
IN_PLACE = 0.1  # how far a part may lie from its place, in head frames; eyes lie 0.48 from each other
MOVED = (0.22, 0.5)  # how far a displaced part lies
REAL_SETS = {frozenset(gesture.extended) for gesture in GESTURES.values()}


@dataclass(frozen=True)
class Frame:
    """The middle and the half height of a hand's or head's own frame, in parts of the picture."""

    x: float
    y: float
    scale: float


@dataclass(frozen=True)
class ShownHand:
    frame: Frame
    gesture: str  # a name in GESTURES; "" for a broken hand


@dataclass(frozen=True)
class ShownFace:
    frame: Frame
    places: tuple[Point, ...]  # where each of PARTS belongs, in parts of the picture
    in_place: tuple[bool, ...]  # whether each is there, once, where it belongs


def _frame(pen: Pen, x: float, y: float) -> Frame:
    point = pen.matrix.mapXY(x, y)
    return Frame(point.x(), point.y(), pen.scale)


class Observer:
    def __init__(self, rng: np.random.Generator, broken_hands: float = 0.0, broken_faces: float = 0.0) -> None:
        self.rng, self.broken_hands, self.broken_faces = rng, broken_hands, broken_faces
        self.hands: list[ShownHand] = []
        self.faces: list[ShownFace] = []
        self.artist = Artist(self._hand, self._head)

    def _hand(self, pen: Pen, skin: RGB, gesture: Gesture) -> skia.Rect:
        fingers, thumb, name = self._varied(), True, next(n for n, known in GESTURES.items() if known is gesture)
        if self.rng.random() < self.broken_hands:
            fingers, thumb, gesture = self._fault(fingers, gesture)
            name = ""
        self.hands.append(ShownHand(_frame(pen, 0.05, -0.1), name))
        return draw_hand(pen, skin, gesture, fingers, thumb)

    def _varied(self) -> dict[str, Finger]:
        draw = self.rng
        return {
            name: (x, y, length * draw.uniform(0.9, 1.08), radius * draw.uniform(0.9, 1.12), lean + draw.normal(0, 2.0))
            for name, (x, y, length, radius, lean) in FINGERS.items()
        }

    def _fault(self, fingers: dict[str, Finger], gesture: Gesture) -> tuple[dict[str, Finger], bool, Gesture]:
        """One fault that the gesture can have; at the least a second thumb, which every one can."""
        raised = [name for name in FINGERS if name in gesture.extended]
        for kind in self.rng.permutation(["missing", "extra", "merged", "stub", "unknown", "bent", "mitten", "thumbs"]):
            broken = self._try_fault(str(kind), dict(fingers), gesture, raised)
            if broken:
                return broken
        raise AssertionError("no fault")

    def _try_fault(
        self, kind: str, fingers: dict[str, Finger], gesture: Gesture, raised: list[str]
    ) -> tuple[dict[str, Finger], bool, Gesture] | None:
        draw = self.rng

        def posed(extended: set[str]) -> Gesture:
            return Gesture(tuple(extended), "", gesture.turned, gesture.spread)

        if kind == "missing" and raised:
            gone = str(draw.choice(raised))
            if frozenset(gesture.extended) - {gone} in REAL_SETS:
                return None  # looks like another gesture
            del fingers[gone]
            return fingers, True, gesture
        if kind == "extra" and len(raised) >= 4:  # one more between two others, which make room
            first = int(draw.integers(3))
            left, right = list(FINGERS)[first : first + 2]
            a, b = fingers[left], fingers[right]
            fingers[left] = (a[0] - 0.05, *a[1:4], a[4] - 6)
            fingers[right] = (b[0] + 0.05, *b[1:4], b[4] + 6)
            fingers["extra"] = tuple((u + v) / 2 for u, v in zip(a, b))
            return fingers, True, posed({*gesture.extended, "extra"})
        if kind == "merged" and len(raised) >= 2:  # two raised fingers become one thick one
            first = int(draw.integers(len(raised) - 1))
            a, b = (np.array(fingers[name]) for name in raised[first : first + 2])
            middle = (a + b) / 2
            for name, own in zip(raised[first : first + 2], (a, b)):
                near = middle + (own - middle) * draw.uniform(0.1, 0.35)
                near[3] *= draw.uniform(1.0, 1.25)
                fingers[name] = tuple(near)
            return fingers, True, gesture
        if kind == "stub" and raised:
            name = str(draw.choice(raised))
            x, y, length, radius, lean = fingers[name]
            fingers[name] = (x, y, length * draw.uniform(0.3, 0.5), radius * draw.uniform(1.0, 1.3), lean)
            return fingers, True, gesture
        if kind == "unknown":  # digits that no gesture shows together
            while True:
                extended = {name for name in DIGITS if draw.random() < 0.5}
                if frozenset(extended) not in REAL_SETS:
                    return fingers, True, posed(extended)
        if kind == "bent" and raised:
            name = str(draw.choice(raised))
            x, y, length, radius, lean = fingers[name]
            fingers[name] = (x, y, length, radius, lean + draw.choice((-1, 1)) * draw.uniform(32, 55))
            return fingers, True, gesture
        if kind == "mitten":
            return {}, bool(draw.random() < 0.5), posed({"thumb"} if draw.random() < 0.5 else set())
        if kind == "thumbs":  # a digit where none belongs: at the other edge of the palm
            fingers["extra"] = (-0.3, 0.4, draw.uniform(0.5, 0.7), draw.uniform(0.11, 0.16), draw.uniform(-75, -45))
            return fingers, True, posed({*gesture.extended, "extra"})
        return None

    def _head(self, pen: Pen, person: Person) -> None:
        draw = self.rng
        lift = EXPRESSIONS[person.expression].lift
        places = [pen.matrix.mapXY(x, y - (lift if "brow" in name else 0)) for name, (x, y) in FACE_PARTS.items()]
        parts = {name: (x + draw.uniform(-0.03, 0.03), y + draw.uniform(-0.03, 0.03)) for name, (x, y) in FACE_PARTS.items()}
        drawn, bad = list(parts.items()), set()
        if draw.random() < self.broken_faces:
            drawn, bad = self._broken_face(parts)
        self.faces.append(
            ShownFace(
                _frame(pen, 0.0, 0.05), tuple((p.x(), p.y()) for p in places), tuple(name not in bad for name in PARTS)
            )
        )
        draw_head(pen, person, drawn)

    def _broken_face(self, parts: dict[str, Point]) -> tuple[list[tuple[str, Point]], set[str]]:
        draw = self.rng
        kind = str(draw.choice(["missing", "missing", "moved", "moved", "doubled", "upside down", "empty"]))
        if kind == "upside down":
            return [(name, (x, 0.2 - y)) for name, (x, y) in parts.items()], set(parts)
        if kind == "empty":
            return [], set(parts)
        chosen = {str(name) for name in draw.choice(PARTS, int(draw.integers(1, 4)), replace=False)}
        drawn = []
        for name, (x, y) in parts.items():
            if name not in chosen:
                drawn.append((name, (x, y)))
                continue
            while True:
                angle, far = draw.uniform(0, 2 * math.pi), draw.uniform(*MOVED)
                there = (x + far * math.cos(angle), y + far * math.sin(angle))
                if abs(there[0]) < 0.5 and -0.5 < there[1] < 0.65:
                    break
            if kind == "doubled":
                drawn.append((name, (x, y)))
            if kind != "missing":
                drawn.append((name, there))
        return drawn, chosen
