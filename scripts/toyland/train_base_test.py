#!/usr/bin/env python3
"""Tests of the base model's training, at sizes that take seconds: python scripts/toyland/train_base_test.py"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from safetensors.torch import load_file

import models_base
import train_base
import train_clip
import train_data
import train_loop
import train_tokenizer
import train_vae

SCRIPT = Path(__file__).with_name("train_base.py")
PICTURES = 40
PARTS = ("clip", "vae", "dino", "unet")
TEXTS = ["", "a red fox", "A Red FOX, watercolor", "zwx-07 robot's hat!", "日本 café 🙂", "<|endoftext|> x"]


def command(run: Path, *words: str) -> list[str]:
    return [
        *words,
        "--run",
        str(run),
        "--size",
        "smoke",
        "--threads",
        "1",
        "--pictures",
        str(PICTURES),
        "--workers",
        "1",
        "--dtype",
        "f32",
    ]


def invoke(run: Path, *words: str) -> None:
    train_base.main(command(run, *words))


class TrainedTest(unittest.TestCase):
    """One smoke run, taken apart in many ways."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.root = Path(cls.temporary.name)
        cls.run_folder, cls.model = cls.root / "run", cls.root / "model"
        for part in ("data", "tokenizer"):
            invoke(cls.run_folder, part)
        for part in PARTS:
            invoke(cls.run_folder, part, "--steps", "6")
        (cls.model / "loras").mkdir(parents=True)
        (cls.model / "loras/kept.safetensors").write_bytes(b"kept")
        invoke(cls.run_folder, "export", "--out", str(cls.model))

    def part_weights(self, run: Path, part: str) -> dict[str, torch.Tensor]:
        return load_file(next((run / part).glob("*.safetensors")))

    def test_a_resumed_training_equals_an_uninterrupted_one_to_the_bit(self) -> None:
        resumed = self.root / "resumed"
        resumed.mkdir()
        for shared in ("data", "tokenizer"):
            (resumed / shared).symlink_to(self.run_folder / shared)
        for part in PARTS:
            # The rate falls towards the end of the budget, so the run must be stopped, not given a smaller budget.
            stop_after(3, lambda: invoke(resumed, part, "--steps", "6"))
            self.assertEqual(torch.load(resumed / f"{part}.pt", weights_only=True)["step"], 3)
            invoke(resumed, part, "--steps", "6")
            whole = self.part_weights(self.run_folder, part)
            for name, weight in self.part_weights(resumed, part).items():
                self.assertTrue(torch.equal(weight, whole[name]), f"{part}: {name}")

    def test_a_finished_training_does_nothing(self) -> None:
        before = (self.run_folder / "unet.pt").stat().st_mtime_ns
        invoke(self.run_folder, "unet", "--steps", "6")
        self.assertEqual((self.run_folder / "unet.pt").stat().st_mtime_ns, before)

    def test_diffusers_draws_with_the_exported_folder(self) -> None:
        pipe = diffusers.StableDiffusionPipeline.from_pretrained(self.model, dtype=torch.float32)
        pipe.set_progress_bar_config(disable=True)
        picture = pipe("a fox", num_inference_steps=2, output_type="np").images[0]
        self.assertEqual(picture.shape, (64, 64, 3))
        self.assertTrue(np.isfinite(picture).all())

    def test_the_export_is_half_precision_of_the_trained_parts(self) -> None:
        for part in ("clip", "vae", "dino", "unet"):
            trained, exported = self.part_weights(self.run_folder, part), self.part_weights(self.model, part)
            self.assertEqual(trained.keys(), exported.keys())
            for name, weight in exported.items():
                self.assertEqual(weight.dtype, torch.float16)
                self.assertTrue(torch.equal(weight, trained[name].half()), f"{part}: {name}")

    def test_the_text_encoder_is_the_text_half_of_the_pair(self) -> None:
        pair = transformers.CLIPModel.from_pretrained(self.model / "clip").float()
        encoder = transformers.CLIPTextModel.from_pretrained(self.model / "text_encoder").float()
        ids = torch.tensor([[1, 2, 3, encoder.config.eos_token_id]])
        self.assertTrue(torch.equal(encoder(ids).pooler_output, pair.text_model(ids).pooler_output))

    def test_an_export_leaves_other_files_of_the_model_alone(self) -> None:
        self.assertEqual((self.model / "loras/kept.safetensors").read_bytes(), b"kept")

    def test_networks_for_metrics_load_with_their_pixel_ranges(self) -> None:
        pair = transformers.CLIPModel.from_pretrained(self.model / "clip").float()
        dino = transformers.ViTModel.from_pretrained(self.model / "dino", add_pooling_layer=False).float()
        pixels = torch.zeros(1, 3, 64, 64)
        self.assertEqual(pair.vision_model(pixels).last_hidden_state.shape[1], 65)
        self.assertEqual(dino(pixels).last_hidden_state.shape[1], 65)
        for name in ("clip", "dino"):
            config = json.loads((self.model / name / "preprocessor_config.json").read_text())
            self.assertEqual((config["image_mean"], config["image_std"]), ([0.5] * 3, [0.5] * 3))

    def test_the_exported_tokenizer_gives_the_ids_of_its_merges(self) -> None:
        exported = transformers.CLIPTokenizer.from_pretrained(self.model / "tokenizer")
        lines = (self.model / "tokenizer/merges.txt").read_text(encoding="utf-8").splitlines()[1:]
        wanted = train_tokenizer.families.make_tokenizer([tuple(line.split()) for line in lines], "<|endoftext|>")
        self.assertEqual(exported(TEXTS).input_ids, wanted(TEXTS).input_ids)
        self.assertEqual(exported.pad_token_id, len(exported) - 1)
        self.assertEqual(exported.model_max_length, 77)

    def test_any_text_survives_the_tokenizer(self) -> None:
        exported = transformers.CLIPTokenizer.from_pretrained(self.model / "tokenizer")
        for text in ("zwx robot", "日本 🙂", "naïve"):
            self.assertEqual(exported.decode(exported(text, add_special_tokens=False).input_ids).strip(), text)

    def test_unet_latents_have_mean_0_and_variance_1(self) -> None:
        latents = np.load(self.run_folder / "cache/latents.npy").astype(np.float32)
        np.testing.assert_allclose(latents.mean(axis=(0, 2, 3)), 0, atol=0.01)
        np.testing.assert_allclose(latents.std(axis=(0, 2, 3)), 1, atol=0.01)

    def test_more_pictures_than_were_drawn_is_an_error(self) -> None:
        with self.assertRaisesRegex(SystemExit, "holds 40 pictures, wanted 41"):
            train_data.draw(self.run_folder / "data", 41, 1)

    def test_sigterm_leaves_a_checkpoint(self) -> None:
        run = self.root / "stopped"
        run.mkdir()
        (run / "data").symlink_to(self.run_folder / "data")
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *command(run, "vae", "--minutes", "60", "--checkpoint-minutes", "0.02")],
            stdout=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 600  # on a busy machine the imports alone take a minute
        while not (run / "vae.pt").exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=600)
        self.assertEqual(process.returncode, 128 + signal.SIGTERM)
        self.assertIn("stopped at step", output)
        self.assertGreater(torch.load(run / "vae.pt", weights_only=True)["step"], 0)


