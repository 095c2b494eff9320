"""Animals: ten silhouettes that cannot be taken for each other."""

from marks import Look
from palette import INK, RGB, WHITE, dark, light, mix
from sketch import Pen
from things.base import ThingClass

PINK = (246, 150, 160)
BEAK = (248, 166, 40)


def _eye(pen: Pen, x: float, y: float, r: float, iris: RGB = WHITE) -> None:
    """An eye with a highlight; INK on a light iris, so that it shows on every coat."""
    pen.oval(x, y, r, fill=iris, line=INK)
    pen.oval(x, y, r * 0.55, r * 0.8, fill=INK, line=None)
    pen.oval(x - r * 0.2, y - r * 0.35, r * 0.2, fill=WHITE, line=None)


def cat(pen: Pen, look: Look) -> None:
    """Sitting, seen from the front, the tail around the side."""
    pen = pen.inner(0, 0.06, 0.94)
    main, pale = look.main, light(look.main, 0.55)
    lift = 0.5 * look.pose
    look.mark(pen, pen.tube([(0.4, 0.85), (0.95, 0.75), (0.98, 0.3 - lift), (0.72, 0.1 - lift)], main, 0.22))
    body = pen.blob([(-0.3, -0.1), (0.3, -0.1), (0.56, 0.5), (0.6, 0.96), (0, 1.0), (-0.6, 0.96), (-0.56, 0.5)], main)
    look.mark(pen, body)
    pen.oval(0, 0.42, 0.2, 0.34, fill=pale, line=None)
    for x in (-0.24, 0.24):
        pen.oval(x, 0.9, 0.2, 0.12, fill=light(main, 0.3))
    for s in (-1, 1):
        pen.poly([(s * 0.62, -0.45), (s * 0.62, -1.1), (s * 0.08, -0.82)], main)
        pen.poly([(s * 0.52, -0.6), (s * 0.54, -0.92), (s * 0.24, -0.76)], PINK, None)
    head = pen.blob(
        [
            (0, -0.86), (0.5, -0.74), (0.72, -0.36), (0.46, -0.02), (0, 0.08), (-0.46, -0.02), (-0.72, -0.36),
            (-0.5, -0.74),
        ],
        main,
    )
    look.mark(pen, head)
    for s in (-1, 1):
        _eye(pen, s * 0.3, -0.42, 0.155, (166, 222, 96))
        pen.oval(s * 0.13, -0.13, 0.17, 0.12, fill=pale, line=None)
        for dy in (-0.08, 0.06):
            pen.stroke([(s * 0.26, -0.14 + dy / 2), (s * 0.86, -0.16 + 2 * dy)], dark(main, 0.7), 0.03)
    pen.poly([(-0.1, -0.26), (0.1, -0.26), (0, -0.14)], PINK)
    look.anchor("top", pen, 0, -0.84, 0.32)
    look.anchor("eye", pen, 0.3, -0.42, 0.5)
    look.anchor("eyes", pen, 0, -0.42, 0.6)
    look.anchor("neck", pen, 0, 0.08, 0.48)
    look.anchor("front", pen, 0, 0.45, 0.32)


def dog(pen: Pen, look: Look) -> None:
    """Standing, from the side: snout, floppy ear, raised tail."""
    main, shade = look.main, dark(look.main, 0.22)
    swing = 0.14 * (look.pose - 0.5)
    pen.tube([(-0.7, 0.16), (-0.92, -0.2), (-0.84 - 2 * swing, -0.52)], main, 0.22)
    for x, s, fill in ((-0.5, -1, shade), (0.34, 1, shade), (-0.62, 1, main), (0.46, -1, main)):
        pen.limb((x, 0.4), (x + s * swing, 0.88), 0.15, 0.12, fill)
    body = pen.blob(
        [(-0.74, 0.1), (-0.3, -0.06), (0.3, -0.1), (0.62, 0.1), (0.6, 0.46), (0.1, 0.52), (-0.5, 0.52), (-0.8, 0.4)],
        main,
    )
    look.mark(pen, body)
    head = pen.blob(
        [
            (0.12, -0.74), (0.42, -0.84), (0.66, -0.68), (1.0, -0.52), (1.02, -0.3), (0.72, -0.2), (0.56, 0.12),
            (0.22, 0.12), (0.08, -0.3),
        ],
        main,
    )
    look.mark(pen, head)
    pen.oval(0.84, -0.33, 0.2, 0.13, fill=light(main, 0.45), line=None)
    pen.oval(0.98, -0.5, 0.12, 0.1, fill=INK, line=None)
    pen.stroke([(0.98, -0.28), (0.84, -0.2), (0.7, -0.26)], INK, 0.04)
    _eye(pen, 0.56, -0.55, 0.12)
    pen.blob([(0.2, -0.74), (0.34, -0.66), (0.3, -0.2), (0.14, 0.0), (-0.06, -0.14), (-0.02, -0.5)], dark(main, 0.4))
    look.anchor("top", pen, 0.36, -0.8, 0.3)
    look.anchor("eye", pen, 0.56, -0.55, 0.36)
    look.anchor("eyes", pen, 0.6, -0.55, 0.36)
    look.anchor("neck", pen, 0.36, 0.08, 0.36)
    look.anchor("front", pen, -0.14, 0.22, 0.3)


