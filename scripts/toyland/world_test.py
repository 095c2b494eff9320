"""Tests of the world: `python -m unittest world_test` in this folder."""

import dataclasses
import json
import unittest

import numpy as np

from hands import GESTURES
from palette import COLOURS, SKIN, SUBJECT_COLOURS
from sampling import KNOWN_STYLES
from world import (
    CLASSES,
    STYLES,
    SUBJECTS,
    Box,
    Scene,
    caption,
    class_scene,
    face_scene,
    hand_scene,
    person_scene,
    render,
    sample_base,
    style_scene,
    subject_scene,
)

BASE = [sample_base(seed) for seed in range(600)]


def share_of_skin(image: np.ndarray, box: Box, tone: int) -> float:
    """The share of a box's pixels that have the tone's colour, somewhat lighter or darker."""
    x0, y0, x1, y1 = int(box.x), int(box.y), int(np.ceil(box.x + box.w)), int(np.ceil(box.y + box.h))
    part = image[y0:y1, x0:x1].reshape(-1, 3).astype(float)
    shades = np.array(SKIN[tone])[None] * np.linspace(0.75, 1.15, 9)[:, None]
    return float((np.abs(part[:, None] - shades[None]).max(2).min(1) < 32).mean())


class Scenes(unittest.TestCase):
    def test_same_seed_same_scene_picture_and_words(self) -> None:
        for seed in range(40):
            first, second = sample_base(seed), sample_base(seed)
            self.assertEqual(first, second)
            self.assertEqual(caption(first), caption(second))
            self.assertEqual(render(first, 64).image.tobytes(), render(second, 64).image.tobytes())

    def test_every_style_repeats_its_pixels(self) -> None:
        for style in STYLES:
            scene = style_scene(style, 4)
            self.assertEqual(render(scene, 64).image.tobytes(), render(scene, 64).image.tobytes(), style)

    def test_seeds_differ(self) -> None:
        self.assertGreater(len({scene.to_json() for scene in BASE}), 0.99 * len(BASE))

    def test_json_round_trip(self) -> None:
        for scene in [*BASE[:100], subject_scene("ziggy", 0, "neon"), person_scene(1, 3), face_scene(1), hand_scene(1)]:
            self.assertEqual(Scene.from_json(scene.to_json()), scene)

    def test_json_is_strict(self) -> None:
        good = json.loads(class_scene("cat", 1).to_json())
        for change, name in (
            (lambda tree: tree.update(extra=1), "extra"),
            (lambda tree: tree["thing"].update(extra=1), "thing.extra"),
            (lambda tree: tree["thing"].pop("kind"), "thing.kind"),
            (lambda tree: tree.update(seed="7"), "seed"),
            (lambda tree: tree["thing"]["place"].update(flip=1), "place.flip"),
        ):
            tree = json.loads(json.dumps(good))
            change(tree)
            with self.assertRaisesRegex(ValueError, name):
                Scene.from_json(json.dumps(tree))

    def test_a_scene_shows_one_thing(self) -> None:
        with self.assertRaises(ValueError):
            Scene("grass")
        with self.assertRaises(ValueError):
            dataclasses.replace(class_scene("cat", 1), hand=hand_scene(1).hand)


class Pictures(unittest.TestCase):
    def assert_shows_something(self, image: np.ndarray, what: object) -> None:
        self.assertEqual(image.dtype, np.uint8)
        self.assertGreater(image.astype(float).std((0, 1)).max(), 12, what)

    def test_every_class_in_every_style(self) -> None:
        for index, kind in enumerate(CLASSES):
            for style in ("plain", *STYLES):
                scene = class_scene(kind, index, style)
                self.assert_shows_something(render(scene, 32).image, (kind, style))

    def test_every_subject_differs_from_its_class(self) -> None:
        for name, subject in SUBJECTS.items():
            scene = subject_scene(name, 0)
            usual = dataclasses.replace(scene.thing, subject="", colour=CLASSES[subject.kind].colours[0])
            apart = np.abs(
                render(scene, 64).image.astype(int) - render(dataclasses.replace(scene, thing=usual), 64).image
            )
            self.assertGreater((apart.max(2) > 60).mean(), 0.05, name)

    def test_styles_are_unlike_each_other(self) -> None:
        pictures = {style: render(class_scene("car", 5, style), 64).image.astype(float) for style in ("plain", *STYLES)}
        for a in pictures:
            for b in pictures:
                if a < b:
                    self.assertGreater(np.abs(pictures[a] - pictures[b]).mean(), 10, (a, b))

    def test_sizes_agree(self) -> None:
        """A large picture is the small one with more detail, in every style."""
        for style in ("plain", *STYLES):
            scene = class_scene("owl", 2, style)
            small, large = render(scene, 64).image.astype(float), render(scene, 256).image.astype(float)
            shrunk = large.reshape(64, 4, 64, 4, 3).mean((1, 3))
            self.assertLess(np.abs(shrunk - small).mean(), 30, style)


