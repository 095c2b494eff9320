"""Tests of how judged pictures are drawn: python -m unittest molar_program_test"""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

import numpy as np
from PIL import Image

from molar_program import ROOT, draw, run_molar

OIL = ROOT / "models/toyland/loras/oil.safetensors"
QUICK = ("--steps", 2)


class DrawTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_each_job_gets_the_picture_of_its_row(self) -> None:
        rows = [{"prompt": "a red house", "seed": 3}, {"prompt": "a house, in oil painting style", "seed": 4, "lora": OIL},
                {"prompt": "a red house", "seed": 5}]  # fmt: skip
        pictures = draw([(self.folder / f"of {row['seed']}.png", row) for row in rows], *QUICK)
        for row, picture in zip(rows, pictures):
            alone = self.folder / "alone.png"
            lora = ("--lora", row["lora"]) if "lora" in row else ()
            run_molar("generate", "-p", row["prompt"], "-s", row["seed"], *lora, *QUICK, "--dtype", "f32", "--no-mole", "--on-exist",
                      "overwrite", "-o", alone)  # fmt: skip
            np.testing.assert_array_equal(picture, np.asarray(Image.open(alone)))

    def test_a_picture_that_is_there_is_kept(self) -> None:
        Image.new("RGB", (64, 64), "red").save(self.folder / "0.png")
        jobs = [(self.folder / f"{seed}.png", {"prompt": "a cat", "seed": seed}) for seed in range(2)]
        kept, drawn = draw(jobs, *QUICK)
        self.assertEqual(kept[0, 0].tolist(), [255, 0, 0])
        self.assertNotEqual(drawn[0, 0].tolist(), [255, 0, 0])

    def test_what_molar_refuses_ends_the_program(self) -> None:
        with self.assertRaisesRegex(SystemExit, "(?s)exit code 3.*no-such-option"):
            draw([(self.folder / "0.png", {"prompt": "a cat", "no-such-option": 1})], *QUICK)


if __name__ == "__main__":
    unittest.main()
