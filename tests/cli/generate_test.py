"""Pictures: that the options reach them, and where they go."""

import json
import os
import resource
import shutil
import stat
import subprocess

import harness
from harness import CliTest, MODELS, QUICK, SD15, max_distance, read_png


class Drawing(CliTest):
    def pixels(self, *arguments):
        path = self.folder / "picture.png"
        self.draw(*arguments, "-o", path, "--on-exist", "overwrite")
        return read_png(path).pixels

    def test_a_picture_has_the_models_size_and_more_than_one_colour(self):
        result = self.draw("-o", "dog.png")
        self.assertEqual(result.stdout, "dog.png\n")
        picture = read_png(self.folder / "dog.png")
        self.assertEqual((picture.width, picture.height, picture.channels), (64, 64, 3))
        self.assertGreater(len(set(picture.pixels)), 16)

    def test_the_same_command_writes_the_same_bytes(self):
        self.draw("-o", "a.png")
        self.draw("-o", "b.png")
        self.assertEqual((self.folder / "a.png").read_bytes(), (self.folder / "b.png").read_bytes())

    def test_what_is_asked_for_changes_the_picture(self):
        base = self.pixels()
        for arguments in (("-n", "blurry"), ("--cfg-scale", "2"), ("--sampler", "euler_a"), ("--guidance-rescale", "0.7"),
                          ("--clip-skip", "1")):
            with self.subTest(arguments):
                self.assertNotEqual(self.pixels(*arguments), base)
        self.run_ok("generate", "-m", SD15, "-p", "a dog", "--steps", "3", "-s", "7", "--dtype", "f32", "-o", "steps.png")
        self.assertNotEqual(read_png(self.folder / "steps.png").pixels, base)

    def test_a_negative_prompt_without_guidance_is_a_warning(self):
        result = self.draw("-n", "blurry", "--cfg-scale", "1", "--json", "-o", "x.png")
        (warning,) = json.loads(result.stdout)["warnings"]
        self.assertIn("negative prompt", warning)
        self.assertIn("done, with 1 warning:", result.stderr)
        for arguments in (("-n", "", "--cfg-scale", "1"), ("-n", "blurry"), ("--cfg-scale", "1")):
            self.assertEqual(json.loads(self.draw(*arguments, "--json", "-o", "y.png").stdout)["warnings"], [])

    def test_eta_acts_on_ddim(self):
        self.assertNotEqual(self.pixels("--sampler", "ddim"), self.pixels("--sampler", "ddim", "--eta", "1"))

    def test_picture_i_of_a_count_is_the_picture_of_seed_plus_i(self):
        result = self.draw("-b", "3", "-o", "{seed}.png")
        self.assertEqual(result.stdout.split(), ["7.png", "8.png", "9.png"])
        for seed in (8, 9):
            self.run_ok("generate", "-m", SD15, "-p", "a dog", "--steps", "2", "--dtype", "f32", "-s", seed, "-o", "one.png",
                        "--on-exist", "overwrite")
            self.assertEqual(read_png(self.folder / "one.png").pixels, read_png(self.folder / f"{seed}.png").pixels)

    def test_sizes(self):
        self.draw("-W", "96", "-H", "48", "-o", "x.png")
        picture = read_png(self.folder / "x.png")
        self.assertEqual((picture.width, picture.height), (96, 48))

    def test_prompts_from_standard_input_are_the_same_as_from_a_flag(self):
        self.draw("-n", "blurry", "-o", "flag.png")
        for text in ("a dog", "a dog\n", "a dog\r\n"):
            self.run_ok("generate", "-m", SD15, "-p", "-", "-n", "blurry", *QUICK, "-o", "stdin.png", "--on-exist", "overwrite",
                        input=text)
            self.assertEqual((self.folder / "stdin.png").read_bytes(), (self.folder / "flag.png").read_bytes())
        self.draw("-n", "-", "-o", "negative.png", input="blurry")
        self.assertEqual((self.folder / "negative.png").read_bytes(), (self.folder / "flag.png").read_bytes())

    def test_prompt_syntax(self):
        self.draw("--prompt-syntax", "plain", "-o", "plain.png")
        self.draw("-o", "a1111.png")
        self.assertEqual(read_png(self.folder / "plain.png").pixels, read_png(self.folder / "a1111.png").pixels,
                         "text without markup means the same in both")
        for syntax in ("plain", "a1111"):
            self.run_ok("generate", "-m", SD15, "-p", "a (dog:1.6)", *QUICK, "--prompt-syntax", syntax, "-o", f"w-{syntax}.png")
        self.assertNotEqual(read_png(self.folder / "w-plain.png").pixels, read_png(self.folder / "w-a1111.png").pixels)

    def test_empty_and_odd_prompts_are_prompts(self):
        for prompt in ("", "--steps", "-x", "[a dog]", "a, b = c # d", "犬 🐕", "two\nlines"):
            self.run_ok("generate", "-m", SD15, "-p", prompt, *QUICK, "-o", "odd.png", "--on-exist", "overwrite")
            self.assertEqual(read_png(self.folder / "odd.png").record["request"]["prompt"], prompt)

    def test_an_empty_value_after_an_equals_sign_is_empty(self):
        self.run_ok("generate", "-m", SD15, "-p", "a dog", "--negative-prompt=", *QUICK, "-o", "x.png")
        self.assertEqual(read_png(self.folder / "x.png").record["request"]["negative-prompt"], "")

    def test_long_prompts_are_reported_in_chunks(self):
        result = self.run_ok("generate", "-m", SD15, "-p", "a dog in the garden, " * 30, *QUICK, "-o", "x.png")
        record = read_png(self.folder / "x.png").record
        self.assertGreater(record["prompt_chunks"], 1)
        self.assertGreater(record["prompt_tokens"], 75)
        self.assertRegex(result.stderr, r"\d+ tokens in [2-9] chunk")

    def test_seeds_above_32_bits_draw_with_their_low_bits_and_say_so(self):
        low = self.pixels()
        self.run_ok("generate", "-m", SD15, "-p", "a dog", "--steps", "2", "--dtype", "f32", "-o", "high.png",
                    "-s", str(2**32 + 7))
        self.assertEqual(read_png(self.folder / "high.png").pixels, low)
        result = self.run_ok("generate", "-m", SD15, "-p", "a dog", "--dry-run", "-s", str(2**32 + 7))
        self.assertIn("low 32 bits", result.stderr)

    def test_a_seed_that_nobody_gave_is_random_and_reported(self):
        seeds = set()
        for _ in range(2):
            result = self.run_ok("generate", "-m", SD15, "-p", "a dog", "--steps", "1", "--json", "-o", "r.png")
            seed = json.loads(result.stdout)["seed"]
            self.assertIn(f"seed {seed}", result.stderr)
            seeds.add(seed)
        self.assertEqual(len(seeds), 2)

    def test_threads_do_not_change_the_picture(self):
        self.assertEqual(self.pixels("--threads", "1"), self.pixels("-t", "2"))

    def test_a_flag_for_metadata(self):
        self.draw("--no-metadata", "-o", "bare.png")
        self.draw("-o", "full.png")
        bare, full = read_png(self.folder / "bare.png"), read_png(self.folder / "full.png")
        self.assertEqual(bare.text, {})
        self.assertEqual(sorted(full.text), ["molar", "parameters"])
        self.assertEqual(bare.pixels, full.pixels)


