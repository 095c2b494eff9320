"""Experts on the command line: options, records, heat maps, errors."""

import array
import json
import pathlib
import shutil

import harness
from harness import CliTest, MODELS, SD15, max_distance, read_header, read_png, write_lora, write_png, write_safetensors

SET = MODELS.parent / "mole/sets/sd15"
PHI = "moe_lora_unet_mid_block_attentions_0_proj_in.softmoe.Phi_1.weight"


class Experts(CliTest):
    def pixels(self, *arguments, name="picture.png"):
        self.draw(*arguments, "-o", name, "--on-exist", "overwrite")
        return read_png(self.folder / name).pixels

    def test_they_change_the_picture_and_options_change_what_they_do(self):
        base, experts = self.pixels(), self.pixels("--mole", SET)
        self.assertGreater(max_distance(base, experts), 8)
        write_png(self.folder / "mask.png", 64, 64, lambda x, y: (255,) * 3 if x < 32 else (0,) * 3)
        seen = {base, experts}
        for arguments in (("--expert", "face=0.5"), ("--expert", "face=0", "--expert", "hand=0.2"), ("--mole-cap", "0.1"),
                          ("--mole-start", "0.5"), ("--mole-end", "0.5"), ("--region", "hand=8,8,16,40"),
                          ("--region", "face=mask.png"), ("--region", "face=auto"),
                          ("--region", "face=0,0,8,8", "--region", "face=40,40,8,8")):
            with self.subTest(arguments):
                pixels = self.pixels("--mole", SET, *arguments)
                self.assertNotIn(pixels, seen)
                seen.add(pixels)

    def test_without_strength_they_do_nothing(self):
        none = self.pixels("--mole", SET, "--expert", "face=0", "--expert", "hand=0")
        self.assertLessEqual(max_distance(self.pixels(), none), 1)

    def test_beside_loras(self):
        write_lora(self.folder / "dog.safetensors", 1)
        write_lora(self.folder / "ink.safetensors", 2)
        loras = ("--subject", "dog.safetensors", "--style", "ink.safetensors")
        pictures = {self.pixels("--merge", merge, *loras, *mole) for merge in ("direct", "klora") for mole in ((), ("--mole", SET))}
        self.assertEqual(len(pictures), 4)

    def test_each_picture_of_a_count_is_that_of_its_seed(self):
        mole = ("--mole", SET, "--region", "face=auto")
        self.draw(*mole, "-b", "2", "-o", "{seed}.png")
        self.run_ok("generate", "-m", SD15, "-p", "a dog", "--steps", "2", "--dtype", "f32", "-s", "8", *mole, "-o", "one.png")
        self.assertEqual(read_png(self.folder / "8.png").pixels, read_png(self.folder / "one.png").pixels)

    def test_the_record_draws_the_picture_again_in_another_folder(self):
        write_png(self.folder / "mask.png", 64, 64, lambda x, y: (255,) * 3 if x < 32 else (0,) * 3)
        shutil.copytree(SET, self.folder / "mole")
        self.draw("--mole", "mole", "--expert", "hand=0.7", "--mole-cap", "0.5", "--mole-start", "0.1", "--mole-end", "0.9",
                  "--region", "face=8,8,40,40", "--region", "hand=mask.png", "-o", "a.png")
        first = read_png(self.folder / "a.png")
        self.assertEqual(first.record["request"]["mole"], str(self.folder / "mole"))
        self.assertEqual([(e["name"], e["weight"]) for e in first.record["experts"]],
                         [("face", 1.0), ("hand", 0.7), ("gates", 1.0)])
        self.assertIn("MoLE: face@1 hand@0.7", first.text["parameters"])
        elsewhere = self.folder / "elsewhere"
        elsewhere.mkdir()
        self.run_ok("generate", "--from", "../a.png", "-o", "b.png", cwd=elsewhere)
        self.assertEqual((elsewhere / "b.png").read_bytes(), (self.folder / "a.png").read_bytes())
        # Other options change it; --no-mole takes the experts and all that is said of them away.
        self.run_ok("generate", "--from", "a.png", "--no-mole", "-o", "c.png")
        self.assertEqual(read_png(self.folder / "c.png").pixels, self.pixels())
        result = self.run_ok("generate", "--from", "a.png", "-o", "d.png")
        self.assertNotIn("another content", result.stderr)
        self.spoil("gates.safetensors", folder=self.folder / "mole")
        result = self.run_ok("generate", "--from", "a.png", "-o", "e.png")
        self.assertIn("gates.safetensors' has another content", result.stderr)

    def spoil(self, name, folder):
        """Changes one number of the file's last tensor."""
        data = bytearray((folder / name).read_bytes())
        data[-2] ^= 0x10
        (folder / name).write_bytes(data)

    def test_a_set_beside_the_model_acts_unless_told_not_to(self):
        model = self.folder / "model"
        shutil.copytree(SD15, model)
        draw = ("generate", "-m", model, "-p", "a dog", *harness.QUICK)
        base = self.pixels()
        self.run_ok(*draw, "-o", "before.png")
        shutil.copytree(SET, model / "mole")
        self.run_ok(*draw, "-o", "after.png")
        self.run_ok(*draw, "--no-mole", "-o", "off.png")
        after = read_png(self.folder / "after.png")
        self.assertEqual(after.record["request"]["mole"], str(model / "mole"))
        self.assertNotEqual(after.pixels, base)
        self.assertEqual(read_png(self.folder / "off.png").pixels, base)
        # A picture that was drawn without stays one without.
        self.run_ok("generate", "--from", "before.png", "-o", "again.png")
        self.assertEqual(read_png(self.folder / "again.png").pixels, base)

    def test_a_record_from_before_there_were_experts_has_none(self):
        model = self.folder / "model"
        shutil.copytree(SD15, model)
        self.run_ok("generate", "-m", model, "-p", "a dog", *harness.QUICK, "-o", "old.png")
        old = read_png(self.folder / "old.png")
        record = old.record
        del record["request"]["no-mole"], record["experts"]
        write_png(self.folder / "older.png", 1, 1, lambda x, y: (0, 0, 0), {"molar": json.dumps(record)})
        shutil.copytree(SET, model / "mole")
        self.run_ok("generate", "--from", "older.png", "-o", "again.png")
        self.assertEqual(read_png(self.folder / "again.png").pixels, old.pixels)

    def test_dry_run_names_the_experts(self):
        result = self.run_ok("generate", "-m", SD15, "-p", "a dog", "--mole", SET, "--region", "face=auto", "--dry-run", "--json")
        request = json.loads(result.stdout)["request"]
        self.assertEqual(request["mole"], str(SET))
        self.assertEqual(request["region"], [{"expert": "face", "auto": True}])


