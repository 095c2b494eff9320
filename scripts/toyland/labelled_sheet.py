"""Rows of pictures with a label each, as one picture to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


HEAD_PX = 20


def write_sheet(
    rows: Sequence[tuple[str, Sequence[np.ndarray]]],
    path: Path,
    heads: Sequence[str] = (),
    zoom: int = 2,
    label_px: int = 100,
    columns: int = 1,
) -> None:
    """rows: label and pictures, uint8 [S, S, 3]; `columns` of rows stand beside each other. heads: words above the
    pictures of the first row."""
    side = zoom * rows[0][1][0].shape[0]
    width = label_px + side * max(len(pictures) for _, pictures in rows)
    lines = -(-len(rows) // columns)
    head_px = HEAD_PX if heads else 0
    image = Image.new("RGB", (columns * width, head_px + lines * side), "white")
    text = ImageDraw.Draw(image)
    for number, head in enumerate(heads):
        text.text((label_px + number * side + 6, 4), head, fill="black")
    for place, (label, pictures) in enumerate(rows):
        left, top = place // lines * width, head_px + place % lines * side
        text.multiline_text((left + 6, top + side // 2 - 10), label.replace(" ", "\n"), fill="black")
        for number, pixels in enumerate(pictures):
            picture = Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS)
            image.paste(picture, (left + label_px + number * side, top))
    image.save(path, optimize=True, quality=90)
