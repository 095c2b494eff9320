"""Where faces and hands are, in pixels of a rendering."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """The part of the picture from (x, y), w wide and h high."""

    x: float
    y: float
    w: float
    h: float


@dataclass(frozen=True)
class HandBox(Box):
    fingers: int  # how many are extended, the thumb counted
    gesture: str


@dataclass(frozen=True)
class FaceBox(Box):
    expression: str
    parts: dict[str, tuple[float, float]]  # left_eye, right_eye, left_brow, right_brow, mouth
