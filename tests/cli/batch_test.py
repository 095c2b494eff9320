"""molar batch: lists of rows, what is wrong with them, and folders that are continued."""

import errno
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys

import harness
from harness import SD15, CliTest, molar, read_png, write_lora, write_png, write_safetensors

MOLE = harness.MODELS.parent / "mole/sets/sd15"
GOLDEN = pathlib.Path(sys.argv[2]).resolve() / "batch" / "bad_csv.txt"

# Name -> bytes of a CSV that must be refused. Files named in it are made by BadCsv.make_files.
BAD_CSV = {
    "empty file": b"",
    "blank lines only": b"\n\r\n\n",
    "header only": b"prompt,seed\n",
    "column without a name": b"prompt,,seed\na dog,,1\n",
    "column twice": b"prompt,seed,prompt\na dog,1,a cat\n",
    "column twice, spelt differently": b"prompt,cfg_scale,CFG-Scale\na dog,7,8\n",
    "unknown column, near": b"prompt,setps\na dog,2\n",
    "unknown column, far": b"prompt,photographer\na dog,Ansel\n",
    "two unknown columns": b"prompt,setps,sead\na dog,2,1\n",
    "cells missing": b"prompt,seed,steps\na dog,1,2\na cat,1\n",
    "cells too many": b"prompt,seed\na dog, big,1\n",
    "quote never closed": b'prompt,seed\n"a dog,1\na cat,2\n',
    "quote inside a bare cell": b'prompt,seed\na 5" dog,1\n',
    "text behind a quote": b'prompt,seed\n"a dog"s,1\n',
    "Latin-1": "prompt,seed\na café,1\n".encode("latin-1"),
    "UTF-16": "prompt,seed\na dog,1\n".encode("utf-16"),
    "NUL byte": b"prompt,seed\na \0 dog,1\n",
    "no prompt": b"prompt,seed\n,1\n",
    "no number": b"prompt,steps\na dog,many\n",
    "number out of range": b"prompt,steps\na dog,0\n",
    "size no multiple of 8": b"prompt,width\na dog,100\n",
    "negative seed": b"prompt,seed\na dog,-1\n",
    "not a finite number": b"prompt,cfg-scale\na dog,nan\n",
    "no yes or no": b"prompt,vae-tiling\na dog,maybe\n",
    "unknown sampler": b"prompt,sampler\na dog,eular\n",
    "unknown merge method": b"prompt,subject,style,merge\na dog,a.safetensors,b.safetensors,tiess\n",
    "merge of one file": b"prompt,subject,merge\na dog,a.safetensors,direct\n",
    "unknown prompt syntax": b"prompt,prompt-syntax\na dog,a111\n",
    "LoRA missing": b"prompt,subject\na dog,no-such.safetensors\n",
    "LoRA of another model": b"prompt,subject\na dog,other.safetensors\n",
    "LoRA strength no number": b"prompt,style\na dog,a.safetensors@strong\n",
    "LoRA that is a picture": b"prompt,lora\na dog,a.safetensors;sketch.png\n",
    "init image missing": b"prompt,init-image\na dog,no-such.png\n",
    "init image no picture": b"prompt,init-image\na dog,a.safetensors\n",
    "strength without picture": b"prompt,strength\na dog,0.5\n",
    "clip-skip too high": b"prompt,clip-skip\na dog,40\n",
    "model missing": b"prompt,model\na dog,no-such-model\n",
    "position behind quoted lines": 'prompt,seed,steps\r\n"two\r\nlines, ""quoted""",1,2\r\n"schöner Hund",1,x\r\n'.encode(),
    "several bad rows": b"prompt,steps,seed\na dog,x,1\na cat,2,1\na fox,2\na cow,2,y\n",
    "more than twenty bad rows": b"prompt,steps\n" + b"a dog,x\n" * 23,
}


