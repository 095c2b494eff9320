"""Things of the house."""

import math

from marks import Look
from palette import INK, WHITE, dark, light
from sketch import Pen
from things.base import ThingClass

METAL = (150, 154, 166)
WOOD = (168, 112, 62)
LED = (255, 222, 70)


def teapot(pen: Pen, look: Look) -> None:
    main = look.main
    pen.tube([(-0.5, -0.02), (-0.9, -0.06), (-0.92, 0.4), (-0.52, 0.6)], main, 0.19)
    pen.blob([(0.44, 0.62), (0.7, 0.36), (0.76, -0.02), (0.98, -0.26), (1.02, -0.1), (0.92, 0.3), (0.6, 0.78)], main)
    body = pen.blob(
        [
            (-0.36, -0.26), (0.36, -0.26), (0.68, 0.2), (0.62, 0.7), (0.34, 0.94), (-0.34, 0.94), (-0.62, 0.7),
            (-0.68, 0.2),
        ],
        main,
    )
    look.mark(pen, body)
    pen.blob([(-0.44, -0.24), (-0.26, -0.46), (0, -0.52), (0.26, -0.46), (0.44, -0.24)], light(main, 0.25))
    pen.oval(0, -0.6, 0.12, fill=light(main, 0.25))
    pen.stroke([(-0.42, 0.06), (-0.5, 0.3), (-0.42, 0.54)], light(main, 0.6), 0.08)
    for k in range(3) if look.pose > 0.5 and not look.pattern else ():
        pen.oval(0.96 - 0.08 * k, -0.46 - 0.2 * k, 0.09 + 0.02 * k, fill=(238, 240, 244), line=(176, 180, 190))
    look.anchor("top", pen, 0, -0.62, 0.36)
    look.anchor("front", pen, 0, 0.34, 0.42)
    look.anchor("neck", pen, 0, -0.14, 0.46)


def cup(pen: Pen, look: Look) -> None:
    """A mug with a handle and steam."""
    main = look.main
    for s in (-1, 0, 1):
        x = -0.14 + 0.34 * s
        pen.stroke(
            [(x, -0.5), (x + 0.1, -0.64), (x - 0.06, -0.78), (x + 0.04 * look.pose, -0.94)], (226, 230, 236), 0.09
        )
    pen.tube([(0.5, 0.0), (0.9, -0.02), (0.92, 0.52), (0.48, 0.6)], main, 0.21)
    body = pen.blob(
        [(-0.78, -0.3), (-0.76, 0.4), (-0.64, 0.9), (-0.1, 1.0), (0.42, 0.9), (0.56, 0.4), (0.58, -0.3), (-0.1, -0.2)],
        main,
    )
    look.mark(pen, body)
    pen.oval(-0.1, -0.3, 0.68, 0.16, fill=light(main, 0.4))
    pen.oval(-0.1, -0.28, 0.56, 0.11, fill=(104, 60, 32))
    look.anchor("top", pen, -0.1, -0.4, 0.4)
    look.anchor("front", pen, -0.1, 0.38, 0.42)
    look.anchor("neck", pen, -0.1, 0.3, 0.6)


def lamp(pen: Pen, look: Look) -> None:
    """A table lamp: the shade has the colour."""
    main = look.main
    wide = 0.6 + 0.12 * look.pose
    pen.blob([(-0.4, 1.0), (-0.34, 0.86), (0, 0.82), (0.34, 0.86), (0.4, 1.0)], METAL)
    pen.limb((0, 0.1), (0, 0.86), 0.07, 0.09, METAL)
    pen.oval(0, 0.5, 0.17, 0.2, fill=METAL)
    pen.oval(0, 0.14, 0.2, 0.16, fill=(255, 244, 170))
    shade = pen.poly([(-0.34, -0.92), (0.34, -0.92), (wide, 0.08), (-wide, 0.08)], main)
    look.mark(pen, shade)
    pen.rect(-0.36, -0.96, 0.36, -0.84, dark(main, 0.25), 0.03)
    pen.rect(-wide - 0.02, 0.0, wide + 0.02, 0.12, dark(main, 0.25), 0.03)
    pen.stroke([(0.44, 0.1), (0.44, 0.5)], METAL, 0.035)
    look.anchor("top", pen, 0, -0.94, 0.36)
    look.anchor("front", pen, 0, -0.36, 0.36)
    look.anchor("neck", pen, 0, 0.2, 0.4)


