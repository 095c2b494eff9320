"""What a style is."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from raster import Layers


@dataclass(frozen=True)
class Style:
    name: str  # as in a file's name: "stained-glass"
    phrase: str  # "in watercolor style"
    render: Callable[[Layers], np.ndarray]  # float [side, side, 3], about 0..1
    split: str = "train"  # "train", "val" or "test"
    base_known: bool = False  # whether the base model is trained on it
