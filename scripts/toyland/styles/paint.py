"""Styles of thick colour put on by hand."""

import numpy as np
import skia

from raster import Layers, skia_colour
from styles.base import Style
from styles.texture import coordinates, grain, noise, saturate, shift, tone_of


def oil(layers: Layers) -> np.ndarray:
    """Short thick brush strokes that follow a swirling field, coarse behind and fine in front, with ridges that catch light."""
    rng, side = layers.rng(1), layers.side
    source = saturate(layers.flat, 1.35)
    swirl = noise(rng, side, 4) * 4 * np.pi
    canvas, pixels = layers.canvas(source)
    for count, length, width, fine in ((15, 0.085, 0.05, False), (32, 0.036, 0.021, True)):
        points = (rng.permutation(count * count)[:, None] // np.array([1, count]) % count + rng.random((count * count, 2))) / count
        index = np.clip((points * side).astype(int), 0, side - 1)
        at = index[:, 1], index[:, 0]
        colours = source[at] * 255 + rng.normal(0, 15, (len(points), 1))
        paint = skia.Paint(AntiAlias=True, Style=skia.Paint.kStroke_Style, StrokeCap=skia.Paint.kRound_Cap, StrokeWidth=width)
        for (x, y), angle, colour, front in zip(points.tolist(), swirl[at].tolist(), colours.tolist(), layers.front[at].tolist()):
            if fine and front < 0.5:
                continue
            dx, dy = np.cos(angle) * length / 2, np.sin(angle) * length / 2
            paint.setColor(skia_colour(colour))
            canvas.drawLine(x - dx, y - dy, x + dx, y + dy, paint)
    painted = pixels()
    tone = tone_of(painted)
    ridge = np.clip((tone - np.roll(tone, (1, 1), (0, 1))) * 1.2, -0.18, 0.18)
    return painted + ridge[..., None]


def crayon(layers: Layers) -> np.ndarray:
    """Waxy strokes on white paper, with thick coloured contours that wander."""
    rng, side = layers.rng(1), layers.side
    wobble = [0.022 * (noise(rng, side, 12) - 0.5) for _ in range(2)]
    colours = shift(saturate(layers.flat, 1.5), *wobble)
    x, y = coordinates(side)
    strokes = 0.5 + 0.5 * np.sin((x - 0.8 * y) * 110 + 8 * noise(rng, side, 6))
    wax = np.clip(0.25 + 0.6 * strokes + 0.9 * (grain(rng, side, 64) - 0.35), 0.05, 1)
    wax = wax * (0.55 + 0.45 * shift(layers.front, *wobble))
    outline = shift(layers.lines(0.036, behind=False), *wobble)
    picture = 0.985 + (colours - 0.985) * np.maximum(wax, outline)[..., None]
    return picture * (1 - 0.6 * outline * (0.5 + 0.6 * grain(rng, side, 64)))[..., None]


STYLES = (
    Style("oil", "in oil painting style", oil, split="test"),
    Style("crayon", "in crayon style", crayon),
)
