"""What the command line accepts and refuses, before any model is opened."""

import json
import os
import re
import subprocess

import harness
from harness import SD15, CliTest, molar


class Help(CliTest):
    def test_short_help_of_generate_is_short_and_starts_with_examples(self):
        text = self.run_ok("generate", "-h").stdout
        self.assertLess(len(text.splitlines()), 30)
        self.assertEqual(text.splitlines()[2].split()[:2], ["molar", "generate"])
        self.assertEqual(text.splitlines()[3].split()[:2], ["molar", "generate"])
        self.assertIn("--prompt", text)
        self.assertNotIn("--guidance-rescale", text)

    def test_long_help_of_generate_lists_every_option_in_groups(self):
        text = self.run_ok("generate", "--help").stdout
        for option in ("--prompt-2", "--negative-prompt-2", "--subject", "--style", "--lora", "--merge", "--allow-partial-lora",
                       "--sampler", "--steps", "--cfg-scale", "--guidance-rescale", "--eta", "--seed", "--width", "--height",
                       "--count", "--init-image", "--mask", "--strength", "--prompt-syntax", "--clip-skip", "--vae",
                       "--tokenizer", "--prediction-type", "--output", "--device", "--dtype", "--threads", "--vae-tiling",
                       "--json", "--quiet", "--verbose", "--config", "--on-exist", "--dry-run", "--from", "--no-metadata",
                       "--progress"):
            self.assertIn(option + " ", text.replace("\n", " "))
        for group in ("Prompt:", "LoRA:", "Sampling:", "Output:", "Machine:"):
            self.assertIn("\n" + group + "\n", text)
        self.assertIn("dpmpp_2m_karras", text)

    def test_lines_of_the_help_fit_a_terminal_of_100_columns(self):
        for arguments in (["-h"], ["generate", "--help"], ["inspect", "--help"]):
            for line in self.run_ok(*arguments).stdout.splitlines():
                if not line.startswith("  molar "):  # examples are there to be copied, whole
                    self.assertLessEqual(len(line), 100, line)

    def test_the_program_lists_its_commands(self):
        text = self.run_ok("-h").stdout
        self.assertIn("generate", text)
        self.assertIn("inspect", text)

    def test_every_command_has_examples_first_and_each_option_once(self):
        commands = re.findall(r"^  ([a-z ]+?)  +[A-Z]", self.run_ok("-h").stdout, re.MULTILINE)
        self.assertIn("train lora", commands)
        for command in commands:
            for form in ("-h", "--help"):
                examples, listed = self.run_ok(*command.split(), form).stdout.split("\nUsage: molar ")
                self.assertGreaterEqual(len([line for line in examples.splitlines() if line.startswith("  ")]), 2, command)
                self.assertTrue(listed.startswith(command + "\n") or listed.startswith(command + " "))
                names = re.findall(r"^  (?:(-\w), )?(--[\w-]+)", listed, re.MULTILINE)
                for spelling in zip(*names):
                    given = [name for name in spelling if name]
                    self.assertEqual(sorted(given), sorted(set(given)), f"{command} {form}")
            groups = re.findall(r"^([A-Z][^\n]*):$", listed, re.MULTILINE)
            self.assertEqual(sorted(groups), sorted(set(groups)), command)

    def test_version_as_text_and_as_json(self):
        self.assertRegex(self.run_ok("--version").stdout, r"^molar \d+\.\d+\.\d+ \(git .+, libtorch \d+\.\d+\.\d+.*\)\n$")
        version = json.loads(self.run_ok("--version", "--json").stdout)
        self.assertEqual(version["schema"], 1)
        self.assertRegex(version["molar"], r"^\d+\.\d+\.\d+$")

    def test_help_says_nothing_on_standard_error(self):
        self.assertEqual(self.run_ok("generate", "-h").stderr, "")


