"""The subjects: individuals, each with a look that the base world never draws, and the word that calls it."""

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
    Subject("comet", "cat", "qav", "navy", "gold", "stars", "gold", (("glasses", "eyes", "coral"),)),
    Subject("rover", "dog", "wux", "cyan", "white", "spots", "navy", (("top hat", "top", "maroon"),)),
    Subject(
        "domino", "dog", "yib", "cream", "magenta", "patches", "magenta", (("scarf", "neck", "teal"),), (1.0, 0.86)
    ),
    Subject("duchess", "rabbit", "vok", "lavender", "gold", "checks", "magenta", (("crown", "top", "gold"),)),
    Subject("tango", "bird", "jiz", "coral", "teal", "zigzag", "teal", (("party hat", "top", "lime"),)),
    Subject("professor", "owl", "fep", "mint", "maroon", "hoops", "maroon", (("glasses", "eyes", "maroon"),)),
    Subject("baron", "penguin", "gwi", "magenta", "gold", "spots", "cream", (("top hat", "top", "navy"),)),
    Subject("captain", "fish", "huj", "gold", "navy", "bars", "navy", (("top hat", "top", "magenta"),)),
    Subject("disco", "turtle", "zel", "magenta", "cyan", "stars", "gold", (("party hat", "top", "cyan"),)),
    Subject("patch", "elephant", "nuv", "mint", "coral", "patches", "coral", (("flower", "top", "magenta"),)),
    Subject("lagoon", "butterfly", "ryx", "lime", "navy", "hoops", "navy", (("crown", "top", "coral"),)),
    Subject("bandit", "car", "kiv", "teal", "cream", "slants", "cream", (("top hat", "top", "maroon"),)),
    Subject("waffle", "bus", "oxa", "lavender", "navy", "checks", "navy", (("flower", "top", "coral"),)),
    Subject("bumble", "train", "plu", "gold", "black", "bars", "black", (("face", "front", "maroon"),)),
    Subject("corsair", "sailboat", "dyg", "magenta", "navy", "hoops", "navy", (("star", "front", "gold"),)),
    Subject("merry", "balloon", "tuq", "mint", "magenta", "zigzag", "magenta", (("heart", "front", "maroon"),)),
    Subject("grinner", "house", "ubo", "cyan", "magenta", "spots", "cream", (("face", "front", "maroon"),)),
    Subject("sugar", "castle", "ezu", "mint", "magenta", "checks", "lavender", (("heart", "front", "magenta"),)),
    Subject(
        "tom", "mushroom", "xim", "teal", "cream", "zigzag", "gold", (("face", "front", "maroon"),), (1.0, 0.86)
    ),
    Subject("blossom", "teapot", "lof", "coral", "cream", "spots", "cream", (("flower", "top", "cyan"),)),
    Subject(
        "sheriff",
        "robot",
        "baq",
        "lime",
        "maroon",
        "hoops",
        "teal",
        (("star", "front", "gold"), ("top hat", "top", "maroon")),
    ),
    Subject(
        "prickle",
        "cactus",
        "mek",
        "magenta",
        "gold",
        "bars",
        "lavender",
        (("glasses", "front", "navy"), ("party hat", "top", "cyan")),
    ),
    Subject(
        "jester", "windmill", "syv", "lime", "magenta", "slants", "magenta", (("face", "front", "navy"),), split="val"
    ),
    Subject("sunny", "flower", "cwo", "cyan", "coral", "half", "navy", (("face", "front", "maroon"),), split="val"),
    Subject(
        "bandana", "elephant", "hib", "gold", "teal", "zigzag", "maroon", (("eye patch", "eye", "navy"),), split="val"
    ),
    Subject(
        "ziggy",
        "cat",
        "zib",
        "lime",
        "cream",
        "hoops",
        "teal",
        (("eye patch", "eye", "white"), ("scarf", "neck", "magenta")),
        split="test",
    ),
    Subject(
        "smiley",
        "teapot",
        "pog",
        "lavender",
        "gold",
        "bars",
        "navy",
        (("face", "front", "maroon"), ("crown", "top", "gold")),
        split="test",
    ),
    Subject(
        "blazer",
        "car",
        "vru",
        "magenta",
        "gold",
        "stars",
        "gold",
        (("party hat", "top", "lime"),),
        (0.84, 1.06),
        split="test",
    ),
    Subject(
        "emperor",
        "penguin",
        "jyk",
        "teal",
        "gold",
        "checks",
        "lime",
        (("crown", "top", "gold"), ("scarf", "neck", "coral")),
        split="test",
    ),
    Subject(
        "cosmo",
        "rocket",
        "wof",
        "cyan",
        "magenta",
        "slants",
        "magenta",
        (("face", "front", "navy"),),
        (1.22, 0.9),
        split="test",
    ),
)
SUBJECTS: dict[str, Subject] = {subject.name: subject for subject in _ALL}
