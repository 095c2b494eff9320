"""Vehicles. Those that travel sideways look to the right."""

import skia

from marks import Look
from palette import INK, WHITE, dark, light
from sketch import Pen
from things.base import ThingClass

GLASS = (176, 224, 246)
TYRE = (48, 46, 54)
LAMP = (255, 226, 110)
WOOD = (150, 96, 52)


def _wheel(pen: Pen, x: float, y: float, r: float) -> None:
    pen.oval(x, y, r, fill=TYRE)
    pen.oval(x, y, r * 0.5, fill=(206, 210, 216), line=None)


def car(pen: Pen, look: Look) -> None:
    main = look.main
    pen = pen.inner(0, -0.02, 1.02)
    high = 0.12 * look.pose  # from a low coupe to a tall one
    cabin = pen.blob(
        [
            (-0.62, 0.14), (-0.5, -0.34 - high), (-0.3, -0.48 - high), (0.2, -0.48 - high), (0.42, -0.26),
            (0.64, 0.12), (0, 0.2),
        ],
        main,
    )
    look.mark(pen, cabin)
    pen.poly([(-0.46, 0.06), (-0.38, -0.32 - high), (-0.06, -0.34 - high), (-0.06, 0.06)], GLASS)
    pen.poly([(0.04, 0.06), (0.04, -0.34 - high), (0.2, -0.32 - high), (0.46, 0.06)], GLASS)
    body = pen.blob(
        [
            (-0.96, 0.5), (-0.98, 0.2), (-0.8, 0.04), (-0.3, 0.04), (0.4, 0.04), (0.84, 0.12), (0.98, 0.32),
            (0.98, 0.54), (0.7, 0.64), (-0.7, 0.64),
        ],
        main,
    )
    look.mark(pen, body)
    pen.stroke([(-0.01, 0.1), (-0.01, 0.56)], dark(main, 0.5), 0.035)
    pen.stroke([(-0.22, 0.22), (-0.1, 0.22)], dark(main, 0.6), 0.05)
    pen.oval(0.88, 0.26, 0.1, 0.09, fill=LAMP)
    pen.oval(-0.92, 0.26, 0.07, 0.1, fill=(230, 60, 60))
    for x in (-0.55, 0.55):
        _wheel(pen, x, 0.66, 0.28)
    look.anchor("top", pen, -0.05, -0.47 - high, 0.34)
    look.anchor("front", pen, -0.02, 0.3, 0.26)
    look.anchor("neck", pen, -0.02, 0.34, 0.9)


def bus(pen: Pen, look: Look) -> None:
    main = look.main
    body = pen.rect(-0.98, -0.62, 0.98, 0.7, main, 0.16)
    look.mark(pen, body)
    for x in (-0.86, -0.48, -0.1):
        pen.rect(x, -0.42, x + 0.3, 0.0, GLASS, 0.05)
    pen.rect(0.68, -0.42, 0.96, 0.06, GLASS, 0.05)
    pen.rect(0.28, -0.42, 0.58, 0.62, light(GLASS, 0.4), 0.04)
    pen.stroke([(0.43, -0.4), (0.43, 0.6)], INK, 0.04)
    pen.rect(-0.97, 0.14, 0.26, 0.28, WHITE, line=None)
    pen.oval(0.88, 0.46, 0.09, fill=LAMP)
    for x in (-0.56, 0.62):
        _wheel(pen, x, 0.74, 0.25)
    look.anchor("top", pen, -0.1, -0.6, 0.36)
    look.anchor("front", pen, -0.36, 0.36, 0.26)


def train(pen: Pen, look: Look) -> None:
    """A steam engine."""
    main = look.main
    pen.rect(-1.1, 0.93, 1.1, 1.0, (96, 92, 96), line=None)
    for k, (x, y, r) in enumerate(((0.5, -0.8, 0.17), (0.26, -0.9, 0.13), (0.08, -0.82, 0.09))):
        pen.oval(x - 0.2 * look.pose * k, y, r, fill=(240, 240, 244), line=(170, 174, 184))
    pen.poly([(0.52, -0.28), (0.46, -0.68), (0.76, -0.68), (0.7, -0.28)], TYRE)
    pen.oval(0.16, -0.26, 0.14, 0.16, fill=(222, 176, 60))
    boiler = pen.rect(-0.3, -0.28, 0.92, 0.42, main, 0.2)
    look.mark(pen, boiler)
    for x in (0.16, 0.56):
        pen.stroke([(x, -0.26), (x, 0.4)], (222, 176, 60), 0.06)
    cabin = pen.rect(-0.92, -0.62, -0.2, 0.46, main, 0.06)
    look.mark(pen, cabin)
    pen.rect(-1.02, -0.76, -0.1, -0.56, dark(main, 0.45), 0.05)
    pen.rect(-0.74, -0.42, -0.38, -0.06, GLASS, 0.04)
    pen.rect(-0.98, 0.4, 0.98, 0.6, dark(main, 0.5), 0.04)
    pen.poly([(0.82, 0.56), (1.06, 0.9), (0.66, 0.9)], (190, 60, 50))
    pen.oval(0.94, 0.02, 0.12, fill=LAMP)
    for x, r in ((-0.62, 0.29), (0.0, 0.2), (0.46, 0.2)):
        _wheel(pen, x, 0.94 - r, r)
    look.anchor("top", pen, -0.56, -0.74, 0.36)
    look.anchor("front", pen, 0.34, 0.06, 0.28)