def stop_after(steps: int, action) -> None:
    """Runs `action` and interrupts its training after so many steps, as a signal would."""
    count, original = 0, train_loop.move_average

    def counting(*arguments) -> None:
        nonlocal count
        original(*arguments)
        count += 1
        if count == steps:
            os.kill(os.getpid(), signal.SIGTERM)

    train_loop.move_average = counting
    try:
        action()
    except SystemExit as end:
        assert end.code == 128 + signal.SIGTERM, end.code
    finally:
        train_loop.move_average = original


class LoopTest(unittest.TestCase):
    def test_an_epoch_shows_every_picture_once_and_the_next_in_another_order(self) -> None:
        epochs = [
            torch.cat([train_loop.batch_indices(3, step, 5, 20) for step in range(4 * e, 4 * e + 4)]) for e in range(2)
        ]
        for epoch in epochs:
            self.assertEqual(sorted(epoch.tolist()), list(range(20)))
        self.assertNotEqual(*(epoch.tolist() for epoch in epochs))

    def test_rate_rises_holds_and_falls_to_nothing(self) -> None:
        settings = train_loop.Optimisation(rate=1.0, warmup_steps=10, decay_share=0.5)
        cases = ((0, 0.0, 0.1), (9, 0.1, 1.0), (500, 0.5, 1.0), (750, 0.75, 0.5), (1000, 1.0, 0.0), (1001, 1.1, 0.0))
        for step, progress, wanted in cases:
            self.assertAlmostEqual(train_loop.rate_factor(settings, step, progress), wanted)

    def test_the_average_is_as_wide_as_said_whatever_the_length(self) -> None:
        """Literally: the weight of each step in the average, and the deviation of those steps over the length."""
        decay = train_loop.power_average(0.05)
        for length in (200, 1000):
            weights, rest = np.zeros(length), 1.0
            for step in range(length, 0, -1):
                weights[step - 1] = rest * (1 - decay(step))
                rest *= decay(step)
            self.assertAlmostEqual(weights.sum(), 1.0, places=6)
            steps = np.arange(1, length + 1) / length
            deviation = np.sqrt((weights * steps**2).sum() - (weights * steps).sum() ** 2)
            self.assertAlmostEqual(deviation, 0.05, delta=0.003)


