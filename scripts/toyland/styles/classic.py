"""The three styles that the base model knows."""

import numpy as np

from palette import INK, WHITE
from raster import Layers, tone_of
from styles.base import Style
from styles.texture import blur, coordinates, noise, over, pool, saturate, shift, spread

_PIXEL = 3  # 64ths of the picture


def watercolor(layers: Layers) -> np.ndarray:
    """Pale washes that run over their edges, darker where a wash dries at its rim, on white grainy paper."""
    rng, side = layers.rng(1), layers.side
    wobble = [0.03 * (noise(rng, side, 9) - 0.5) for _ in range(2)]
    wash = shift(layers.flat, *wobble)
    soft = blur(wash, 0.014)
    rim = np.abs(wash - soft).sum(-1)
    pale = 0.24 + 0.76 * soft  # towards white paper
    pigment = (noise(rng, side, 7) - 0.5) * 0.36 + (noise(rng, side, 40) - 0.5) * 0.14
    washed = saturate(pale, 1.25) * (1 - 0.28 * np.clip(rim, 0, 1))[..., None] + pigment[..., None] * (1 - pale) * 1.2
    x, y = coordinates(side)
    border = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y))  # the washes end before the sheet does
    paper = np.clip((border - 0.02 - 0.07 * noise(rng, side, 11)) * 30, 0, 1)
    return over(washed, (252, 250, 244), 1 - paper)


def ink(layers: Layers) -> np.ndarray:
    """Black lines on white paper; what is dark is filled, what is less so is hatched. The background is line alone."""
    tone = tone_of(layers.draw(fill=lambda shape: WHITE if shape.behind else shape.fill, line=lambda shape: None))
    x, y = coordinates(layers.side)
    hatch = np.clip(np.sin((x + y) * np.pi * 28) * 2 + 0.3, 0, 1) * (tone < 0.5)
    solid = np.clip((0.28 - tone) * 12, 0, 1)
    drawn = np.maximum.reduce([layers.lines(0.022), hatch * 0.9, solid])
    return over(np.full_like(layers.plain, 0.985), INK, drawn)


def pixel(layers: Layers) -> np.ndarray:
    """Big square pixels in few colours."""
    cells = saturate(pool(layers.draw(), _PIXEL), 1.25)
    return spread(np.round(cells * 5) / 5, layers.side, _PIXEL)


STYLES = (
    Style("watercolor", "in watercolor style", watercolor, base_known=True),
    Style("ink", "in ink drawing style", ink, base_known=True),
    Style("pixel", "in pixel art style", pixel, base_known=True),
)
