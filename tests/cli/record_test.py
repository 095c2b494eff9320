"""What a picture carries, and drawing it again from that."""

import json
import re

import harness
from harness import MODELS, QUICK, SD15, CliTest, read_png

# A1111's reader (modules/infotext_utils.py states this grammar as a regular expression).
PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


def read_infotext(text):
    """prompt, negative prompt, {key: value}: as A1111 reads a `parameters` chunk."""
    *lines, last = text.strip().split("\n")
    pairs = {k: json.loads(v) if v.startswith('"') else v for k, v in PAIR.findall(last)}
    prompt, negative, in_negative = [], [], False
    for line in lines:
        if line.startswith("Negative prompt:"):
            in_negative, line = True, line[len("Negative prompt:"):].strip()
        (negative if in_negative else prompt).append(line)
    return "\n".join(prompt), "\n".join(negative), pairs


class Record(CliTest):
    def test_a1111_reads_the_parameters(self):
        harness.write_lora(self.folder / "dog.safetensors", 1)
        self.draw("-n", "blurry, dark", "--lora", "dog.safetensors@0.5", "--cfg-scale", "4.5", "-o", "x.png")
        prompt, negative, pairs = read_infotext(read_png(self.folder / "x.png").text["parameters"])
        self.assertEqual((prompt, negative), ("a dog", "blurry, dark"))
        self.assertEqual((pairs["Steps"], pairs["Seed"], pairs["CFG scale"], pairs["Size"]), ("2", "7", "4.5", "64x64"))
        self.assertIn("Sampler", pairs)
        self.assertIn("dog", pairs["Lora hashes"])
        self.assertRegex(pairs["Version"], "molar")

    def test_prompts_full_of_markup_come_back_unharmed(self):
        prompt = 'Steps: 99, Seed: 7, "quoted", a:b\nsecond line, café 犬'
        self.run_ok("generate", "-m", SD15, "-p", prompt, *QUICK, "-o", "x.png")
        picture = read_png(self.folder / "x.png")
        read_prompt, _, pairs = read_infotext(picture.text["parameters"])
        self.assertEqual((read_prompt, pairs["Steps"], pairs["Seed"]), (prompt, "2", "7"))
        self.assertEqual(picture.record["request"]["prompt"], prompt)

    def test_the_record_says_what_drew_the_picture(self):
        self.draw("-o", "x.png")
        record = read_png(self.folder / "x.png").record
        self.assertEqual(record["schema"], 1)
        self.assertEqual(record["model"]["family"], "SD 1.x")
        self.assertEqual(record["model"]["dtype"], "f32")
        self.assertEqual((record["sampler"], record["scheduler"]), ("pndm", "PNDMScheduler"))
        self.assertEqual(set(record["version"]), {"molar", "git", "torch"})