def rabbit(pen: Pen, look: Look) -> None:
    """Sitting, from the front: two tall ears."""
    pen = pen.inner(0, 0.12, 0.88)
    main, pale = look.main, light(look.main, 0.6)
    bend = 30 * (look.pose - 0.5)
    for s in (-1, 1):
        ear = pen.inner(s * 0.22, -0.42, tilt=s * 10 + (bend if s > 0 else 0))
        look.mark(ear, ear.oval(0, -0.32, 0.17, 0.46, fill=main))
        ear.oval(0, -0.3, 0.08, 0.34, fill=PINK, line=None)
    pen.oval(0.55, 0.72, 0.18, fill=WHITE)
    body = pen.oval(0, 0.55, 0.56, 0.46, fill=main)
    look.mark(pen, body)
    pen.oval(0, 0.62, 0.3, 0.32, fill=pale, line=None)
    for s in (-1, 1):
        pen.oval(s * 0.38, 0.92, 0.28, 0.12, fill=light(main, 0.3))
    head = pen.oval(0, -0.1, 0.5, 0.42, fill=main)
    look.mark(pen, head)
    for s in (-1, 1):
        _eye(pen, s * 0.22, -0.18, 0.12)
        pen.oval(s * 0.12, 0.08, 0.14, 0.11, fill=pale, line=None)
    pen.rect(-0.09, 0.12, 0.09, 0.27, WHITE, 0.02)
    pen.poly([(-0.09, -0.02), (0.09, -0.02), (0, 0.08)], PINK)
    look.anchor("top", pen, 0, -0.46, 0.24)
    look.anchor("eye", pen, 0.22, -0.18, 0.38)
    look.anchor("eyes", pen, 0, -0.18, 0.46)
    look.anchor("neck", pen, 0, 0.3, 0.44)
    look.anchor("front", pen, 0, 0.62, 0.3)


def bird(pen: Pen, look: Look) -> None:
    """A songbird from the side, on two thin legs."""
    main = look.main
    for x in (-0.08, 0.18):
        pen.stroke([(x, 0.5), (x + 0.03, 0.95), (x + 0.2, 0.97)], dark(BEAK, 0.3), 0.06, smooth=False)
    pen.poly([(-0.5, 0.05), (-1.05, -0.12 - 0.2 * look.pose), (-1.0, 0.3), (-0.5, 0.36)], dark(main, 0.35))
    pen.poly([(0.74, -0.52), (1.1, -0.36), (0.72, -0.24)], BEAK)
    body = pen.blob(
        [
            (0.42, -0.86), (0.74, -0.62), (0.76, -0.3), (0.62, 0.3), (0.2, 0.62), (-0.34, 0.54), (-0.66, 0.2),
            (-0.3, -0.1), (0.02, -0.4), (0.12, -0.74),
        ],
        main,
    )
    look.mark(pen, body)
    pen.blob([(0.66, 0.0), (0.58, 0.28), (0.22, 0.56), (-0.1, 0.52), (0.3, 0.3)], light(main, 0.6), None)
    wing = pen.inner(0.1, 0.0, tilt=-40 * (look.pose - 0.3))
    wing.blob([(0.14, -0.12), (0.22, 0.1), (-0.1, 0.34), (-0.62, 0.36), (-0.3, 0.0)], dark(main, 0.25))
    _eye(pen, 0.46, -0.52, 0.12)
    look.anchor("top", pen, 0.42, -0.84, 0.3)
    look.anchor("eye", pen, 0.46, -0.52, 0.34)
    look.anchor("eyes", pen, 0.5, -0.52, 0.36)
    look.anchor("neck", pen, 0.44, -0.16, 0.36)
    look.anchor("front", pen, 0.2, 0.2, 0.28)


