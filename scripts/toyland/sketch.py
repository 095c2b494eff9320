"""A drawing as a list of flat shapes, before any style is known, and the pen that adds to it.

Shapes are kept in picture coordinates: x to the right and y down, both from 0 to 1. A pen draws in the local frame of
one thing, about -1..1 in both directions with its feet at y = 1, and carries the matrix into the picture.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import skia

from palette import RGB, dark

Point = tuple[float, float]
Line = RGB | str | None  # an outline: a colour, "auto" for the fill made darker, None for none
OUTLINE = 0.016  # of the picture's side: one pixel at 64x64


@dataclass(frozen=True)
class Shape:
    """A filled region with an outline, or (fill None) a stroke."""

    path: skia.Path
    fill: RGB | None
    line: RGB | None
    width: float  # of the outline or stroke, in picture units
    behind: bool  # part of the background


@dataclass
class Sketch:
    shapes: list[Shape] = field(default_factory=list)
    faces: list[tuple[skia.Rect, str, dict[str, Point]]] = field(default_factory=list)  # bounds, expression, parts
    hands: list[tuple[skia.Rect, str]] = field(default_factory=list)  # bounds, gesture

    def pen(
        self, x: float, y: float, scale: float, tilt: float = 0.0, flip: bool = False, behind: bool = False
    ) -> "Pen":
        matrix = skia.Matrix()
        matrix.setTranslate(x, y)
        matrix.preRotate(tilt)
        matrix.preScale(-scale if flip else scale, scale)
        return Pen(self, matrix, scale, behind)


def smooth_path(points: Sequence[Point], closed: bool) -> skia.Path:
    """The Catmull-Rom curve through the points."""
    n = len(points)
    path = skia.Path()
    path.moveTo(*points[0])
    for i in range(n if closed else n - 1):
        if closed:
            before, here, there, after = (points[(i + k) % n] for k in (-1, 0, 1, 2))
        else:
            before, here, there, after = (points[min(max(i + k, 0), n - 1)] for k in (-1, 0, 1, 2))
        path.cubicTo(
            here[0] + (there[0] - before[0]) / 6,
            here[1] + (there[1] - before[1]) / 6,
            there[0] - (after[0] - here[0]) / 6,
            there[1] - (after[1] - here[1]) / 6,
            *there,
        )
    if closed:
        path.close()
    return path


def polygon_path(points: Sequence[Point], closed: bool = True) -> skia.Path:
    path = skia.Path()
    path.addPoly([skia.Point(*p) for p in points], closed)
    return path


def taper_path(a: Point, b: Point, ra: float, rb: float) -> skia.Path:
    """A limb: two discs of radius ra and rb with everything between them."""
    angle = math.atan2(b[1] - a[1], b[0] - a[0])
    lean = math.acos(max(-1.0, min(1.0, (ra - rb) / max(1e-6, math.hypot(b[0] - a[0], b[1] - a[1])))))
    outline = []
    for centre, radius, start, sweep in (
        (a, ra, angle + lean, 2 * math.pi - 2 * lean),
        (b, rb, angle - lean, 2 * lean),
    ):
        for k in range(9):
            t = start + sweep * k / 8
            outline.append((centre[0] + radius * math.cos(t), centre[1] + radius * math.sin(t)))
    return polygon_path(outline)


class Pen:
    """Draws in one thing's own frame; `fill` None leaves a shape open."""

    def __init__(self, sketch: Sketch, matrix: skia.Matrix, scale: float, behind: bool) -> None:
        self.sketch, self.matrix, self.scale, self.behind = sketch, matrix, scale, behind

    def inner(
        self, x: float, y: float, scale: float = 1.0, tilt: float = 0.0, flip: bool = False, tall: float = 1.0
    ) -> "Pen":
        """A pen for a part of the thing, in the part's own frame; `tall` stretches its height."""
        matrix = skia.Matrix.Concat(self.matrix, skia.Matrix())
        matrix.preTranslate(x, y)
        matrix.preRotate(tilt)
        matrix.preScale(-scale if flip else scale, scale * tall)
        return Pen(self.sketch, matrix, self.scale * scale, self.behind)

    def path(self, path: skia.Path, fill: RGB | None, line: Line = "auto", width: float = OUTLINE) -> skia.Path:
        """Adds a path of the local frame. `width` is in picture units; the outlines of tiny parts are thinner, so as
        not to drown them."""
        placed = skia.Path()
        path.transform(self.matrix, placed)
        if line == "auto":
            line = None if self.behind or fill is None else dark(fill, 0.55)
        if fill is not None:
            width = min(width, 0.09 * self.scale)
        self.sketch.shapes.append(Shape(placed, fill, line, width, self.behind))
        return path

    def oval(
        self, x: float, y: float, rx: float, ry: float | None = None, fill: RGB | None = None, line: Line = "auto"
    ) -> skia.Path:
        ry = rx if ry is None else ry
        return self.path(skia.Path.Oval(skia.Rect.MakeLTRB(x - rx, y - ry, x + rx, y + ry)), fill, line)

    def rect(
        self, x0: float, y0: float, x1: float, y1: float, fill: RGB, r: float = 0.0, line: Line = "auto"
    ) -> skia.Path:
        path = skia.Path()
        path.addRoundRect(skia.Rect.MakeLTRB(x0, y0, x1, y1), r, r)
        return self.path(path, fill, line)

    def poly(self, points: Sequence[Point], fill: RGB, line: Line = "auto") -> skia.Path:
        return self.path(polygon_path(points), fill, line)

    def blob(self, points: Sequence[Point], fill: RGB, line: Line = "auto") -> skia.Path:
        """A closed smooth shape through the points."""
        return self.path(smooth_path(points, True), fill, line)

    def limb(self, a: Point, b: Point, ra: float, rb: float, fill: RGB, line: Line = "auto") -> skia.Path:
        return self.path(taper_path(a, b, ra, rb), fill, line)

    def tube(self, points: Sequence[Point], fill: RGB, width: float, smooth: bool = True) -> skia.Path:
        """A line thick enough to be a shape with an outline of its own: a tail, a handle."""
        spine = smooth_path(points, False) if smooth else polygon_path(points, False)
        brush = skia.Paint(
            Style=skia.Paint.kStroke_Style,
            StrokeWidth=width,
            StrokeCap=skia.Paint.kRound_Cap,
            StrokeJoin=skia.Paint.kRound_Join,
        )
        outline = skia.Path()
        brush.getFillPath(spine, outline, resScale=200)
        return self.path(skia.Simplify(outline), fill)

    def stroke(self, points: Sequence[Point], colour: RGB, width: float, smooth: bool = True) -> skia.Path:
        """An open line; its width is in the local frame, so that it grows with the thing."""
        path = smooth_path(points, False) if smooth and len(points) > 2 else polygon_path(points, False)
        return self.path(path, None, colour, width * self.scale)
