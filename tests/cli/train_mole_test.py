"""`molar train expert` and `molar train gates`: from close-ups to a folder that `generate --mole` draws with."""

import json
import pathlib
import shutil

import harness
from harness import MODELS, QUICK, SD15, CliTest, read_png

GOLDENS = MODELS.parent
PICTURES = GOLDENS / "training"
RECIPES = pathlib.Path(__file__).resolve().parents[2] / "configs/train"
IMAGES = ("--instance-images", PICTURES / "instance", "--instance-prompt", "a photo of sks dog")
EXPERT = ("train", "expert", "-m", SD15, *IMAGES, "--rank", "2", "--steps", "3", "--learning-rate", "0.02", "-o", "mole")
GATES = ("train", "gates", "-m", SD15, *IMAGES, "--instance-images", PICTURES / "class", "--steps", "3", "--learning-rate", "0.1",
         "-o", "mole")


class TrainMole(CliTest):
    def names(self, folder="mole"):
        return sorted(p.name for p in (self.folder / folder).iterdir())

    def take_experts(self, *names):
        (self.folder / "mole").mkdir()
        for name in names:
            shutil.copy(GOLDENS / f"mole/sets/sd15/{name}.safetensors", self.folder / "mole")

    def test_from_close_ups_to_a_picture(self):
        self.assertEqual(self.run_ok(*EXPERT, "--region", "face").stdout, "mole/face.safetensors\n")
        self.run_ok(*EXPERT, "--region", "hand", "--seed", "1")
        self.assertEqual(self.run_ok(*GATES).stdout, "mole/gates.safetensors\n")
        self.assertEqual(self.names(), ["face.safetensors", "gates.safetensors", "hand.safetensors"])
        base, drawn = (self.pixels(*words) for words in ((), ("--mole", "mole")))
        self.assertNotEqual(base, drawn)
        summary = json.loads(self.run_ok("inspect", "--json", "mole").stdout)
        self.assertEqual(sorted(summary["experts"]), ["face", "hand"])

    def pixels(self, *words):
        self.draw(*words, "-o", "picture.png", "--on-exist", "overwrite")
        return read_png(self.folder / "picture.png").pixels

    def test_rank_and_alpha_are_the_papers(self):
        for region, alpha in (("face", "64.0"), ("hand", "128.0"), ("paw", "128.0")):
            self.run_ok("train", "expert", "-m", SD15, *IMAGES, "--steps", "1", "--region", region, "-o", "mole")
            metadata = harness.read_header(self.folder / f"mole/{region}.safetensors")["__metadata__"]
            self.assertEqual((metadata["ss_network_dim"], metadata["ss_network_alpha"]), ("256", alpha))

    def test_an_expert_changes_every_layer_that_gates_can_have(self):
        self.run_ok(*EXPERT, "--region", "face")
        layers = {name.split(".")[0] for name in harness.read_header(self.folder / "mole/face.safetensors") if "lora_down" in name}
        known = {name.split(".")[0] for name in harness.read_header(GOLDENS / "mole/sets/sd15/face.safetensors") if "lora_down" in name}
        self.assertEqual(layers, known)

    def test_gates_of_every_family(self):
        for family in ("sd15", "sd21", "sdxl"):
            with self.subTest(family):
                shutil.copytree(GOLDENS / "mole/sets" / family, self.folder / family)
                (self.folder / family / "gates.safetensors").unlink()
                self.run_ok("train", "gates", "-m", MODELS / f"{family}-tiny", *IMAGES, "--resolution", "64", "--steps", "2", "-o", family)
                self.run_ok("generate", "-m", MODELS / f"{family}-tiny", "-p", "a dog", *QUICK, "--mole", family, "-o", f"{family}.png")

    def test_experts_of_other_names(self):
        self.take_experts("face", "hand")
        (self.folder / "mole/face.safetensors").rename(self.folder / "mole/tail.safetensors")
        self.run_ok(*GATES, "--experts", "tail,hand")
        header = harness.read_header(self.folder / "mole/gates.safetensors")
        self.assertEqual(header["__metadata__"]["molar.experts"], "tail,hand")
        self.pixels("--mole", "mole", "--expert", "tail=0.5")

    def test_statistics_of_the_gates_as_json(self):
        self.take_experts("face", "hand")
        lines = [json.loads(line) for line in self.run_ok(*GATES, "--json").stdout.splitlines()]
        self.assertEqual([line.get("step") for line in lines], [1, 2, 3, None])
        for line in lines[:3]:
            for name in ("local_face", "global_face", "local_hand", "global_hand"):
                self.assertGreater(line[name], 0.2)
                self.assertLess(line[name], 0.8)

    def test_sample_pictures_are_those_of_generate(self):
        self.take_experts("hand")
        samples = ("--sample-every", "2", "--sample-prompt", "a dog", "--sample-steps", "2", "--seed", "7")
        self.run_ok(*EXPERT, "--region", "face", *samples)
        self.run_ok(*GATES, *samples)
        self.assertEqual(self.names("mole/samples"), [
            "face-step000002.png", "face-step000002.safetensors", "face-step000003.png", "face-step000003.safetensors",
            "gates-step000002", "gates-step000002.png", "gates-step000003", "gates-step000003.png"])
        self.assertEqual(self.names(), ["face.safetensors", "gates.safetensors", "hand.safetensors", "samples"])
        drawn = self.pixels("--mole", "mole", "--prompt-syntax", "plain")
        self.assertEqual(drawn, read_png(self.folder / "mole/samples/gates-step000003.png").pixels)
        self.run_ok("generate", "--from", "mole/samples/gates-step000002.png", "-o", "again.png")
        self.assertEqual(read_png(self.folder / "again.png").pixels, read_png(self.folder / "mole/samples/gates-step000002.png").pixels)

    def test_a_finished_training_does_nothing_and_another_is_refused(self):
        self.take_experts("face", "hand")
        self.run_ok(*GATES)
        self.assertIn("nothing to do", self.run_ok(*GATES).stderr)
        self.assert_fails(2, *GATES, "--seed", "2", says=("another training", "seed"))

    def test_the_recipes_are_files_of_options(self):
        self.run_ok("train", "expert", "--config", RECIPES / "expert.toml", "-m", SD15, *IMAGES, "--region", "face", "--steps", "1",
                    "--gradient-accumulation", "1", "-o", "mole")
        self.run_ok("train", "gates", "--config", RECIPES / "gates.toml", "-m", SD15, *IMAGES, "--experts", "face", "--steps", "1",
                    "--gradient-accumulation", "1", "-o", "mole")

    def test_mistakes(self):
        self.take_experts("face", "hand")
        expert, gates = EXPERT[:2], GATES[:2]
        for code, words, arguments in (
            (2, ("--region face",), EXPERT),
            (2, ("--region 'a/b'", "letters"), (*EXPERT, "--region", "a/b")),
            (2, ("--region 'gates'",), (*EXPERT, "--region", "gates")),
            (2, ("-o DIR",), (*expert, "-m", SD15, *IMAGES, "--region", "face")),
            (2, ("--instance-images",), (*expert, "-m", SD15, "--region", "face", "-o", "mole")),
            (2, ("-o DIR",), (*gates, "-m", SD15, *IMAGES)),
            (2, ("--instance-images",), (*gates, "-m", SD15, "-o", "mole")),
            (2, ("'a/b' is no name",), (*GATES, "--experts", "face,a/b")),
            (4, ("mole/foot.safetensors",), (*GATES, "--experts", "face,foot")),
            (5, ("hand.safetensors",), ("train", "gates", "-m", MODELS / "sdxl-tiny", *IMAGES, "-o", "mole", "--experts", "hand")),
        ):
            with self.subTest(arguments):
                self.assert_fails(code, *arguments, says=words)
        self.assertEqual(self.names(), ["face.safetensors", "hand.safetensors"])


if __name__ == "__main__":
    harness.main()
