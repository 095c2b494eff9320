"""Colours by name, and the few operations on them that drawing needs. A colour is three numbers from 0 to 255."""

RGB = tuple[float, float, float]

# What the base model's captions may say: eleven names, far apart from each other at 64x64.
COLOURS: dict[str, RGB] = {
    "red": (222, 48, 44),
    "orange": (244, 140, 36),
    "yellow": (250, 208, 52),
    "green": (64, 166, 74),
    "blue": (48, 112, 214),
    "purple": (140, 78, 186),
    "pink": (244, 142, 180),
    "brown": (142, 92, 54),
    "white": (246, 245, 240),
    "grey": (150, 154, 162),
    "black": (56, 56, 64),
}

# What only subjects wear: no base picture has a thing of these colours.
SUBJECT_COLOURS: dict[str, RGB] = {
    "teal": (14, 150, 150),
    "lime": (164, 222, 40),
    "magenta": (218, 32, 150),
    "navy": (32, 44, 112),
    "gold": (222, 170, 30),
    "mint": (142, 230, 190),
    "coral": (255, 112, 92),
    "lavender": (186, 164, 240),
    "cream": (252, 236, 196),
    "maroon": (122, 24, 48),
    "cyan": (66, 208, 238),
    "olive": (122, 126, 40),
}

# Six skin tones from light to dark, drawn equally often.
SKIN: tuple[RGB, ...] = (
    (255, 220, 196), (244, 196, 160), (224, 168, 124), (190, 128, 84), (144, 90, 56), (100, 62, 42),
)

HAIR: dict[str, RGB] = {
    "black": (38, 32, 36),
    "brown": (104, 62, 34),
    "blond": (240, 202, 96),
    "red": (198, 76, 30),
    "grey": (176, 178, 184),
}

INK: RGB = (34, 32, 40)
WHITE: RGB = (255, 255, 255)


def named(name: str) -> RGB:
    """The colour of a name that captions or subjects use."""
    return COLOURS[name] if name in COLOURS else SUBJECT_COLOURS[name]


def mix(a: RGB, b: RGB, share: float) -> RGB:
    """`a` with `share` of it replaced by `b`."""
    return tuple(p + (q - p) * share for p, q in zip(a, b))


def light(colour: RGB, share: float = 0.3) -> RGB:
    return mix(colour, WHITE, share)


def dark(colour: RGB, share: float = 0.3) -> RGB:
    return mix(colour, (16, 14, 26), share)


def luminance(colour: RGB) -> float:
    """Perceived brightness, from 0 to 1."""
    return (0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]) / 255