class BatchCase(CliTest):
    def setUp(self):
        super().setUp()
        (self.folder / "model").symlink_to(SD15)
        self.out = self.folder / "out"

    def batch(self, text, *arguments, name="list.csv", **options):
        (self.folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        options.setdefault("cwd", self.folder)
        return molar("batch", name, "-m", "model", "-o", "out", "--dtype", "f32", "--steps", "2", *arguments, **options)

    def batch_ok(self, *arguments, code=0, **options):
        result = self.batch(*arguments, **options)
        self.assertEqual(result.returncode, code, result.stderr)
        return result

    def files(self, folder=None):
        return {p.name: p.read_bytes() for p in (folder or self.out).iterdir()}

    def results(self, name="results.jsonl"):
        return [json.loads(line) for line in (self.out / name).read_text().splitlines()]

    def pixels_of(self, *arguments):
        self.run_ok("generate", "-m", "model", "--dtype", "f32", "--steps", "2", "-o", "alone.png", "--on-exist", "overwrite",
                    *arguments)
        return (self.folder / "alone.png").read_bytes()


class BadCsv(BatchCase):
    def make_files(self):
        write_lora(self.folder / "a.safetensors", 1)
        write_lora(self.folder / "b.safetensors", 2)
        write_lora(self.folder / "other.safetensors", 3, model=harness.MODELS / "sd21-tiny")
        write_png(self.folder / "sketch.png", 16, 16, lambda x, y: (x, y, 0))

    def messages(self):
        text = ""
        for name, csv in BAD_CSV.items():
            result = self.batch(csv, "-q")
            self.assertEqual(result.stdout, "", name)
            self.assertFalse(self.out.exists(), f"{name}: nothing is made")
            text += f"[{name}] exit {result.returncode}\n{result.stderr}"
        return text

    def test_every_kind_has_its_line(self):
        self.make_files()
        found = self.messages()
        if os.environ.get("WRITE_GOLDENS"):
            GOLDEN.parent.mkdir(exist_ok=True)
            GOLDEN.write_text(found)
        self.maxDiff = None
        self.assertEqual(found, GOLDEN.read_text())

    def test_no_message_lets_anything_through(self):
        for name in BAD_CSV:
            self.assertRegex(GOLDEN.read_text(), rf"\[{name}\] exit [345]\nerror: ")


class Lists(BatchCase):
    def keys(self, *arguments, **options):
        plan = self.batch_ok(*arguments, "--dry-run", "--json", **options).stdout
        return [json.loads(line)["request"] for line in plan.splitlines()]

    def test_a_row_is_what_generate_draws(self):
        write_lora(self.folder / "a.safetensors", 1)
        write_lora(self.folder / "b.safetensors", 2)
        csv = ('\ufeffPrompt,negative_prompt,seed,cfg_scale,subject,style,merge\r\n'
               '"a ""dog"",\nwith hat",blurry,7,5,a.safetensors@0.8,b.safetensors,direct\r\n'
               'a cat,,8,,,,\r\n')
        self.batch_ok(csv, "-s", "3", "-n", "ugly")
        alone = self.pixels_of("-p", 'a "dog",\nwith hat', "-n", "blurry", "-s", "7", "--cfg-scale", "5", "--subject",
                               "a.safetensors@0.8", "--style", "b.safetensors", "--merge", "direct")
        first, second = sorted(self.out.glob("*.png"))
        self.assertEqual(first.read_bytes(), alone)
        self.assertEqual(second.read_bytes(), self.pixels_of("-p", "a cat", "-n", "ugly", "-s", "8"))

    def test_json_lines_and_text_ask_for_the_same(self):
        write_lora(self.folder / "a.safetensors", 1)
        csv = self.keys("prompt,negative-prompt,width,height,seed,cfg-scale,steps\na dog,blurry,64,32,5,6.5,3\n")
        lines = self.keys('{"prompt": "a dog", "negative_prompt": "blurry", "Width": 64, "height": 32, "seed": 5, "scale": 6.5, '
                          '"sample_steps": 3, "style": null}\n', name="list.jsonl")
        text = self.keys("# a comment\n\na dog --n blurry --w 64 --h 32 --d 5 --l 6.5 --s 3\n", name="list.txt")
        self.assertEqual(csv, lines)
        self.assertEqual(csv, text)
        both = self.keys('{"prompt": "x", "seed": 1, "lora": ["a.safetensors@0.5", "a.safetensors"]}', name="list.jsonl")
        self.assertEqual(both, self.keys("prompt,seed,lora\nx,1,a.safetensors@0.5; a.safetensors\n"))
        self.assertEqual([use["weight"] for use in both[0]["lora"]], [0.5, 1.0])

    def test_bad_lines_name_their_place(self):
        for name, text, wanted in (
                ("list.jsonl", '{"prompt": "a"}\n{"prompt": }\n', "list.jsonl:2:1"),
                ("list.jsonl", '["a"]\n', "list.jsonl:1:1: wanted a JSON object"),
                ("list.jsonl", '{"prompt": "a", "stepz": 3}\n', "list.jsonl:1:17: 'stepz' is no option of a picture; did you mean"),
                ("list.jsonl", '{"prompt": "a", "steps": [3]}\n', "list.jsonl:1:17: 'steps': wanted text, a number"),
                ("list.jsonl", '{"prompt": "a", "scale": 3, "cfg_scale": 4}\n', "was already given"),
                ("list.txt", "a dog --q 3\n", "list.txt:1:7: 'q' is no option of a picture"),
                ("list.txt", "a dog --s\n", "list.txt:1:7: '--s': wanted an option and its value"),
                ("list.txt", "a dog --s x\n", "list.txt:1:7: --steps 'x': wanted a whole number"),
                ("list.txt", "# nothing\n", "list.txt: no rows")):
            result = self.batch_ok(text, "-q", name=name, code=3)
            self.assertIn(wanted, result.stderr)
            self.assertEqual(result.stderr.count("error: "), 1)

    def test_standard_input_and_format(self):
        for text, arguments in (("prompt,seed\na dog,1\n", ()), ('{"prompt": "a dog", "seed": 1}', ()),
                                ("a dog --d 1\n", ("--format", "txt"))):
            result = molar("batch", "-", "-m", SD15, "-o", "out", "--dry-run", "--json", "-q", *arguments, input=text, cwd=self.folder)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(json.loads(result.stdout)["request"]["seed"], 1)

    def test_columns_may_be_ignored_by_name(self):
        self.assertEqual(len(self.keys("prompt,author\na dog,me\n", "--ignore-column", "author")), 1)

    def test_seeds_of_rows_without_one_are_the_contents(self):
        seeds = [r["seed"] for r in self.keys("prompt\na dog\na dog\na cat\n")]
        self.assertEqual(len(set(seeds)), 3)
        self.assertEqual([r["seed"] for r in self.keys("prompt\na fox\na dog\na dog\na cat\n")][1:], seeds)
        self.assertEqual([r["seed"] for r in self.keys("prompt\na dog\na cat\n", "-s", "4")], [4, 4])

    def test_a_merge_that_cannot_be_made_is_a_bad_row(self):
        write_lora(self.folder / "a.safetensors", 1)
        write_lora(self.folder / "b.safetensors", 2)
        metadata = {"molar.kind": "merge-coefficients", "molar.subject_sha256": "0" * 64, "molar.style_sha256": "0" * 64}
        write_safetensors(self.folder / "learnt.safetensors", {"unet/x": ((2, 4), [1.0] * 8)}, metadata)
        result = self.batch_ok("prompt,subject,style,merge,coefficients\na dog,a.safetensors,b.safetensors,direct,\n"
                               "a cat,a.safetensors,b.safetensors,ziplora,learnt.safetensors\n", "-q", code=5)
        self.assertIn("list.csv:3:43: 'learnt.safetensors' was learnt for another subject than 'a.safetensors'", result.stderr)
        self.assertFalse(self.out.exists())

    def test_options_that_make_no_sense_are_refused(self):
        for arguments, says in ((("--on-exist", "number"), "--on-exist number"), (("--shard", "4/4"), "--shard '4/4'"),
                                (("--batch-size", "0"), "--batch-size 0"), (("--order", "lists"), "did you mean 'list'?"),
                                (("--cache-memory", "-1"), "--cache-memory -1"), (("--format", "xml"), "--format 'xml'"),
                                (("other.csv",), "one list at a time")):
            (self.folder / "list.csv").write_text("prompt\na dog\n")
            self.assert_fails(2, "batch", "list.csv", "-m", "model", "-o", "out", *arguments, says=says)
        self.assert_fails(2, "batch", "list.csv", says="-o DIR")
        self.assert_fails(2, "batch", says="molar batch FILE -o DIR")
        self.assert_fails(4, "batch", "none.csv", "-o", "out", says="none.csv")
        (self.folder / "file").write_text("")
        self.assert_fails(2, "batch", "list.csv", "-o", "file", says="wanted a folder")


class Folders(BatchCase):
    LIST = "prompt,seed,count\na dog,1,\na cat,2,2\na fox,3,\n"

    def test_names_results_and_streams(self):
        result = self.batch_ok(self.LIST)
        paths = result.stdout.splitlines()
        self.assertEqual(len(paths), 4)
        names = {pathlib.Path(p).name for p in paths}
        self.assertEqual(set(self.files()), names | {"results.jsonl", "batch.json"})
        rows = self.results()
        self.assertEqual([r["row"] for r in rows], [1, 2, 3])
        self.assertEqual([[p["seed"] for p in r["pictures"]] for r in rows], [[1], [2, 3], [3]])
        for row in rows:
            for picture in row["pictures"]:
                self.assertRegex(picture["file"], rf"^{row['row']:05}-{row['key']}(-\d)?\.png$")
                self.assertEqual(read_png(self.out / picture["file"]).record["request"]["seed"], picture["seed"])

    def test_a_second_run_does_nothing(self):
        self.batch_ok(self.LIST)
        before = {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in self.out.iterdir()}
        result = self.batch_ok(self.LIST, "--json")
        self.assertEqual({p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in self.out.iterdir()}, before)
        rows = [json.loads(line) for line in result.stdout.splitlines()]
        self.assertTrue(all(r["skipped"] for r in rows))
        self.assertEqual(len(rows), 3)

    def test_what_is_missing_is_drawn_again(self):
        self.batch_ok(self.LIST)
        whole = self.files()
        for spoil in (lambda: next(self.out.glob("00001*")).unlink(),
                      lambda: next(self.out.glob("00002*-1.png")).unlink(),
                      lambda: (self.out / "results.jsonl").unlink(),
                      lambda: (self.out / "results.jsonl").write_bytes(whole["results.jsonl"][:-20]),
                      lambda: (self.out / "results.jsonl").write_bytes(b"nonsense\n" + whole["results.jsonl"]),
                      lambda: (self.out / "batch.json").unlink(),
                      lambda: (self.out / (sorted(whole)[0] + ".molar-123-0")).write_bytes(b"half")):
            spoil()
            self.batch_ok(self.LIST)
            self.assertEqual(self.files(), whole)

    def test_order_and_batch_size_change_no_byte(self):
        write_lora(self.folder / "a.safetensors", 1)
        text = "prompt,seed,style,cfg-scale,width\n" + "".join(
            f"a dog {i},{i},{'a.safetensors' if i % 3 == 0 else ''},{1 if i == 5 else 7},{64 if i == 4 else ''}\n" for i in range(9))
        self.batch_ok(text, "--order", "list", "--batch-size", "1")
        wanted = self.files()
        shutil.rmtree(self.out)
        self.batch_ok(text, "--batch-size", "8", "--cache-memory", "0")
        self.assertEqual(self.files(), wanted)
        alone = self.pixels_of("-p", "a dog 3", "-s", "3", "--cfg-scale", "7", "--style", "a.safetensors")
        self.assertEqual(next(self.out.glob("00004*")).read_bytes(), alone)

    def test_shards_make_the_folder_of_a_single_run(self):
        self.batch_ok(self.LIST)
        whole = self.files()
        shutil.rmtree(self.out)
        for i in range(2):
            self.batch_ok(self.LIST, "--shard", f"{i}/2")
        parts = self.files()
        lines = parts.pop("results.0-of-2.jsonl") + parts.pop("results.1-of-2.jsonl")
        self.assertEqual(sorted(lines.splitlines()), sorted(whole.pop("results.jsonl").splitlines()))
        self.assertEqual(parts, whole)
        self.assertEqual([r["row"] for r in map(json.loads, (self.out / "results.0-of-2.jsonl").read_text().splitlines())], [2])

    def test_status(self):
        self.assert_fails(4, "batch", "--status", "out", says="holds no batch")
        self.batch_ok(self.LIST, "--shard", "1/2")
        status = self.run_status(75)
        self.assertEqual((status["rows"], status["done"], status["missing"]), (3, 2, [2]))
        self.batch_ok(self.LIST, "--shard", "0/2")
        self.assertEqual(self.run_status(0)["done"], 3)
        self.assertEqual(molar("batch", "--status", "out", cwd=self.folder).stdout, "3 rows: 3 done, 0 failed, 0 missing\n")
        self.assert_fails(2, "batch", "list.csv", "--status", "out", says="stands alone")

    def run_status(self, code):
        result = molar("batch", "--status", "out", "--json", cwd=self.folder)
        self.assertEqual(result.returncode, code, result.stderr)
        return json.loads(result.stdout)

    def test_on_exist(self):
        self.batch_ok(self.LIST)
        whole = self.files()
        result = self.batch_ok(self.LIST, "--on-exist", "error", code=2)
        self.assertIn("exists; choose another -o", result.stderr)
        picture = next(self.out.glob("00001*"))
        picture.write_bytes(b"spoiled")
        self.batch_ok(self.LIST)
        self.assertEqual(picture.read_bytes(), b"spoiled", "what is there stays")
        self.batch_ok(self.LIST, "--on-exist", "overwrite")
        self.assertEqual(self.files(), whole)

    def test_metadata_config_and_dry_run(self):
        (self.folder / "molar.toml").write_text('no-metadata = true\n[batch]\nshard = "1/3"\n')
        plan = self.batch_ok(self.LIST, "--config", "molar.toml", "--dry-run")
        self.assertFalse(self.out.exists())
        self.assertRegex(plan.stdout, r"^write: out/00001-[0-9a-f]{12}\.png\n$")
        self.batch_ok(self.LIST, "--config", "molar.toml")
        self.assertEqual([p.name for p in self.out.glob("*.png")], [plan.stdout.split("/")[1].strip()])
        self.assertEqual(read_png(next(self.out.glob("*.png"))).text, {})
        self.assertTrue(self.batch_ok(self.LIST, "--shard", "1/3", "--dry-run").stdout.startswith("skip: "))


class Experts(BatchCase):
    """Every option of generate that concerns experts is a column."""

    def draw_alone(self, *arguments):
        return self.pixels_of("-p", "a dog", *arguments)

    def pictures(self):
        return [path.read_bytes() for path in sorted(self.out.glob("*.png"))]

    def test_rows_with_and_without_experts_are_what_generate_draws(self):
        write_png(self.folder / "mask.png", 64, 64, lambda x, y: (255,) * 3 if x < 32 else (0,) * 3)
        write_lora(self.folder / "a.safetensors", 1)
        csv = ("prompt,seed,mole,expert,region,mole-cap,mole_start,mole_end,style\n"
               f"a dog,1,{MOLE},,,,,,\n"
               "a dog,1,,,,,,,\n"
               f"a dog,2,{MOLE},,,,,,\n"
               f'a dog,3,{MOLE},face=0.5; hand=0.2,"face=8,8,40,40; hand=mask.png",0.5,0.1,0.9,\n'
               f"a dog,4,{MOLE},,hand=auto,,,,a.safetensors\n"
               f"a dog,5,{MOLE},,hand=auto,,,,a.safetensors\n"
               "a dog,2,,,,,,,a.safetensors\n"
               f"a dog,6,{MOLE},,,,0.5,,\n"
               f"a dog,7,{MOLE},,,,0.5,,\n")
        self.batch_ok(csv)
        mole, style = ("--mole", MOLE), ("--style", "a.safetensors")
        for picture, arguments in zip(self.pictures(), (
                ("-s", 1, *mole), ("-s", 1), ("-s", 2, *mole),
                ("-s", 3, *mole, "--expert", "face=0.5", "--expert", "hand=0.2", "--region", "face=8,8,40,40", "--region",
                 "hand=mask.png", "--mole-cap", "0.5", "--mole-start", "0.1", "--mole-end", "0.9"),
                ("-s", 4, *mole, "--region", "hand=auto", *style), ("-s", 5, *mole, "--region", "hand=auto", *style),
                ("-s", 2, *style), ("-s", 6, *mole, "--mole-start", "0.5"), ("-s", 7, *mole, "--mole-start", "0.5")), strict=True):
            with self.subTest(arguments):
                self.assertEqual(picture, self.draw_alone(*arguments))

    def test_those_beside_the_model_act_unless_a_row_says_otherwise(self):
        (self.folder / "model").unlink()
        shutil.copytree(SD15, self.folder / "model")
        shutil.copytree(MOLE, self.folder / "model" / "mole")
        shutil.copytree(MOLE, self.folder / "others")
        self.batch_ok("prompt,seed,mole,no-mole\na dog,1,,\na dog,1,,true\na dog,1,others,\na dog,1,,no\n")
        with_experts, without, others, again = (read_png(path) for path in sorted(self.out.glob("*.png")))
        self.assertEqual(with_experts.record["request"]["mole"], str(self.folder / "model/mole"))
        self.assertEqual(with_experts.pixels, others.pixels)
        self.assertEqual(with_experts.pixels, again.pixels)
        self.assertNotEqual(with_experts.pixels, without.pixels)
        self.assertEqual(without.record["experts"], [])
        # What a row says goes before what would exclude it on the command line.
        for arguments in (("--mole", "others", "--mole-cap", "9", "--expert", "face=1"), ("--no-mole",)):
            shutil.rmtree(self.out)
            self.batch_ok("prompt,seed,mole,no-mole\na dog,1,others,\na dog,1,,true\n", *arguments)
            self.assertEqual([read_png(p).pixels == without.pixels for p in sorted(self.out.glob("*.png"))], [False, True])

    def key(self, mole="mole", row=""):
        plan = self.batch_ok(f"prompt,seed,mole,expert,region,mole-cap\na dog,1,{mole},{row or ',,'}\n", "--dry-run", "--json")
        return json.loads(plan.stdout)["key"]

    def test_a_rows_key_is_of_the_experts_content_and_options(self):
        shutil.copytree(MOLE, self.folder / "mole")
        shutil.copytree(MOLE, self.folder / "elsewhere")
        write_png(self.folder / "mask.png", 64, 64, lambda x, y: (255,) * 3)
        keys = [self.key(), self.key(""), self.key(row="face=0.5,,"), self.key(row=",,0.5"), self.key(row=",face=auto,"),
                self.key(row=",face=mask.png,")]
        self.assertEqual(self.key("elsewhere"), keys[0])
        write_png(self.folder / "mask.png", 64, 64, lambda x, y: (255,) * 3 if x < 32 else (0,) * 3)
        keys.append(self.key(row=",face=mask.png,"))
        for name in ("face", "gates"):
            data = bytearray((self.folder / "mole" / f"{name}.safetensors").read_bytes())
            data[-2] ^= 0x10
            (self.folder / "mole" / f"{name}.safetensors").write_bytes(data)
            keys.append(self.key())
        self.assertEqual(len(set(keys)), 9)

    def test_bad_rows_name_their_place(self):
        for cells, code, says in (
                ("nowhere,,", 4, "list.csv:2:7: experts 'nowhere'"), (f"{MOLE},foot=1,", 3, "list.csv:2:"),
                (f"{MOLE},,face=small.png", 3, "32 x 64"), (",face=1,", 3, "--expert says how experts act, but there are none"),
                (f"{MOLE},face,", 3, "NAME=STRENGTH")):
            with self.subTest(cells):
                write_png(self.folder / "small.png", 32, 64, lambda x, y: (255,) * 3)
                result = self.batch_ok(f"prompt,mole,expert,region\na dog,{cells}\n", "-q", code=code)
                self.assertIn(says, result.stderr)
                self.assertIn("error: list.csv:2:", result.stderr)
                self.assertFalse(self.out.exists())

    def test_heat_maps_are_of_single_pictures(self):
        self.batch_ok("prompt,heatmaps\na dog,maps\n", "-q", code=3)
        self.batch_ok("prompt\na dog\n", "--heatmaps", "maps", code=2)


class Failures(BatchCase):
    """What goes wrong on the way; what was done stays."""

    def start(self, *arguments):
        """A slow run over many rows of two LoRAs; returns after the first picture."""
        rows = "".join(f"a dog,{i},{'b' if i == 19 else 'a'}.safetensors\n" for i in range(20))
        (self.folder / "list.csv").write_text("prompt,seed,style\n" + rows)
        command = [str(harness.BINARY), "batch", "list.csv", "-m", "model", "-o", "out", "--dtype", "f32", "--steps", "20",
                   "--batch-size", "1", "--cache-memory", "0", *arguments]
        process = subprocess.Popen(command, cwd=self.folder, env=harness.environment(), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.assertTrue(process.stdout.readline().startswith("out/00001-"))
        return process

    def test_a_lora_that_goes_away_fails_its_row_alone(self):
        for name, seed in (("a", 1), ("b", 2)):
            write_lora(self.folder / f"{name}.safetensors", seed)
        kept = (self.folder / "b.safetensors").read_bytes()
        process = self.start()
        (self.folder / "b.safetensors").unlink()
        process.stdout.read()
        errors = process.stderr.read()
        self.assertEqual(process.wait(), 8, errors)
        self.assertIn("1 of 20 rows failed", errors)
        rows = self.results()
        self.assertEqual([r["status"] for r in rows], ["done"] * 19 + ["failed"])
        self.assertIn("b.safetensors", rows[-1]["error"])
        self.assertEqual(rows[-1]["exit_code"], 4)
        status = molar("batch", "--status", "out", cwd=self.folder)
        self.assertEqual(status.returncode, 8)
        self.assertIn("row 20 failed: ", status.stdout)
        (self.folder / "b.safetensors").write_bytes(kept)
        self.run_ok("batch", "list.csv", "-m", "model", "-o", "out", "--dtype", "f32", "--steps", "20")
        self.assertEqual([r["status"] for r in self.results()], ["done"] * 20)

    def test_a_lora_that_changes_fails_its_row(self):
        for name, seed in (("a", 1), ("b", 2)):
            write_lora(self.folder / f"{name}.safetensors", seed)
        process = self.start("--fail-fast")
        write_lora(self.folder / "c.safetensors", 3)
        os.replace(self.folder / "c.safetensors", self.folder / "b.safetensors")
        process.stdout.read()
        self.assertEqual(process.wait(), 8, process.stderr.read())
        self.assertIn("was changed since the run started", self.results()[-1]["error"])

    def test_a_picture_to_start_from_that_changes_fails_its_rows(self):
        for name, seed in (("a", 1), ("b", 2)):
            write_lora(self.folder / f"{name}.safetensors", seed)
        write_png(self.folder / "start.png", 64, 64, lambda x, y: (x, y, 0))
        process = self.start("--init-image", "start.png", "--fail-fast")
        write_png(self.folder / "start.png", 64, 64, lambda x, y: (y, x, 99))
        process.stdout.read()
        self.assertEqual(process.wait(), 8, process.stderr.read())
        self.assertRegex(self.results()[-1]["error"], "start.png' was changed since the run started")

    def test_signals_stop_at_a_safe_point_and_the_same_command_goes_on(self):
        for name, seed in (("a", 1), ("b", 2)):
            write_lora(self.folder / f"{name}.safetensors", seed)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            shutil.rmtree(self.out, ignore_errors=True)
            process = self.start()
            process.send_signal(number)
            rest, errors = process.stdout.read(), process.stderr.read()
            self.assertEqual(process.wait(), 75, errors)
            done = [r["row"] for r in self.results()]
            self.assertEqual(len(done), 1 + len(rest.splitlines()))
            self.assertLess(len(done), 20)
            self.assertEqual(len(list(self.out.glob("*.png"))), len(done))

    def test_two_runs_on_one_folder(self):
        for name, seed in (("a", 1), ("b", 2)):
            write_lora(self.folder / f"{name}.safetensors", seed)
        self.start()
        result = molar("batch", "list.csv", "-m", "model", "-o", "out", "--steps", "20", cwd=self.folder)
        self.assertEqual(result.returncode, 4)
        self.assertIn("results.jsonl' is in use by another run", result.stderr)

    def test_a_full_disk_ends_the_run_and_keeps_what_is_done(self):
        self.batch_ok("prompt,seed\na dog,1\n")
        whole = self.files()

        def small_files():
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))  # less than a picture

        result = self.batch_ok("prompt,seed\na dog,1\na cat,2\n", code=4, preexec_fn=small_files)
        self.assertIn(os.strerror(errno.EFBIG), result.stderr)
        self.assertEqual(self.files() | {"batch.json": b""}, whole | {"batch.json": b""})
        self.batch_ok("prompt,seed\na dog,1\na cat,2\n")
        self.assertEqual(len(self.results()), 2)

    def test_a_folder_that_may_not_be_written(self):
        if os.geteuid() == 0:
            target = "/proc/molar-out"  # root may write to every ordinary folder
        else:
            self.out.mkdir(mode=0o555)
            target = "out"
        (self.folder / "list.csv").write_text("prompt\na dog\n")
        self.assert_fails(4, "batch", "list.csv", "-m", "model", "-o", target, "--steps", "2", "-q", says=target)


if __name__ == "__main__":
    harness.main()
