"""What a class of things is."""

from collections.abc import Callable
from dataclasses import dataclass

from marks import Look
from sketch import Pen


@dataclass(frozen=True)
class ThingClass:
    draw: Callable[[Pen, Look], None]
    colours: tuple[str, ...]  # what the base world paints it in
    backgrounds: tuple[str, ...]  # where it is found, besides on plain colours
    floats: bool = False  # centred in the picture rather than standing on the ground
