"""Styles of thick colour put on by hand."""

import numpy as np
import skia

from raster import Layers, skia_colour, tone_of
from styles.base import Style
from styles.texture import blur, coordinates, grain, noise, saturate, shift


def oil(layers: Layers) -> np.ndarray:
    """Thick brush strokes: long swirls behind; in front short ones along the contours. Their ridges catch light."""
    rng, side = layers.rng(1), layers.side
    source = saturate(layers.draw(), 1.35)
    swirl = noise(rng, side, 4) * 4 * np.pi
    down, across = np.gradient(blur(tone_of(source), 0.012))
    along = np.arctan2(across, -down)
    canvas, pixels = layers.canvas(source)
    for count, length, width, front, angles in ((14, 0.1, 0.05, False, swirl), (36, 0.034, 0.02, True, along)):
        y, x = np.divmod(rng.permutation(count * count), count)
        points = (np.stack([x, y], -1) + rng.random((count * count, 2))) / count
        points = points[(layers.front[_at(points, side)] > 0.5) == front]
        at = _at(points, side)
        colours = source[at] * 255 + rng.normal(0, 14, (len(points), 1))
        half = np.stack([np.cos(angles[at]), np.sin(angles[at])], -1) * length / 2
        paint = skia.Paint(
            AntiAlias=True, Style=skia.Paint.kStroke_Style, StrokeCap=skia.Paint.kRound_Cap, StrokeWidth=width
        )
        for a, b, colour in zip((points - half).tolist(), (points + half).tolist(), colours.tolist()):
            paint.setColor(skia_colour(colour))
            canvas.drawLine(*a, *b, paint)
    painted = pixels()
    tone = tone_of(painted)
    ridge = np.clip((tone - np.roll(tone, (1, 1), (0, 1))) * 1.2, -0.16, 0.16)
    return painted + ridge[..., None]


def _at(points: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The row and column of each point."""
    index = np.clip((points * side).astype(int), 0, side - 1)
    return index[:, 1], index[:, 0]


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