def chair(pen: Pen, look: Look) -> None:
    """A wooden frame with a coloured back and seat, three quarters from the front."""
    main = look.main
    leg = dark(WOOD, 0.15)
    for x in (-0.36, 0.6):
        pen.limb((x, 0.2), (x, 0.84), 0.07, 0.06, dark(leg, 0.3))
    for x in (-0.46, 0.46):
        pen.limb((x, -0.9), (x, 0.2), 0.08, 0.08, WOOD)
    back = pen.rect(-0.46, -0.84, 0.46, -0.16 + 0.14 * look.pose, main, 0.1)
    look.mark(pen, back)
    seat = pen.poly([(-0.5, 0.1), (0.58, 0.1), (0.72, 0.4), (-0.7, 0.4)], light(main, 0.12))
    look.mark(pen, seat)
    pen.rect(-0.7, 0.38, 0.72, 0.52, WOOD, 0.03)
    for x in (-0.6, 0.62):
        pen.limb((x, 0.52), (x, 0.92), 0.08, 0.07, leg)
    look.anchor("top", pen, 0, -0.84, 0.36)
    look.anchor("front", pen, 0, -0.5, 0.28)
    look.anchor("neck", pen, 0, -0.06, 0.5)


def clock(pen: Pen, look: Look) -> None:
    """An alarm clock on two feet, with two bells."""
    main = look.main
    for s in (-1, 1):
        pen.limb((s * 0.4, 0.66), (s * 0.56, 0.94), 0.09, 0.07, dark(main, 0.3))
        bell = pen.inner(s * 0.42, -0.66, tilt=s * 34)
        bell.blob([(-0.28, 0.1), (-0.2, -0.14), (0, -0.24), (0.2, -0.14), (0.28, 0.1)], (222, 182, 70))
    pen.stroke([(0, -0.6), (0, -0.88)], INK, 0.07)
    pen.oval(0, -0.9, 0.08, fill=INK)
    ring = pen.oval(0, 0.12, 0.76, fill=main)
    look.mark(pen, ring)
    pen.oval(0, 0.12, 0.56, fill=(252, 250, 242))
    for k in range(12):
        tick = pen.inner(0, 0.12, tilt=30 * k)
        tick.stroke([(0, -0.5), (0, -0.42)], INK, 0.06 if k % 3 == 0 else 0.03)
    hours = 360 * look.pose
    pen.inner(0, 0.12, tilt=hours).stroke([(0, 0.04), (0, -0.26)], INK, 0.1)
    pen.inner(0, 0.12, tilt=hours * 12 % 360).stroke([(0, 0.06), (0, -0.4)], INK, 0.065)
    pen.oval(0, 0.12, 0.07, fill=(220, 50, 50), line=None)
    look.anchor("top", pen, 0, -0.62, 0.36)
    look.anchor("front", pen, 0, 0.12, 0.42)
    look.anchor("neck", pen, 0, 0.7, 0.46)


