"""What the world is full of: one table of classes, each with how it is drawn, its natural colours and where it is
found."""

from things import animals, buildings, household, plants, vehicles
from things.base import ThingClass

CLASSES: dict[str, ThingClass] = (
    animals.CLASSES | vehicles.CLASSES | buildings.CLASSES | plants.CLASSES | household.CLASSES
)
