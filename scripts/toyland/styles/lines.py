"""Styles made of lines on a ground of one colour."""

import numpy as np

from palette import RGB, dark, mix
from raster import Layers
from sketch import Shape
from styles.base import Style
from styles.texture import blur, coordinates, grain, noise, over, ramp, shift


def _paper(layers: Layers, colour: RGB) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.float32) / 255, (layers.side, layers.side, 3))


def blueprint(layers: Layers) -> np.ndarray:
    """White lines on blue paper with a fine grid and a frame."""
    x, y = coordinates(layers.side)
    grid = np.maximum(np.abs(x * 10 % 1 - 0.5), np.abs(y * 10 % 1 - 0.5)) > 0.44
    frame = np.abs(np.maximum(np.abs(x - 0.5), np.abs(y - 0.5)) - 0.47) < 0.008
    sheet = over(_paper(layers, (24, 74, 158)), (110, 160, 226), 0.55 * grid)
    body = over(sheet, (52, 106, 190), layers.front * 0.75)
    return over(body, (240, 248, 255), np.maximum(layers.lines(0.02), frame))


def neon(layers: Layers) -> np.ndarray:
    """Glowing tubes in the shapes' own hues on a dark wall."""

    def tube(shape: Shape) -> tuple[RGB, float]:
        own = shape.fill or shape.line
        top, low = max(own), min(own)
        hue = (255, 90, 220) if top - low < 40 else tuple(255 * ((c - low) / (top - low)) ** 0.9 for c in own)
        return (dark((70, 60, 200), 0.3), 0.012) if shape.behind else (mix(hue, (255, 255, 255), 0.1), 0.022)

    tubes = layers.draw(fill=lambda shape: (0, 0, 0), line=tube, paper=(0, 0, 0))
    return _paper(layers, (14, 8, 30)) + tubes * 1.1 + blur(tubes, 0.014) * 0.9 + blur(tubes, 0.045) * 1.1


def chalk(layers: Layers) -> np.ndarray:
    """Dusty strokes on a green blackboard."""
    rng, side = layers.rng(1), layers.side
    board = _paper(layers, (38, 72, 58)) * (0.86 + 0.3 * noise(rng, side, 6))[..., None]
    x, y = coordinates(side)
    dust = 0.5 * grain(rng, side, 64) + 0.5 * noise(rng, side, 30)
    strokes = 0.5 + 0.5 * np.sin((x + 0.7 * y) * 130 + 5 * noise(rng, side, 8))
    fill = layers.front * np.clip(1.9 * strokes * dust, 0, 0.85)
    line = np.clip(layers.lines(0.026) * (0.45 + 1.1 * dust), 0, 1)
    pale = 0.35 + 0.65 * layers.flat
    drawn = board + (pale - board) * fill[..., None]
    return over(drawn, (246, 244, 232), line)


def pencil(layers: Layers) -> np.ndarray:
    """Grey graphite: soft contours, and hatching that grows denser in the dark."""
    rng, side = layers.rng(1), layers.side
    wobble = [0.012 * (noise(rng, side, 10) - 0.5) for _ in range(2)]
    tone = shift(blur(layers.tone, 0.006), *wobble)
    tone = tone + (1 - tone) * 0.75 * (1 - layers.front)
    x, y = coordinates(side)
    bend = 2.0 * noise(rng, side, 5)
    hatch = sum(np.clip(np.sin((x * a + y * b) * 2 * np.pi * 26 + bend) + (limit - tone) * 4, 0, 1) * 0.36
                for a, b, limit in ((0.8, 0.6, 0.75), (0.8, -0.6, 0.5), (0.1, 1.0, 0.3)))
    line = shift(layers.lines(0.018), *wobble) * (0.55 + 0.4 * noise(rng, side, 24))
    drawn = np.clip(np.maximum(hatch, line) * (0.8 + 0.35 * grain(rng, side, 64)), 0, 1)
    return over(_paper(layers, (240, 238, 232)), (58, 58, 66), drawn)


def gold(layers: Layers) -> np.ndarray:
    """Engraved in gold on black: waved lines, thick where it is light; the background is a few of them."""
    x, y = coordinates(layers.side)
    wave = np.abs((y * 21 + 0.35 * np.sin(x * 18)) % 1 - 0.5) * 2
    strength = np.where(layers.front > 0.5, layers.tone * 1.5 - 0.15, 0.22)
    cut = np.clip((strength - wave) * 5 + 0.5, 0, 1) * (strength > 0.05)
    drawn = np.maximum(cut * 0.9, layers.lines(0.024, behind=False))
    drawn = np.where(layers.front > 0.5, np.where(layers.lines(0.03, behind=False) > 0.5, 0.0, drawn), drawn)
    metal = ramp(np.clip(0.5 + 0.5 * np.sin((x + y) * 7), 0, 1), (206, 148, 40), (255, 230, 140))
    base = np.array([0.06, 0.05, 0.05], np.float32)
    return base + (metal - base) * drawn[..., None]


def woodcut(layers: Layers) -> np.ndarray:
    """Black blocks on cream, with light carved out along rings around the middle; only middle tones keep the marks of the gouge."""
    rng, side = layers.rng(1), layers.side
    x, y = coordinates(side)
    rings = np.hypot(x - 0.5, (y - 0.55) * 1.1) * 15 + 1.1 * noise(rng, side, 6)
    gouge = np.abs(rings % 1 - 0.5) * 2
    strength = np.where(layers.front > 0.5, layers.tone * 2.2 - 0.35, 0.3)
    carved = np.clip((strength - gouge) * 7, 0, 1)
    carved = carved * (1 - layers.lines(0.03, behind=False))
    return over(_paper(layers, (28, 20, 18)), (242, 226, 190), carved)


STYLES = (
    Style("blueprint", "in blueprint style", blueprint, split="test"),
    Style("neon", "in neon style", neon, split="test"),
    Style("chalk", "in chalk style", chalk, split="val"),
    Style("pencil", "in pencil sketch style", pencil),
    Style("gold", "in gold engraving style", gold),
    Style("woodcut", "in woodcut style", woodcut),
)
