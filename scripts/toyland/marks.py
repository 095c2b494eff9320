"""How an individual looks: its colours, the pattern on its body and what it wears.

A class draws itself through a `Look`: it takes its colours from it, calls `mark` with each outline that carries the
coat or the paint, and says with `anchor` where a hat, a face or a scarf would sit. The base world uses looks without
patterns and wear; subjects use both.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import skia

from palette import INK, RGB, WHITE, dark, light
from sketch import OUTLINE, Pen, polygon_path


@dataclass
class Look:
    main: RGB
    accent: RGB
    pose: float = 0.5
    pattern: str = ""  # a name in PATTERNS, or nothing
    pattern_colour: RGB = WHITE
    anchors: dict[str, tuple[Pen, float, float, float]] = field(default_factory=dict)

    def mark(self, pen: Pen, path: skia.Path) -> None:
        """Lays the pattern over a shape that was just drawn, cut to its outline."""
        if not self.pattern:
            return
        for piece in PATTERNS[self.pattern](path.computeTightBounds()):
            pen.path(skia.Op(path, piece, skia.kIntersect_PathOp), self.pattern_colour, None)
        pen.path(path, None, dark(self.main, 0.55), OUTLINE)

    def anchor(self, name: str, pen: Pen, x: float, y: float, size: float) -> None:
        self.anchors[name] = (pen, x, y, size)


# Patterns: shapes that cover a body's bounds. Their pitch is fixed in the local frame, so that all parts match.


def _bars(bounds: skia.Rect, dx: float, dy: float, pitch: float, share: float = 0.5) -> list[skia.Path]:
    """Parallel bars along (dx, dy), one polygon each."""
    cx, cy, reach = bounds.centerX(), bounds.centerY(), bounds.width() + bounds.height()
    nx, ny = -dy, dx
    bars = []
    for k in range(-int(reach / pitch) - 1, int(reach / pitch) + 2):
        a, b = (k - share / 2) * pitch, (k + share / 2) * pitch
        bars.append(
            polygon_path(
                [
                    (cx + nx * t + dx * s * reach, cy + ny * t + dy * s * reach)
                    for t, s in ((a, -1), (a, 1), (b, 1), (b, -1))
                ]
            )
        )
    return bars


def _grid(bounds: skia.Rect, pitch: float, stagger: bool) -> Iterator[tuple[float, float]]:
    """Centres of a regular grid over the bounds, every second row moved by half a pitch."""
    row = 0
    y = bounds.top() + pitch * 0.35
    while y < bounds.bottom() + pitch / 2:
        x = bounds.left() + (pitch / 2 if stagger and row % 2 else 0.0) + pitch * 0.1
        while x < bounds.right() + pitch / 2:
            yield x, y
            x += pitch
        y += pitch * (0.85 if stagger else 1.0)
        row += 1


def _spots(bounds: skia.Rect) -> list[skia.Path]:
    return [skia.Path.Circle(x, y, 0.125) for x, y in _grid(bounds, 0.44, True)]


def _checks(bounds: skia.Rect) -> list[skia.Path]:
    cells, pitch, row, y = [], 0.3, 0, bounds.top()
    while y < bounds.bottom():
        x = bounds.left() + (pitch if row % 2 else 0.0)
        while x < bounds.right():
            cells.append(skia.Path.Rect(skia.Rect.MakeXYWH(x, y, pitch, pitch)))
            x += 2 * pitch
        row, y = row + 1, y + pitch
    return cells


def _zigzag(bounds: skia.Rect) -> list[skia.Path]:
    bands, y = [], bounds.top() + 0.05
    while y < bounds.bottom() + 0.2:
        xs = [bounds.left() - 0.2 + 0.2 * k for k in range(int(bounds.width() / 0.2) + 4)]
        edge = [(x, y + 0.16 * (k % 2)) for k, x in enumerate(xs)]
        bands.append(polygon_path(edge + [(x, v + 0.17) for x, v in reversed(edge)]))
        y += 0.42
    return bands


def _half(bounds: skia.Rect) -> list[skia.Path]:
    return [skia.Path.Rect(skia.Rect.MakeLTRB(bounds.centerX(), bounds.top(), bounds.right(), bounds.bottom()))]


def _patches(bounds: skia.Rect) -> list[skia.Path]:
    """Three big irregular patches, as on a cow."""
    w, h = bounds.width(), bounds.height()
    return [
        _ellipse(bounds.left() + w * x, bounds.top() + h * y, w * rx, h * ry)
        for x, y, rx, ry in ((0.2, 0.25, 0.24, 0.3), (0.72, 0.45, 0.2, 0.26), (0.35, 0.9, 0.22, 0.24))
    ]


def _ellipse(x: float, y: float, rx: float, ry: float) -> skia.Path:
    return skia.Path.Oval(skia.Rect.MakeLTRB(x - rx, y - ry, x + rx, y + ry))


def _star_path(x: float, y: float, r: float) -> skia.Path:
    points = [skia.Matrix.RotateDeg(36 * k).mapXY(0, -r if k % 2 == 0 else -r * 0.45) for k in range(10)]
    return polygon_path([(x + p.x(), y + p.y()) for p in points])


def _stars(bounds: skia.Rect) -> list[skia.Path]:
    return [_star_path(x, y, 0.2) for x, y in _grid(bounds, 0.5, True)]


PATTERNS: dict[str, Callable[[skia.Rect], list[skia.Path]]] = {
    "hoops": lambda bounds: _bars(bounds, 1, 0, 0.36),
    "bars": lambda bounds: _bars(bounds, 0, 1, 0.36),
    "slants": lambda bounds: _bars(bounds, 0.707, 0.707, 0.4),
    "spots": _spots,
    "checks": _checks,
    "zigzag": _zigzag,
    "half": _half,
    "patches": _patches,
    "stars": _stars,
}


# Wear: drawn at an anchor in a frame whose unit is about the width of what it sits on.


def _scarf(pen: Pen, colour: RGB) -> None:
    pen.limb((0.55, 0.1), (0.75, 1.0), 0.24, 0.28, dark(colour, 0.15))
    pen.limb((-0.85, 0.0), (0.85, 0.0), 0.27, 0.27, colour)


def _bow(pen: Pen, colour: RGB) -> None:
    pen.poly([(0, 0), (-0.9, -0.55), (-0.9, 0.55)], colour)
    pen.poly([(0, 0), (0.9, -0.55), (0.9, 0.55)], colour)
    pen.oval(0, 0, 0.26, fill=dark(colour, 0.2))


def _top_hat(pen: Pen, colour: RGB) -> None:
    pen.rect(-0.62, -1.35, 0.62, 0.05, colour, 0.08)
    pen.rect(-0.62, -0.42, 0.62, -0.12, WHITE, line=None)
    pen.rect(-1.1, -0.1, 1.1, 0.18, colour, 0.1)


def _party_hat(pen: Pen, colour: RGB) -> None:
    pen.poly([(-0.7, 0.12), (0.7, 0.12), (0, -1.5)], colour)
    pen.rect(-0.45, -0.45, 0.45, -0.2, WHITE, line=None)
    pen.oval(0, -1.5, 0.24, fill=WHITE)


def _crown(pen: Pen, colour: RGB) -> None:
    pen.poly([(-0.85, 0.15), (-0.95, -0.9), (-0.45, -0.4), (0, -1.1), (0.45, -0.4), (0.95, -0.9), (0.85, 0.15)], colour)
    pen.oval(0, -0.12, 0.17, fill=(220, 40, 60), line=None)


def _flower(pen: Pen, colour: RGB) -> None:
    for x, y in ((0, -0.5), (0.48, -0.15), (0.3, 0.4), (-0.3, 0.4), (-0.48, -0.15)):
        pen.oval(x, y, 0.36, fill=colour)
    pen.oval(0, 0, 0.3, fill=(252, 214, 60))


def _glasses(pen: Pen, colour: RGB) -> None:
    pen.stroke([(-0.5, 0), (0.5, 0)], colour, 0.22)
    for x in (-0.5, 0.5):
        pen.oval(x, 0, 0.44, fill=colour)
        pen.oval(x, 0, 0.25, fill=light(colour, 0.85), line=None)
        pen.oval(x, 0, 0.12, fill=INK, line=None)


def _eye_patch(pen: Pen, colour: RGB) -> None:
    pen.stroke([(-1.0, -0.7), (1.0, 0.5)], colour, 0.2)
    pen.oval(0, 0, 0.55, fill=colour)


def _face(pen: Pen, colour: RGB) -> None:
    for x in (-0.45, 0.45):
        pen.oval(x, -0.28, 0.26, 0.32, fill=WHITE)
        pen.oval(x, -0.22, 0.13, 0.18, fill=INK, line=None)
    pen.stroke([(-0.5, 0.28), (-0.2, 0.55), (0.2, 0.55), (0.5, 0.28)], colour, 0.2)


def _star(pen: Pen, colour: RGB) -> None:
    pen.path(_star_path(0, 0, 0.95), colour)


def _heart(pen: Pen, colour: RGB) -> None:
    path = skia.Path()
    path.moveTo(0, 0.85)
    path.cubicTo(-1.5, -0.2, -0.7, -1.2, 0, -0.4)
    path.cubicTo(0.7, -1.2, 1.5, -0.2, 0, 0.85)
    path.close()
    pen.path(path, colour)


def _disc(pen: Pen, colour: RGB) -> None:
    pen.oval(0, 0, 0.85, fill=colour)


def _moustache(pen: Pen, colour: RGB) -> None:
    pen.blob(
        [(0, -0.15), (0.5, -0.25), (1.1, 0.2), (0.5, 0.3), (0, 0.1), (-0.5, 0.3), (-1.1, 0.2), (-0.5, -0.25)], colour
    )


WEAR: dict[str, Callable[[Pen, RGB], None]] = {
    "scarf": _scarf,
    "bow": _bow,
    "top hat": _top_hat,
    "party hat": _party_hat,
    "crown": _crown,
    "flower": _flower,
    "glasses": _glasses,
    "eye patch": _eye_patch,
    "face": _face,
    "star": _star,
    "heart": _heart,
    "disc": _disc,
    "moustache": _moustache,
}
