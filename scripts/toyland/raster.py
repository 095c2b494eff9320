"""Sketches to pixels: the plain picture, and the layers from which every style is made."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import skia

from palette import RGB, dark, light
from sketch import Shape, Sketch

Fill = Callable[[Shape], RGB | None]
Line = Callable[[Shape], tuple[RGB, float] | None]  # colour and width in picture units


def own_fill(shape: Shape) -> RGB | None:
    return shape.fill


def own_line(shape: Shape) -> tuple[RGB, float] | None:
    return None if shape.line is None else (shape.line, shape.width)


def skia_colour(colour: RGB) -> int:
    return skia.Color(*(int(min(max(c, 0), 255) + 0.5) for c in colour))


def tone_of(picture: np.ndarray) -> np.ndarray:
    """Perceived brightness; written out, as a matrix product's last bits depend on the machine's BLAS."""
    return 0.299 * picture[..., 0] + 0.587 * picture[..., 1] + 0.114 * picture[..., 2]


@dataclass(frozen=True)
class Layers:
    """A sketch at `side` x `side` pixels. Pictures are float32 [side, side, 3] and masks [side, side], both 0..1."""

    sketch: Sketch
    side: int
    seed: int  # for textures

    def canvas(self, paper: RGB | np.ndarray = (255, 255, 255)) -> tuple[skia.Canvas, Callable[[], np.ndarray]]:
        """A canvas in picture coordinates on a colour or a picture, and what returns its pixels as a float picture."""
        pixels = np.full((self.side, self.side, 4), 255, np.uint8)
        if isinstance(paper, np.ndarray):
            pixels[..., :3] = np.clip(paper * 255 + 0.5, 0, 255)
        else:
            pixels[..., :3] = paper
        canvas = skia.Surface(pixels, colorType=skia.ColorType.kRGBA_8888_ColorType).getCanvas()
        canvas.scale(self.side, self.side)
        return canvas, lambda: pixels[..., :3].astype(np.float32) / 255

    def draw(
        self,
        fill: Fill = own_fill,
        line: Line = own_line,
        paper: RGB = (255, 255, 255),
        shade: float = 0.0,
        smooth: bool = True,
    ) -> np.ndarray:
        """Paints the shapes in order; `shade` is how much each fill is lightened at its top and darkened below."""
        canvas, pixels = self.canvas(paper)
        liner = skia.Paint(
            AntiAlias=smooth,
            Style=skia.Paint.kStroke_Style,
            StrokeCap=skia.Paint.kRound_Cap,
            StrokeJoin=skia.Paint.kRound_Join,
        )
        for shape in self.sketch.shapes:
            colour = fill(shape) if shape.fill is not None else None
            if colour is not None:
                filler = skia.Paint(AntiAlias=smooth, Color=skia_colour(colour))
                if shade:
                    box = shape.path.getBounds()
                    filler.setShader(
                        skia.GradientShader.MakeLinear(
                            [skia.Point(0, box.top()), skia.Point(0, box.bottom())],
                            [skia_colour(light(colour, shade)), skia_colour(dark(colour, shade))],
                        )
                    )
                canvas.drawPath(shape.path, filler)
            drawn = line(shape)
            if drawn is not None:
                liner.setColor(skia_colour(drawn[0]))
                liner.setStrokeWidth(drawn[1])
                canvas.drawPath(shape.path, liner)
        return pixels()

    @cached_property
    def plain(self) -> np.ndarray:
        return self.draw(shade=0.14)

    @cached_property
    def flat(self) -> np.ndarray:
        """Fills alone; strokes, which are nothing but line, stay."""
        return self.draw(line=lambda shape: own_line(shape) if shape.fill is None else None)

    @cached_property
    def front(self) -> np.ndarray:
        """1 where the thing or people are, 0 on the background."""
        white, black = (255, 255, 255), (0, 0, 0)
        return self.draw(
            fill=lambda shape: black if shape.behind else white,
            line=lambda shape: None if shape.line is None else (black if shape.behind else white, shape.width),
            paper=black,
        )[..., 0]

    @cached_property
    def labels(self) -> np.ndarray:
        """The number of the shape on top at each pixel, int32."""
        number = {id(shape): k for k, shape in enumerate(self.sketch.shapes)}

        def code(shape: Shape) -> RGB:
            return (number[id(shape)] % 256, number[id(shape)] // 256, 0)

        codes = self.draw(
            fill=code, line=lambda shape: (code(shape), shape.width) if shape.fill is None else None, smooth=False
        )
        codes = (codes[..., :2] * 255 + 0.5).astype(np.int32)
        return codes[..., 0] + 256 * codes[..., 1]

    @cached_property
    def tone(self) -> np.ndarray:
        return tone_of(self.plain)

    def lines(self, width: float = 0.018, behind: bool = True) -> np.ndarray:
        """All contours that are in sight, as ink: 1 on a line, 0 on paper. Strokes keep their own width where that is
        more."""
        white, black = (255, 255, 255), (0, 0, 0)

        def line(shape: Shape) -> tuple[RGB, float] | None:
            if shape.behind:
                return (black, width) if behind else None
            if shape.fill is None:
                return (black, max(width, shape.width))
            box = shape.path.getBounds()  # a small part gets a thinner contour, or it would be nothing but contour
            return (black, min(width, 0.2 * min(box.width(), box.height())))

        return 1 - self.draw(fill=lambda shape: white, line=line)[..., 0]

    def rng(self, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, purpose])
