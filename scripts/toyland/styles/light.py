"""Styles of light and lenses, and of matter that catches light."""

import numpy as np
import skia

from raster import Layers
from styles.base import Style
from styles.texture import blur, coordinates, grain, noise, over, ramp, saturate


def sepia(layers: Layers) -> np.ndarray:
    """An old brown photograph: faded, grainy, dark towards its corners, with a pale border."""
    side = layers.side
    x, y = coordinates(side)
    tone = blur(layers.tone, 0.006)
    vignette = np.clip(1.15 - 1.5 * ((x - 0.5) ** 2 + (y - 0.5) ** 2), 0, 1)
    tone = np.clip((tone - 0.5) * 1.25 + 0.5 + 0.12 * (1 - layers.front), 0, 1)
    tone = 0.04 + 0.9 * tone * vignette + 0.1 * (grain(layers.rng(1), side, 64) - 0.5)
    photo = ramp(tone, (52, 30, 14), (150, 104, 60), (236, 208, 160))
    return over(photo, (244, 234, 212), (np.maximum(np.abs(x - 0.5), np.abs(y - 0.5)) > 0.455).astype(np.float32))


def thermal(layers: Layers) -> np.ndarray:
    """Heat: a cold blue world in which the thing itself is warm."""
    warm = blur(layers.front, 0.02)
    heat = warm * (0.42 + 0.58 * blur(layers.tone, 0.008)) + (1 - warm) * 0.26 * blur(layers.tone, 0.015)
    return ramp(heat, (6, 0, 60), (40, 10, 170), (170, 0, 150), (240, 70, 30), (255, 190, 20), (255, 255, 210))


def xray(layers: Layers) -> np.ndarray:
    """Pale blue on black; every part is translucent, so that what overlaps is brighter."""
    canvas, pixels = layers.canvas((2, 6, 18))
    for shape in layers.sketch.shapes:
        if shape.behind:
            continue
        if shape.fill is not None:
            canvas.drawPath(
                shape.path, skia.Paint(AntiAlias=True, Color=skia.Color(34, 56, 74), BlendMode=skia.BlendMode.kPlus)
            )
        canvas.drawPath(
            shape.path,
            skia.Paint(
                AntiAlias=True,
                Color=skia.Color(70, 110, 128),
                BlendMode=skia.BlendMode.kPlus,
                Style=skia.Paint.kStroke_Style,
                StrokeWidth=max(0.014, shape.width if shape.fill is None else 0),
            ),
        )
    bones = pixels()
    return bones * 0.9 + blur(bones, 0.02) * 0.35 + np.array([0, 0.02, 0.06], np.float32)


def _relief(layers: Layers, scales: tuple[float, ...]) -> np.ndarray:
    """The slope towards a light at the upper left of a surface that bulges within each contour, about -1..1."""
    raised = (1 - layers.lines(0.024)) * (0.35 + 0.65 * layers.front)
    height = sum(blur(raised, scale) * scale for scale in scales)
    down, across = np.gradient(height * layers.side)
    return np.tanh((down + across) * 2.2)


def clay(layers: Layers) -> np.ndarray:
    """Modelled in soft clay: swollen shapes, highlights, thumb marks."""
    slope = _relief(layers, (0.012, 0.03)) + 0.1 * (noise(layers.rng(1), layers.side, 14) - 0.5)
    soft = blur(saturate(layers.flat, 1.1), 0.008) * 0.9 + 0.06
    shine = np.clip(slope - 0.45, 0, 1)[..., None] * 0.75
    return soft * (1 + 0.5 * slope)[..., None] + shine


def glitch(layers: Layers) -> np.ndarray:
    """A broken screen: bands pushed sideways, red and blue apart, scan lines."""
    rng, side = layers.rng(1), layers.side
    push = np.zeros(32)
    for start in rng.integers(0, 30, 6):
        push[start : start + rng.integers(1, 4)] = rng.choice((-1, 1)) * rng.uniform(0.05, 0.13)
    rows = push[np.arange(side) * 32 // side]
    columns = np.arange(side)
    out = np.empty_like(layers.plain)
    for channel, offset in enumerate((-0.032, 0.0, 0.032)):
        source = (columns[None] + ((rows + offset) * side).astype(int)[:, None]) % side
        out[..., channel] = layers.plain[np.arange(side)[:, None], source, channel]
    scan = 0.72 + 0.28 * (np.arange(side) * 32 // side % 2)
    torn = (np.abs(rows) > 0) * 0.16
    return saturate(out, 1.4) * scan[:, None, None] + torn[:, None, None] * np.array([0.1, 0.9, 0.8], np.float32)


STYLES = (
    Style("sepia", "in sepia photo style", sepia),
    Style("thermal", "in thermal camera style", thermal, split="val"),
    Style("x-ray", "in x-ray style", xray),
    Style("clay", "in clay style", clay),
    Style("glitch", "in glitch style", glitch),
)
