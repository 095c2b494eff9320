"""`molar train lora`: what it writes, what it refuses, and that no moment to be killed at costs more than time."""

import json
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import time

import harness
from harness import MODELS, QUICK, SD15, CliTest, molar, read_png

PICTURES = harness.MODELS.parent / "training"
RECIPES = pathlib.Path(__file__).resolve().parents[2] / "configs/train"
DATA = ("--instance-images", PICTURES / "instance", "--instance-prompt", "a photo of sks dog")
# Large steps: a LoRA that shows after a few of them.
PLAIN = ("train", "lora", "-m", SD15, *DATA, "--rank", "2")
TRAIN = (*PLAIN, "--learning-rate", "0.02")


def tensors_of(path):
    """The bytes after the header: everything but the metadata."""
    data = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return data[8 + length:]


def metadata_of(path):
    return harness.read_header(path)["__metadata__"]


class Training(CliTest):
    def test_a_lora_that_generate_takes(self):
        result = self.run_ok(*TRAIN, "--steps", "5", "-o", "dog.safetensors")
        self.assertEqual(result.stdout, "dog.safetensors\n")
        self.assertEqual([p.name for p in self.folder.iterdir()], ["dog.safetensors"])
        self.draw("-o", "base.png")
        self.draw("--lora", "dog.safetensors", "-o", "dog.png")
        self.draw("--lora", "dog.safetensors@0", "-o", "none.png")
        base, dog, none = (read_png(self.folder / f"{name}.png").pixels for name in ("base", "dog", "none"))
        self.assertEqual(base, none)
        self.assertNotEqual(base, dog)

    def test_before_the_first_real_step_the_picture_is_the_models(self):
        # `up` is still 0.
        self.run_ok(*PLAIN, "--steps", "1", "--learning-rate", "0", "-o", "dog.safetensors")
        self.draw("-o", "base.png")
        self.draw("--lora", "dog.safetensors", "-o", "dog.png")
        self.assertEqual(read_png(self.folder / "base.png").pixels, read_png(self.folder / "dog.png").pixels)

    def test_every_family_and_target(self):
        every = "attention,feed-forward,convolution,text-encoder"
        for model in ("sd15-tiny", "sd21-tiny", "sdxl-tiny"):
            for form in ("kohya", "diffusers"):
                with self.subTest(model=model, form=form):
                    name = f"{model}-{form}.safetensors"
                    self.run_ok("train", "lora", "-m", MODELS / model, *DATA, "--rank", "2", "--target", every, "--steps", "2",
                                "--resolution", "64", "--format", form, "-o", name)
                    self.run_ok("generate", "-m", MODELS / model, "-p", "a dog", *QUICK, "--lora", name, "-o", "x.png",
                                "--on-exist", "overwrite")
                    summary = json.loads(self.run_ok("inspect", "--json", name).stdout)
                    self.assertTrue(summary["key_family"].startswith(form), summary["key_family"])
                    self.assertIn("text_encoder", summary["components"])

    def test_a_single_file_checkpoint(self):
        single = MODELS.parent / "single_file/sd15-tiny.safetensors"
        self.run_ok("train", "lora", "-m", single, "--tokenizer", SD15 / "tokenizer", *DATA, "--rank", "2", "--steps", "2",
                    "--learning-rate", "0.02", "-o", "single.safetensors")
        self.run_ok(*TRAIN, "--steps", "2", "-o", "folder.safetensors")
        self.assertEqual(harness.read_header(self.folder / "single.safetensors").keys(),
                         harness.read_header(self.folder / "folder.safetensors").keys())

    def test_losses_and_result_as_json(self):
        lines = [json.loads(line) for line in
                 self.run_ok(*TRAIN, "--steps", "3", "--warmup-steps", "1", "--json", "-o", "dog.safetensors").stdout.splitlines()]
        self.assertEqual([line.get("step") for line in lines], [1, 2, 3, None])
        self.assertEqual([line.get("learning_rate") for line in lines[:3]], [0.0, 0.02, 0.02])
        for line in lines[:3]:
            self.assertEqual(set(line), {"schema", "step", "loss", "learning_rate", "grad_norm"})
            self.assertGreater(line["loss"], 0)
        self.assertEqual((lines[3]["path"], lines[3]["steps"], lines[3]["skipped"]), ("dog.safetensors", 3, False))

    def test_progress_shows_the_loss(self):
        self.assertRegex(self.run_ok(*TRAIN, "--steps", "2", "--progress", "plain", "-o", "dog.safetensors").stderr,
                         r"training: step 2/2, 100 %, .* left, loss \d+\.\d{4}")

    def test_metadata_that_other_tools_read(self):
        self.run_ok(*TRAIN, "--steps", "2", "--alpha", "1", "-o", "dog.safetensors")
        metadata = metadata_of(self.folder / "dog.safetensors")
        for key, value in {"ss_network_dim": "2", "ss_network_alpha": "1.0", "ss_sd_model_name": "sd15-tiny",
                           "modelspec.trigger_phrase": "a photo of sks dog", "ss_num_train_images": "3",
                           "modelspec.title": "dog"}.items():
            self.assertEqual(metadata[key], value)
        self.assertEqual(json.loads(metadata["ss_tag_frequency"]),
                         {"instance": {"a photo of sks dog": 2, "a dog in the snow": 1}})
        self.assertIn("trigger words: a photo of sks dog", self.run_ok("inspect", "dog.safetensors").stdout)

    def test_a_file_in_half_precision(self):
        self.run_ok(*TRAIN, "--steps", "3", "-o", "full.safetensors")
        self.run_ok(*TRAIN, "--steps", "3", "--save-dtype", "f16", "-o", "half.safetensors")
        header = harness.read_header(self.folder / "half.safetensors")
        self.assertEqual({entry["dtype"] for name, entry in header.items() if name.endswith(".weight")}, {"F16"})
        self.assertEqual({entry["dtype"] for name, entry in header.items() if name.endswith(".alpha")}, {"F32"})
        for name in ("full", "half"):
            self.draw("--lora", f"{name}.safetensors", "-o", f"{name}.png")
        pixels = [read_png(self.folder / f"{name}.png").pixels for name in ("full", "half")]
        self.assertLessEqual(harness.max_distance(*pixels), 3, "grey levels, factors are rounded")

    def test_class_pictures_change_what_is_learnt(self):
        classes = ("--class-images", PICTURES / "class", "--class-prompt", "a photo of a dog")
        self.run_ok(*TRAIN, "--steps", "3", "-o", "without.safetensors")
        self.run_ok(*TRAIN, "--steps", "3", *classes, "-o", "with.safetensors")
        self.assertNotEqual(tensors_of(self.folder / "without.safetensors"), tensors_of(self.folder / "with.safetensors"))

    def test_sample_pictures_are_those_of_generate(self):
        self.run_ok(*TRAIN, "--steps", "4", "--sample-every", "2", "--sample-prompt", "a dog", "--sample-prompt", "a cat",
                    "--sample-steps", "2", "--seed", "7", "-o", "out/dog.safetensors")
        names = sorted(p.name for p in (self.folder / "out").iterdir())
        self.assertEqual(names, ["dog-step000002-0.png", "dog-step000002-1.png", "dog-step000002.safetensors",
                                 "dog-step000004-0.png", "dog-step000004-1.png", "dog-step000004.safetensors", "dog.safetensors"])
        self.draw("--lora", "out/dog.safetensors", "--prompt-syntax", "plain", "-o", "dog.png")
        last = read_png(self.folder / "out/dog-step000004-0.png")
        self.assertEqual(last.pixels, read_png(self.folder / "dog.png").pixels)
        self.assertNotEqual(last.pixels, read_png(self.folder / "out/dog-step000002-0.png").pixels)
        self.run_ok("generate", "--from", "out/dog-step000002-0.png", "-o", "again.png")
        self.assertEqual(read_png(self.folder / "again.png").pixels, read_png(self.folder / "out/dog-step000002-0.png").pixels)

    def test_sampling_does_not_change_the_training(self):
        self.run_ok(*TRAIN, "--steps", "4", "-o", "plain.safetensors")
        self.run_ok(*TRAIN, "--steps", "4", "--sample-every", "1", "--sample-steps", "1", "-o", "sampled.safetensors")
        self.assertEqual(tensors_of(self.folder / "plain.safetensors"), tensors_of(self.folder / "sampled.safetensors"))

    def test_the_recipes_are_files_of_options(self):
        for recipe in (RECIPES / "subject.toml", RECIPES / "style.toml"):
            self.run_ok("train", "lora", "--config", recipe, "-m", SD15, *DATA, "--steps", "2", "--warmup-steps", "0", "-o",
                        f"{recipe.stem}.safetensors")
            self.assertEqual(metadata_of(self.folder / f"{recipe.stem}.safetensors")["ss_lr_scheduler"], "cosine")

    def test_options_from_a_section_and_from_the_environment(self):
        (self.folder / "molar.toml").write_text("[train.lora]\nrank = 3\nsteps = 2\n[generate]\nsteps = 9\n")
        self.run_ok("train", "lora", *DATA, "--config", "molar.toml", "-o", "dog.safetensors", env={"MOLAR_MODEL": str(SD15)})
        self.assertEqual(metadata_of(self.folder / "dog.safetensors")["ss_network_dim"], "3")