class Adapters(CliTest):
    def setUp(self):
        super().setUp()
        harness.write_lora(self.folder / "subject.safetensors", 1)
        harness.write_lora(self.folder / "style.safetensors", 2)

    def pixels(self, *arguments):
        self.draw(*arguments, "-o", "picture.png", "--on-exist", "overwrite")
        return read_png(self.folder / "picture.png").pixels

    def test_loras_change_the_picture_and_strength_0_does_not(self):
        base = self.pixels()
        subject = self.pixels("--subject", "subject.safetensors")
        self.assertNotEqual(subject, base)
        self.assertEqual(self.pixels("--subject", "subject.safetensors@0"), base)
        self.assertNotEqual(self.pixels("--subject", "subject.safetensors@0.5"), subject)

    def test_one_file_draws_the_same_in_every_role(self):
        subject = self.pixels("--subject", "subject.safetensors")
        self.assertEqual(self.pixels("--style", "subject.safetensors"), subject)
        self.assertEqual(self.pixels("--lora", "subject.safetensors"), subject)

    def test_lora_is_repeatable_and_takes_one_file_each(self):
        both = self.pixels("--lora", "subject.safetensors", "--lora", "style.safetensors@0.5")
        self.assertNotEqual(both, self.pixels("--lora", "subject.safetensors"))
        self.assert_fails(2, "generate", "-m", SD15, "-p", "a dog", "--lora", "subject.safetensors", "style.safetensors",
                          says="unexpected argument 'style.safetensors'")

    def test_each_merge_method_draws_what_both_files_added_draw(self):
        # --lora files are added to the weights one after the other, without a merge method.
        files = ("subject.safetensors@0.5", "style.safetensors@-0.75")
        added = self.pixels("--lora", files[0], "--lora", files[1])
        alone = self.pixels("--subject", files[0])
        self.assertGreater(max_distance(added, alone), 8, "the second file shows")
        for method, recorded in (("direct", "direct"), ("concat", "concat")):
            merged = self.pixels("--subject", files[0], "--style", files[1], "--merge", method)
            self.assertLessEqual(max_distance(merged, added), 1, f"{method}: grey levels, sums round in another order")
            self.assertEqual(read_png(self.folder / "picture.png").record["merge"], recorded)

    def test_the_record_names_what_each_file_gave(self):
        self.draw("--subject", "subject.safetensors@0.5", "-o", "x.png")
        (lora,) = read_png(self.folder / "x.png").record["loras"]
        self.assertEqual((lora["file"], lora["role"], lora["weight"], lora["key_family"]),
                         (str(self.folder / "subject.safetensors"), "subject", 0.5, "kohya"))
        self.assertRegex(lora["sha256"], "^[0-9a-f]{64}$")
        self.assertGreater(lora["num_layers"], 0)

    def test_a_lora_of_another_model_is_exit_5(self):
        harness.write_lora(self.folder / "xl.safetensors", 3, model=MODELS / "sdxl-tiny")
        self.assert_fails(5, "generate", "-m", SD15, "-p", "a dog", "--lora", "xl.safetensors", says="xl.safetensors")

    def test_a_partial_fit_needs_its_flag(self):
        header = harness.read_header(self.folder / "subject.safetensors")
        tensors = {}
        for name, entry in header.items():
            count = (entry["data_offsets"][1] - entry["data_offsets"][0]) // 4
            tensors[name] = entry["shape"], [0.1] * count
        tensors["lora_unet_no_such_block_to_q.lora_down.weight"] = (2, 16), [0.1] * 32
        tensors["lora_unet_no_such_block_to_q.lora_up.weight"] = (16, 2), [0.1] * 32
        harness.write_safetensors(self.folder / "partial.safetensors", tensors)
        self.assert_fails(5, "generate", "-m", SD15, "-p", "a dog", "--lora", "partial.safetensors",
                          says=("partial.safetensors", "no_such_block", "--allow-partial-lora"))
        result = self.draw("--lora", "partial.safetensors", "--allow-partial-lora", "--json", "-o", "x.png")
        self.assertIn("no_such_block", " ".join(json.loads(result.stdout)["warnings"]))
        self.assertIn("no_such_block", result.stderr)