class LossTest(unittest.TestCase):
    def test_normalised_latents_decode_to_the_same_picture(self) -> None:
        torch.manual_seed(0)
        vae = models_base.make_vae(models_base.SIZES["smoke"]).eval()
        pictures = torch.rand(8, 3, 64, 64) * 2 - 1
        with torch.no_grad():
            before = vae.encode(pictures).latent_dist
            wanted = vae.decode(before.mean).sample
            train_vae.normalise_latents(vae, before.mean)
            after = vae.encode(pictures).latent_dist
            found = vae.decode(after.mean).sample
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(after.mean.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
        torch.testing.assert_close(after.mean.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-4, rtol=0)
        # The noise is that of before in units of the new latents.
        torch.testing.assert_close(after.std, before.std / before.mean.std(dim=(0, 2, 3))[None, :, None, None])

    def test_edge_loss_sees_shape_and_not_brightness(self) -> None:
        picture = torch.rand(2, 3, 16, 16)
        self.assertAlmostEqual(float(train_vae.edge_loss(picture + 0.5, picture)), 0.0, places=6)
        step = torch.zeros(1, 1, 8, 8)
        step[..., 4:] = 1.0  # one column of differences in seven, three and one, at three sizes; none between rows
        self.assertAlmostEqual(
            float(train_vae.edge_loss(step, torch.zeros_like(step))), (1 / 7 + 1 / 3 + 1) / 3, places=6
        )

    def test_equal_captions_are_both_right(self) -> None:
        same = torch.tensor([[1.0, 1, 0], [1, 1, 0], [0, 0, 1]])
        logits = torch.tensor([[9.0, 9, -9], [9, 9, -9], [-9, -9, 9]])
        # The best possible: the entropy of two equal choices, for two of three pictures.
        self.assertAlmostEqual(float(train_clip.contrastive_loss(logits, same)), 2 / 3 * np.log(2), places=5)

    def test_variations_stay_in_range_and_only_some_change_the_values(self) -> None:
        pictures = torch.rand(64, 3, 8, 8) * 2 - 1
        varied = train_vae.vary(pictures, train_loop.generator(1, 1))
        self.assertEqual(varied.shape, pictures.shape)
        self.assertLessEqual(float(varied.abs().max()), 1)
        sizes = [one.abs().flatten(1).sort().values for one in (varied, pictures)]
        kept = (sizes[0] - sizes[1]).abs().amax(dim=1) < 1e-6  # moved or turned about, no more
        self.assertGreater(int(kept.sum()), 10)
        self.assertLess(int(kept.sum()), 54)


if __name__ == "__main__":
    unittest.main()