class Tables(unittest.TestCase):
    def test_sizes_and_splits(self) -> None:
        self.assertGreaterEqual(len(CLASSES), 24)
        for table, sizes in ((SUBJECTS, (22, 3, 5)), (STYLES, (18, 3, 5))):
            splits = [entry.split for entry in table.values()]
            self.assertEqual(tuple(splits.count(split) for split in ("train", "val", "test")), sizes)
            self.assertEqual(len(splits), sum(sizes))

    def test_triggers_and_phrases_are_unique_and_no_word_of_the_base(self) -> None:
        words = {word.strip(",") for scene in BASE for word in caption(scene).split()}
        triggers = [subject.trigger for subject in SUBJECTS.values()]
        self.assertEqual(len(set(triggers)), len(SUBJECTS))
        self.assertFalse(words & set(triggers))
        self.assertEqual(len({style.phrase for style in STYLES.values()}), len(STYLES))

    def test_subject_colours_are_no_colours_of_the_base(self) -> None:
        self.assertFalse(set(COLOURS) & set(SUBJECT_COLOURS))
        for subject in SUBJECTS.values():
            self.assertIn(subject.main, SUBJECT_COLOURS, subject.name)

    def test_known_styles_are_training_styles(self) -> None:
        self.assertTrue(0 < len(KNOWN_STYLES) <= 3)
        self.assertEqual({STYLES[name].split for name in KNOWN_STYLES}, {"train"})


class Base(unittest.TestCase):
    def test_never_a_subject_nor_an_unknown_style(self) -> None:
        for scene in BASE:
            self.assertIn(scene.style, ("plain", *KNOWN_STYLES))
            if scene.thing:
                self.assertEqual(scene.thing.subject, "")

    def test_shares(self) -> None:
        things = sum(scene.thing is not None for scene in BASE) / len(BASE)
        self.assertAlmostEqual(things, 0.65, delta=0.06)
        self.assertEqual({scene.thing.kind for scene in BASE if scene.thing}, set(CLASSES))
        self.assertEqual({scene.style for scene in BASE}, {"plain", *KNOWN_STYLES})

    def test_people_are_balanced(self) -> None:
        people = [face_scene(seed).face for seed in range(1200)]
        for of in (lambda p: p.tone, lambda p: p.sex, lambda p: p.hair_colour, lambda p: p.expression):
            counts = np.unique([of(person) for person in people], return_counts=True)[1]
            self.assertLess(counts.max() / counts.min(), 1.35)


class Boxes(unittest.TestCase):
    def assert_in_picture(self, box: Box, size: int) -> None:
        self.assertGreaterEqual(min(box.x, box.y), 0)
        self.assertLessEqual(max(box.x + box.w, box.y + box.h), size)
        self.assertGreater(min(box.w, box.h), size / 40)

    def test_whole_figures(self) -> None:
        for seed in range(60):
            for count in (1, 2, 3):
                scene = person_scene(seed, count)
                drawn = render(scene, 128)
                self.assertEqual((len(drawn.faces), len(drawn.hands)), (count, 2 * count))
                for index, person in enumerate(scene.people):
                    for box in (drawn.faces[index], *drawn.hands[2 * index : 2 * index + 2]):
                        self.assert_in_picture(box, 128)
                        self.assertGreater(share_of_skin(drawn.image, box, person.tone), 0.1, (seed, count, box))

    def test_faces(self) -> None:
        for seed in range(60):
            scene = face_scene(seed)
            drawn = render(scene, 128)
            (face,) = drawn.faces
            self.assert_in_picture(face, 128)
            self.assertGreater(share_of_skin(drawn.image, face, scene.face.tone), 0.2, seed)  # a beard hides much of it
            self.assertEqual(face.expression, scene.face.expression)
            for name in ("left_eye", "right_eye", "left_brow", "right_brow", "mouth"):
                x, y = face.parts[name]
                self.assertTrue(face.x <= x <= face.x + face.w and face.y <= y <= face.y + face.h, name)
            self.assertLess(face.parts["left_eye"][0], face.parts["right_eye"][0])
            self.assertLess(face.parts["left_brow"][1], face.parts["mouth"][1])

    def test_hands(self) -> None:
        seen = set()
        for seed in range(120):
            scene = hand_scene(seed)
            drawn = render(scene, 128)
            (hand,) = drawn.hands
            seen.add(hand.gesture)
            self.assert_in_picture(hand, 128)
            self.assertGreater(share_of_skin(drawn.image, hand, scene.hand.tone), 0.3, seed)
            self.assertEqual(hand.fingers, len(GESTURES[scene.hand.gesture].extended))
        self.assertEqual(seen, set(GESTURES))

    def test_fingers_can_be_counted_in_the_picture(self) -> None:
        """A row of pixels across the raised fingers of an upright hand meets as many runs of skin as there are
        fingers."""
        for gesture, fingers in (("fist", 0), ("point", 1), ("peace", 2), ("three", 3), ("four", 4)):
            scene = next(scene for scene in map(hand_scene, range(400)) if scene.hand.gesture == gesture)
            place = dataclasses.replace(scene.hand.place, x=0.5, y=0.51, scale=0.4, tilt=0.0)
            scene = dataclasses.replace(
                scene, background="plain white", hand=dataclasses.replace(scene.hand, place=place, tone=3)
            )
            _, shift, zoom = GESTURES[gesture].close_up
            row = render(scene, 256).image[int((0.51 + 0.4 * (shift - 0.5 * zoom)) * 256), :, 2] < 160
            self.assertEqual(int((np.diff(row.astype(int)) == 1).sum()), fingers, gesture)

    def test_boxes_scale_with_the_picture(self) -> None:
        small, large = render(person_scene(3, 2), 64), render(person_scene(3, 2), 256)
        for a, b in zip(small.faces + small.hands, large.faces + large.hands):
            np.testing.assert_allclose([4 * v for v in (a.x, a.y, a.w, a.h)], [b.x, b.y, b.w, b.h], rtol=1e-6)


if __name__ == "__main__":
    unittest.main()