class FromAPicture(CliTest):
    def setUp(self):
        super().setUp()
        harness.write_png(self.folder / "in.png", 64, 64, lambda x, y: (4 * x, 4 * y, 128))
        harness.write_png(self.folder / "mask.png", 64, 64, lambda x, y: (255,) * 3 if x < 32 else (0,) * 3)

    def test_img2img_leaves_less_to_chance_with_less_strength(self):
        def draw(seed, strength):
            self.run_ok("generate", "-m", SD15, "-p", "a dog", "--steps", "10", "-s", seed, "--dtype", "f32", "--sampler",
                        "ddim", "--init-image", "in.png", "--strength", strength, "-o", "x.png", "--on-exist", "overwrite")
            picture = read_png(self.folder / "x.png")
            self.assertEqual((picture.width, picture.height), (64, 64))
            return picture.pixels

        def distance_of_seeds(strength):
            return sum(abs(a - b) for a, b in zip(draw(7, strength), draw(8, strength)))

        self.assertLess(distance_of_seeds("0.1") * 2, distance_of_seeds("1.0"))

    def test_inpainting_draws_inside_the_mask(self):
        # Far from the mask two prompts share every latent; the decoder's norms and attention see the whole picture, so
        # the pixels there are near each other but not the same.
        harness.write_png(self.folder / "right.png", 64, 64, lambda x, y: (255,) * 3 if x >= 32 else (0,) * 3)
        for mask, drawn, kept in (("mask.png", range(0, 24), range(40, 64)), ("right.png", range(40, 64), range(0, 24))):
            pictures = []
            for prompt in ("a dog", "a red castle in the snow"):
                self.run_ok("generate", "-m", SD15, "-p", prompt, *QUICK, "--cfg-scale", "30", "--init-image", "in.png", "--mask",
                            mask, "-o", "x.png", "--on-exist", "overwrite")
                pictures.append(read_png(self.folder / "x.png"))
            record = pictures[0].record["request"]
            self.assertEqual((record["mask"], record["strength"]), (str(self.folder / mask), 1.0))

            def distance(columns):
                return sum(abs(a[3 * x + c] - b[3 * x + c]) for a, b in zip(*(p.rows for p in pictures)) for x in columns
                           for c in range(3))

            self.assertGreater(distance(drawn), 2 * distance(kept), mask)

    def test_an_inpainting_model(self):
        self.assert_fails(2, "generate", "-m", MODELS / "sd15-inpaint-tiny", "-p", "a dog", says="--mask")
        self.run_ok("generate", "-m", MODELS / "sd15-inpaint-tiny", "-p", "a dog", *QUICK, "--init-image", "in.png", "--mask",
                    "mask.png", "-o", "x.png")

    def test_a_picture_that_is_none_is_exit_3(self):
        (self.folder / "text.png").write_text("no picture")
        for arguments in (("--init-image", "text.png"), ("--init-image", "absent.png"),
                          ("--init-image", "in.png", "--mask", "text.png")):
            self.assert_fails(3, "generate", "-m", SD15, "-p", "a dog", *arguments, says=arguments[-1])