def owl(pen: Pen, look: Look) -> None:
    """On a branch, from the front: two huge eyes."""
    main = look.main
    pen.limb((-1.0, 0.88), (1.0, 0.8), 0.09, 0.07, (112, 74, 44))
    body = pen.blob(
        [
            (-0.56, -0.92), (-0.26, -0.76), (0.26, -0.76), (0.56, -0.92), (0.64, -0.4), (0.66, 0.3), (0.4, 0.78),
            (0, 0.9), (-0.4, 0.78), (-0.66, 0.3), (-0.64, -0.4),
        ],
        main,
    )
    look.mark(pen, body)
    pen.oval(0, 0.32, 0.36, 0.42, fill=light(main, 0.55), line=None)
    for y in (0.14, 0.36, 0.58):
        for x in (-0.18, 0.0, 0.18):
            pen.stroke([(x - 0.06, y - 0.04), (x, y + 0.04), (x + 0.06, y - 0.04)], dark(main, 0.2), 0.035)
    for s in (-1, 1):
        wing = pen.inner(s * 0.6, -0.1, tilt=-s * 24 * look.pose)
        wing.blob([(0, -0.14), (s * 0.16, 0.3), (s * 0.02, 0.72), (-s * 0.14, 0.4)], dark(main, 0.35))
        pen.oval(s * 0.28, -0.42, 0.31, fill=light(main, 0.7))
        pen.oval(s * 0.28, -0.42, 0.21, fill=(250, 196, 30))
        pen.oval(s * 0.28, -0.42, 0.12, fill=INK, line=None)
        for dx in (-0.08, 0.08):
            pen.oval(s * 0.22 + dx, 0.84, 0.06, 0.1, fill=BEAK)
    pen.poly([(-0.11, -0.28), (0.11, -0.28), (0, -0.02)], BEAK)
    look.anchor("top", pen, 0, -0.74, 0.34)
    look.anchor("eye", pen, 0.28, -0.42, 0.5)
    look.anchor("eyes", pen, 0, -0.42, 0.58)
    look.anchor("neck", pen, 0, 0.0, 0.52)
    look.anchor("front", pen, 0, 0.36, 0.32)


def penguin(pen: Pen, look: Look) -> None:
    main = look.main
    for s in (-1, 1):
        pen.oval(s * 0.26, 0.92, 0.26, 0.1, fill=BEAK)
        flipper = pen.inner(s * 0.46, -0.12, tilt=-s * (12 + 46 * look.pose))
        flipper.blob([(-0.1, -0.08), (0.1, -0.08), (0.13, 0.4), (0, 0.66), (-0.13, 0.4)], dark(main, 0.12))
    body = pen.blob(
        [
            (0, -0.98), (0.34, -0.86), (0.44, -0.5), (0.56, 0.1), (0.54, 0.66), (0.3, 0.92), (-0.3, 0.92),
            (-0.54, 0.66), (-0.56, 0.1), (-0.44, -0.5), (-0.34, -0.86),
        ],
        main,
    )
    look.mark(pen, body)
    pen.blob([(0, -0.2), (0.3, 0.0), (0.4, 0.5), (0.24, 0.84), (-0.24, 0.84), (-0.4, 0.5), (-0.3, 0.0)], WHITE, None)
    for s in (-1, 1):
        pen.oval(s * 0.18, -0.58, 0.2, 0.22, fill=WHITE, line=None)
        pen.oval(s * 0.16, -0.58, 0.09, 0.11, fill=INK, line=None)
    pen.poly([(-0.17, -0.48), (0.17, -0.48), (0, -0.26)], BEAK)
    look.anchor("top", pen, 0, -0.93, 0.32)
    look.anchor("eye", pen, 0.18, -0.58, 0.42)
    look.anchor("eyes", pen, 0, -0.58, 0.44)
    look.anchor("neck", pen, 0, -0.2, 0.44)
    look.anchor("front", pen, 0, 0.36, 0.34)


