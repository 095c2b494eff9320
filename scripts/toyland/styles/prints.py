"""Styles of printed and pasted paper."""

import numpy as np
import skia

from palette import INK, light, mix
from raster import Layers, skia_colour
from styles.base import Style
from styles.texture import coordinates, grain, over, ramp, saturate


def _dots(side: int, count: float, angle: float = np.pi / 4) -> np.ndarray:
    """A screen of round dots: the distance to the nearest dot's centre, 0 to about 0.7."""
    x, y = coordinates(side)
    u, v = (x * np.cos(angle) + y * np.sin(angle)) * count, (y * np.cos(angle) - x * np.sin(angle)) * count
    return np.hypot(u % 1 - 0.5, v % 1 - 0.5)


def halftone(layers: Layers) -> np.ndarray:
    """A newspaper's black dots, large where it is dark."""
    tone = layers.tone + (1 - layers.tone) * 0.25 * (1 - layers.front)
    dots = _dots(layers.side, 25)
    ink = np.clip((0.78 * np.sqrt(np.clip(1.02 - tone, 0, 1)) - dots) * 9 + 0.5, 0, 1)
    ink = np.maximum(ink, 0.85 * layers.lines(0.014, behind=False))
    return over(np.broadcast_to(np.array([0.91, 0.89, 0.83], np.float32), layers.plain.shape), (30, 30, 34), ink)


def pop_art(layers: Layers) -> np.ndarray:
    """Four loud inks chosen by brightness, before a dotted screen."""
    steps = np.clip((layers.flat @ np.array([0.299, 0.587, 0.114], np.float32)) * 4, 0, 3.99).astype(int)
    inks = np.array([(44, 18, 110), (232, 20, 130), (255, 126, 20), (255, 236, 60)], np.float32) / 255
    wall = over(np.broadcast_to(np.array([0.1, 0.76, 0.86], np.float32), layers.plain.shape), (255, 255, 255),
                (_dots(layers.side, 13) < 0.27).astype(np.float32))
    front = layers.front[..., None]
    return over(wall * (1 - front) + inks[steps] * front, INK, layers.lines(0.03, behind=False))


def comic(layers: Layers) -> np.ndarray:
    """Heavy outlines, full colours, dots in the shade, and rays behind."""
    x, y = coordinates(layers.side)
    flat = saturate(layers.flat, 1.5)
    shade = (_dots(layers.side, 20) < 0.3) & (y + 0.35 * x > 0.66) & (layers.front > 0.5)
    rays = np.sin(np.arctan2(y - 0.52, x - 0.5) * 12) > 0
    behind = (layers.front < 0.5) & rays
    picture = flat * (1 - 0.42 * shade)[..., None]
    picture = over(picture, (255, 238, 60), 0.75 * behind)
    return over(picture, (8, 8, 12), layers.lines(0.044, behind=False))


def vaporwave(layers: Layers) -> np.ndarray:
    """Magenta to cyan before a striped sun and a glowing grid, under scan lines."""
    side = layers.side
    x, y = coordinates(side)
    sky = ramp(y / 0.7, (40, 12, 92), (196, 40, 160), (255, 130, 120))
    sun = (np.hypot(x - 0.5, y - 0.42) < 0.36) & ((y < 0.4) | (y * 18 % 1 < 0.62))
    sky = over(sky, (255, 214, 90), sun.astype(np.float32))
    depth = 0.12 / np.maximum(y - 0.68, 0.012)
    grid = (np.abs((x - 0.5) * depth * 5 % 1 - 0.5) > 0.42) | (depth * 3.2 % 1 < 0.14)
    floor = over(np.broadcast_to(np.array([0.12, 0.04, 0.3], np.float32), sky.shape), (60, 240, 250), grid.astype(np.float32))
    scene = np.where((y > 0.7)[..., None], floor, sky)
    front = layers.front[..., None]
    figure = ramp(layers.tone, (30, 0, 90), (214, 30, 190), (255, 110, 220), (90, 240, 255), (240, 255, 255))
    picture = scene * (1 - front) + figure * front
    return picture * (0.88 + 0.12 * (y * 32 % 1 < 0.5))[..., None]


def paper_cut(layers: Layers) -> np.ndarray:
    """Layers of pale card, each with a white edge and a shadow on what lies below."""
    canvas, pixels = layers.canvas()
    blurred = skia.MaskFilter.MakeBlur(skia.BlurStyle.kNormal_BlurStyle, 0.008)
    for shape in layers.sketch.shapes:
        own = shape.fill or shape.line
        card = mix(light(own, 0.22), (250, 240, 226), 0.12)
        stroked = shape.fill is None
        style = skia.Paint.kStroke_Style if stroked else skia.Paint.kFill_Style
        width = shape.width if stroked else 0.0
        canvas.save()
        canvas.translate(0.013, 0.018)
        canvas.drawPath(shape.path, skia.Paint(AntiAlias=True, Color=skia.Color(30, 20, 40, 130), Style=style, StrokeWidth=width,
                                              MaskFilter=blurred))
        canvas.restore()
        canvas.drawPath(shape.path, skia.Paint(AntiAlias=True, Color=skia_colour(card), Style=style, StrokeWidth=width))
        if not stroked:
            canvas.drawPath(shape.path, skia.Paint(AntiAlias=True, Color=skia_colour(light(card, 0.75)), Style=skia.Paint.kStroke_Style,
                                                  StrokeWidth=min(0.012, shape.width or 0.012)))
    return pixels() * (0.95 + 0.07 * grain(layers.rng(1), layers.side, 64))[..., None]


STYLES = (
    Style("halftone", "in halftone newspaper style", halftone),
    Style("pop art", "in pop art style", pop_art),
    Style("comic", "in comic book style", comic, split="test"),
    Style("vaporwave", "in vaporwave style", vaporwave),
    Style("paper cut", "in paper cut style", paper_cut),
)
