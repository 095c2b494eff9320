"""The bundled model: a fresh clone draws a subject in a style with it, without being told where it is."""

import json
import shlex
import time

import harness
from harness import CliTest, max_distance, read_png

ROOT = harness.BINARY.parent.parent
MODEL = ROOT / "models/toyland"
FIRST_PICTURE_S = 60  # at most, once it is built; it takes about a second
LORAS = MODEL / "loras"
# Trigger words of the ten that are shipped, by file.
TRIGGERS = {"ziggy": "zib cat", "smiley": "pog teapot", "blazer": "vru car", "emperor": "jyk penguin", "cosmo": "wof rocket",
            "stained-glass": "in stained glass style", "blueprint": "in blueprint style", "neon": "in neon style",
            "comic": "in comic book style", "oil": "in oil painting style"}
# Of the base with the networks for metrics, and of all with what was trained beside it.
BESIDE = ("loras", "mole", "judges", "hypernet.safetensors")
MAX_BYTES, MAX_BYTES_IN_ALL = 40e6, 50e6


class Toyland(CliTest):
    def toy(self, name, prompt, *loras):
        """A small-effort picture in float32, so that every machine draws the same."""
        self.run_ok("generate", "-p", prompt, "-s", "7", "--steps", "12", "--dtype", "f32", *loras, "-o", f"{name}.png")
        return read_png(self.folder / f"{name}.png")

    def test_subject_style_and_both_show(self):
        subject, style = ("--subject", LORAS / "ziggy.safetensors"), ("--style", LORAS / "neon.safetensors")
        plain = self.toy("plain", "a cat on grass")
        pictures = [plain.pixels, self.toy("subject", "a zib cat on grass", *subject).pixels,
                    self.toy("style", "a cat on grass, in neon style", *style).pixels]
        both = self.toy("both", "a zib cat on grass, in neon style", *subject, *style)
        pictures.append(both.pixels)
        for i, one in enumerate(pictures):
            self.assertGreater(max(one) - min(one), 128, "a picture with contrast")
            for other in pictures[:i]:
                self.assertGreater(max_distance(one, other), 64)
        self.assertEqual((plain.width, plain.height), (64, 64))
        self.assertEqual(both.record["model"]["path"], str(MODEL))
        self.assertEqual(both.record["model"]["family"], "SD 1.x")

    def test_readmes_first_command_draws_a_picture_in_under_a_minute(self):
        command = next(line.strip() for line in (ROOT / "README.md").read_text().splitlines()
                       if line.strip().startswith("build/molar generate"))
        words = [str(ROOT / word) if word.startswith("models/") else word for word in shlex.split(command)[1:]]
        start = time.monotonic()
        self.run_ok(*words)
        self.assertLess(time.monotonic() - start, FIRST_PICTURE_S)
        picture = read_png(self.folder / words[words.index("-o") + 1])
        self.assertEqual([lora["role"] for lora in picture.record["loras"]], ["subject", "style"])
        self.assertEqual((picture.width, picture.height), (64, 64))

    def test_a_prompt_decides_what_is_drawn(self):
        house = self.toy("house", "a red house on grass").pixels
        self.assertGreater(max_distance(house, self.toy("car", "a blue car on a street").pixels), 64)

    def test_face_and_hand_experts_act_unless_told_not_to(self):
        prompt = "a close-up of the face of a happy woman with long red hair"
        by_default, without = self.toy("face", prompt), self.toy("base", prompt, "--no-mole")
        self.assertEqual([expert["name"] for expert in by_default.record["experts"]], ["face", "hand", "gates"])
        self.assertEqual(without.record["experts"], [])
        self.assertGreater(max_distance(by_default.pixels, without.pixels), 64)

    def test_the_ten_test_loras_are_shipped_and_no_others(self):
        self.assertEqual({path.name for path in LORAS.iterdir()}, {f"{name}.safetensors" for name in TRIGGERS})
        for name, words in TRIGGERS.items():
            summary = json.loads(self.run_ok("inspect", "--json", LORAS / f"{name}.safetensors").stdout)
            self.assertEqual(summary["trigger_words"], words)

    def test_it_is_small_and_has_the_networks_for_metrics(self):
        sizes = {path.relative_to(MODEL).parts[0]: 0 for path in MODEL.rglob("*")}
        for path in MODEL.rglob("*"):
            sizes[path.relative_to(MODEL).parts[0]] += path.stat().st_size if path.is_file() else 0
        self.assertLess(sum(size for part, size in sizes.items() if part not in BESIDE), MAX_BYTES)
        self.assertLess(sum(sizes.values()), MAX_BYTES_IN_ALL)
        self.assertTrue(all(part in sizes for part in BESIDE), sizes)
        for network in ("clip", "dino"):
            for file in ("config.json", "model.safetensors", "preprocessor_config.json"):
                self.assertTrue((MODEL / network / file).exists(), f"{network}/{file}")


if __name__ == "__main__":
    harness.main()
