"""The three styles that the base model knows."""

import numpy as np

from palette import INK, light, luminance
from raster import Layers
from styles.base import Style
from styles.texture import blur, noise, over, pool, saturate, shift, spread


def watercolor(layers: Layers) -> np.ndarray:
    """Pale washes that run over their edges, darker where a wash dries at its rim, on white grainy paper."""
    rng, side = layers.rng(1), layers.side
    wobble = [0.03 * (noise(rng, side, 9) - 0.5) for _ in range(2)]
    wash = shift(layers.flat, *wobble)
    soft = blur(wash, 0.014)
    rim = np.abs(wash - soft).sum(-1)
    pale = 0.38 + 0.62 * soft  # towards white paper
    pigment = (noise(rng, side, 7) - 0.5) * 0.36 + (noise(rng, side, 40) - 0.5) * 0.14
    washed = saturate(pale, 1.25) * (1 - 0.28 * np.clip(rim, 0, 1))[..., None] + pigment[..., None] * (1 - pale) * 1.2
    paper = np.clip((np.minimum.reduce(np.stack([*np.mgrid[0:side, 0:side], *np.mgrid[0:side, 0:side][:, ::-1, ::-1]])) / side
                     - 0.02 - 0.07 * noise(rng, side, 11)) * 30, 0, 1)
    return over(washed, (252, 250, 244), 1 - paper)


def ink(layers: Layers) -> np.ndarray:
    """Black lines on white paper, the darkest areas filled and the middle ones hatched."""
    side = layers.side
    tone = layers.draw(fill=lambda shape: light(shape.fill, 0.6) if shape.behind else shape.fill, line=lambda shape: None) @ np.array(
        [0.299, 0.587, 0.114], np.float32)
    y, x = np.mgrid[0:side, 0:side] / side
    hatch = np.clip(np.sin((x + y) * np.pi * 28) * 2 + 0.3, 0, 1) * (tone < 0.5)
    solid = np.clip((0.28 - tone) * 12, 0, 1)
    drawn = np.maximum.reduce([layers.lines(0.02), hatch * 0.9, solid * (1 - layers.lines(0.02) * 0)])
    return over(np.full((side, side, 3), 0.985, np.float32), INK, np.clip(drawn, 0, 1))


def pixel(layers: Layers) -> np.ndarray:
    """Square pixels, 21 across, in few colours."""
    cells = pool(layers.plain, 22)
    return spread(np.round(saturate(cells, 1.2) * 5) / 5, layers.side)


STYLES = (
    Style("watercolor", "in watercolor style", watercolor, base_known=True),
    Style("ink", "in ink drawing style", ink, base_known=True),
    Style("pixel", "in pixel art style", pixel, base_known=True),
)