class Models(CliTest):
    def test_every_family_draws(self):
        for name in ("sd15-tiny", "sd15-tiny-transformers4", "sd21-tiny", "sdxl-tiny"):
            with self.subTest(name):
                self.run_ok("generate", "-m", MODELS / name, "-p", "a dog", *QUICK, "-o", f"{name}.png")
                self.assertGreater(len(set(read_png(self.folder / f"{name}.png").pixels)), 16)

    def test_second_prompts_belong_to_sdxl(self):
        for option in ("--prompt-2", "--negative-prompt-2"):
            self.assert_fails(2, "generate", "-m", SD15, "-p", "a dog", option, "x", says=("SDXL", option))
        self.run_ok("generate", "-m", MODELS / "sdxl-tiny", "-p", "a dog", "--prompt-2", "a cat", "-n", "x",
                    "--negative-prompt-2", "y", *QUICK, "-o", "xl.png")
        self.run_ok("generate", "-m", MODELS / "sdxl-tiny", "-p", "a dog", "-n", "x", *QUICK, "-o", "xl-one.png")
        self.assertNotEqual(read_png(self.folder / "xl.png").pixels, read_png(self.folder / "xl-one.png").pixels)

    def test_other_parts(self):
        self.draw("-o", "own.png")
        self.draw("--vae", SD15 / "vae", "--tokenizer", SD15 / "tokenizer", "-o", "same.png")
        self.assertEqual(read_png(self.folder / "own.png").pixels, read_png(self.folder / "same.png").pixels)
        self.assert_fails(4, "generate", "-m", SD15, "-p", "a dog", "--vae", "absent", says="absent")
        self.assert_fails(4, "generate", "-m", SD15, "-p", "a dog", "--tokenizer", "absent", says="absent")

    def test_prediction_type_overrides_the_models(self):
        self.draw("-o", "own.png")
        self.draw("--prediction-type", "epsilon", "-o", "same.png")
        self.draw("--prediction-type", "v_prediction", "-o", "other.png")
        own, same, other = (read_png(self.folder / f"{name}.png").pixels for name in ("own", "same", "other"))
        self.assertEqual(own, same)
        self.assertNotEqual(own, other)

    def test_vae_tiling_draws_nearly_the_same(self):
        size = ("-W", "112", "-H", "96")  # more than the VAE's 64: two tiles each way
        self.draw(*size, "-o", "whole.png")
        self.draw(*size, "--vae-tiling", "-o", "tiled.png")
        self.draw(*size, "--sampler", "euler", "-o", "other.png")
        whole, tiled, other = (read_png(self.folder / f"{name}.png") for name in ("whole", "tiled", "other"))
        self.assertTrue(tiled.record["request"]["vae-tiling"])

        def distance(picture):
            return sum(abs(a - b) for a, b in zip(whole.pixels, picture.pixels))

        self.assertGreater(distance(tiled), 0)
        self.assertLess(2 * distance(tiled), distance(other), "tiles differ by norms and attention, not by what is drawn")

    def test_half_precision_types_draw_nearly_the_same(self):
        self.draw("-o", "f32.png")
        exact = read_png(self.folder / "f32.png").pixels
        for dtype in ("bf16", "f16"):
            self.run_ok("generate", "-m", SD15, "-p", "a dog", "--steps", "2", "-s", "7", "--dtype", dtype, "-o", f"{dtype}.png")
            rounded = read_png(self.folder / f"{dtype}.png")
            self.assertEqual(rounded.record["model"]["dtype"], dtype)
            mean = sum(abs(a - b) for a, b in zip(exact, rounded.pixels)) / len(exact)
            self.assertLess(mean, 8, "grey levels; two steps in 8 (bf16) or 11 (f16) bits")