def umbrella(pen: Pen, look: Look) -> None:
    """Open, with a hooked handle; every second panel is paler."""
    main = look.main
    pen = pen.inner(0, 0, tilt=16 * (look.pose - 0.5))
    handle = [(0, -0.5), (0, 0.72), (0.06, 0.92), (0.24, 0.92), (0.28, 0.74)]
    pen.tube(handle, WOOD, 0.1)
    pen.stroke([(0, -0.86), (0, -0.98)], INK, 0.07)
    rim = [(-0.98, 0.06), (-0.66, -0.08), (-0.34, 0.06), (0, -0.08), (0.34, 0.06), (0.66, -0.08), (0.98, 0.06)]
    arc = [(0.98 * math.cos(t), 0.06 - 0.94 * math.sin(t)) for t in (math.pi * k / 10 for k in range(11))]
    dome = pen.poly([*arc, *rim[1:-1]], main)
    look.mark(pen, dome)
    if not look.pattern:
        for left, right in ((rim[0], rim[2]), (rim[4], rim[6])):
            pen.blob(
                [
                    (0, -0.86),
                    (left[0] * 0.66, -0.46 if abs(left[0]) > 0.5 else -0.3),
                    left,
                    ((left[0] + right[0]) / 2, -0.08),
                    right,
                    (right[0] * 0.66, -0.46 if abs(right[0]) > 0.5 else -0.3),
                ],
                light(main, 0.45),
            )
    look.anchor("top", pen, 0, -0.9, 0.32)
    look.anchor("front", pen, 0, -0.42, 0.34)
    look.anchor("neck", pen, 0, 0.3, 0.3)


def robot(pen: Pen, look: Look) -> None:
    """A toy robot."""
    main = look.main
    lift = 60 * look.pose
    for s in (-1, 1):
        pen.rect(s * 0.22 - 0.14, 0.66, s * 0.22 + 0.14, 1.0, METAL, 0.05)
        arm = pen.inner(s * 0.52, 0.1, tilt=-s * lift, flip=s < 0)
        arm.limb((0.04, 0), (0.2, 0.42), 0.1, 0.1, METAL)
        arm.oval(0.22, 0.5, 0.14, fill=main)
    body = pen.rect(-0.5, -0.08, 0.5, 0.76, main, 0.1)
    look.mark(pen, body)
    if not look.pattern:
        pen.rect(-0.28, 0.14, 0.28, 0.5, light(main, 0.7), 0.05)
        for x, colour in ((-0.14, (230, 60, 60)), (0.02, LED), (0.17, (70, 190, 90))):
            pen.oval(x, 0.32, 0.07, fill=colour, line=None)
    pen.rect(-0.16, -0.22, 0.16, -0.04, METAL)
    pen.stroke([(0, -0.8), (0, -0.94)], INK, 0.06)
    pen.oval(0, -0.94, 0.09, fill=(232, 60, 60))
    head = pen.rect(-0.44, -0.8, 0.44, -0.18, light(main, 0.25), 0.12)
    look.mark(pen, head)
    for s in (-1, 1):
        pen.rect(s * 0.5 - 0.08, -0.6, s * 0.5 + 0.08, -0.38, METAL, 0.03)
        pen.oval(s * 0.2, -0.56, 0.13, fill=LED)
        pen.oval(s * 0.2, -0.56, 0.055, fill=INK, line=None)
    pen.rect(-0.24, -0.36, 0.24, -0.26, WHITE)
    for x in (-0.12, 0.0, 0.12):
        pen.stroke([(x, -0.36), (x, -0.26)], INK, 0.03)
    look.anchor("top", pen, 0, -0.79, 0.36)
    look.anchor("front", pen, 0, 0.34, 0.3)
    look.anchor("eye", pen, 0.2, -0.56, 0.34)
    look.anchor("eyes", pen, 0, -0.56, 0.42)
    look.anchor("neck", pen, 0, -0.12, 0.48)


_INDOORS = ("table", "room")
CLASSES: dict[str, ThingClass] = {
    "teapot": ThingClass(teapot, ("white", "blue", "red", "green", "pink", "yellow"), _INDOORS),
    "cup": ThingClass(cup, ("white", "blue", "red", "green", "yellow", "orange"), _INDOORS),
    "lamp": ThingClass(lamp, ("yellow", "red", "green", "blue", "white", "pink"), _INDOORS),
    "chair": ThingClass(chair, ("red", "blue", "green", "purple", "orange"), ("room",)),
    "clock": ThingClass(clock, ("red", "blue", "green", "black", "pink"), _INDOORS),
    "umbrella": ThingClass(
        umbrella, ("red", "blue", "yellow", "purple", "green", "pink"), ("beach", "street", "grass"), floats=True
    ),
    "robot": ThingClass(robot, ("grey", "blue", "red", "orange", "green"), ("room", "space", "street", "table")),
}
