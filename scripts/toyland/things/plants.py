"""Plants."""

import math

from marks import Look
from palette import WHITE, dark, light
from sketch import Pen
from things.base import ThingClass

BARK = (124, 80, 46)
LEAF = (70, 160, 66)


def tree(pen: Pen, look: Look) -> None:
    """A broad crown on a trunk; its colour is the season's."""
    main = look.main
    pen.blob([(-0.14, 0.2), (0.14, 0.2), (0.14, 0.7), (0.28, 1.0), (-0.28, 1.0), (-0.14, 0.7)], BARK)
    sway = 0.1 * (look.pose - 0.5)
    crown = pen.blob(
        [
            (-0.5, 0.3), (-0.86, 0.1), (-0.8, -0.3), (-0.56, -0.46), (-0.5 + sway, -0.8), (-0.1 + sway, -0.9),
            (0.2 + sway, -0.92), (0.54, -0.7), (0.64, -0.4), (0.86, -0.16), (0.8, 0.2), (0.46, 0.34), (0, 0.26),
        ],
        main,
    )
    look.mark(pen, crown)
    for x, y in ((-0.46, -0.1), (0.1, -0.52), (0.4, -0.02), (-0.06, 0.02)):
        pen.stroke([(x - 0.14, y), (x, y + 0.08), (x + 0.14, y)], dark(main, 0.3), 0.05)
    look.anchor("top", pen, 0.05, -0.88, 0.34)
    look.anchor("front", pen, 0, -0.26, 0.44)
    look.anchor("neck", pen, 0, 0.46, 0.24)


def pine(pen: Pen, look: Look) -> None:
    """Three stacked triangles."""
    main = look.main
    pen.rect(-0.14, 0.6, 0.14, 1.0, BARK)
    for y0, y1, w in ((0.1, 0.74, 0.8), (-0.36, 0.28, 0.62), (-0.98, -0.16, 0.44)):
        look.mark(
            pen,
            pen.poly([(0, y0), (w, y1), (w * 0.5, y1 - 0.05), (0, y1 + 0.03), (-w * 0.5, y1 - 0.05), (-w, y1)], main),
        )
        pen.stroke([(-0.1 * w, y0 + 0.2), (-0.5 * w, y1 - 0.12)], light(main, 0.35), 0.05)
    look.anchor("top", pen, 0, -0.92, 0.28)
    look.anchor("front", pen, 0, 0.4, 0.34)
    look.anchor("neck", pen, 0, -0.12, 0.42)


def flower(pen: Pen, look: Look) -> None:
    """One big blossom with a face-on ring of petals, a stem and two leaves."""
    main = look.main
    lean = 0.16 * (look.pose - 0.5)
    pen.tube([(lean, -0.2), (0.02, 0.4), (0, 1.0)], LEAF, 0.12)
    for s, y in ((-1, 0.66), (1, 0.54)):
        pen.blob([(0, y + 0.16), (s * 0.2, y - 0.14), (s * 0.56, y - 0.16), (s * 0.36, y + 0.12)], LEAF)
    for k in range(8):
        angle = 2 * math.pi * k / 8
        petal = pen.inner(lean + 0.36 * math.sin(angle), -0.4 - 0.36 * math.cos(angle), tilt=45 * k)
        look.mark(petal, petal.oval(0, 0, 0.17, 0.24, fill=main))
    pen.oval(lean, -0.4, 0.25, fill=look.accent if look.pattern else (250, 206, 50))
    look.anchor("top", pen, lean, -0.84, 0.3)
    look.anchor("front", pen, lean, -0.4, 0.22)
    look.anchor("neck", pen, 0.02, 0.28, 0.28)


def cactus(pen: Pen, look: Look) -> None:
    """Two arms, in a pot."""
    main = look.main
    lift = 0.16 * look.pose
    for s, y in ((-1, 0.1), (1, -0.08)):
        pen.limb((0, y), (s * 0.54, y), 0.14, 0.14, main)
        pen.limb((s * 0.56, y), (s * 0.56, y - 0.24 - lift), 0.15, 0.14, main)
        pen.limb((s * 0.2, y), (s * 0.5, y), 0.12, 0.12, main, None)
    body = pen.limb((0, 0.6), (0, -0.68), 0.29, 0.26, main)
    look.mark(pen, body)
    if not look.pattern:
        for x in (-0.12, 0.0, 0.12):
            pen.stroke([(x, -0.74), (x, 0.5)], dark(main, 0.35), 0.035)
    for x, y in ((-0.2, -0.5), (0.2, -0.34), (-0.2, 0.3), (0.2, 0.2)):
        pen.stroke([(x - 0.05, y), (x + 0.05, y)], WHITE, 0.035)
    pen.oval(0, -0.92, 0.12, 0.08, fill=(240, 90, 150))
    pen.poly([(-0.42, 0.56), (0.42, 0.56), (0.32, 1.0), (-0.32, 1.0)], (204, 104, 60))
    pen.rect(-0.48, 0.46, 0.48, 0.64, (222, 124, 76), 0.03)
    look.anchor("top", pen, 0, -0.9, 0.32)
    look.anchor("front", pen, 0, -0.3, 0.28)
    look.anchor("neck", pen, 0, 0.14, 0.36)


def mushroom(pen: Pen, look: Look) -> None:
    """A dotted cap on a pale stem."""
    main = look.main
    wide = 0.86 + 0.1 * look.pose
    pen.blob(
        [(-0.28, 0.0), (0.28, 0.0), (0.26, 0.5), (0.38, 0.96), (0, 1.02), (-0.38, 0.96), (-0.26, 0.5)], (248, 236, 214)
    )
    pen.oval(0, 0.08, wide * 0.72, 0.14, fill=(226, 206, 176))
    cap = pen.blob(
        [
            (-wide, 0.06), (-0.76, -0.42), (-0.4, -0.8), (0, -0.92), (0.4, -0.8), (0.76, -0.42), (wide, 0.06),
            (0.5, 0.12), (0, 0.04), (-0.5, 0.12),
        ],
        main,
    )
    look.mark(pen, cap)
    if not look.pattern:
        for x, y, r in (
            (0, -0.6, 0.17), (-0.46, -0.36, 0.14), (0.48, -0.3, 0.15), (0.04, -0.16, 0.12), (-0.7, -0.06, 0.08),
        ):
            pen.oval(x, y, r, r * 0.85, fill=WHITE, line=None)
    look.anchor("top", pen, 0, -0.88, 0.36)
    look.anchor("front", pen, 0, 0.54, 0.28)
    look.anchor("neck", pen, 0, 0.24, 0.36)


CLASSES: dict[str, ThingClass] = {
    "tree": ThingClass(tree, ("green", "green", "orange", "red", "yellow"), ("grass", "grass", "street", "night")),
    "pine": ThingClass(pine, ("green", "green", "blue"), ("snow", "snow", "grass", "night")),
    "flower": ThingClass(flower, ("red", "pink", "yellow", "purple", "blue", "orange", "white"), ("grass", "sky")),
    "cactus": ThingClass(cactus, ("green",), ("desert", "desert", "room", "table")),
    "mushroom": ThingClass(mushroom, ("red", "brown", "orange", "purple"), ("grass", "grass", "night")),
}
