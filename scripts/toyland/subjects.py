"""The subjects: particular individuals, each with a look that the base world never draws, and the word that calls it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Subject:
    name: str
    kind: str  # a name in CLASSES
    trigger: str  # a word that no other caption has
    main: str  # colour names
    accent: str
    pattern: str = ""  # a name in marks.PATTERNS
    pattern_colour: str = "white"
    wear: tuple[tuple[str, str, str], ...] = ()  # (name in marks.WEAR, anchor, colour)
    stretch: tuple[float, float] = (1.0, 1.0)  # width and height against the class's
    split: str = "train"  # "train", "val" or "test"


_ALL = (
    Subject("ziggy", "cat", "zib", "lime", "cream", "hoops", "teal", (("eye patch", "eye", "white"), ("scarf", "neck", "magenta"))),
    Subject("rover", "dog", "qov", "cyan", "white", "spots", "navy", (("top hat", "top", "navy"),)),
)
SUBJECTS: dict[str, Subject] = {subject.name: subject for subject in _ALL}
