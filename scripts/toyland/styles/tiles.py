"""Styles made of pieces: tiles, glass, facets, stitches, dots."""

import numpy as np
import skia
from scipy.spatial import Delaunay

from raster import Layers, skia_colour
from styles.base import Style
from styles.texture import coordinates, over, pool, saturate, spread, within


def _sample(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The picture's colours (0..255) at points in 0..1."""
    side = picture.shape[0]
    index = np.clip((points * side).astype(int), 0, side - 1)
    return picture[index[:, 1], index[:, 0]] * 255


def _jittered(rng: np.random.Generator, count: int, amount: float) -> np.ndarray:
    """count x count points of a grid over the picture, each moved by up to `amount` of a cell."""
    y, x = np.mgrid[0:count, 0:count]
    points = np.stack([x, y], -1).reshape(-1, 2) + 0.5 + amount * (rng.random((count * count, 2)) - 0.5)
    return points / count


def mosaic(layers: Layers) -> np.ndarray:
    """Square stone tiles of uneven brightness, with dark grout between them."""
    rng, pitch = layers.rng(1), 4
    tiles = saturate(pool(layers.draw(), pitch), 1.35)
    tiles = tiles * (0.86 + 0.34 * rng.random((*tiles.shape[:2], 1), np.float32))
    u, v = within(layers.side, pitch)
    grout = ((u > 0.25) | (v > 0.25)).astype(np.float32)
    return over(spread(tiles, layers.side, pitch), (112, 104, 98), 0.8 * grout)


def stained_glass(layers: Layers) -> np.ndarray:
    """Glowing panes in black lead: the drawing's own contours, and a net of further joints behind."""
    rng, side = layers.rng(1), layers.side
    seeds = _jittered(rng, 6, 0.9).astype(np.float32)
    x, y = coordinates(side)
    distance = (x.reshape(-1, 1) - seeds[:, 0]) ** 2 + (y.reshape(-1, 1) - seeds[:, 1]) ** 2
    pane = distance.argmin(1).reshape(side, side)
    nearest = np.partition(distance, 1, axis=1)[:, :2]
    joint = (np.sqrt(nearest[:, 1]) - np.sqrt(nearest[:, 0])).reshape(side, side) < 0.02
    glass = saturate(layers.flat, 1.9) * (0.72 + 0.5 * rng.random(len(seeds), np.float32))[pane][..., None]
    # Light falls through the middle.
    glow = 1.12 - 0.9 * ((x - 0.5) ** 2 + (y - 0.45) ** 2)
    return over(glass * glow[..., None], (14, 14, 20), np.maximum(layers.lines(0.034), joint & (layers.front < 0.5)))


def low_poly(layers: Layers) -> np.ndarray:
    """Flat triangles whose corners lie along the contours."""
    rng, side = layers.rng(1), layers.side
    labels = layers.labels
    edge = np.argwhere((labels[1:, 1:] != labels[:-1, 1:]) | (labels[1:, 1:] != labels[1:, :-1]))[:, ::-1]
    chosen = edge[(rng.random(170) * len(edge)).astype(int)] / side if len(edge) else np.empty((0, 2))
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], float)
    border = np.concatenate(
        [np.stack([t, np.full(5, e)][::o], -1) for t in [np.linspace(0.1, 0.9, 5)] for e in (0, 1) for o in (1, -1)]
    )
    points = np.concatenate([_jittered(rng, 9, 0.9), chosen, corners, border])
    triangles = points[Delaunay(points).simplices]
    centres = triangles.mean(1)
    # A triangle takes the mean of its middle and three points on the way to its corners.
    colours = (
        sum(_sample(layers.flat, p) for p in [centres, *(0.5 * (centres + triangles[:, k]) for k in range(3))]) / 4
    )
    colours *= 0.86 + 0.28 * rng.random((len(colours), 1))
    canvas, pixels = layers.canvas()
    for triangle, colour in zip(triangles.tolist(), colours.tolist()):
        path = skia.Path()
        path.addPoly([skia.Point(*p) for p in triangle], True)
        canvas.drawPath(
            path, skia.Paint(Color=skia_colour(colour), Style=skia.Paint.kStrokeAndFill_Style, StrokeWidth=0.004)
        )
    return saturate(pixels(), 1.15)


def cross_stitch(layers: Layers) -> np.ndarray:
    """Little crosses of thread on cream linen, in a red border; the background is left bare."""
    side, pitch = layers.side, 3
    thread = saturate(pool(layers.draw(), pitch), 1.4)
    sewn = pool(layers.front[..., None], pitch)[..., 0] > 0.42
    every_second = np.arange(len(sewn)) % 2 == 0
    for edge in (0, -1):
        thread[edge, :] = thread[:, edge] = (0.8, 0.12, 0.16)
        sewn[edge, :] = sewn[:, edge] = every_second
    u, v = within(side, pitch)
    over_leg, under_leg = np.abs(u - v) < 0.34, np.abs(u + v) < 0.34
    shine = np.where(over_leg, 1.08, 0.84)
    linen = (
        np.array([0.94, 0.9, 0.8], np.float32) * np.where((np.abs(u) > 0.33) | (np.abs(v) > 0.33), 0.9, 1.0)[..., None]
    )
    cover = (spread(sewn, side, pitch) & (over_leg | under_leg))[..., None]
    return np.where(cover, spread(thread, side, pitch) * shine[..., None], linen)


def pointillism(layers: Layers) -> np.ndarray:
    """Separate dots of strong colour on cream, some of them in a neighbouring hue."""
    rng = layers.rng(1)
    source = saturate(layers.flat, 1.5)
    canvas, pixels = layers.canvas((248, 240, 222))
    for count, radius in ((25, 0.019), (28, 0.014)):
        points = _jittered(rng, count, 0.8)
        colours = _sample(source, points) + rng.normal(0, 20, (len(points), 3))
        for (x, y), colour in zip(points.tolist(), colours.tolist()):
            canvas.drawCircle(x, y, radius, skia.Paint(AntiAlias=True, Color=skia_colour(colour)))
    return pixels()


STYLES = (
    Style("mosaic", "in mosaic style", mosaic, split="val"),
    Style("stained-glass", "in stained glass style", stained_glass, split="test"),
    Style("low-poly", "in low poly style", low_poly),
    Style("cross-stitch", "in cross stitch style", cross_stitch),
    Style("pointillism", "in pointillism style", pointillism),
)