def bicycle(pen: Pen, look: Look) -> None:
    main = look.main
    for x in (-0.55, 0.55):
        pen.path(skia.Path.Circle(x, 0.42, 0.44), None, TYRE, 0.09 * pen.scale)
        for angle in range(0, 180, 45):
            spoke = pen.inner(x, 0.42, tilt=angle + 60 * look.pose)
            spoke.stroke([(-0.4, 0), (0.4, 0)], (170, 172, 180), 0.025)
        pen.oval(x, 0.42, 0.07, fill=TYRE)
    frame = (
        [(-0.55, 0.42), (-0.2, -0.2), (0.36, -0.2), (0.02, 0.44), (-0.55, 0.42)],
        [(-0.24, -0.36), (0.02, 0.44)],
        [(0.55, 0.42), (0.32, -0.48)],
    )
    for points in frame:
        look.mark(pen, pen.tube(points, main, 0.115, smooth=False))
    pen.limb((-0.4, -0.4), (-0.1, -0.38), 0.08, 0.05, INK)
    pen.stroke([(0.32, -0.48), (0.14, -0.56), (0.48, -0.58), (0.56, -0.46)], INK, 0.07)
    pen.oval(0.02, 0.44, 0.11, fill=(150, 154, 160))
    look.anchor("top", pen, -0.26, -0.4, 0.3)
    look.anchor("front", pen, 0.08, 0.02, 0.3)


def sailboat(pen: Pen, look: Look) -> None:
    main = look.main
    belly = 0.1 + 0.16 * look.pose
    pen.rect(-0.07, -0.96, 0.03, 0.5, WOOD)
    sail = pen.blob(
        [
            (0.08, -0.9), (0.1, -0.86), (0.5 + belly, -0.2), (0.78, 0.32), (0.74, 0.36), (0.4, 0.36), (0.1, 0.36),
            (0.08, 0.3), (0.08, -0.3),
        ],
        light(main, 0.82),
    )
    look.mark(pen, sail)
    pen.blob([(-0.12, -0.66), (-0.14, 0.3), (-0.4, 0.34), (-0.66, 0.32), (-0.44, -0.1)], light(main, 0.5))
    hull = pen.poly([(-0.96, 0.44), (0.98, 0.44), (0.78, 0.78), (0.62, 0.92), (-0.62, 0.92), (-0.8, 0.74)], main)
    look.mark(pen, hull)
    pen.rect(-0.96, 0.42, 0.97, 0.54, light(main, 0.45))
    pen.poly([(-0.02, -0.98), (0.3, -0.88), (-0.02, -0.78)], (230, 50, 50))
    look.anchor("top", pen, -0.02, -0.94, 0.26)
    look.anchor("front", pen, 0.32, 0.06, 0.28)
    look.anchor("neck", pen, 0.0, 0.68, 0.7)


def airplane(pen: Pen, look: Look) -> None:
    """From the side, climbing a little."""
    main = look.main
    pen = pen.inner(0, 0, tilt=-14 * look.pose)
    pen.poly([(-0.72, -0.1), (-1.0, -0.6), (-0.76, -0.6), (-0.4, -0.12)], dark(main, 0.25))
    pen.poly([(0.2, -0.1), (-0.06, -0.5), (0.1, -0.5), (0.5, -0.12)], dark(main, 0.35))
    body = pen.blob(
        [
            (-0.98, -0.14), (-0.5, -0.22), (0.4, -0.24), (0.84, -0.12), (1.0, 0.06), (0.8, 0.2), (0.3, 0.26),
            (-0.4, 0.16), (-0.9, 0.0),
        ],
        main,
    )
    look.mark(pen, body)
    pen.poly([(0.62, -0.16), (0.86, -0.08), (0.9, 0.0), (0.64, 0.0)], GLASS)
    for x in (-0.44, -0.2, 0.04, 0.28, 0.5):
        pen.oval(x, -0.06, 0.07, 0.08, fill=GLASS, line=INK)
    pen.poly([(0.22, 0.1), (-0.24, 0.1), (-0.62, 0.66), (-0.36, 0.66)], light(main, 0.25))
    pen.poly([(-0.66, -0.04), (-0.86, -0.04), (-1.04, 0.22), (-0.9, 0.22)], light(main, 0.25))
    pen.rect(-0.3, 0.36, 0.04, 0.52, (120, 124, 134), 0.08)
    look.anchor("top", pen, 0.5, -0.22, 0.28)
    look.anchor("front", pen, 0.3, 0.02, 0.24)