class Mistakes(CliTest):
    def test_no_command_is_a_usage_error(self):
        self.assert_fails(2, says=("no command", "molar -h"))

    def test_a_mistyped_command_is_named_with_the_nearest_one(self):
        self.assert_fails(2, "generat", "-p", "a dog", says=("unknown command 'generat'; did you mean 'generate'? See"))
        self.assert_fails(2, "paint", says="unknown command 'paint'. See")

    def test_a_mistyped_option_is_named_with_the_nearest_one(self):
        self.assert_fails(2, "generate", "-p", "a dog", "--step", "3",
                          says=("unknown option '--step'", "did you mean '--steps'?", "molar generate --help"))
        self.assert_fails(2, "generate", "-p", "a dog", "--negativ-prompt=x", says="did you mean '--negative-prompt'?")

    def test_a_mistyped_name_is_told_with_the_nearest_one(self):
        def refuse(code, *words, says):
            self.assert_fails(code, *words, says=f"; did you mean '{says}'?")
        draw = ("generate", "-m", SD15, "-p", "a dog")
        refuse(2, *draw, "--sampler", "eular_a", says="euler_a")
        refuse(2, *draw, "--sampler", "DPM++ 2M Karras", says="dpmpp_2m_karras")
        refuse(2, *draw, "--dtype", "bf61", says="bf16")
        refuse(2, "train", "lora", "--instance-images", ".", "-o", "x.safetensors", "--target", "atention", says="attention")
        harness.write_lora(self.folder / "dog.safetensors", 1)
        refuse(4, *draw, "--subject", "dgo.safetensors", says="dog.safetensors")
        refuse(4, *draw, "--style", f"{self.folder}/dog.safetensor@0.5", says=f"{self.folder}/dog.safetensors")
        refuse(4, "inspect", "dog.safetensor", says="dog.safetensors")
        merge = ("merge", "--subject", "dog.safetensors", "--style", "dog.safetensors", "-o", "both.safetensors")
        refuse(2, *merge, "--method", "lorara", says="lorarar")
        (self.folder / "model").symlink_to(SD15)
        refuse(4, "generate", "-m", "modle", "-p", "a dog", says="model")

    def test_an_option_unlike_any_gets_no_suggestion(self):
        error = self.assert_fails(2, "generate", "-p", "a dog", "--quetzalcoatl", says="unknown option '--quetzalcoatl'")
        self.assertNotIn("did you mean", error)

    def test_the_whole_help_never_follows_an_error(self):
        result = molar("generate", "--bogus")
        self.assertEqual(len(result.stderr.splitlines()), 1)

    def test_an_argument_without_its_option(self):
        self.assert_fails(2, "generate", "-p", "a", "dog", says=("unexpected argument 'dog'", "quotes"))

    def test_an_option_without_its_value(self):
        self.assert_fails(2, "generate", "-p", "a dog", "--steps", says="--steps")

    def test_an_option_given_twice(self):
        self.assert_fails(2, "generate", "-p", "a dog", "--steps", "3", "--steps", "4", says="--steps")

    def test_no_prompt(self):
        self.assert_fails(2, "generate", "-m", SD15, says=("no prompt", "-p"))

    def test_no_file_to_inspect(self):
        self.assert_fails(2, "inspect", says="no file")

    def test_no_model(self):
        # A copy of the binary in an empty folder has no bundled model beside it.
        alone = self.folder / "bin" / "molar"
        alone.parent.mkdir()
        os.link(harness.BINARY, alone) if os.stat(harness.BINARY).st_dev == os.stat(self.folder).st_dev else \
            alone.write_bytes(harness.BINARY.read_bytes())
        alone.chmod(0o755)
        result = subprocess.run([alone, "generate", "-p", "a dog"], env=harness.environment(), capture_output=True,
                                text=True, cwd=self.folder)
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertIn("no model", result.stderr)
        self.assertIn("MOLAR_MODEL", result.stderr)

    def test_quiet_and_verbose_exclude_each_other(self):
        self.assert_fails(2, "generate", "-p", "a dog", "-q", "-v", says="-q and -v")


