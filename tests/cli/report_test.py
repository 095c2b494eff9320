"""molar report: what a batch drew as a page and a contact sheet, looked at in a real browser."""

import csv
import json
import os
import pathlib
import shutil
import tempfile

import harness
from chromium import Chromium
from harness import SD15, CliTest, molar, read_png, report_data, write_lora, write_png

EVIL = "<script>document.title='hit'</script></script><img src=x onerror=\"document.title='hit'\">\u2028 & \"quoted\""
ROWS = [{"prompt": prompt, "seed": seed, "merge": merge, "subject": "a.safetensors", "style": "b.safetensors"}
        for prompt in ("a dog", EVIL) for seed in ("1", "2") for merge in ("direct", "np")]
FAILING = {"prompt": "a broken " + EVIL, "seed": "3", "merge": "direct", "subject": "a.safetensors", "style": "b.safetensors@1e38"}


def draw_batch(folder, rows, *arguments, code=0):
    with open(folder / "list.csv", "w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    result = molar("batch", "list.csv", "-o", "out", "-m", SD15, "--dtype", "f32", "--steps", "2", "-q", *arguments, cwd=folder)
    assert result.returncode == code, result.stderr


class ReportCase(CliTest):
    """Each test gets a copy of one batch: eight pictures and a row that failed."""

    @classmethod
    def setUpClass(cls):
        cls.drawn = pathlib.Path(tempfile.mkdtemp(prefix="molar-report-"))
        cls.addClassCleanup(shutil.rmtree, cls.drawn)
        write_lora(cls.drawn / "a.safetensors", 1)
        write_lora(cls.drawn / "b.safetensors", 2)
        draw_batch(cls.drawn, ROWS + [FAILING], code=8)

    def setUp(self):
        super().setUp()
        self.out = self.folder / "out"
        shutil.copytree(self.drawn / "out", self.out)

    def data(self):
        return report_data(self.out / "report.html")


class Files(ReportCase):
    def test_writes_a_page_and_a_sheet_and_prints_their_paths(self):
        result = self.run_ok("report", "out", "-q")
        self.assertEqual(result.stdout, "out/report.html\nout/contact_sheet.png\n")
        self.assertEqual(result.stderr, "")
        data = self.data()
        self.assertEqual([picture["row"] for picture in data["pictures"]], list(range(1, 9)))
        self.assertEqual(data["failed"][0]["row"], 9)
        self.assertEqual(data["failed"][0]["request"]["prompt"], FAILING["prompt"])
        self.assertEqual({column["name"] for column in data["columns"] if column["varies"]}, {"prompt", "seed", "merge"})
        sheet = read_png(self.out / "contact_sheet.png")
        self.assertGreater(sheet.width, 4 * 96)

    def test_json_and_another_folder(self):
        line = json.loads(self.run_ok("report", "out/", "-o", "shown/here", "--json", "-q").stdout)
        self.assertEqual(line, {"schema": 1, "report": "shown/here/report.html", "contact_sheet": "shown/here/contact_sheet.png",
                                "pictures": 8, "unreadable": 0, "failed": 1, "missing": [], "thumbnail": 0})
        self.assertFalse((self.out / "report.html").exists())
        data = report_data(self.folder / "shown/here/report.html")
        self.assertEqual(data["pictures"][0]["link"], "../../out/" + data["pictures"][0]["file"])

    def test_a_second_run_writes_the_same_over_it_unless_told_otherwise(self):
        self.run_ok("report", "out", "-q")
        page = (self.out / "report.html").read_bytes()
        self.run_ok("report", "out", "-q")
        self.assertEqual((self.out / "report.html").read_bytes(), page)
        self.assertEqual(self.run_ok("report", "out", "-q", "--on-exist", "number").stdout,
                         "out/report-1.html\nout/contact_sheet-1.png\n")
        self.assert_fails(2, "report", "out", "-q", "--on-exist", "error", says="report.html")

    def test_shards_and_rows_that_are_not_drawn(self):
        shutil.rmtree(self.out)
        for name in ("a.safetensors", "b.safetensors"):
            shutil.copy(self.drawn / name, self.folder)
        draw_batch(self.folder, ROWS, "--shard", "1/4")
        draw_batch(self.folder, ROWS, "--shard", "2/4")
        line = json.loads(self.run_ok("report", "out", "--json", "-q").stdout)
        self.assertEqual((line["pictures"], line["missing"]), (4, [3, 4, 7, 8]))
        self.assertEqual(self.data()["missing"], "3-4, 7-8")

    def test_pictures_that_are_gone_or_broken_are_counted(self):
        first, second = sorted(self.out.glob("*.png"))[:2]
        first.unlink()
        second.write_bytes(second.read_bytes()[:300])
        with open(self.out / "results.jsonl", "a") as file:
            file.write("nonsense\n" + json.dumps({"schema": 1, "row": 2, "key": "x", "status": "done",
                                                  "pictures": [{"file": "../list.csv", "seed": 1}]}) + "\n")
        result = self.run_ok("report", "out", "--json")
        self.assertEqual(json.loads(result.stdout)["unreadable"], 2)
        self.assertIn("2 of 8 pictures are missing or broken", result.stderr)
        self.assertIn("2 line(s) that are no results", result.stderr)
        problems = [picture["problem"] for picture in self.data()["pictures"]]
        self.assertEqual(problems[0], f"missing: {first.name}")
        self.assertIn("cannot be read", problems[1])
        self.assertEqual(problems[2:], [""] * 6)

    def test_thumbnails(self):
        for size, kind in (("32", "jpeg"), ("whole", "png"), ("auto", "png")):
            self.run_ok("report", "out", "-q", "--thumbnail", size)
            self.assertTrue(self.data()["pictures"][0]["source"].startswith(f"data:image/{kind};base64,"), size)

    def test_pictures_without_records(self):
        draw = [{"prompt": "a dog", "seed": seed} for seed in ("1", "2")]
        shutil.rmtree(self.out)
        draw_batch(self.folder, draw, "--no-metadata")
        self.run_ok("report", "out", "-q")
        self.assertEqual([(column["name"], column["varies"]) for column in self.data()["columns"]], [("seed", True)])

    def test_mistakes(self):
        self.assert_fails(2, "report", says="no folder")
        self.assert_fails(2, "report", "out", "out", says="one folder at a time")
        self.assert_fails(4, "report", "none", says=("none", "holds no batch"))
        for text in ("big", "", "31", "5000", "-3", "99999"):
            self.assert_fails(2, "report", "out", "--thumbnail", text, says=("--thumbnail", "auto, whole, or 32 to 4096"))
        self.assert_fails(2, "report", "out", "-q", "--beside", "merg", says=("'merg'", "prompt, merge, seed", "did you mean 'merge'?"))
        self.assert_fails(2, "report", "out", "-q", "--beside", "steps", says=("'steps'", "do not differ"))
        self.assertFalse((self.out / "report.html").exists())
        self.assert_fails(4, "report", "out", "-q", "-o", "/proc/none", says="/proc/none")


class Page(ReportCase):
    """In Chromium, from a file:// address."""

    SHOWN = "[...document.querySelectorAll('.card')].map((card) => card.querySelector('figcaption').textContent.split('\\n')[0])"

    def setUp(self):
        super().setUp()
        sorted(self.out.glob("*.png"))[7].unlink()
        self.run_ok("report", "out", "-q")
        self.browser = Chromium()
        self.addCleanup(self.browser.close)
        self.browser.open(self.out / "report.html")

    def choose(self, column, value):
        """Picks an option of a column's filter by its text."""
        self.browser.run(f"""(() => {{
            const select = document.querySelector('select[data-column={json.dumps(column)}]');
            select.value = [...select.options].find((option) => option.textContent === {json.dumps(value)}).value;
            select.dispatchEvent(new Event('input', {{bubbles: true}}));
        }})()""")

    def set(self, control, value):
        self.browser.run(f"""(() => {{
            const control = document.getElementById({json.dumps(control)});
            control.value = {json.dumps(value)};
            control.dispatchEvent(new Event('input', {{bubbles: true}}));
        }})()""")

    def test_shows_pictures_records_and_failures_without_the_network(self):
        sizes = self.browser.run("""Promise.all([...document.querySelectorAll('.card img')].map(async (image) => {
            while (!image.src) await new Promise(requestAnimationFrame);
            await image.decode();
            return [image.naturalWidth, image.naturalHeight];
        }))""")
        self.assertEqual(sizes, [[64, 64]] * 7)
        self.assertEqual(self.browser.run(self.SHOWN), [f"row {row}" for row in range(1, 9)])
        self.assertIn("missing: ", self.browser.run("document.querySelector('.absent').textContent"))
        counts = self.browser.run("document.getElementById('counts').textContent")
        self.assertEqual(counts, "8 pictures \u00b7 1 of them is missing or broken \u00b7 1 row failed")
        self.assertIn("steps 2", self.browser.run("document.getElementById('same').textContent"))
        failed = self.browser.run("document.getElementById('failed').innerText")
        self.assertIn("exit code 7", failed)
        self.assertIn("a broken <script>", failed)
        self.browser.run("document.querySelector('.card details summary').click()")
        record = self.browser.run("new Promise((done) => setTimeout(() => done(document.querySelector('.card pre').textContent), 50))")
        self.assertEqual(json.loads(record), read_png(sorted(self.out.glob("*.png"))[0]).record)
        link = self.browser.run("document.querySelector('.card a').href")
        self.assertEqual(link, (self.out / self.data()["pictures"][0]["file"]).as_uri())
        self.assertEqual([url for url in self.browser.requests if not url.startswith(("data:", "file:"))], [])
        self.assertEqual([url for url in self.browser.requests if url.startswith("file:")], [(self.out / "report.html").as_uri()])
        self.assertEqual(self.browser.problems, [])

    def test_a_prompt_with_markup_is_text(self):
        captions = self.browser.run("[...document.querySelectorAll('figcaption')].map((caption) => caption.textContent)")
        self.assertIn(f"prompt: {EVIL}", captions[5])
        self.assertEqual(self.browser.run("document.title"), "out")
        self.assertEqual(self.browser.run("document.querySelectorAll('.card script, img[src=x], #failed script').length"), 0)
        self.assertEqual(self.browser.problems, [])

    def test_filters_and_words(self):
        self.choose("merge", "np")
        self.assertEqual(self.browser.run(self.SHOWN), ["row 2", "row 4", "row 6"])  # the eighth is gone
        self.choose("seed", "1")
        self.assertEqual(self.browser.run(self.SHOWN), ["row 2", "row 6"])
        self.set("search", "DOG a")
        self.assertEqual(self.browser.run(self.SHOWN), ["row 2"])
        self.assertEqual(self.browser.run("document.getElementById('found').textContent"), "1 of 8 pictures")
        self.set("search", "<script>")
        self.assertEqual(self.browser.run(self.SHOWN), ["row 6"])
        self.browser.run("document.querySelector('button[type=reset]').click()")
        shown = self.browser.run(f"new Promise((done) => setTimeout(() => done({self.SHOWN}), 50))")
        self.assertEqual(len(shown), 8)

    def test_side_by_side(self):
        self.set("beside", "merge")
        rows = self.browser.run("""[...document.querySelectorAll('.group')].map((group) => [...group.querySelectorAll('.column')]
            .map((column) => [column.querySelector('b').textContent, column.querySelector('figcaption, .none').textContent]))""")
        self.assertEqual(rows, [[["merge: direct", f"row {row}"], ["merge: np", f"row {row + 1}"]] for row in (1, 3, 5)] +
                         [[["merge: direct", "row 7"], ["merge: np", "\u2013"]]])
        self.assertIn("row 8", self.browser.run("document.querySelector('.silent').textContent"))
        self.browser.run("document.getElementById('any-seed').click()")
        self.assertEqual(self.browser.run("document.querySelectorAll('.group').length"), 2)
        self.set("beside", "seed")
        self.assertEqual(self.browser.run("document.querySelector('.column b').textContent"), "seed: 1")
        self.run_ok("report", "out", "-q", "--beside", "seed")
        self.browser.open(self.out / "report.html")
        self.assertEqual(self.browser.run("document.querySelectorAll('.group').length"), 4)

    def test_dark_and_light_and_a_phone(self):
        def back():
            return self.browser.run("getComputedStyle(document.body).backgroundColor")
        self.browser.prefer("light")
        light = back()
        self.browser.prefer("dark")
        self.assertEqual((light, back()), ("rgb(255, 255, 255)", "rgb(23, 24, 26)"))
        self.browser.resize(360, 640)
        for beside in ("", "merge"):
            self.set("beside", beside)
            self.assertLessEqual(self.browser.run("document.documentElement.scrollWidth"), 360)


class ManyPictures(CliTest):
    def test_of_five_thousand_only_those_in_sight_are_decoded(self):
        out = self.folder / "out"
        out.mkdir()
        write_png(self.folder / "one.png", 64, 64, lambda x, y: (4 * x, 4 * y, 0))
        lines = []
        for row in range(1, 5001):
            name = f"{row:05}-x.png"
            os.link(self.folder / "one.png", out / name)
            lines.append(json.dumps({"schema": 1, "row": row, "key": "x", "status": "done",
                                     "pictures": [{"file": name, "seed": row % 7}]}))
        (out / "results.jsonl").write_text("\n".join(lines) + "\n")
        (out / "batch.json").write_text('{"rows": 5000, "schema": 1}\n')
        self.run_ok("report", "out", "-q")
        browser = Chromium()
        self.addCleanup(browser.close)
        browser.open(out / "report.html")
        self.assertEqual(browser.run("document.querySelectorAll('.card').length"), 5000)
        loaded = browser.run("""new Promise((done) => requestAnimationFrame(() => setTimeout(() =>
            done([...document.querySelectorAll('.card img')].filter((image) => image.src).length), 100)))""")
        self.assertGreater(loaded, 0)
        self.assertLess(loaded, 1000, "pictures far below are not decoded")


if __name__ == "__main__":
    harness.main()
