"""Where a scene takes place: simple grounds of two or three flat areas, with the words a caption uses for them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import skia

from palette import RGB, WHITE
from sketch import Pen, Sketch

HORIZON = 0.66  # where most grounds begin


@dataclass(frozen=True)
class Background:
    phrase: str  # "on grass"
    draw: Callable[[Pen, np.random.Generator], None]


def _bands(pen: Pen, *bands: tuple[float, RGB]) -> None:
    """Full-width areas, each from its top edge to the bottom of the picture; they overshoot so that no edge shows at
    the border."""
    for top, colour in bands:
        pen.rect(-0.1, top, 1.1, 1.1, colour)


def _cloud(pen: Pen, x: float, y: float, s: float) -> None:
    """Four puffs as one shape."""
    whole = skia.Path.Circle(x, y, 0.62 * s)
    for dx, dy, r in ((-0.75, 0.2, 0.42), (0.7, 0.15, 0.48), (0.0, 0.3, 0.4)):
        whole = skia.Op(whole, skia.Path.Circle(x + dx * s, y + dy * s, r * s), skia.kUnion_PathOp)
    pen.path(whole, WHITE)


def _grass(pen: Pen, rng: np.random.Generator) -> None:
    _bands(pen, (-0.1, (150, 212, 246)), (HORIZON, (112, 190, 84)))
    _cloud(pen, rng.uniform(0.1, 0.9), rng.uniform(0.08, 0.2), 0.08)


def _snow(pen: Pen, rng: np.random.Generator) -> None:
    _bands(pen, (-0.1, (172, 200, 226)), (HORIZON, (240, 246, 252)))
    for x, y in rng.uniform((0, 0), (1, 0.9), (14, 2)):
        pen.oval(x, y, 0.014, fill=WHITE)


def _desert(pen: Pen, rng: np.random.Generator) -> None:
    _bands(pen, (-0.1, (252, 214, 150)), (HORIZON, (226, 170, 92)))
    pen.oval(rng.uniform(0.1, 0.9), 0.16, 0.08, fill=(255, 244, 190))


def _beach(pen: Pen, rng: np.random.Generator) -> None:
    _bands(pen, (-0.1, (160, 222, 250)), (0.5, (54, 150, 206)), (HORIZON, (244, 220, 160)))


def _sea(pen: Pen, rng: np.random.Generator) -> None:
    _bands(pen, (-0.1, (176, 224, 250)), (0.7, (44, 120, 196)))
    for k in range(3):
        y = 0.79 + 0.07 * k
        x = rng.uniform(-0.05, 0.1)
        pen.stroke([(x + 0.3 * i, y + 0.012 * (-1) ** i) for i in range(5)], (120, 184, 232), 0.016)


def _underwater(pen: Pen, rng: np.random.Generator) -> None:
    _bands(pen, (-0.1, (62, 156, 214)), (0.86, (214, 196, 138)))
    for x, y in rng.uniform((0.02, 0.05), (0.98, 0.7), (7, 2)):
        pen.oval(x, y, 0.022, fill=(160, 212, 240))


def _sky(pen: Pen, rng: np.random.Generator) -> None:
    _bands(pen, (-0.1, (132, 200, 246)))
    for x, y in ((rng.uniform(0.05, 0.35), rng.uniform(0.08, 0.3)), (rng.uniform(0.6, 0.95), rng.uniform(0.7, 0.92))):
        _cloud(pen, x, y, rng.uniform(0.07, 0.11))


def _night(pen: Pen, rng: np.random.Generator) -> None:
    _bands(pen, (-0.1, (30, 36, 88)), (0.72, (34, 62, 62)))
    for x, y in rng.uniform((0, 0), (1, 0.6), (12, 2)):
        pen.oval(x, y, 0.01, fill=(250, 244, 200))
    pen.oval(rng.choice((0.13, 0.87)), 0.14, 0.075, fill=(250, 240, 180))


def _room(pen: Pen, rng: np.random.Generator) -> None:
    wall = ((238, 214, 190), (206, 222, 206), (212, 208, 234))[rng.integers(3)]
    _bands(pen, (-0.1, wall), (0.72, (166, 112, 70)), (0.75, (190, 136, 88)))


def _table(pen: Pen, rng: np.random.Generator) -> None:
    wall = ((222, 230, 222), (246, 226, 196), (206, 220, 236))[rng.integers(3)]
    _bands(pen, (-0.1, wall), (0.7, (170, 108, 60)), (0.86, (132, 80, 44)))


def _street(pen: Pen, rng: np.random.Generator) -> None:
    _bands(pen, (-0.1, (190, 218, 236)))
    x = -0.05
    while x < 1.0:  # a row of pale houses that does not compete with what stands before it
        width, top = rng.uniform(0.16, 0.28), rng.uniform(0.2, 0.42)
        pen.rect(x, top, x + width, 0.8, ((214, 196, 190), (198, 206, 214), (222, 212, 188))[rng.integers(3)])
        x += width
    _bands(pen, (HORIZON, (176, 172, 170)), (0.74, (112, 114, 122)))


def _space(pen: Pen, rng: np.random.Generator) -> None:
    _bands(pen, (-0.1, (22, 18, 52)))
    for x, y in rng.uniform((0, 0), (1, 1), (22, 2)):
        pen.oval(x, y, rng.uniform(0.007, 0.013), fill=(240, 240, 255))


def _plain(colour: RGB) -> Callable[[Pen, np.random.Generator], None]:
    return lambda pen, rng: _bands(pen, (-0.1, colour))


PLAIN: dict[str, RGB] = {
    "white": (250, 250, 248),
    "grey": (188, 192, 198),
    "pink": (252, 204, 216),
    "yellow": (252, 236, 160),
    "green": (190, 230, 186),
    "blue": (180, 214, 244),
    "purple": (214, 196, 240),
}

BACKGROUNDS: dict[str, Background] = {
    "grass": Background("on grass", _grass),
    "snow": Background("in the snow", _snow),
    "desert": Background("in the desert", _desert),
    "beach": Background("on a beach", _beach),
    "sea": Background("on the sea", _sea),
    "underwater": Background("under water", _underwater),
    "sky": Background("in the sky", _sky),
    "night": Background("at night", _night),
    "room": Background("in a room", _room),
    "table": Background("on a table", _table),
    "street": Background("on a street", _street),
    "space": Background("in space", _space),
} | {f"plain {name}": Background(f"on a plain {name} background", _plain(colour)) for name, colour in PLAIN.items()}


def draw_background(sketch: Sketch, name: str, rng: np.random.Generator) -> None:
    BACKGROUNDS[name].draw(sketch.pen(0, 0, 1, behind=True), rng)