class From(CliTest):
    def redraw(self, source, *arguments, **options):
        return self.run_ok("generate", "--from", source, "-o", "again.png", "--on-exist", "overwrite", *arguments, **options)

    def test_a_picture_draws_itself_again(self):
        harness.write_lora(self.folder / "a.safetensors", 1)
        harness.write_lora(self.folder / "b.safetensors", 2)
        harness.write_png(self.folder / "in.png", 64, 64, lambda x, y: (4 * x, 4 * y, 99))
        cases = (("-b", "2", "-n", "dark", "--cfg-scale", "3", "--sampler", "euler_a"),
                 ("--subject", "a.safetensors@0.5", "--style", "b.safetensors", "--merge", "direct"),
                 ("--lora", "a.safetensors", "--lora", "b.safetensors@0.25", "--clip-skip", "1", "--vae-tiling"),
                 ("--init-image", "in.png", "--strength", "0.6"),
                 ("-W", "96", "-H", "72", "--prompt-syntax", "plain", "--guidance-rescale", "0.5"),
                 ("--vae", SD15 / "vae", "--tokenizer", SD15 / "tokenizer", "--prediction-type", "v_prediction"))
        for number, arguments in enumerate(cases):
            with self.subTest(arguments):
                paths = self.draw(*arguments, "-o", f"{number}-{{row}}.png").stdout.split()
                self.redraw(paths[-1])
                self.assertEqual((self.folder / "again.png").read_bytes(), (self.folder / paths[-1]).read_bytes())

    def test_a_picture_draws_itself_again_from_any_folder(self):
        harness.write_lora(self.folder / "a.safetensors", 1)
        harness.write_lora(self.folder / "b.safetensors", 2)
        harness.write_png(self.folder / "in.png", 64, 64, lambda x, y: (4 * x, 4 * y, 99))
        harness.write_png(self.folder / "mask.png", 64, 64, lambda x, y: (255,) * 3 if x < 32 else (0,) * 3)
        (self.folder / "model").symlink_to(SD15)
        (self.folder / "else").mkdir()
        self.run_ok("generate", "-m", "model", "-p", "a dog", *QUICK, "--vae", "model/vae", "--tokenizer", "model/tokenizer",
                    "--subject", "a.safetensors", "--style", "b.safetensors", "--lora", "a.safetensors@0.5", "--init-image",
                    "in.png", "--mask", "mask.png", "-o", "x.png")
        self.redraw(self.folder / "x.png", cwd=self.folder / "else")
        self.assertEqual((self.folder / "else" / "again.png").read_bytes(), (self.folder / "x.png").read_bytes())
        self.assertIn(", Model: model, ", read_png(self.folder / "x.png").text["parameters"])

    def test_relative_paths_of_older_pictures_are_of_the_current_folder(self):
        harness.write_lora(self.folder / "a.safetensors", 1)
        (self.folder / "model").symlink_to(SD15)
        self.run_ok("generate", "-m", "model", "-p", "a dog", *QUICK, "--subject", "a.safetensors", "-o", "x.png")
        picture = read_png(self.folder / "x.png")
        record = picture.text["molar"].replace(f"{self.folder}/", "")
        self.assertIn('"model"', record)
        self.assertNotIn(str(self.folder), record)
        harness.write_png(self.folder / "old.png", 8, 8, lambda x, y: (x, y, 0), {"molar": record})
        self.redraw("old.png")
        self.assertEqual((self.folder / "again.png").read_bytes(), (self.folder / "x.png").read_bytes())

    def test_the_type_that_computed_is_part_of_the_picture(self):
        self.run_ok("generate", "-m", SD15, "-p", "a dog", "--steps", "2", "-s", "7", "--dtype", "bf16", "-o", "x.png")
        self.redraw("x.png", env={"MOLAR_DTYPE": "f32"})
        self.assertEqual((self.folder / "again.png").read_bytes(), (self.folder / "x.png").read_bytes())

    def test_flags_change_it(self):
        self.draw("-o", "x.png")
        self.redraw("x.png", "-s", "8", "-p", "a cat")
        request = read_png(self.folder / "again.png").record["request"]
        self.assertEqual((request["seed"], request["prompt"], request["steps"]), (8, "a cat", 2))

    def test_neither_environment_nor_config_file_changes_it(self):
        self.draw("-o", "x.png")
        (self.folder / "c.toml").write_text('steps = 9\nprompt = "a cat"\non-exist = "overwrite"\n')
        self.redraw("x.png", "--config", "c.toml", env={"MOLAR_SEED": "99", "MOLAR_MODEL": str(MODELS / "sdxl-tiny")})
        self.assertEqual((self.folder / "again.png").read_bytes(), (self.folder / "x.png").read_bytes())

    def test_a_file_that_changed_since_is_a_warning(self):
        harness.write_lora(self.folder / "a.safetensors", 1)
        self.draw("--subject", "a.safetensors", "-o", "x.png")
        self.assertNotIn("another content", self.redraw("x.png").stderr)
        harness.write_lora(self.folder / "a.safetensors", 5)
        self.assertIn("another content", self.redraw("x.png").stderr)

    def test_what_carries_no_record_is_exit_3(self):
        (self.folder / "text.png").write_text("no picture")
        harness.write_png(self.folder / "plain.png", 8, 8, lambda x, y: (x, y, 0))
        for name, record in {"schema.png": '{"schema": 99}', "list.png": "[1]", "torn.png": '{"schema": 1, "request"',
                             "empty.png": '{"schema": 1}', "type.png": '{"schema": 1, "request": {"steps": "x"}, "model": {}}',
                             "key.png": '{"schema": 1, "request": {"stairs": 3}, "model": {}}',
                             "range.png": None}.items():
            if record is not None:
                harness.write_png(self.folder / name, 8, 8, lambda x, y: (x, y, 0), {"molar": record})
                self.assert_fails(3, "generate", "--from", name, says=name)
        self.assert_fails(3, "generate", "--from", "text.png", says="text.png")
        self.assert_fails(3, "generate", "--from", "plain.png", says=("plain.png", "no molar record"))
        self.assert_fails(3, "generate", "--from", "absent.png", says="absent.png")

    def test_records_are_read_strictly(self):
        self.draw("-o", "x.png")
        whole = read_png(self.folder / "x.png").record
        harness.write_png(self.folder / "whole.png", 8, 8, lambda x, y: (x, y, 0), {"molar": json.dumps(whole)})
        self.redraw("whole.png", "--dry-run")
        for part, key, value in (("request", "prompt-syntax", "compel"), ("request", "steps", 1.9), ("request", "seed", 1e30),
                                 ("request", "seed", -1), ("request", "width", 64.5), ("request", "prompt", "a \0 dog"),
                                 ("request", "prompt", None), ("request", "vae-tiling", 1), ("request", "lora", {"a": 1}),
                                 ("request", "subject", {"file": "a", "weight": 1, "colour": 2}), ("request", "mask", ""),
                                 ("model", "colour", "red"), ("model", "path", ""), ("model", "path", "a\0b"),
                                 ("model", "vae", 3), ("model", "prediction-type", "eps")):
            with self.subTest(key=key, value=value):
                record = whole | {part: whole[part] | {key: value}}
                harness.write_png(self.folder / "x.png", 8, 8, lambda x, y: (x, y, 0), {"molar": json.dumps(record)})
                self.assert_fails(3, "generate", "--from", "x.png", "--dry-run", says=("x.png", f"'{key}'"))

    def test_records_nested_without_end_are_refused(self):
        deep = '{"schema": 1, "request": {"steps": ' + "[" * 100000 + "]" * 100000 + '}, "model": {}}'
        harness.write_png(self.folder / "deep.png", 8, 8, lambda x, y: (x, y, 0), {"molar": deep})
        self.assert_fails(3, "generate", "--from", "deep.png", says="deep.png")


if __name__ == "__main__":
    harness.main()