class Resuming(CliTest):
    LONG = (*TRAIN, "--steps", "60", "--flip", "--target", "attention,text-encoder", "-o", "dog.safetensors")
    OFTEN = ("--checkpoint-every", "4")

    def start(self, *arguments):
        process = subprocess.Popen([str(harness.BINARY), *map(str, arguments)], cwd=self.folder, env=harness.environment(),
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def uninterrupted(self):
        whole = self.folder / "whole"
        whole.mkdir()
        self.run_ok(*self.LONG, cwd=whole)
        return tensors_of(whole / "dog.safetensors")

    def test_killed_at_random_moments_it_ends_as_if_it_had_not_been(self):
        whole = self.uninterrupted()
        draw, num_kills = random.Random(11), 0
        for _ in range(200):
            process = self.start(*self.LONG, *self.OFTEN, "--json")
            for _ in range(draw.randrange(12)):  # steps; by the clock a fast machine would be finished before
                process.stdout.readline()
            time.sleep(draw.uniform(0, 0.1))
            process.kill()
            if process.wait() == 0:
                break
            num_kills += 1
            left = {p.name for p in self.folder.iterdir() if p.is_file()}
            self.assertLessEqual(left - {"dog.safetensors", "dog.checkpoint.safetensors"},
                                 {name for name in left if ".molar" in name or name.startswith(".")}, "half-written files")
        self.assertGreater(num_kills, 3)
        self.run_ok(*self.LONG)
        self.assertEqual(tensors_of(self.folder / "dog.safetensors"), whole)

    def test_the_first_signal_stops_with_a_checkpoint_and_the_same_command_goes_on(self):
        whole = self.uninterrupted()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            process = self.start(*self.LONG, "--json", "--checkpoint-every", "0")
            steps = [json.loads(process.stdout.readline())["step"] for _ in range(2)]
            process.send_signal(number)
            output, errors = process.communicate(timeout=harness.TIMEOUT_S)
            self.assertEqual(process.returncode, 75, errors)
            self.assertIn("stopping at the next safe point", errors.decode())
            self.assertTrue((self.folder / "dog.checkpoint.safetensors").exists())
            self.assertFalse((self.folder / "dog.safetensors").exists())
            steps += [json.loads(line)["step"] for line in output.splitlines()]
            checkpoint = harness.read_header(self.folder / "dog.checkpoint.safetensors")["__metadata__"]
            self.assertEqual(checkpoint["molar.step"], str(steps[-1]), "no finished step is lost")
        result = self.run_ok(*self.LONG)
        self.assertIn(f"going on after step {steps[-1]}", result.stderr)
        self.assertEqual(tensors_of(self.folder / "dog.safetensors"), whole)
        self.assertFalse((self.folder / "dog.checkpoint.safetensors").exists())

    def test_a_finished_run_says_so_and_does_nothing(self):
        command = (*TRAIN, "--steps", "2", "-o", "dog.safetensors")
        self.run_ok(*command)
        before = (self.folder / "dog.safetensors").stat()
        again = self.run_ok(*command)
        self.assertIn("finished", again.stderr)
        self.assertEqual(again.stdout, "dog.safetensors\n")
        self.assertEqual((self.folder / "dog.safetensors").stat().st_mtime_ns, before.st_mtime_ns)
        self.assertTrue(json.loads(self.run_ok(*command, "--resume", "--json").stdout)["skipped"])

    def test_another_training_under_the_name_is_refused_unless_asked_for(self):
        self.run_ok(*TRAIN, "--steps", "2", "-o", "dog.safetensors")
        other = (*TRAIN, "--steps", "3", "-o", "dog.safetensors")
        self.assert_fails(2, *other, says=("dog.safetensors", "steps is 2 there, 3 here", "--no-resume"))
        self.run_ok(*other, "--no-resume")
        self.assertEqual(metadata_of(self.folder / "dog.safetensors")["ss_steps"], "3")
        self.assert_fails(2, *other, "--resume", "--no-resume", says="exclude")


class Mistakes(CliTest):
    def test_train_alone_names_its_commands(self):
        self.assert_fails(2, "train", says="molar train lora")
        self.assert_fails(2, "train", "lroa", says="did you mean 'lora'?")
        self.assert_fails(2, "train", "lora", "--stesp", "3", says=("--steps", "molar train lora --help"))

    def test_help(self):
        text = self.run_ok("train", "lora", "-h").stdout
        self.assertIn("Usage: molar train lora", text)
        self.assertNotIn("--beta1", text)
        text = self.run_ok("train", "lora", "--help").stdout
        self.assertIn("--beta1", text)
        for line in text.splitlines():
            if not line.startswith("  molar "):
                self.assertLessEqual(len(line), 100, line)
        self.assertIn("train lora", self.run_ok("-h").stdout)

    def test_what_is_missing_or_wrong_is_a_usage_error(self):
        for arguments, says in {
            (): "--instance-images",
            (*DATA,): "-o FILE",
            (*DATA, "-o", "dog.pt"): ".safetensors",
            (*DATA, "-o", "x.safetensors", "--target", "attention,atention"): "'atention'",
            (*DATA, "-o", "x.safetensors", "--rank", "0"): "--rank",
            (*DATA, "-o", "x.safetensors", "--lr-scheduler", "linear"): "constant or cosine",
            (*DATA, "-o", "x.safetensors", "--save-dtype", "f64"): "f32, f16 or bf16",
            (*DATA, "-o", "x.safetensors", "--format", "comfy"): "kohya or diffusers",
            (*DATA, "-o", "x.safetensors", "--dtype", "f16"): "underflow",
            (*DATA, "-o", "x.safetensors", "--resolution", "50"): "multiple of 8",
            (*DATA, "-o", "x.safetensors", "--class-prompt", "a dog"): "--class-images",
            (*DATA, "-o", "x.safetensors", "--prior-weight", "1"): "--class-images",
            (*DATA, "-o", "x.safetensors", "--sample-prompt", "a dog"): "--sample-every",
            (*DATA[:2], "-o", "x.safetensors"): "--instance-prompt",
            (*DATA[:2], "-o", "x.safetensors", "--sample-every", "2"): "--sample-prompt",
            (*DATA, "-o", "x.safetensors", "--threads", "0"): "--threads",
        }.items():
            with self.subTest(arguments):
                self.assert_fails(2, "train", "lora", "-m", SD15, *arguments, says=says)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_a_bad_folder_is_exit_3(self):
        (self.folder / "empty").mkdir()
        (self.folder / "broken").mkdir()
        (self.folder / "broken/x.png").write_text("no picture")
        for folder, says in (("absent", "absent"), ("empty", "no picture in it"), ("broken", "x.png")):
            self.assert_fails(3, "train", "lora", "-m", SD15, "--instance-images", folder, "--instance-prompt", "a dog",
                              "-o", "x.safetensors", says=says)

    def test_files_in_the_folder_that_are_no_pictures_are_named(self):
        shutil.copytree(PICTURES / "instance", self.folder / "pictures")
        (self.folder / "pictures/0.webp").write_text("")
        result = self.run_ok("train", "lora", "-m", SD15, "--instance-images", "pictures", "--instance-prompt", "a dog",
                             "--steps", "1", "-o", "x.safetensors")
        self.assertIn("0.webp", result.stderr)

    def test_nan_is_exit_7_and_leaves_the_last_checkpoint(self):
        command = (*PLAIN, "--learning-rate", "1e30", "--steps", "5", "--checkpoint-every", "1", "--target",
                   "attention", "-o", "x.safetensors")
        self.assert_fails(7, *command, says=("step 2", "--learning-rate"))
        self.assertEqual([p.name for p in self.folder.iterdir()], ["x.checkpoint.safetensors"])

    def test_models_that_cannot_be_trained(self):
        self.assert_fails(4, "train", "lora", "-m", "absent", *DATA, "-o", "x.safetensors", says="absent")
        self.assert_fails(4, "train", "lora", "-m", MODELS / "sd15-inpaint-tiny", *DATA, "-o", "x.safetensors", says="inpainting")

    def test_a_folder_that_cannot_be_written_to_is_found_before_training(self):
        (self.folder / "file").write_text("")
        result = molar(*TRAIN, "--steps", "100000", "-o", "file/x.safetensors", cwd=self.folder)
        self.assertEqual(result.returncode, 4, result.stderr)
        self.assertIn("file", result.stderr.splitlines()[-1])


if __name__ == "__main__":
    harness.main()