class Files(CliTest):
    def test_templates(self):
        self.run_ok("generate", "-m", SD15, "-p", "A dog, (running:1.2)!", *QUICK, "-b", "2", "-o", "out/{row}-{seed}-{name}.png")
        self.assertEqual(sorted(p.name for p in (self.folder / "out").iterdir()),
                         ["0-7-A-dog-running-1-2.png", "1-8-A-dog-running-1-2.png"])

    def test_folders(self):
        self.assertEqual(self.draw("-o", "new/").stdout, "new/molar-7.png\n")
        (self.folder / "old").mkdir()
        self.assertEqual(self.draw("-o", "old").stdout, "old/molar-7.png\n")

    def test_folders_may_be_templates(self):
        self.assertEqual(self.draw("-o", "of-{seed}/").stdout, "of-7/molar-7.png\n")
        self.assertEqual(self.draw("-o", "of-{seed}").stdout, "of-7/molar-7-1.png\n")

    def test_without_an_output_the_name_holds_the_seed(self):
        self.assertEqual(self.draw().stdout, "molar-7.png\n")
        self.assertTrue((self.folder / "molar-7.png").exists())

    def test_an_existing_file_is_numbered_by_default(self):
        (self.folder / "x.png").write_text("precious")
        self.assertEqual(self.draw("-o", "x.png").stdout, "x-1.png\n")
        self.assertEqual(self.draw("-o", "x.png", "-b", "2").stdout, "x-2.png\nx-3.png\n")
        self.assertEqual((self.folder / "x.png").read_text(), "precious")

    def test_an_existing_file_is_overwritten_when_asked(self):
        (self.folder / "x.png").write_text("old")
        self.draw("-o", "x.png", "--on-exist", "overwrite")
        self.assertEqual(read_png(self.folder / "x.png").width, 64)

    def test_an_existing_file_is_an_error_when_asked_and_nothing_is_drawn(self):
        (self.folder / "x.png").write_text("precious")
        self.assert_fails(2, "generate", "-m", SD15, "-p", "a dog", "--on-exist", "error", "-o", "x.png", says="x.png")
        self.assertEqual((self.folder / "x.png").read_text(), "precious")

    def test_an_existing_file_is_skipped_when_asked(self):
        (self.folder / "8.png").write_text("precious")
        result = self.draw("-b", "3", "-o", "{seed}.png", "--on-exist", "skip", "--json")
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        self.assertEqual([(line["path"], line["skipped"]) for line in lines],
                         [("7.png", False), ("8.png", True), ("9.png", False)])
        self.assertEqual((self.folder / "8.png").read_text(), "precious")
        again = self.draw("-b", "3", "-o", "{seed}.png", "--on-exist", "skip")
        self.assertEqual(again.stdout.split(), ["7.png", "8.png", "9.png"])
        self.assertNotIn("loading", again.stderr, "nothing to draw: no model is opened")

    def test_a_link_to_nothing_counts_as_a_file(self):
        (self.folder / "x.png").symlink_to("nowhere.png")
        result = self.draw("-o", "x.png", "--on-exist", "skip", "--json")
        self.assertTrue(json.loads(result.stdout)["skipped"])
        self.assertNotIn("loading", result.stderr, "nothing to draw")
        self.assert_fails(2, "generate", "-m", SD15, "-p", "a dog", "-o", "x.png", "--on-exist", "error", says="x.png")
        self.assertFalse((self.folder / "nowhere.png").exists())

    def test_a_file_that_appears_while_drawing_is_skipped_too(self):
        process = subprocess.Popen(
            [str(harness.BINARY), "generate", "-m", str(SD15), "-p", "a dog", "--steps", "40", "--sampler", "ddim", "--progress",
             "plain", "-o", "x.png", "--on-exist", "skip", "--json"],
            cwd=self.folder, env=harness.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.kill)
        for line in process.stderr:
            if " step " in line:
                break
        (self.folder / "x.png").write_text("precious")
        output, errors = process.communicate(timeout=harness.TIMEOUT_S)
        self.assertEqual(process.returncode, 0, errors)
        self.assertTrue(json.loads(output)["skipped"])
        self.assertIn("'x.png' exists, skipped", errors)
        self.assertEqual((self.folder / "x.png").read_text(), "precious")

    def test_a_limit_on_the_size_of_files_is_an_error_that_leaves_nothing(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

        self.assert_fails(4, "generate", "-m", SD15, "-p", "a dog", *QUICK, "-o", "x.png", preexec_fn=limit,
                          says=("x.png", "File too large"))
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_a_folder_that_cannot_be_written_to_is_found_before_drawing(self):
        (self.folder / "file").write_text("")
        self.assert_fails(4, "generate", "-m", SD15, "-p", "a dog", "-o", "file/x.png", says=("file", "not a folder"))
        locked = self.folder / "locked"
        locked.mkdir()
        locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
        if os.access(locked, os.W_OK):  # root writes everywhere; a kernel's read-only folder serves as well
            locked = "/proc"
        self.assert_fails(4, "generate", "-m", SD15, "-p", "a dog", "-o", f"{locked}/x.png", says=str(locked))

    def test_no_temporary_file_stays(self):
        self.draw("-o", "x.png")
        self.assertEqual([p.name for p in self.folder.iterdir()], ["x.png"])

    def test_a_picture_of_one_colour_is_exit_7_and_not_saved(self):
        # A VAE whose last layer is zero decodes everything to one grey.
        model = self.folder / "blank"
        shutil.copytree(SD15, model)
        path = model / "vae/diffusion_pytorch_model.safetensors"
        path.chmod(0o644)
        data = bytearray(path.read_bytes())
        header = harness.read_header(path)
        start = 8 + int.from_bytes(data[:8], "little")
        for name in ("decoder.conv_out.weight", "decoder.conv_out.bias"):
            begin, end = header[name]["data_offsets"]
            data[start + begin:start + end] = bytes(end - begin)
        path.write_bytes(data)
        self.assert_fails(7, "generate", "-m", model, "-p", "a dog", *QUICK, "-o", "blank.png")
        self.assertFalse((self.folder / "blank.png").exists())


class Plans(CliTest):
    def test_dry_run_prints_the_plan_and_writes_nothing(self):
        result = self.run_ok("generate", "-m", SD15, "-p", "a dog", "-s", "7", "-b", "2", "--dry-run", "-o", "{seed}.png")
        lines = result.stdout.splitlines()
        for line in ("prompt: a dog", "seed: 7", "steps: 30", "family: SD 1.x", "write: 7.png", "write: 8.png"):
            self.assertIn(line, lines)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_dry_run_as_json(self):
        plan = json.loads(self.run_ok("generate", "-m", SD15, "-p", "a dog", "-s", "7", "--dry-run", "--json").stdout)
        self.assertEqual((plan["schema"], plan["dry_run"], plan["request"]["seed"], plan["model"]["family"]),
                         (1, True, 7, "SD 1.x"))
        self.assertEqual(plan["pictures"], [{"path": "molar-7.png", "seed": 7, "skipped": False}])

    def test_dry_run_finds_what_drawing_would_find(self):
        harness.write_lora(self.folder / "xl.safetensors", 3, model=MODELS / "sdxl-tiny")
        self.assert_fails(5, "generate", "-m", SD15, "-p", "a dog", "--dry-run", "--lora", "xl.safetensors")
        self.assert_fails(3, "generate", "-m", SD15, "-p", "a dog", "--dry-run", "--init-image", "absent.png")
        for model, highest in (("sd15-tiny", 3), ("sdxl-tiny", 1)):
            arguments = ("generate", "-m", MODELS / model, "-p", "a dog", "--dry-run", "--clip-skip")
            self.assert_fails(2, *arguments, highest + 1, says=(f"--clip-skip {highest + 1}", f"at most {highest}"))
            self.run_ok(*arguments, highest)

    def test_the_plan_names_the_files_that_drawing_writes(self):
        (self.folder / "x-1.png").write_text("precious")
        arguments = ("generate", "-m", SD15, "-p", "a dog", *QUICK, "-b", "3", "-o", "x.png")
        plan = json.loads(self.run_ok(*arguments, "--dry-run", "--json").stdout)
        names = [picture["path"] for picture in plan["pictures"]]
        self.assertEqual(names, ["x.png", "x-2.png", "x-3.png"])
        self.assertEqual(self.run_ok(*arguments).stdout.split(), names)


if __name__ == "__main__":
    harness.main()
