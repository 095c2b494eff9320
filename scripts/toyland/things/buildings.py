"""Buildings."""

from marks import Look
from palette import INK, RGB, WHITE, dark, light, mix
from sketch import Pen
from things.base import ThingClass

GLASS = (180, 222, 244)
LIT = (255, 224, 120)
DOOR = (122, 74, 42)


def house(pen: Pen, look: Look) -> None:
    """The wall in the caption's colour, a roof in another."""
    main = look.main
    roof = look.accent if look.pattern else mix((178, 66, 48), main, 0.15)
    pen.rect(0.36, -0.86, 0.58, -0.3, (158, 84, 66))
    wall = pen.rect(-0.78, -0.1, 0.78, 1.0, main)
    look.mark(pen, wall)
    peak = -0.72 - 0.22 * look.pose
    pen.poly([(-0.98, -0.04), (0, peak), (0.98, -0.04)], roof)
    pen.rect(-0.2, 0.42, 0.2, 1.0, DOOR, 0.03)
    pen.oval(0.11, 0.74, 0.045, fill=LIT, line=None)
    for x in (-0.5, 0.5):
        pen.rect(x - 0.18, 0.2, x + 0.18, 0.58, GLASS)
        pen.stroke([(x, 0.2), (x, 0.58)], WHITE, 0.05)
        pen.stroke([(x - 0.18, 0.39), (x + 0.18, 0.39)], WHITE, 0.05)
    pen.oval(0, -0.28, 0.14, fill=GLASS)
    look.anchor("top", pen, 0, peak, 0.34)
    look.anchor("front", pen, 0, 0.2, 0.3)


def _merlons(pen: Pen, x0: float, x1: float, y: float, count: int, colour: RGB) -> None:
    step = (x1 - x0) / (2 * count - 1)
    for k in range(count):
        pen.rect(x0 + 2 * k * step, y - 0.16, x0 + (2 * k + 1) * step, y + 0.05, colour)


def castle(pen: Pen, look: Look) -> None:
    main = look.main
    wall = pen.rect(-0.6, 0.06, 0.6, 1.0, main)
    _merlons(pen, -0.44, 0.44, 0.06, 4, main)
    look.mark(pen, wall)
    flags = look.accent if look.pattern else (214, 52, 60)
    for s in (-1, 1):
        tower = pen.rect(s * 0.72 - 0.24, -0.3, s * 0.72 + 0.24, 1.0, light(main, 0.12))
        look.mark(pen, tower)
        pen.poly([(s * 0.72 - 0.32, -0.28), (s * 0.72, -0.92), (s * 0.72 + 0.32, -0.28)], flags)
        pen.rect(s * 0.72 - 0.07, -0.02, s * 0.72 + 0.07, 0.24, INK, 0.07)
    pen.rect(-0.22, -0.42, 0.22, 0.1, main)
    _merlons(pen, -0.26, 0.26, -0.4, 3, main)
    pen.stroke([(0, -0.5), (0, -0.96)], INK, 0.05)
    pen.poly([(0.02, -0.98), (0.36 + 0.1 * look.pose, -0.84), (0.02, -0.72)], flags)
    pen.rect(-0.06, -0.26, 0.06, -0.04, INK, 0.06)
    pen.blob([(-0.22, 1.0), (-0.24, 0.6), (0, 0.36), (0.24, 0.6), (0.22, 1.0)], DOOR)
    for x in (-0.1, 0.0, 0.1):
        pen.stroke([(x, 0.46), (x, 0.98)], dark(DOOR, 0.5), 0.035)
    look.anchor("top", pen, 0, -0.5, 0.3)
    look.anchor("front", pen, 0, 0.2, 0.26)


def lighthouse(pen: Pen, look: Look) -> None:
    """White with three bands of its colour."""
    main = look.main

    def half(y: float) -> float:
        return 0.26 + 0.18 * (y + 0.46) / 1.4

    pen.blob([(-0.9, 1.0), (-0.66, 0.78), (0, 0.72), (0.6, 0.8), (0.92, 1.0), (0, 1.06)], (134, 126, 122))
    for s in (-1, 1) if look.pose > 0.4 else ():
        pen.poly([(s * 0.2, -0.66), (s * 1.0, -0.84), (s * 1.0, -0.42)], (255, 240, 160), None)
    tower = pen.poly([(-half(-0.46), -0.46), (half(-0.46), -0.46), (half(0.86), 0.86), (-half(0.86), 0.86)], WHITE)
    for y in () if look.pattern else (-0.34, 0.1, 0.54):
        pen.poly([(-half(y), y), (half(y), y), (half(y + 0.22), y + 0.22), (-half(y + 0.22), y + 0.22)], main)
    if look.pattern:
        pen.path(tower, main)
        look.mark(pen, tower)
    pen.rect(-0.36, -0.52, 0.36, -0.4, dark(main, 0.4), 0.03)
    pen.rect(-0.18, -0.8, 0.18, -0.5, LIT)
    pen.stroke([(0, -0.8), (0, -0.5)], INK, 0.04)
    pen.poly([(-0.28, -0.78), (0, -1.0), (0.28, -0.78)], main)
    pen.rect(-0.12, 0.62, 0.12, 0.88, DOOR, 0.06)
    pen.rect(-0.07, 0.0, 0.07, 0.2, INK, 0.05)
    look.anchor("top", pen, 0, -0.96, 0.3)
    look.anchor("front", pen, 0, 0.16, 0.32)
    look.anchor("neck", pen, 0, -0.3, 0.36)


def windmill(pen: Pen, look: Look) -> None:
    main = look.main
    tower = pen.poly([(-0.3, -0.3), (0.3, -0.3), (0.52, 1.0), (-0.52, 1.0)], main)
    look.mark(pen, tower)
    pen.blob([(-0.36, -0.26), (-0.26, -0.52), (0, -0.62), (0.26, -0.52), (0.36, -0.26)], dark(main, 0.45))
    pen.rect(-0.14, 0.64, 0.14, 1.0, DOOR, 0.05)
    pen.rect(-0.1, 0.22, 0.1, 0.44, GLASS, 0.03)
    for k in range(4):
        sail = pen.inner(0, -0.3, tilt=90 * k + 20 + 50 * look.pose)
        sail.stroke([(0, 0), (0, -0.78)], dark(DOOR, 0.2), 0.06)
        sail.rect(0.0, -0.76, 0.24, -0.2, (250, 244, 226))
        sail.stroke([(0.12, -0.74), (0.12, -0.22)], (176, 160, 130), 0.03)
        sail.stroke([(0.02, -0.48), (0.22, -0.48)], (176, 160, 130), 0.03)
    pen.oval(0, -0.3, 0.1, fill=INK)
    look.anchor("top", pen, 0, -0.58, 0.3)
    look.anchor("front", pen, 0, 0.34, 0.3)


CLASSES: dict[str, ThingClass] = {
    "house": ThingClass(
        house, ("white", "yellow", "blue", "pink", "brown", "green"), ("grass", "snow", "street", "night")
    ),
    "castle": ThingClass(castle, ("grey", "brown", "yellow", "pink"), ("grass", "desert", "snow", "night")),
    "lighthouse": ThingClass(lighthouse, ("red", "blue", "black", "green"), ("sea", "beach", "night")),
    "windmill": ThingClass(windmill, ("brown", "white", "red", "grey", "blue"), ("grass", "snow", "night")),
}
