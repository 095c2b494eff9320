"""`molar train ziplora` and `molar train hypernet`: what they write acts in merges; what they refuse."""

import json
import pathlib
import shutil

import harness
from harness import MODELS, SD15, CliTest, max_distance, read_png

GOLDENS = MODELS.parent / "training"
SUBJECT, STYLE = GOLDENS / "merge/subject.safetensors", GOLDENS / "merge/style.safetensors"
RECIPE = pathlib.Path(__file__).resolve().parents[2] / "configs/train/hypernet.toml"
ROLES = ("--subject", SUBJECT, "--style", STYLE)
ZIPLORA = ("train", "ziplora", "-m", SD15, *ROLES, "--subject-images", GOLDENS / "instance", "--subject-prompt", "a photo of sks dog",
           "--style-images", GOLDENS / "class", "--style-prompt", "a photo of a dog")


class TrainingAMerge(CliTest):
    def pixels(self, *arguments):
        self.draw(*arguments, "-o", "x.png", "--on-exist", "overwrite")
        return read_png(self.folder / "x.png").pixels

    def write_folders(self):
        """--subjects and --styles as train hypernet reads them."""
        for folder, name, pictures in (("subjects", "subject", "instance"), ("styles", "style", "class"), ("styles", "style-2", "instance")):
            (self.folder / folder).mkdir(exist_ok=True)
            shutil.copy(GOLDENS / f"merge/{name}.safetensors", self.folder / folder)
            shutil.copytree(GOLDENS / pictures, self.folder / folder / name)
            for picture in (self.folder / folder / name).glob("*.png"):
                picture.with_suffix(".txt").write_text(f"a photo of {name}")
        return "train", "hypernet", "-m", SD15, "--subjects", "subjects", "--styles", "styles", "--hidden", "8"

    def test_ziplora_learns_coefficients_that_merge_and_generate_apply(self):
        lines = [json.loads(line) for line in
                 self.run_ok(*ZIPLORA, "--learning-rate", "0.3", "--steps", "3", "--json", "-o", "both.ziplora.safetensors").stdout.splitlines()]
        self.assertEqual([line.get("step") for line in lines], [1, 2, 3, None])
        self.assertEqual(set(lines[0]),
                         {"schema", "step", "loss", "learning_rate", "grad_norm", "subject", "style", "similarity"})
        self.assertEqual(lines[0]["similarity"], 1, "all coefficients are 1 at the start")
        self.assertLess(lines[2]["similarity"], 1)
        apply = ("--coefficients", "both.ziplora.safetensors")
        self.run_ok("merge", "-m", SD15, *ROLES, "--method", "ziplora", *apply, "-o", "merged.safetensors")
        in_memory = self.pixels(*ROLES, "--merge", "ziplora", *apply)
        self.assertLessEqual(max_distance(self.pixels("--lora", "merged.safetensors"), in_memory), 1)
        self.assertGreater(max_distance(self.pixels(*ROLES, "--merge", "direct"), in_memory), 1)
        record = read_png(self.folder / "x.png").record
        self.assertEqual(record["merge"], "direct")
        self.assertIn("kind: merge coefficients", self.run_ok("inspect", "both.ziplora.safetensors").stdout)

    def test_untrained_coefficients_are_the_sum(self):
        self.run_ok(*ZIPLORA, "--steps", "1", "--learning-rate", "0", "-o", "ones.safetensors")
        self.assertLessEqual(max_distance(self.pixels(*ROLES, "--merge", "ziplora", "--coefficients", "ones.safetensors"),
                                          self.pixels(*ROLES, "--merge", "direct")), 1)

    def test_a_hypernetwork_that_merges_use(self):
        hypernet = self.write_folders()
        lines = [json.loads(line) for line in self.run_ok(
            *hypernet, "--validation-subjects", "subjects", "--validation-styles", "styles", "--validate-every", "2", "--steps", "4",
            "--json", "-o", "hypernet.safetensors").stdout.splitlines()]
        self.assertEqual(["validation" in line for line in lines], [False, True, False, True, False])
        self.assertIn("kind: hypernetwork", self.run_ok("inspect", "hypernet.safetensors").stdout)
        predicted = self.pixels(*ROLES, "--hypernet", "hypernet.safetensors")
        self.assertEqual(read_png(self.folder / "x.png").record["merge"], "lorarar")
        self.assertGreater(max_distance(self.pixels(*ROLES, "--merge", "direct"), predicted), 1)

    def test_a_network_of_features_serves_every_layer(self):
        hypernet = self.write_folders()
        joint = self.folder / "joint/subject/style"
        shutil.copytree(GOLDENS / "instance", joint)
        for picture in joint.glob("*.png"):
            picture.with_suffix(".txt").write_text("a photo of sks dog")
        lines = [json.loads(line) for line in self.run_ok(
            *hypernet, "--layout", "features", "--joint-images", "joint", "--joint-weight", "2", "--steps", "2", "--json", "-o",
            "features.safetensors").stdout.splitlines()]
        self.assertTrue(all("joint" in line for line in lines[:2]))
        self.assertIn("reads: features", self.run_ok("inspect", "features.safetensors").stdout)
        fields = json.loads(self.run_ok("inspect", "--json", "features.safetensors").stdout)
        self.assertEqual((fields["layout"], fields["hidden"]), ("features", 8))
        self.run_ok("merge", "-m", SD15, *ROLES, "--hypernet", "features.safetensors", "--report", "report", "-o", "merged.safetensors")
        layers = json.loads((self.folder / "report/report.json").read_text())["layers"]
        self.assertEqual({layer["rule"] for layer in layers}, {"predicted"})
        in_memory = self.pixels(*ROLES, "--hypernet", "features.safetensors")
        self.assertLessEqual(max_distance(self.pixels("--lora", "merged.safetensors"), in_memory), 1)
        # The same network serves a model of other widths.
        xl = MODELS / "sdxl-tiny"
        for seed, name in ((1, "a"), (2, "b")):
            harness.write_lora(self.folder / f"{name}.safetensors", seed, model=xl)
        self.run_ok("merge", "-m", xl, "--subject", "a.safetensors", "--style", "b.safetensors", "--hypernet", "features.safetensors",
                    "-o", "xl.safetensors")
        self.assert_fails(2, *hypernet, "--layout", "rows", "-o", "x.safetensors", says=("--layout 'rows'", "columns or features"))
        self.assert_fails(2, *hypernet, "--joint-weight", "2", "-o", "x.safetensors", says=("--joint-weight", "--joint-images DIR"))
        self.assert_fails(3, *hypernet, "--joint-images", "subjects", "-o", "x.safetensors", says=("--joint-images", "SUBJECT/STYLE"))

    def test_the_constant_network_predicts_the_same_whatever_the_loras_hold(self):
        self.run_ok(*self.write_folders(), "--constant", "--steps", "2", "-o", "constant.safetensors")
        for name, other in (("one", "style"), ("two", "style-2")):
            self.run_ok("merge", "-m", SD15, "--subject", SUBJECT, "--style", GOLDENS / f"merge/{other}.safetensors", "--hypernet",
                        "constant.safetensors", "--report", name, "-o", f"{name}.safetensors")
        predicted = [[layer["mean_coefficients"] for layer in json.loads((self.folder / name / "report.json").read_text())["layers"]
                      if layer["rule"] == "predicted"] for name in ("one", "two")]
        self.assertTrue(predicted[0])
        self.assertEqual(*predicted)

    def test_sdxl_by_the_same_code(self):
        xl = MODELS / "sdxl-tiny"
        for seed, folder, pictures in ((1, "subjects", "instance"), (2, "styles", "class")):
            shutil.copytree(GOLDENS / pictures, self.folder / folder / "one")
            harness.write_lora(self.folder / folder / "one.safetensors", seed, model=xl,
                               metadata={"modelspec.trigger_phrase": "a dog"})  # caption of pictures without one
        common = ("-m", xl, "--steps", "2", "--resolution", "64", "--gradient-checkpointing", "--json")
        roles = ("--subject", "subjects/one.safetensors", "--style", "styles/one.safetensors")
        for command, aid in ((("hypernet", "--subjects", "subjects", "--styles", "styles", "--hidden", "8"), "--hypernet"),
                             (("ziplora", *roles, "--subject-images", "subjects/one", "--style-images", "styles/one"), "--coefficients")):
            lines = self.run_ok("train", *command, *common, "-o", f"{command[0]}.safetensors").stdout.splitlines()
            self.assertTrue(all(json.loads(line)["grad_norm"] > 0 for line in lines[:2]), command[0])
            method = "lorarar" if aid == "--hypernet" else "ziplora"
            self.run_ok("merge", "-m", xl, *roles, "--method", method, aid, f"{command[0]}.safetensors", "-o", f"merged-{method}.safetensors")

    def test_the_recipe_is_a_file_of_options(self):
        self.run_ok(*self.write_folders(), "--config", RECIPE, "--steps", "1", "-o", "hypernet.safetensors")
        description = json.loads(harness.read_header(self.folder / "hypernet.safetensors")["__metadata__"]["molar.training"])
        self.assertEqual((description["learning-rate"], description["weight-decay"]), (0.01, 1e-4))

    def test_the_same_command_goes_on_and_ends_alike(self):
        self.run_ok(*ZIPLORA, "--steps", "4", "-o", "whole.safetensors")
        self.run_ok(*ZIPLORA, "--steps", "4", "-o", "again.safetensors")
        self.assertEqual((self.folder / "whole.safetensors").read_bytes(), (self.folder / "again.safetensors").read_bytes())
        self.assertIn("nothing to do", self.run_ok(*ZIPLORA, "--steps", "4", "-o", "again.safetensors").stderr)
        self.assert_fails(2, *ZIPLORA, "--steps", "5", "-o", "again.safetensors", says=("another training", "steps is 4 there, 5 here"))

    def test_refusals(self):
        def refuse(code, *arguments, says):
            self.assert_fails(code, *arguments, "-o", "x.safetensors", says=says)
            self.assertFalse((self.folder / "x.safetensors").exists())

        refuse(2, "train", "ziplora", says="--subject FILE")
        refuse(2, "train", "ziplora", *ROLES, says="--subject-images DIR")
        refuse(2, "train", "hypernet", says="--subjects DIR")
        self.assert_fails(2, *ZIPLORA, says="-o FILE.safetensors")
        refuse(2, *ZIPLORA, "--similarity-weight", "-1", says="--similarity-weight -1")
        refuse(2, *ZIPLORA, "--resume", "--no-resume", says="exclude each other")
        other = {SUBJECT: "no.safetensors", GOLDENS / "class": "nowhere"}

        def swap(old):
            return [other[old] if word == old else word for word in ZIPLORA]

        refuse(4, *swap(SUBJECT), says="no.safetensors")
        refuse(3, *swap(GOLDENS / "class"), says=("--style-images 'nowhere'", "wanted a folder"))
        refuse(7, *ZIPLORA, "--learning-rate", "1e30", "--steps", "3", says=("step", "loss"))
        hypernet = ["nowhere" if word == "styles" else word for word in self.write_folders()]
        refuse(3, *hypernet, says=("--styles 'nowhere'", "folder of LoRA files"))

    def test_merges_refuse_coefficients_of_other_files(self):
        self.run_ok(*ZIPLORA, "--steps", "1", "-o", "zip.safetensors")
        merge = ("merge", "-m", SD15, "-o", "x.safetensors")
        other = ("--subject", SUBJECT, "--style", GOLDENS / "merge/style-2.safetensors")
        self.assert_fails(5, *merge, *other, "--method", "ziplora", "--coefficients", "zip.safetensors",
                          says=("zip.safetensors", "another style", "style-2.safetensors"))
        self.assert_fails(2, *merge, *ROLES, "--method", "ziplora", says=("--coefficients FILE", "molar train ziplora"))
        self.assert_fails(2, *merge, *ROLES, "--method", "np", "--coefficients", "zip.safetensors", says=("--coefficients", "nothing"))
        self.assert_fails(4, *merge, *ROLES, "--method", "ziplora", "--coefficients", SUBJECT, says="no merge coefficients")
        draw = ("generate", "-m", SD15, "-p", "a dog", *harness.QUICK, "-o", "x.png")
        self.assert_fails(2, *draw, *ROLES, "--coefficients", "zip.safetensors", says=("--coefficients", "--merge ziplora"))
        self.assert_fails(2, *draw, "--merge", "ziplora", *ROLES, says="--coefficients FILE")


if __name__ == "__main__":
    harness.main()
