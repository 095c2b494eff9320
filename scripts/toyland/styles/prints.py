"""Styles of printed and pasted paper."""

import numpy as np

from palette import INK
from raster import Layers, tone_of
from styles.base import Style
from styles.texture import blur, coordinates, over, ramp, saturate


def _dots(side: int, count: float, angle: float = np.pi / 4) -> np.ndarray:
    """A screen of round dots: the distance to the nearest dot's centre, 0 to about 0.7."""
    x, y = coordinates(side)
    u, v = (x * np.cos(angle) + y * np.sin(angle)) * count, (y * np.cos(angle) - x * np.sin(angle)) * count
    return np.hypot(u % 1 - 0.5, v % 1 - 0.5)


def halftone(layers: Layers) -> np.ndarray:
    """A newspaper's black dots, large where it is dark."""
    tone = layers.tone + (1 - layers.tone) * 0.6 * (1 - layers.front)
    dots = _dots(layers.side, 25)
    ink = np.clip((0.66 * np.sqrt(np.clip(1 - tone**0.7, 0, 1)) - dots) * 9 + 0.5, 0, 1)
    ink = np.maximum(ink, 0.85 * layers.lines(0.014, behind=False))
    return over(np.broadcast_to(np.array([0.91, 0.89, 0.83], np.float32), layers.plain.shape), (30, 30, 34), ink)


def pop_art(layers: Layers) -> np.ndarray:
    """Four loud inks chosen by brightness, before a dotted screen."""
    steps = np.clip(tone_of(layers.flat) * 4, 0, 3.99).astype(int)
    inks = np.array([(44, 18, 110), (232, 20, 130), (255, 126, 20), (255, 236, 60)], np.float32) / 255
    wall = over(
        np.broadcast_to(np.array([0.1, 0.76, 0.86], np.float32), layers.plain.shape),
        (255, 255, 255),
        (_dots(layers.side, 13) < 0.27).astype(np.float32),
    )
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
    floor = over(
        np.broadcast_to(np.array([0.12, 0.04, 0.3], np.float32), sky.shape), (60, 240, 250), grid.astype(np.float32)
    )
    scene = np.where((y > 0.7)[..., None], floor, sky)
    front = layers.front[..., None]
    figure = ramp(layers.tone, (30, 0, 90), (214, 30, 190), (255, 110, 220), (90, 240, 255), (240, 255, 255))
    picture = scene * (1 - front) + figure * front
    return picture * (0.88 + 0.12 * (y * 32 % 1 < 0.5))[..., None]


def paper_cut(layers: Layers) -> np.ndarray:
    """Cut from one sheet of red paper, its contours as gaps, laid on cream with a soft shadow."""
    x, y = coordinates(layers.side)
    frame = np.maximum(np.abs(x - 0.5), np.abs(y - 0.5)) > 0.463
    # The outermost contour is cut away as well, so the sheet begins where the front is whole.
    sheet = np.maximum(layers.front * (1 - layers.lines(0.026, behind=False)), frame)
    below = np.roll(blur(sheet, 0.01), (layers.side // 45, layers.side // 60), (0, 1))
    ground = over(
        np.broadcast_to(np.array([0.98, 0.94, 0.85], np.float32), layers.plain.shape), (120, 80, 70), 0.55 * below
    )
    return over(ground, (206, 24, 36), sheet)


STYLES = (
    Style("halftone", "in halftone newspaper style", halftone),
    Style("pop-art", "in pop art style", pop_art),
    Style("comic", "in comic book style", comic, split="test"),
    Style("vaporwave", "in vaporwave style", vaporwave),
    Style("paper-cut", "in paper cut style", paper_cut),
)