class Heatmaps(CliTest):
    def test_one_picture_a_step_and_expert_and_a_curve(self):
        self.draw("--mole", SET, "--heatmaps", "maps/of/it", "-o", "dog.png")
        names = sorted(p.name for p in (self.folder / "maps/of/it").iterdir())
        steps = len(json.loads(self.draw("--json", "-o", "x.png").stdout)["timings"]["steps_s"])
        wanted = [f"dog-{e}-step-{i:02}.png" for e in ("face", "hand") for i in range(1, steps + 1)] + ["dog-global-gates.svg"]
        self.assertEqual(names, sorted(wanted))
        picture = read_png(self.folder / "maps/of/it/dog-face-step-01.png")
        self.assertEqual((picture.width, picture.height), (64 * 2 + 4, 64))  # two levels
        self.assertGreater(len(set(picture.pixels)), 32)
        self.assertIn("<svg", (self.folder / "maps/of/it/dog-global-gates.svg").read_text())

    def test_steps_without_experts_have_none(self):
        self.draw("--mole", SET, "--mole-start", "0.5", "--sampler", "ddim", "--heatmaps", "maps", "-o", "dog.png")
        self.assertEqual(sorted(p.name for p in (self.folder / "maps").glob("*face*")), ["dog-face-step-02.png"])

    def test_they_do_not_change_the_picture(self):
        self.draw("--mole", SET, "-o", "a.png")
        self.draw("--mole", SET, "--heatmaps", "maps", "-o", "b.png")
        self.assertEqual((self.folder / "a.png").read_bytes(), (self.folder / "b.png").read_bytes())

    def test_without_experts_they_are_an_error(self):
        self.assert_fails(2, "generate", "-m", SD15, "-p", "x", "--heatmaps", "maps", "-o", "x.png", says=("--heatmaps", "--mole"))
        self.assertFalse((self.folder / "x.png").exists())
        (self.folder / "file").write_text("")
        self.assert_fails(4, "generate", "-m", SD15, "-p", "x", "--mole", SET, "--heatmaps", "file", says="'file' is not a folder")


