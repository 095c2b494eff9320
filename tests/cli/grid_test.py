"""molar grid: every pair of two options' values, through batch's code, and one picture of all."""

import json
import shutil

import harness
from harness import SD15, CliTest, molar, read_png, report_data, write_lora

QUICK = ("-m", SD15, "--dtype", "f32", "--steps", "2", "-q")


class GridCase(CliTest):
    def setUp(self):
        super().setUp()
        self.out = self.folder / "out"
        write_lora(self.folder / "a.safetensors", 1)
        write_lora(self.folder / "b.safetensors", 2)

    def grid(self, *arguments, code=0):
        result = molar("grid", *QUICK, "-o", "out", *arguments, cwd=self.folder)
        self.assertEqual(result.returncode, code, result.stderr)
        return result

    def pictures(self):
        return {path.name: path.read_bytes() for path in self.out.glob("0*.png")}

    def data(self):
        return report_data(self.out / "report.html")


class Cells(GridCase):
    def test_cells_are_what_batch_and_generate_draw(self):
        result = self.grid("--x", "seed=1,2", "--y", "style-weight=0.4:0.8:0.2", "-p", "a dog", "--style", "b.safetensors@2")
        lines = result.stdout.splitlines()
        self.assertEqual(lines[-2:], ["out/grid.png", "out/report.html"])
        self.assertEqual(len(lines), 6 + 2)
        rows = "".join(f"{seed},b.safetensors@{weight}\n" for weight in ("0.4", "0.6", "0.8") for seed in (1, 2))
        (self.folder / "list.csv").write_text("seed,style\n" + rows)
        self.assertEqual(molar("batch", "list.csv", *QUICK, "-o", "batch", "-p", "a dog", cwd=self.folder).returncode, 0)
        self.assertEqual(self.pictures(), {path.name: path.read_bytes() for path in (self.folder / "batch").glob("0*.png")})
        self.run_ok("generate", *QUICK, "-p", "a dog", "--style", "b.safetensors", "--style-weight", "0.6", "-s", "2", "-o", "one.png")
        alone = (self.folder / "one.png").read_bytes()
        self.assertEqual([name[:5] for name, png in self.pictures().items() if png == alone], ["00004"])

    def test_the_picture_has_every_cell_in_its_place(self):
        self.grid("--x", "seed=1,2,3", "--y", "cfg-scale=2,7", "-p", "a dog")
        grid = read_png(self.out / "grid.png")
        cells = [read_png(path) for path in sorted(self.out.glob("0*.png"))]
        self.assertEqual(len(cells), 6)
        step, found = 256 + 8, {}
        for row in range(grid.height):  # pictures of 64 pixels are enlarged four times
            for index, cell in enumerate(cells):
                wanted = b"".join(cell.rows[0][3 * x:3 * x + 3] * 4 for x in range(64))
                at = grid.rows[row].find(wanted)
                if at >= 0 and index not in found:
                    found[index] = (at // 3, row)
        left, top = found[0]
        self.assertEqual(set(found), set(range(6)))
        self.assertEqual({index: x - left for index, (x, _) in found.items()}, {i: i % 3 * step for i in range(6)})
        self.assertEqual(len({y for _, y in found.values()}), 2)
        self.assertGreater(min(grid.rows[2]), 200)  # the margin above the title
        self.assertLess(min(min(row) for row in grid.rows[:top]), 80)  # labels

    def test_the_report_shows_the_first_axis_side_by_side(self):
        self.grid("--x", "style-weight=0.5,1", "--y", "seed=1,2", "-p", "a dog", "--style", "b.safetensors")
        data = self.data()
        self.assertEqual((data["beside"], len(data["pictures"])), ("style", 4))
        self.assertEqual([column["name"] for column in data["columns"] if column["varies"]], ["style", "seed"])

    def test_one_axis_quoted_values_files_and_flags(self):
        self.grid("--y", 'prompt="a dog, running",a cat', "-s", "1")
        self.assertEqual([picture["alt"] for picture in self.data()["pictures"]], ["a dog, running", "a cat"])
        shutil.rmtree(self.out)
        self.grid("--x", "Subject=a.safetensors,b.safetensors@0.5", "--y", "vae_tiling=true,false", "-p", "a dog", "-s", "1")
        self.assertEqual(len(self.pictures()), 4)

    def test_the_same_command_goes_on(self):
        arguments = ("--x", "seed=1,2", "--y", "cfg-scale=2,7", "-p", "a dog")
        self.grid(*arguments)
        whole = {path.name: path.read_bytes() for path in self.out.iterdir()}
        sorted(self.out.glob("0*.png"))[2].unlink()
        (self.out / "grid.png").unlink()
        result = self.grid(*arguments, "--json")
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        self.assertEqual([line["skipped"] for line in lines[:-1]].count(False), 1)
        self.assertEqual(lines[-1], {"schema": 1, "grid": "out/grid.png", "report": "out/report.html", "cells": 4, "failed": 0})
        self.assertEqual({path.name: path.read_bytes() for path in self.out.iterdir()}, whole)
        self.assertEqual(self.run_ok("batch", "--status", "out").stdout, "4 rows: 4 done, 0 failed, 0 missing\n")

    def test_a_cell_that_fails_is_shown_and_told(self):
        result = self.grid("--x", "style-weight=1,1e38", "-p", "a dog", "--style", "b.safetensors", "-s", "1", code=8)
        self.assertIn("style-weight=1e38: row 2: ", result.stderr)
        self.assertIn("error: 1 of 2 rows failed", result.stderr)
        self.assertTrue((self.out / "grid.png").exists())
        failed = self.data()["failed"]
        self.assertEqual((len(failed), failed[0]["exit_code"], failed[0]["request"]["style"]["weight"]), (1, 7, 1e38))

    def test_dry_run_draws_nothing(self):
        result = self.grid("--x", "seed=1,2", "-p", "a dog", "--dry-run")
        self.assertRegex(result.stdout, r"^write: out/00001-[0-9a-f]{12}\.png\nwrite: out/00002-[0-9a-f]{12}\.png\n$")
        self.assertFalse(self.out.exists())


class Mistakes(GridCase):
    def refuse(self, code, *arguments, says):
        self.assert_fails(code, "grid", *QUICK, "-o", "out", *arguments, says=says)
        self.assertFalse(self.out.exists())

    def test_axes(self):
        dog = ("-p", "a dog")
        self.refuse(2, *dog, says="no axis")
        for text in ("seed", "=1,2", ""):
            self.refuse(2, *dog, "--x", text, says=("--x", "NAME=VALUES"))
        self.refuse(2, *dog, "--x", "sede=1,2", says=("--x sede", "did you mean 'seed'?"))
        self.refuse(2, *dog, "--y", "quetzalcoatl=1", says=("--y quetzalcoatl", "molar grid --help"))
        for name in ("output", "help", "x", "threads"):
            self.refuse(2, *dog, "--x", f"{name}=1,2", says=f"--x {name}: no option of a single picture")
        self.refuse(2, *dog, "--x", "count=1,2", says="--x count: no option of a single picture")
        self.refuse(2, *dog, "--x", "seed=1,2", "--y", "seed=3,4", says="--x and --y are both seed")
        self.refuse(2, *dog, "--x", "cfg_scale=1,2", "--y", "scale=3,4", says="are both cfg-scale")
        self.refuse(2, *dog, "--x", "seed=1:5:0", says=("--x seed", "the step is 0"))
        self.refuse(2, *dog, "--x", "seed=1:5:-1", says=("--x seed", "the range is empty"))
        self.refuse(2, *dog, "--x", "seed=", says=("--x seed", "no values"))
        self.refuse(2, *dog, "--x", "seed=1:2000:1", says=("2000 values", "1024"))
        self.refuse(2, *dog, "--x", "seed=1:100:1", "--y", "steps=1:100:1", says=("10000 cells", "1024"))

    def test_values(self):
        dog = ("-p", "a dog")
        self.refuse(2, *dog, "--x", "steps=1,two", "--y", "seed=1,2,3", says="--steps 'two': wanted a whole number")
        self.refuse(2, *dog, "--x", "steps=0,1", "--y", "seed=1,2", says="--steps: wanted 1 to 1000, found 0")
        self.refuse(2, *dog, "--x", "style-weight=1", says=("--style-weight 1", "does nothing without --style"))
        self.refuse(4, *dog, "--x", "style=none.safetensors,b.safetensors", "--y", "seed=1,2", says="none.safetensors")
        result = self.grid(*dog, "--x", "steps=1,two", "--y", "seed=1,x,3", code=2)
        self.assertEqual(len(result.stderr.splitlines()), 3, result.stderr)
        self.assertIn("grid: 2 problems, 6 rows; nothing was drawn", result.stderr)

    def test_the_rest_of_the_command(self):
        self.refuse(2, "--x", "seed=1,2", says="no prompt")
        self.refuse(2, "-p", "a dog", "--x", "seed=1,2", "--count", "2", says=("--count 2", "a cell is one picture"))
        self.assert_fails(2, "grid", *QUICK, "-p", "a dog", "--x", "seed=1,2", says="-o DIR")
        (self.folder / "file").write_text("")
        self.assert_fails(2, "grid", *QUICK, "-p", "a dog", "--x", "seed=1,2", "-o", "file", says="'file' is a file")
        self.refuse(2, "-p", "a dog", "--x", "seed=1,2", "--on-exist", "number", says="--on-exist number")


class Weights(GridCase):
    def test_a_weight_takes_the_place_of_the_files(self):
        self.draw("--style", "b.safetensors@0.25", "-o", "at.png")
        self.draw("--style", "b.safetensors@3", "--style-weight", "0.25", "-o", "weight.png")
        self.draw("--from", "at.png", "--style-weight", "0.5", "-o", "from.png")
        self.assertEqual((self.folder / "at.png").read_bytes(), (self.folder / "weight.png").read_bytes())
        self.assertEqual(read_png(self.folder / "from.png").record["request"]["style"]["weight"], 0.5)
        self.draw("--subject", "a.safetensors", "--subject-weight", "0.5", "-o", "subject.png")
        self.assertEqual(read_png(self.folder / "subject.png").record["request"]["subject"]["weight"], 0.5)
        self.assert_fails(2, "generate", "-m", SD15, "-p", "a dog", "--subject-weight", "1",
                          says=("--subject-weight 1", "does nothing without --subject"))
        self.assert_fails(2, "generate", "-m", SD15, "-p", "a dog", "--style-weight", "x", says="--style-weight 'x'")


if __name__ == "__main__":
    harness.main()