def fish(pen: Pen, look: Look) -> None:
    main, fin = look.main, dark(look.main, 0.22)
    wag = 0.16 * (look.pose - 0.5)
    pen.blob(
        [(-0.5, 0), (-0.9, -0.5 + wag), (-1.06, -0.46 + wag), (-0.84, wag), (-1.06, 0.46 + wag), (-0.9, 0.5 + wag)], fin
    )
    pen.blob([(-0.3, -0.36), (-0.1, -0.74), (0.36, -0.6), (0.44, -0.36)], fin)
    pen.blob([(-0.06, 0.36), (-0.2, 0.66), (0.2, 0.6), (0.24, 0.36)], fin)
    body = pen.blob(
        [(-0.66, 0), (-0.3, -0.38), (0.3, -0.5), (0.82, -0.24), (0.98, 0.04), (0.78, 0.3), (0.3, 0.5), (-0.3, 0.38)],
        main,
    )
    look.mark(pen, body)
    pen.stroke([(0.42, -0.4), (0.3, -0.02), (0.42, 0.4)], dark(main, 0.45), 0.05)
    pen.blob([(0.16, 0.06), (-0.18, -0.02), (-0.22, 0.22), (0.0, 0.26)], fin)
    _eye(pen, 0.64, -0.14, 0.15)
    pen.stroke([(0.94, 0.12), (0.84, 0.17), (0.74, 0.13)], dark(main, 0.6), 0.05)
    look.anchor("top", pen, 0.5, -0.44, 0.28)
    look.anchor("eye", pen, 0.64, -0.14, 0.42)
    look.anchor("eyes", pen, 0.64, -0.14, 0.4)
    look.anchor("neck", pen, 0.36, 0.0, 0.4)
    look.anchor("front", pen, -0.14, -0.08, 0.28)


def turtle(pen: Pen, look: Look) -> None:
    main = look.main
    skin = mix(main, (150, 190, 90), 0.6)
    step = 0.14 * (look.pose - 0.5)
    pen.poly([(-0.8, 0.46), (-1.04, 0.66), (-0.7, 0.64)], skin)
    for x, s in ((-0.52, 1), (0.42, -1)):
        pen.limb((x, 0.5), (x + s * step, 0.86), 0.17, 0.14, skin)
    pen.limb((0.6, 0.46), (0.84, 0.06), 0.17, 0.14, skin)
    pen.oval(0.84, -0.02, 0.22, 0.2, fill=skin)
    _eye(pen, 0.9, -0.06, 0.09)
    shell = pen.blob(
        [(-0.84, 0.52), (-0.74, 0.0), (-0.36, -0.42), (0.1, -0.46), (0.5, -0.12), (0.66, 0.5), (0.0, 0.58)], main
    )
    look.mark(pen, shell)
    plate = [(-0.24, -0.18), (0.1, -0.2), (0.24, 0.1), (0.08, 0.36), (-0.26, 0.36), (-0.4, 0.08)]
    pen.poly(plate, light(main, 0.25))
    for x, y in plate:
        pen.stroke([(x, y), (-0.08 + (x + 0.08) * 1.9, 0.08 + (y - 0.08) * 1.75)], dark(main, 0.5), 0.05)
    pen.limb((-0.8, 0.55), (0.62, 0.53), 0.09, 0.09, light(main, 0.45))
    look.anchor("top", pen, 0.84, -0.2, 0.24)
    look.anchor("eye", pen, 0.9, -0.06, 0.3)
    look.anchor("eyes", pen, 0.88, -0.06, 0.3)
    look.anchor("neck", pen, 0.72, 0.3, 0.24)
    look.anchor("front", pen, -0.08, 0.1, 0.34)


