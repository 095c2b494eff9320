"""Tests of what the LoRAs are taught: python -m unittest lessons_test"""

from __future__ import annotations

import tempfile
import unittest
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

import world
from lessons import REFERENCES, all_lessons, write_references


class LessonsTest(unittest.TestCase):
    def test_56_lessons_in_the_splits_of_the_published_experiment(self) -> None:
        counts = Counter((lesson.role, lesson.split) for lesson in all_lessons())
        self.assertEqual(
            counts,
            {
                ("subject", "train"): 22, ("subject", "val"): 3, ("subject", "test"): 5,
                ("style", "train"): 18, ("style", "val"): 3, ("style", "test"): 5,
            },
        )  # fmt: skip
        self.assertEqual(len({lesson.name for lesson in all_lessons()}), 56)

    def test_captions_call_the_lesson_by_its_trigger(self) -> None:
        for lesson in all_lessons():
            for scene in lesson.references() + lesson.held_out(5):
                self.assertIn(lesson.trigger, world.caption(scene))

    def test_held_out_scenes_are_no_references(self) -> None:
        for lesson in all_lessons():
            references = {scene.to_json() for scene in lesson.references()}
            self.assertEqual(len(references), REFERENCES[lesson.role])
            self.assertFalse(references & {scene.to_json() for scene in lesson.held_out(100)})

    def test_styles_are_taught_on_things_and_people(self) -> None:
        style = next(lesson for lesson in all_lessons() if lesson.role == "style")
        shown = Counter("thing" if scene.thing else "people" for scene in style.references())
        self.assertEqual(shown, {"thing": 256, "people": 64})
        self.assertTrue(all(scene.thing for scene in style.held_out(20)))

    def test_references_are_pictures_with_captions_as_the_training_reads_them(self) -> None:
        lesson = all_lessons()[0]
        with tempfile.TemporaryDirectory() as folder:
            write_references(lesson, Path(folder))
            names = sorted(path.name for path in Path(folder).iterdir())
            self.assertEqual(names, [f"{i}.{end}" for i in range(5) for end in ("png", "txt")])
            picture = np.asarray(Image.open(Path(folder) / "0.png"))
            self.assertTrue(np.array_equal(picture, world.render(lesson.scene(0), 64).image))
            self.assertIn(lesson.trigger, (Path(folder) / "0.txt").read_text())


if __name__ == "__main__":
    unittest.main()