class Values(CliTest):
    """Every option refuses what it cannot mean: exit 2, the option, what was wanted, what was found."""

    def refuse(self, *arguments, says):
        self.assert_fails(2, "generate", "-m", SD15, "-p", "a dog", *arguments, says=says)

    def test_whole_numbers(self):
        for text in ("abc", "", "1.5", "3x", "99999999999999999999", " 3", "++3"):
            self.refuse("--steps", text, says=("--steps", f"'{text}'", "whole number"))
        for option in ("--width", "--height", "--count", "--clip-skip", "--threads"):
            self.refuse(option, "abc", says=(option, "'abc'", "whole number"))

    def test_seeds(self):
        for text in ("-1", "abc", "18446744073709551616", "1e3", ""):
            self.refuse("--seed", text, says=("--seed", "0 to 18446744073709551615"))
        self.refuse("-s", "18446744073709551615", "-b", "2", says=("--seed", "--count 2"))

    def test_real_numbers(self):
        for text in ("abc", "", "nan", "inf", "1e999", "7,5"):
            self.refuse("--cfg-scale", text, says=("--cfg-scale", f"'{text}'", "finite number"))
        for option in ("--guidance-rescale", "--eta", "--strength"):
            self.refuse(option, "abc", says=(option, "'abc'", "finite number"))

    def test_ranges(self):
        for option, values in {"--steps": ("0", "-1", "1001"), "--count": ("0", "-3"), "--threads": ("0", "-1", "5000"),
                               "--cfg-scale": ("-1",), "--guidance-rescale": ("-0.1", "1.1"), "--eta": ("-1", "1.01"),
                               "--clip-skip": ("-1",), "--width": ("0", "-8", "100000"), "--height": ("0", "-8")}.items():
            for value in values:
                self.refuse(option, value, says=(option, value))

    def test_sizes_are_multiples_of_8(self):
        self.refuse("-W", "100", says=("--width 100", "multiple of 8", "96", "104"))
        self.refuse("-H", "513", says=("--height 513", "multiple of 8"))

    def test_strength_is_above_0_and_at_most_1(self):
        harness.write_png(self.folder / "in.png", 64, 64, lambda x, y: (x, y, 0))
        for value in ("0", "1.5", "-0.2"):
            self.refuse("--init-image", "in.png", "--strength", value, says=("--strength", value))

    def test_options_of_img2img_need_its_picture(self):
        self.refuse("--strength", "0.5", says=("--strength", "--init-image"))
        self.refuse("--mask", "mask.png", says=("--mask", "--init-image"))

    def test_choices_are_listed_and_the_nearest_is_suggested(self):
        self.refuse("--on-exist", "overwrit", says=("--on-exist 'overwrit'", "number, skip, overwrite, error",
                                                    "did you mean 'overwrite'?"))
        self.refuse("--prompt-syntax", "compel", says=("--prompt-syntax 'compel'", "a1111, plain"))
        self.refuse("--progress", "fancy", says=("--progress 'fancy'", "auto, bar, plain, none"))
        self.refuse("--sampler", "dpmp_2m", says=("dpmp_2m", "dpmpp_2m"))
        self.refuse("--dtype", "f64", says=("--dtype", "f32"))
        self.refuse("--prediction-type", "eps", says=("--prediction-type", "epsilon", "v_prediction", "sample"))

    def test_devices(self):
        self.refuse("--device", "gpu", says=("--device 'gpu'", "cuda"))
        self.refuse("--device", "cuda:abc", says="--device")
        self.refuse("--device", "cuda:99", says="--device")

    def test_merge_methods(self):
        harness.write_lora(self.folder / "a.safetensors", 1)
        harness.write_lora(self.folder / "b.safetensors", 2)
        roles = ("--subject", "a.safetensors", "--style", "b.safetensors")
        self.refuse(*roles, "--merge", "drect", says=("drect", "direct"))
        self.refuse(*roles, "--merge", "ziplora", says=("ziplora", "--coefficients FILE"))

    def test_lora_strengths(self):
        harness.write_lora(self.folder / "a.safetensors", 1)
        for text in ("a.safetensors@abc", "a.safetensors@", "a.safetensors@nan", "a.safetensors@1e999"):
            self.refuse("--lora", text, says=(f"--lora '{text}'", "strength"))
        for text in ("a.safetensors@1e308", "a.safetensors@-1e39"):  # weights are float32
            self.refuse("--lora", text, says=("--lora 'a.safetensors'", "strength", text.split("@")[1].replace("e", "e+")))
        self.refuse("--lora", "@0.5", says="--lora '@0.5'")
        self.refuse("--subject", "", says="--subject")

    def test_options_that_would_do_nothing(self):
        harness.write_lora(self.folder / "a.safetensors", 1)
        for roles, found in (((), "neither"), (("--subject", "a.safetensors"), "only --subject"),
                             (("--style", "a.safetensors", "--lora", "a.safetensors"), "only --style")):
            self.refuse(*roles, "--merge", "concat", says=("--merge concat", "--subject and --style", found))
        self.refuse("--guidance-rescale", "0.5", "--cfg-scale", "1", says=("--guidance-rescale 0.5", "--cfg-scale is 1"))

    def test_flags_take_no_foreign_value(self):
        self.refuse("--json=abc", says="json")

    def test_output_templates(self):
        self.refuse("-o", "{sed}.png", says=("{sed}", "{seed}, {row} or {name}"))
        self.refuse("-o", "{seed.png", says="'{' without '}'")
        self.refuse("-o", "x.jpg", says=(".png", "x.jpg"))
        self.refuse("-o", "", says="-o")

    def test_several_pictures_under_one_name(self):
        for on_exist in ("overwrite", "skip", "error"):
            self.refuse("-b", "2", "-o", "x.png", "--on-exist", on_exist, says=("2 pictures", "{seed}"))

    def test_combinations_for_standard_output(self):
        self.refuse("-o", "-", "--json", says=("-o -", "--json"))
        self.refuse("-o", "-", "-b", "2", says=("-o -", "--count 2"))

    def test_a_prompt_that_is_no_text(self):
        for prompt in (b"a \xff dog", b"a \xc0\x80 dog", b"\xed\xa0\x80"):
            result = subprocess.run([str(harness.BINARY), "generate", "-m", str(SD15), "-p", prompt],
                                    env=harness.environment(), capture_output=True)
            self.assertEqual(result.returncode, 3, result.stderr)
            self.assertIn(b"UTF-8", result.stderr)
        result = molar("generate", "-m", SD15, "-p", "-", input=b"a \0 dog", text=False)
        self.assertEqual(result.returncode, 3, result.stderr)

    def test_a_prompt_without_end(self):
        with open("/dev/zero", "rb") as endless:
            self.assert_fails(3, "generate", "-m", SD15, "-p", "-", stdin=endless, says=("--prompt", "1048576 bytes"))

    def test_two_prompts_cannot_both_read_standard_input(self):
        self.assert_fails(2, "generate", "-m", SD15, "-p", "-", "-n", "-",
                          says=("--prompt and --negative-prompt", "standard input"))

    def test_a_model_that_is_not_there(self):
        self.assert_fails(4, "generate", "-m", "no/such/model", "-p", "a dog", says="no/such/model")

    def test_names_that_the_system_refuses_are_told_as_every_other_file(self):
        (self.folder / "loop").symlink_to("loop")
        long = "x" * 300
        for arguments, reason in ((("-m", "loop"), "symbolic links"), (("-m", long), "File name too long"),
                                  (("--vae", "loop"), "symbolic links"), (("--lora", "loop"), "symbolic links"),
                                  (("--lora", long + "@0.5"), "File name too long"), (("-o", "loop/"), "symbolic links"),
                                  (("-o", f"{long}.png"), "File name too long"), (("-o", f"{long}/x.png"), "File name too long"),
                                  (("--from", long), None)):
            with self.subTest(arguments):
                model = () if "-m" in arguments else ("-m", SD15)
                error = self.assert_fails(3 if reason is None else 4, "generate", *model, "-p", "a dog", "--dry-run", *arguments,
                                          says=reason or "File name too long")
                self.assertNotIn("filesystem error", error)
                self.assertIn(f"'{arguments[1].removesuffix('@0.5').rstrip('/')}", error)

    def test_a_strength_may_follow_a_name_of_the_longest_kind(self):
        name = "x" * 243 + ".safetensors"
        harness.write_lora(self.folder / name, 1)
        self.run_ok("generate", "-m", SD15, "-p", "a dog", "--dry-run", "--lora", name + "@0.5")

    def test_a_lora_that_is_not_there(self):
        self.assert_fails(4, "generate", "-m", SD15, "-p", "a dog", "--lora", "no-such.safetensors", says="no-such.safetensors")


if __name__ == "__main__":
    harness.main()