def rocket(pen: Pen, look: Look) -> None:
    main = look.main
    flame = 0.12 * look.pose
    pen.blob([(-0.22, 0.52), (0.22, 0.52), (0.26, 0.74), (0, 0.88 + flame), (-0.26, 0.74)], (250, 120, 30))
    pen.blob([(-0.1, 0.52), (0.1, 0.52), (0.12, 0.66), (0, 0.76 + flame), (-0.12, 0.66)], (255, 226, 90), None)
    for s in (-1, 1):
        pen.blob([(s * 0.28, 0.02), (s * 0.66, 0.4), (s * 0.64, 0.74), (s * 0.5, 0.6), (s * 0.22, 0.5)], main)
    body = pen.blob(
        [
            (0, -1.0), (0.24, -0.72), (0.36, -0.24), (0.34, 0.24), (0.22, 0.56), (-0.22, 0.56), (-0.34, 0.24),
            (-0.36, -0.24), (-0.24, -0.72),
        ],
        light(main, 0.8),
    )
    look.mark(pen, body)
    pen.blob([(0, -1.0), (0.15, -0.86), (0.25, -0.66), (0, -0.6), (-0.25, -0.66), (-0.15, -0.86)], main)
    pen.oval(0, -0.26, 0.22, fill=dark(main, 0.2))
    pen.oval(0, -0.26, 0.15, fill=GLASS)
    pen.rect(-0.24, 0.46, 0.24, 0.58, TYRE, 0.03)
    pen.limb((0, 0.2), (0, 0.66), 0.06, 0.05, main)
    look.anchor("top", pen, 0, -0.94, 0.26)
    look.anchor("front", pen, 0, -0.24, 0.26)
    look.anchor("neck", pen, 0, 0.12, 0.34)


def balloon(pen: Pen, look: Look) -> None:
    """A hot-air balloon: gores in two colours, a basket."""
    main, second = look.main, look.accent
    for x in (-0.2, 0.2):
        pen.stroke([(2 * x, 0.2), (x, 0.72)], WOOD, 0.04)
    envelope = pen.blob(
        [
            (0, -0.98), (0.46, -0.86), (0.7, -0.42), (0.56, 0.06), (0.22, 0.44), (-0.22, 0.44), (-0.56, 0.06),
            (-0.7, -0.42), (-0.46, -0.86),
        ],
        main,
    )
    if look.pattern:
        look.mark(pen, envelope)
    else:
        pen.blob(
            [
                (0, -0.97), (0.2, -0.8), (0.28, -0.4), (0.22, 0.06), (0.1, 0.44), (-0.1, 0.44), (-0.22, 0.06),
                (-0.28, -0.4), (-0.2, -0.8),
            ],
            second,
        )
    pen.rect(-0.24, 0.4, 0.24, 0.5, dark(main, 0.4), 0.03)
    pen.rect(-0.22, 0.68, 0.22, 0.98, WOOD, 0.06)
    pen.rect(-0.25, 0.66, 0.25, 0.76, light(WOOD, 0.3), 0.03)
    look.anchor("top", pen, 0, -0.95, 0.34)
    look.anchor("front", pen, 0, -0.36, 0.46)
    look.anchor("neck", pen, 0, 0.3, 0.4)


CLASSES: dict[str, ThingClass] = {
    "car": ThingClass(
        car, ("red", "blue", "yellow", "green", "white", "black"), ("street", "grass", "desert", "snow", "night")
    ),
    "bus": ThingClass(bus, ("red", "yellow", "blue", "green", "orange"), ("street", "grass", "night")),
    "train": ThingClass(train, ("red", "green", "blue", "black"), ("grass", "desert", "snow", "night")),
    "bicycle": ThingClass(bicycle, ("red", "blue", "green", "orange", "pink"), ("street", "grass", "beach")),
    "sailboat": ThingClass(sailboat, ("red", "blue", "brown", "green", "white"), ("sea", "sea", "sea")),
    "airplane": ThingClass(airplane, ("white", "red", "blue", "yellow", "grey"), ("sky", "sky", "night"), floats=True),
    "rocket": ThingClass(rocket, ("red", "blue", "orange", "green"), ("space", "space", "night", "sky"), floats=True),
    "balloon": ThingClass(balloon, ("red", "yellow", "blue", "purple", "orange"), ("sky", "sky", "grass"), floats=True),
}
