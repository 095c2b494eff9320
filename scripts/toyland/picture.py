"""A scene to pixels and boxes."""

from dataclasses import dataclass

import numpy as np
import skia

import hands
import people
from backgrounds import draw_background
from boxes import FaceBox, HandBox
from marks import WEAR, Look
from palette import RGB, light, named
from people import Artist
from raster import Layers
from scene import Scene, Thing
from sketch import Sketch
from styles import STYLES
from subjects import SUBJECTS
from things import CLASSES


@dataclass(frozen=True)
class Rendering:
    image: np.ndarray  # uint8 [size, size, 3]
    faces: list[FaceBox]
    hands: list[HandBox]


def _thing(sketch: Sketch, thing: Thing, rng: np.random.Generator) -> None:
    kind, place = CLASSES[thing.kind], thing.place
    pen = sketch.pen(place.x, place.y, place.scale, place.tilt, place.flip)
    if not thing.subject:
        shade: RGB = tuple(c * rng.uniform(0.93, 1.05) for c in named(thing.colour))
        kind.draw(pen, Look(shade, light(shade, 0.5), thing.pose))
        return
    subject = SUBJECTS[thing.subject]
    width, height = subject.stretch
    # Stretching keeps the feet, at y = 1, on the ground.
    pen = pen.inner(0, 1 - height, width, tall=height / width)
    if any(anchor == "top" for _, anchor, _ in subject.wear):  # room for a hat
        pen = pen.inner(0, 0.15, 0.85)
    look = Look(named(subject.main), named(subject.accent), thing.pose, subject.pattern, named(subject.pattern_colour))
    kind.draw(pen, look)
    for name, anchor, colour in subject.wear:
        at, x, y, size = look.anchors[anchor]
        WEAR[name](at.inner(x, y, size), named(colour))


def sketch_of(scene: Scene, artist: Artist = Artist()) -> Sketch:
    """The scene's shapes, before any style."""
    sketch = Sketch()
    rng = np.random.default_rng([scene.seed, 5])
    draw_background(sketch, scene.background, rng)
    if scene.thing:
        _thing(sketch, scene.thing, rng)
    for person in scene.people:
        people.draw_figure(sketch, person, artist)
    if scene.face:
        people.draw_close_up(sketch, scene.face, artist)
    if scene.hand:
        hands.draw_close_up(sketch, scene.hand, named(scene.hand.sleeve), artist.hand)
    return sketch


def _boxes(sketch: Sketch, size_px: int) -> tuple[list[FaceBox], list[HandBox]]:
    """The sketch's faces and hands in pixels, cut to the picture."""

    def cut(bounds: skia.Rect) -> tuple[float, float, float, float]:
        x0, y0 = max(bounds.left(), 0.0), max(bounds.top(), 0.0)
        x1, y1 = min(bounds.right(), 1.0), min(bounds.bottom(), 1.0)
        return tuple(v * size_px for v in (x0, y0, x1 - x0, y1 - y0))

    faces = [
        FaceBox(*cut(bounds), expression, {name: (x * size_px, y * size_px) for name, (x, y) in parts.items()})
        for bounds, expression, parts in sketch.faces
    ]
    return faces, [
        HandBox(*cut(bounds), len(hands.GESTURES[gesture].extended), gesture) for bounds, gesture in sketch.hands
    ]


def render(scene: Scene, size_px: int, artist: Artist = Artist()) -> Rendering:
    """The scene as a square picture of `size_px`, drawn at twice that and averaged down."""
    sketch = sketch_of(scene, artist)
    layers = Layers(sketch, 2 * size_px, scene.seed)
    large = layers.plain if scene.style == "plain" else STYLES[scene.style].render(layers)
    small = np.clip(large, 0, 1).reshape(size_px, 2, size_px, 2, 3).mean((1, 3), dtype=np.float32)
    return Rendering((small * 255 + 0.5).astype(np.uint8), *_boxes(sketch, size_px))