class Errors(CliTest):
    def fails(self, code, *arguments, says):
        self.assert_fails(code, "generate", "-m", SD15, "-p", "x", "--steps", "1", "-o", "x.png", *arguments, says=says)
        self.assertFalse((self.folder / "x.png").exists())

    def test_of_options(self):
        for arguments, says in ((("--expert", "face"), "NAME=STRENGTH"), (("--expert", "=1"), "NAME=STRENGTH"),
                                (("--expert", "face=much"), "NAME=STRENGTH"), (("--expert", "foot=1"), "face, hand"),
                                (("--expert", "face=1", "--expert", "face=2"), "two strengths"),
                                (("--region", "face"), "NAME=x,y,width,height"), (("--region", "face="), "NAME=x,y,width,height"),
                                (("--region", "face=1,2,3"), "four whole numbers"),
                                (("--region", "face=1,2,3,4,5"), "four whole numbers"),
                                (("--region", "face=1,2,3,"), "four whole numbers"),
                                (("--region", "face=1,2,-3,4"), "above 0"), (("--region", "foot=auto"), "face, hand"),
                                (("--region", "face=60,0,8,8"), "64 x 64"), (("--mole-cap", "-1"), "--mole-cap"),
                                (("--mole-start", "0.9", "--mole-end", "0.2"), "no step"), (("--no-mole",), "exclude each other")):
            with self.subTest(arguments):
                self.fails(2, "--mole", SET, *arguments, says=says)

    def test_options_that_would_do_nothing(self):
        for arguments in (("--expert", "face=1"), ("--region", "face=auto"), ("--mole-cap", "1"), ("--mole-start", "0.5"),
                          ("--mole-end", "0.5")):
            with self.subTest(arguments):
                self.fails(2, *arguments, says=(arguments[0], "wanted --mole DIR"))
                self.fails(2, "--no-mole", *arguments, says=(arguments[0], "--no-mole"))

    def test_of_masks(self):
        write_png(self.folder / "small.png", 32, 64, lambda x, y: (255,) * 3)
        self.fails(3, "--mole", SET, "--region", "face=small.png", says=("32 x 64", "64 x 64"))
        self.fails(3, "--mole", SET, "--region", "face=missing.png", says="missing.png")

    def test_of_files(self):
        self.fails(4, "--mole", "nowhere", says="nowhere")
        (self.folder / "empty").mkdir()
        self.fails(4, "--mole", "empty", says="gates.safetensors")
        part = self.folder / "part"
        shutil.copytree(SET, part)
        (part / "hand.safetensors").unlink()
        self.fails(4, "--mole", "part", says="hand.safetensors' is missing")
        shutil.copy(SET / "face.safetensors", part / "hand.safetensors")
        self.fails_by_fit("part")

    def fails_by_fit(self, folder):
        """A set of another model, gates that lack a tensor or have one too many: exit 5, and the tensor's name."""
        gates = self.folder / folder / "gates.safetensors"
        self.fails(5, "--mole", MODELS.parent / "mole/sets/sd21", says=("moe_lora_unet_", "names no layer of this SD 1.x"))
        rewrite(gates, lambda tensors: tensors | {"moe_lora_unet_elsewhere.softmoe.Phi_1.weight": tensors.pop(PHI)})
        self.fails(5, "--mole", folder, says="moe_lora_unet_elsewhere.softmoe.Phi_1.weight")
        shutil.copy(SET / "gates.safetensors", gates)
        rewrite(gates, lambda tensors: {name: tensor for name, tensor in tensors.items() if name != PHI})
        self.fails(5, "--mole", folder, says=f"'{PHI}' is missing")


def rewrite(path, change):
    """Changes a float32 file's tensors, {name: (shape, values)}."""
    header, data = read_header(path), path.read_bytes()
    body = data[8 + int.from_bytes(data[:8], "little"):]
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            tensors[name] = entry["shape"], array.array("f", body[begin:end])
    write_safetensors(path, change(tensors))


class Inspecting(CliTest):
    def test_gates_and_sets_by_their_content(self):
        shutil.copy(SET / "gates.safetensors", self.folder / "renamed.bin.safetensors")
        fields = json.loads(self.run_ok("inspect", "--json", "renamed.bin.safetensors").stdout)
        self.assertEqual((fields["kind"], fields["experts"]), ("expert gates", ["face", "hand"]))
        header = read_header(SET / "gates.safetensors")
        self.assertEqual(fields["num_keys"], len(header) - ("__metadata__" in header))
        self.assertEqual(fields["num_layers"] * 6, fields["num_keys"])
        self.assertIn("experts: face, hand", self.run_ok("inspect", "renamed.bin.safetensors").stdout)
        fields = json.loads(self.run_ok("inspect", "--json", SET).stdout)
        self.assertEqual(fields["kind"], "expert set")
        self.assertEqual(sorted(fields["experts"]), ["face", "hand"])
        self.assertEqual(fields["experts"]["face"]["components"]["unet"]["max_rank"], 4)
        self.assertIn("kind: expert set", self.run_ok("inspect", SET).stdout)
        self.assertEqual(json.loads(self.run_ok("inspect", "--json", SET / "face.safetensors").stdout)["kind"], "LoRA")

    def test_a_folder_of_nothing_says_what_was_wanted(self):
        self.assert_fails(4, "inspect", pathlib.Path(self.folder), says="gates.safetensors")


if __name__ == "__main__":
    harness.main()
