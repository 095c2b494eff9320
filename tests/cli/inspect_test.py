"""`molar inspect`: a file's kind is told by what is in it."""

import json
import os
import shutil

import harness
from harness import MODELS, SD15, CliTest, read_png


class Inspect(CliTest):
    def describe(self, path):
        fields = json.loads(self.run_ok("inspect", "--json", path).stdout)
        self.assertEqual((fields["schema"], fields["path"]), (1, str(path)))
        return fields

    def test_a_judge_of_people(self):
        judges = MODELS.parent / "judges"
        self.assertIn("kind: human judge (for eval --human)\njudge: hand\n", self.run_ok("inspect", judges / "hand.safetensors").stdout)
        fields = self.describe(judges / "face.safetensors")
        self.assertEqual((fields["kind"], fields["judge"], fields["held_out"]), ("human judge", "face", {}))
        self.assertGreater(fields["num_parameters"], 1000)

    def test_diffusers_folders(self):
        for name, family, components in (("sd15-tiny", "SD 1.x", {"unet", "vae", "text_encoder"}),
                                         ("sd15-tiny-transformers4", "SD 1.x", {"unet", "vae", "text_encoder"}),
                                         ("sd21-tiny", "SD 2.x", {"unet", "vae", "text_encoder"}),
                                         ("sdxl-tiny", "SDXL", {"unet", "vae", "text_encoder", "text_encoder_2"})):
            fields = self.describe(MODELS / name)
            self.assertEqual((fields["kind"], fields["family"], set(fields["components"])), ("model", family, components))
        fields = self.describe(SD15)
        parameters = 0
        for entry in harness.read_header(SD15 / "unet/diffusion_pytorch_model.safetensors").values():
            if "shape" in entry:
                count = 1
                for size in entry["shape"]:
                    count *= size
                parameters += count
        self.assertEqual(fields["components"]["unet"], {"parameters": parameters, "dtype": "float32"})
        self.assertEqual(self.describe(MODELS / "sd21-tiny")["prediction_type"], "v_prediction")

    def test_models_as_text(self):
        lines = self.run_ok("inspect", SD15).stdout.splitlines()
        self.assertEqual(lines[:3], [str(SD15), "kind: model (diffusers folder)", "family: SD 1.x"])

    def test_lora_files_under_any_name(self):
        for name in ("dog.safetensors", "dog", "dog.png"):
            harness.write_lora(self.folder / name, 1, metadata={"modelspec.trigger_phrase": "sks dog"})
            fields = self.describe(name) if name != "dog" else json.loads(self.run_ok("inspect", "--json", name).stdout)
            self.assertEqual((fields["kind"], fields["algorithm"], fields["key_family"]), ("LoRA", "LoRA", "kohya"))
        text = self.run_ok("inspect", "dog.safetensors").stdout
        self.assertIn("sks dog", text)

    def test_pictures_that_molar_made(self):
        self.draw("-o", "x.png")
        shutil.copy(self.folder / "x.png", self.folder / "renamed.safetensors")
        for name in ("x.png", "renamed.safetensors"):
            fields = self.describe(name)
            self.assertEqual((fields["kind"], fields["format"], fields["width"], fields["height"]), ("picture", "PNG", 64, 64))
            self.assertTrue(fields["made_by_molar"])
            self.assertEqual(fields["record"], read_png(self.folder / name).record)
        text = self.run_ok("inspect", "x.png").stdout
        self.assertIn("a dog\nSteps: 2, Sampler: ", text)
        self.assertIn('"schema": 1', text)

    def test_pictures_of_others(self):
        harness.write_png(self.folder / "a1111.png", 16, 8, lambda x, y: (x, y, 0), {"parameters": "a cat\nSteps: 20, Seed: 1, CFG scale: 7"})
        fields = self.describe("a1111.png")
        self.assertEqual((fields["width"], fields["height"], fields["made_by_molar"]), (16, 8, False))
        self.assertEqual(fields["parameters"], "a cat\nSteps: 20, Seed: 1, CFG scale: 7")
        harness.write_png(self.folder / "comfy.png", 16, 8, lambda x, y: (x, y, 0), {"workflow": "{}", "prompt": "{}"})
        self.assertEqual(self.describe("comfy.png")["other_text"], ["workflow", "prompt"])
        self.assertIn("other text: workflow, prompt", self.run_ok("inspect", "comfy.png").stdout)

    def test_escape_sequences_of_foreign_text_do_not_reach_the_terminal(self):
        harness.write_png(self.folder / "evil.png", 8, 8, lambda x, y: (x, y, 0), {"parameters": "a\x1b[31mdog\x07\x9b1m"})
        text = self.run_ok("inspect", "evil.png").stdout
        for character in "\x1b\x07\x9b":
            self.assertNotIn(character, text)

    def test_several_files_are_described_line_by_line(self):
        harness.write_lora(self.folder / "dog.safetensors", 1)
        lines = self.run_ok("inspect", "--json", SD15, "dog.safetensors").stdout.splitlines()
        self.assertEqual([json.loads(line)["kind"] for line in lines], ["model", "LoRA"])

    def test_one_bad_file_does_not_hide_the_others(self):
        harness.write_lora(self.folder / "dog.safetensors", 1)
        result = harness.molar("inspect", "--json", "absent", "dog.safetensors", "absent too", cwd=self.folder)
        self.assertEqual(result.returncode, 4)
        self.assertEqual(json.loads(result.stdout)["kind"], "LoRA")
        self.assertIn("error: 'absent' does not exist", result.stderr)
        self.assertTrue(result.stderr.splitlines()[-1].startswith("error: 2 of 3 files"))

    def test_a_name_that_the_system_refuses_does_not_hide_the_others(self):
        (self.folder / "loop").symlink_to("loop")
        (self.folder / "model").mkdir()
        (self.folder / "model" / "model_index.json").symlink_to("model_index.json")
        for name in ("loop", "x" * 300, "model"):
            result = harness.molar("inspect", "--json", name, SD15, cwd=self.folder)
            self.assertEqual(result.returncode, 4)
            self.assertEqual(json.loads(result.stdout)["kind"], "model")
            first, last = result.stderr.splitlines()
            self.assertTrue(first.startswith(f"error: cannot access '{name}"), first)
            self.assertIn("1 of 2 files", last)
            self.assert_fails(4, "inspect", name, says=f"cannot access '{name}")

    def test_what_is_neither_model_nor_lora_nor_picture_is_exit_4(self):
        (self.folder / "empty").write_bytes(b"")
        (self.folder / "text.txt").write_text("some text, long enough to have a ninth byte")
        (self.folder / "folder").mkdir()
        os.mkfifo(self.folder / "pipe")
        (self.folder / "model.pt").write_bytes(b"PK\x03\x04" + b"\0" * 20)
        (self.folder / "model.ckpt").write_bytes(b"\x80\x02}q\x00" + b"\0" * 20)
        (self.folder / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 20)
        (self.folder / "torn.safetensors").write_bytes((400).to_bytes(8, "little") + b'{"a":')
        harness.write_safetensors(self.folder / "other.safetensors", {"a": ((2,), [1, 2])})
        harness.write_png(self.folder / "record.png", 8, 8, lambda x, y: (x, y, 0), {"molar": '{"schema": 1'})
        harness.write_png(self.folder / "deep.png", 8, 8, lambda x, y: (x, y, 0), {"molar": "[" * 200000 + "]" * 200000})
        for name, says in {"absent": "does not exist", "empty": "neither", "text.txt": "neither", "folder": "neither", "pipe": "pipe",
                           "model.pt": "pickle", "model.ckpt": "pickle", "torn.png": "torn.png",
                           "torn.safetensors": "torn.safetensors", "other.safetensors": "other.safetensors",
                           "record.png": "record.png", "deep.png": "deep.png"}.items():
            with self.subTest(name):
                self.assert_fails(4, "inspect", name, says=says)
                self.assert_fails(4, "inspect", "--json", name)

    def test_a_safetensors_file_whose_length_looks_like_a_pickle(self):
        # The header's length comes first in the file; 0x...80 is an ordinary one.
        path = self.folder / "x.safetensors"
        harness.write_lora(path, 1)
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        padded = length + (0x80 - length) % 256
        path.write_bytes(padded.to_bytes(8, "little") + data[8:8 + length] + b" " * (padded - length) + data[8 + length:])
        self.assertEqual(json.loads(self.run_ok("inspect", "--json", path).stdout)["kind"], "LoRA")


if __name__ == "__main__":
    harness.main()
