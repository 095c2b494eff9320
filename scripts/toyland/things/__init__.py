"""What the world is full of: one table of classes, each with how it is drawn, its natural colours and where it is found."""

from things import animals
from things.base import ThingClass

CLASSES: dict[str, ThingClass] = animals.CLASSES
