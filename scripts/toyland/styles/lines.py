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
    fill = layers.front * np.clip(2.2 * strokes * dust, 0, 0.9)
    line = np.clip(layers.lines(0.026) * (0.45 + 1.1 * dust), 0, 1)
    pale = 0.42 + 0.58 * layers.flat
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
    hatch = sum(
        np.clip(np.sin((x * a + y * b) * 2 * np.pi * 26 + bend) + (limit - tone) * 4, 0, 1) * 0.36
        for a, b, limit in ((0.8, 0.6, 0.75), (0.8, -0.6, 0.5), (0.1, 1.0, 0.3))
    )
    line = shift(layers.lines(0.018), *wobble) * (0.55 + 0.4 * noise(rng, side, 24))
    drawn = np.clip(np.maximum(hatch, line) * (0.8 + 0.35 * grain(rng, side, 64)), 0, 1)
    return over(_paper(layers, (240, 238, 232)), (58, 58, 66), drawn)


def _cut(layers: Layers, screen: np.ndarray, strength: np.ndarray, behind: float) -> np.ndarray:
    """Where a tool has cut: along a screen (0..1) as widely as `strength` says, and along the contours of what is dark.

    What is light is all cut away but for its contours. A rim is cut around the front, so that it stands out.
    """
    front = layers.front > 0.5
    cut = np.clip((np.where(front, strength, behind) - screen) * 6 + 0.5, 0, 1)
    rim = np.clip(blur(layers.front, 0.012) * 6 - 1, 0, 1)
    dark_here = blur(layers.tone, 0.02) < 0.4
    contour = layers.lines(0.024, behind=False)
    return np.where(front, cut + (dark_here - cut) * contour, np.maximum(cut, rim))


def gold(layers: Layers) -> np.ndarray:
    """Engraved in gold on black along waved lines."""
    x, y = coordinates(layers.side)
    wave = np.abs((y * 21 + 0.35 * np.sin(x * 18)) % 1 - 0.5) * 2
    cut = _cut(layers, wave, layers.tone * 1.6 - 0.25, 0.1)
    metal = ramp(0.5 + 0.5 * np.sin((x + y) * 7), (206, 148, 40), (255, 230, 140))
    base = np.array([0.06, 0.05, 0.05], np.float32)
    return base + (metal - base) * cut[..., None]


def woodcut(layers: Layers) -> np.ndarray:
    """A print from a wooden block, carved along rings around the middle: black on cream."""
    rng, side = layers.rng(1), layers.side
    x, y = coordinates(side)
    rings = np.hypot(x - 0.5, (y - 0.55) * 1.1) * 15 + 1.1 * noise(rng, side, 6)
    cut = _cut(layers, np.abs(rings % 1 - 0.5) * 2, layers.tone * 2.4 - 0.6, 0.2)
    return over(_paper(layers, (28, 20, 18)), (242, 226, 190), cut)


STYLES = (
    Style("blueprint", "in blueprint style", blueprint, split="test"),
    Style("neon", "in neon style", neon, split="test"),
    Style("chalk", "in chalk style", chalk, split="val"),
    Style("pencil", "in pencil sketch style", pencil),
    Style("gold", "in gold engraving style", gold),
    Style("woodcut", "in woodcut style", woodcut),
)
