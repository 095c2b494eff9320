"""scripts/human_prompts on tiny made-up files: which texts are kept, and what is written. Standard library only."""

import csv
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts/human_prompts"
CAPTIONS = ["A man on a horse.", "Two  Women\nat a table", "a mandolin", "a cat", "A man on a horse.", "the boy's kite"]
ROWS = [("a woman, oil on canvas", 0.1, 0.2), ("a woman nude", 0.9, 0.1), ("a girl at the sea", 0.0, 2.0), ("a (man:1.3)", 0, 0),
        ("a person [red]", 0, 0), ("a castle", 0, 0), ("portrait of a teenager, 4k", 0.49, 0.49), ("kid <lora:x>", 0, 0)]  # fmt: skip


class HumanPrompts(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="molar-test-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.coco = self.folder / "captions.json"
        self.coco.write_text(json.dumps({"annotations": [{"caption": text, "id": 1} for text in CAPTIONS]}))
        self.metadata = self.folder / "metadata.csv"
        with self.metadata.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(("image_name", "prompt", "prompt_nsfw", "image_nsfw"))
            table.writerows(("x.png", *row) for row in ROWS)

    def run_script(self, *words):
        return subprocess.run([sys.executable, "-B", SCRIPT, *map(str, words)], cwd=self.folder, capture_output=True, text=True)

    def make(self, *words):
        result = self.run_script(*words)
        self.assertEqual(result.returncode, 0, result.stderr)
        files = [self.folder / line for line in result.stdout.splitlines()]
        table = list(csv.reader(files[1].read_text().splitlines()))
        return [json.loads(line) for line in files[0].read_text().splitlines()], table

    def assert_fails(self, *words, says):
        result = self.run_script(*words)
        self.assertNotEqual(result.returncode, 0)
        self.assertEqual(result.stdout, "")
        for text in says:
            self.assertIn(text, result.stderr.splitlines()[-1])

    def test_captions_that_name_people_are_kept_once(self):
        rows, table = self.make("coco", "captions.json", "-o", "out/coco", "--count", 3)
        self.assertEqual({row["prompt"] for row in rows}, {"A man on a horse.", "Two Women at a table", "the boy's kite"})
        self.assertEqual([row["repeat"] for row in rows], [0] * 3 + [1] * 3 + [2] * 3)
        self.assertEqual([row["prompt"] for row in rows[:3]], [row["prompt"] for row in rows[3:6]])
        self.assertEqual(len({row["seed"] for row in rows}), 9)
        self.assertEqual(table, [["prompt", "seed"]] + [[row["prompt"], str(row["seed"])] for row in rows])

    def test_unsafe_prompts_and_commands_are_left_out(self):
        rows, _ = self.make("diffusiondb", "metadata.csv", "-o", "db", "--count", 2, "--repeats", 1)
        self.assertEqual({row["prompt"] for row in rows},
                         {"a woman, oil on canvas", "portrait of a teenager, 4k"})
        rows, _ = self.make("diffusiondb", "metadata.csv", "-o", "strict", "--count", 1, "--repeats", 1, "--nsfw", 0.3,
                            "--words", "woman")
        self.assertEqual([row["prompt"] for row in rows], ["a woman, oil on canvas"])

    def test_the_seed_decides(self):
        many = self.folder / "many.json"
        many.write_text(json.dumps({"annotations": [{"caption": f"man {k}"} for k in range(50)]}))
        runs = [self.make("coco", "many.json", "-o", name, "--count", 5, "--seed", seed)[0]
                for name, seed in (("a", 1), ("b", 1), ("c", 2))]
        self.assertEqual(runs[0], runs[1])
        self.assertNotEqual(runs[0], runs[2])

    def test_mistakes_are_one_line(self):
        self.assert_fails("coco", "none.json", "-o", "x", says=("none.json", "does not exist"))
        self.assert_fails("coco", "captions.json", "-o", "x", "--count", 4, says=("3 prompts", "wanted 4"))
        self.assert_fails("coco", "metadata.csv", "-o", "x", says=("metadata.csv", "annotations"))
        (self.folder / "short.csv").write_text("prompt,prompt_nsfw\na man,0\n")
        self.assert_fails("diffusiondb", "short.csv", "-o", "x", says=("short.csv", "image_nsfw"))
        (self.folder / "odd.csv").write_text("prompt,prompt_nsfw,image_nsfw\na man,0,high\n")
        self.assert_fails("diffusiondb", "odd.csv", "-o", "x", says=("odd.csv", "row 1", "numbers"))
        (self.folder / "x.jsonl").write_text("")
        self.assert_fails("coco", "captions.json", "-o", "x", "--count", 1, says=("x.jsonl", "exists"))
        self.assert_fails("coco", "captions.json", "-o", "y", "--words", ",", says=("--words",))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