def elephant(pen: Pen, look: Look) -> None:
    main, shade = look.main, dark(look.main, 0.2)
    swing = 0.1 * (look.pose - 0.5)
    pen.stroke([(-0.86, 0.0), (-1.0, 0.3), (-0.94, 0.46)], dark(main, 0.5), 0.07)
    for x, s, fill in ((-0.42, -1, shade), (0.22, 1, shade), (-0.66, 1, main), (0.02, -1, main)):
        pen.limb((x, 0.4), (x + s * swing, 0.86), 0.17, 0.15, fill)
    body = pen.blob(
        [(-0.88, -0.06), (-0.5, -0.46), (0.1, -0.5), (0.42, -0.1), (0.3, 0.5), (-0.3, 0.56), (-0.84, 0.46)], main
    )
    look.mark(pen, body)
    curl = 0.3 * look.pose  # the trunk's tip swings forward and up
    trunk = [(0.78, -0.1), (0.9, 0.2), (0.86, 0.5 - curl / 2), (0.66 + 1.1 * curl, 0.66 - curl)]
    head = pen.oval(0.52, -0.3, 0.4, 0.42, fill=main)
    look.mark(pen, head)
    pen.tube(trunk, main, 0.24)
    pen.oval(0.66, -0.2, 0.2, 0.17, fill=main, line=None)  # the trunk grows out of the head
    pen.limb((0.66, 0.1), (0.86, 0.18), 0.06, 0.03, WHITE)
    pen.blob(
        [(0.3, -0.62), (0.48, -0.3), (0.36, 0.1), (0.08, 0.2), (-0.18, -0.1), (-0.14, -0.5), (0.1, -0.7)],
        light(main, 0.2),
    )
    pen.blob(
        [(0.26, -0.5), (0.36, -0.28), (0.26, 0.0), (0.08, 0.06), (-0.06, -0.14), (-0.04, -0.42)],
        mix(main, PINK, 0.5),
        None,
    )
    _eye(pen, 0.66, -0.38, 0.09)
    look.anchor("top", pen, 0.48, -0.68, 0.3)
    look.anchor("eye", pen, 0.66, -0.38, 0.3)
    look.anchor("eyes", pen, 0.68, -0.38, 0.32)
    look.anchor("neck", pen, 0.3, 0.26, 0.36)
    look.anchor("front", pen, -0.42, 0.02, 0.32)


def butterfly(pen: Pen, look: Look) -> None:
    """From above, wings spread."""
    main = look.main
    spread = 0.8 + 0.2 * look.pose
    for s in (-1, 1):
        wing = pen.inner(0, 0, flip=s < 0)
        for points, fill in (
            ([(0.04, 0.0), (0.5, 0.06), (0.8, 0.36), (0.62, 0.8), (0.3, 0.76), (0.08, 0.3)], dark(main, 0.22)),
            ([(0.04, 0.06), (0.1, -0.4), (0.5, -0.84), (0.92, -0.84), (0.98, -0.4), (0.7, 0.04), (0.3, 0.14)], main),
        ):
            look.mark(wing, wing.blob([(x * spread, y) for x, y in points], fill))
        wing.oval(0.68 * spread, -0.52, 0.16, fill=light(main, 0.65), line=None)
        wing.oval(0.48 * spread, 0.46, 0.13, fill=light(main, 0.65), line=None)
        wing.stroke([(0.03, -0.5), (0.12, -0.8), (0.26, -0.92)], INK, 0.045)
    pen.limb((0, -0.36), (0, 0.5), 0.09, 0.06, INK)
    pen.oval(0, -0.46, 0.12, fill=INK)
    look.anchor("top", pen, 0, -0.56, 0.24)
    look.anchor("front", pen, 0, -0.05, 0.3)


_LAND = ("grass", "street", "night")
CLASSES: dict[str, ThingClass] = {
    "cat": ThingClass(cat, ("orange", "grey", "black", "white", "brown"), ("room", *_LAND)),
    "dog": ThingClass(dog, ("brown", "yellow", "white", "black", "grey"), ("room", "snow", *_LAND)),
    "rabbit": ThingClass(rabbit, ("white", "brown", "grey", "pink"), ("grass", "snow", "night")),
    "bird": ThingClass(bird, ("blue", "red", "yellow", "green", "brown"), ("grass", "snow", "beach")),
    "owl": ThingClass(owl, ("brown", "grey", "white", "orange"), ("night", "sky", "snow")),
    "penguin": ThingClass(penguin, ("black", "blue", "grey"), ("snow", "beach")),
    "fish": ThingClass(fish, ("orange", "yellow", "blue", "red", "purple", "green"), ("underwater",), floats=True),
    "turtle": ThingClass(turtle, ("green", "brown", "orange"), ("grass", "beach", "underwater")),
    "elephant": ThingClass(elephant, ("grey", "blue", "pink"), ("grass", "desert")),
    "butterfly": ThingClass(
        butterfly, ("orange", "blue", "yellow", "purple", "pink", "red"), ("sky", "grass"), floats=True
    ),
}
