"""Noise, blurs and grids that styles share. All sizes are parts of the picture, so that a style looks alike at every
resolution."""

import numpy as np
from scipy import ndimage

from raster import tone_of


def noise(rng: np.random.Generator, side: int, cells: int) -> np.ndarray:
    """Smooth noise of about `cells` bumps across the picture, 0..1. Its values don't depend on the resolution."""
    grid = rng.random((cells + 3, cells + 3), np.float32)
    place = 1 + np.arange(side, dtype=np.float32) * (cells / side)
    cell = place.astype(int)
    t = place - cell
    t = t * t * (3 - 2 * t)
    rows = grid[cell] * (1 - t)[:, None] + grid[cell + 1] * t[:, None]
    return rows[:, cell] * (1 - t) + rows[:, cell + 1] * t


def grain(rng: np.random.Generator, side: int, cells: int) -> np.ndarray:
    """Hard-edged noise of cells x cells squares, 0..1."""
    index = np.arange(side) * cells // side
    return rng.random((cells, cells), np.float32)[np.ix_(index, index)]


def blur(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur by `sigma` of the picture's side."""
    pixels = sigma * picture.shape[0]
    return ndimage.gaussian_filter(picture, (pixels, pixels, 0)[: picture.ndim], mode="nearest", truncate=2.5)


def shift(picture: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """The picture looked up at (x + dx, y + dy), both in parts of its side, nearest pixel."""
    side = picture.shape[0]
    y, x = np.mgrid[0:side, 0:side]
    x = np.clip((x + dx * side + 0.5).astype(int), 0, side - 1)
    y = np.clip((y + dy * side + 0.5).astype(int), 0, side - 1)
    return picture[y, x]


def coordinates(side: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of each pixel's centre, 0..1."""
    axis = (np.arange(side, dtype=np.float32) + 0.5) / side
    return np.meshgrid(axis, axis)


def cell_index(side: int, pitch: int) -> np.ndarray:
    """Along one axis, which square cell each pixel is in; cells are `pitch` 64ths wide, so that they are whole pixels
    at 64x64."""
    odd = (64 % pitch) // 2  # what is left over is shared by both borders
    return (np.arange(side) * 64 // side + (pitch - odd if odd else 0)) // pitch


def pool(picture: np.ndarray, pitch: int) -> np.ndarray:
    """The mean of each cell of `cell_index`, [cells, cells, channels]."""
    index = cell_index(picture.shape[0], pitch)
    starts = np.flatnonzero(np.diff(index, prepend=-1))
    counts = np.bincount(index).astype(np.float32)
    sums = np.add.reduceat(np.add.reduceat(picture, starts, axis=0), starts, axis=1)
    return sums / (counts[:, None, None] * counts[None, :, None])


def spread(cells: np.ndarray, side: int, pitch: int) -> np.ndarray:
    """The inverse of `pool`: each cell as a square of pixels."""
    index = cell_index(side, pitch)
    return cells[index][:, index]


def within(side: int, pitch: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel's centre lies in its cell, x and y, both -0.5..0.5."""
    odd = (64 % pitch) // 2
    place = (((np.arange(side) + 0.5) * 64 / side - odd) / pitch) % 1 - 0.5
    return np.meshgrid(place, place)


def saturate(picture: np.ndarray, factor: float) -> np.ndarray:
    grey = tone_of(picture)[..., None]
    return np.clip(grey + (picture - grey) * factor, 0, 1)


def ramp(tone: np.ndarray, *colours: tuple[float, float, float]) -> np.ndarray:
    """Tone 0..1 through evenly spaced colours (0..255)."""
    stops = np.linspace(0, 1, len(colours))
    return np.stack([np.interp(tone, stops, [c[k] / 255 for c in colours]) for k in range(3)], -1).astype(np.float32)


def over(under: np.ndarray, colour: tuple[float, float, float], cover: np.ndarray) -> np.ndarray:
    """`colour` (0..255) laid over a picture where `cover` is 1."""
    return under + (np.array(colour, np.float32) / 255 - under) * cover[..., None]
