"""Where an option's value comes from: flag > environment > config file > model > built in."""

import json

import harness
from harness import SD15, CliTest

PLAN = ("generate", "-m", SD15, "-p", "a dog", "--dry-run", "--json")


class Settings(CliTest):
    def plan(self, *arguments, **options):
        return json.loads(self.run_ok(*PLAN, *arguments, **options).stdout)["request"]

    def config(self, text, name="molar.toml"):
        (self.folder / name).write_text(text, encoding="utf-8")
        return "--config", name

    def refuse_config(self, text, says):
        self.assert_fails(2, *PLAN, *self.config(text), says=says)

    def test_built_in_defaults(self):
        request = self.plan()
        self.assertEqual((request["steps"], request["cfg-scale"], request["count"]), (30, 7.5, 1))
        self.assertEqual((request["width"], request["height"]), (64, 64), "the tiny model's own size")
        self.assertEqual(request["merge"], "auto")

    def test_the_environment_sets_what_no_flag_does(self):
        env = {"MOLAR_STEPS": "12", "MOLAR_CFG_SCALE": "3.5", "MOLAR_NEGATIVE_PROMPT": "blurry", "MOLAR_VAE_TILING": "1"}
        request = self.plan("--cfg-scale", "5", env=env)
        self.assertEqual((request["steps"], request["cfg-scale"], request["negative-prompt"]), (12, 5, "blurry"))
        self.assertTrue(request["vae-tiling"])

    def test_the_model_comes_from_the_environment(self):
        result = self.run_ok("generate", "-p", "a dog", "--dry-run", "--json", env={"MOLAR_MODEL": str(SD15)})
        self.assertEqual(json.loads(result.stdout)["model"]["path"], str(SD15))

    def test_an_empty_variable_is_unset(self):
        self.assertEqual(self.plan(env={"MOLAR_STEPS": ""})["steps"], 30)

    def test_a_config_file_sets_what_neither_flag_nor_environment_does(self):
        arguments = self.config('steps = 11\ncfg-scale = 2.5\nseed = 5\n')
        request = self.plan(*arguments, "--seed", "9", env={"MOLAR_CFG_SCALE": "4"})
        self.assertEqual((request["steps"], request["cfg-scale"], request["seed"]), (11, 4, 9))

    def test_the_environment_switches_off_what_a_file_switches_on(self):
        arguments = self.config("vae-tiling = true\n")
        self.assertTrue(self.plan(*arguments)["vae-tiling"])
        self.assertFalse(self.plan(*arguments, env={"MOLAR_VAE_TILING": "off"})["vae-tiling"])

    def test_the_environment_names_the_config_file(self):
        self.config("steps = 11\n", "other.toml")
        self.assertEqual(self.plan(env={"MOLAR_CONFIG": "other.toml"})["steps"], 11)

    def test_sections_belong_to_commands(self):
        arguments = self.config('steps = 11\n[inspect]\njson = true\n[generate]\nseed = 4\n')
        request = self.plan(*arguments)
        self.assertEqual((request["steps"], request["seed"]), (11, 4))

    def test_toml_values_arrive_as_written(self):
        harness.write_lora(self.folder / "a, b.safetensors", 1)
        harness.write_lora(self.folder / "c.safetensors", 2)
        arguments = self.config('''
# a comment
negative-prompt = "commas, a # sign, = and \\"quotes\\" \\u00e9 \\U0001F436"   # after it
"prompt-syntax" = 'plain'
steps = 1_0          # an integer as TOML writes it
lora = [
  "a, b.safetensors@0.5",  # one
  'c.safetensors',
]
guidance-rescale = 5e-1\r
''')
        request = self.plan(*arguments)
        self.assertEqual(request["negative-prompt"], 'commas, a # sign, = and "quotes" é \U0001F436')
        self.assertEqual((request["prompt-syntax"], request["steps"], request["guidance-rescale"]), ("plain", 10, 0.5))
        self.assertEqual([(use["file"], use["weight"]) for use in request["lora"]],
                         [(str(self.folder / "a, b.safetensors"), 0.5), (str(self.folder / "c.safetensors"), 1.0)])

    def test_unknown_keys_are_errors_with_file_line_and_the_nearest_name(self):
        self.refuse_config("seed = 1\nstep = 3\n", says=("molar.toml:2", "unknown key 'step'", "did you mean 'steps'?"))
        self.refuse_config("[generate]\nstep = 3\n", says=("molar.toml:2", "unknown key 'step'"))
        self.refuse_config("[inspect]\nstep = 3\n", says=("molar.toml:2", "unknown key 'step'"))
        self.refuse_config("[genrate]\nsteps = 3\n", says=("molar.toml:2", "unknown section [genrate]"))

    def test_what_a_file_cannot_set_is_an_unknown_key(self):
        for key in ('config = "x.toml"', 'from = "x.png"', "help = true"):
            self.refuse_config(key + "\n", says="unknown key")

    def test_bad_values_name_their_source(self):
        self.refuse_config("\nsteps = \"many\"\n", says=("molar.toml:2", "--steps 'many'", "whole number"))
        self.refuse_config("steps = [1, 2]\n", says=("molar.toml:1", "--steps", "one value"))
        self.refuse_config("quiet = \"maybe\"\n", says=("molar.toml:1", "--quiet", "true"))
        self.refuse_config("quiet = [true, true]\n", says=("molar.toml:1", "true or false"))
        self.assert_fails(2, *PLAN, env={"MOLAR_STEPS": "many"}, says=("MOLAR_STEPS", "--steps 'many'"))
        self.assert_fails(2, *PLAN, env={"MOLAR_QUIET": "maybe"}, says=("MOLAR_QUIET", "true"))
        self.assert_fails(2, *PLAN, env={"MOLAR_STEPS": "0"}, says="--steps")

    def test_what_is_no_toml_is_an_error_with_its_line(self):
        for text, says in {
            "steps\n": "wanted '=' after 'steps'",
            "steps =\n": "value ''",
            "= 3\n": "wanted 'key = value'",
            "steps = 3 4\n": "end of the line",
            "steps = many\n": "text in quotes",
            'prompt = "a dog\n': "closing quote",
            'prompt = """a dog"""\n': "several lines",
            'prompt = "a \\q"\n': "unknown escape",
            'prompt = "\\u12"\n': "hex digits",
            'prompt = "\\ud800"\n': "no character",
            "[generate\n": "wanted ']'",
            "[[generate]]\n": "arrays of tables",
            "lora = [\"a\"\n": "array without ']'",
            "lora = [\"a\" \"b\"]\n": "wanted ',' or ']'",
            "lora = [[\"a\"]]\n": "nested arrays",
            "a.b = 3\n": "dotted key",
            "steps = 3\nsteps = 4\n": "already given in line 1",
        }.items():
            self.refuse_config("# first\n" + text, says=("molar.toml:", says.replace("line 1", "line 2")))

    def test_a_config_file_that_is_no_text(self):
        (self.folder / "molar.toml").write_bytes(b"steps = \xff\n")
        self.assert_fails(2, *PLAN, "--config", "molar.toml", says="UTF-8")

    def test_a_config_file_that_cannot_be_read(self):
        self.assert_fails(2, *PLAN, "--config", "absent.toml", says=("absent.toml", "No such file"))
        self.assert_fails(2, *PLAN, "--config", ".", says="--config")
        self.assert_fails(2, *PLAN, "--config", "", says="--config")

    def test_a_variable_of_no_option_is_a_warning_that_names_the_nearest(self):
        result = self.run_ok(*PLAN, env={"MOLAR_STEP": "3", "MOLAR_TORCH": "cpu"})
        self.assertIn("MOLAR_STEP belongs to no option; did you mean 'MOLAR_STEPS'?", result.stderr)
        self.assertNotIn("MOLAR_TORCH", result.stderr)

    def test_strengths_and_paths_with_at_signs(self):
        for name in ("plain.safetensors", "at@sign.safetensors", "ends@2"):
            harness.write_lora(self.folder / name, 1)
        for text, file, weight in (("plain.safetensors", "plain.safetensors", 1),
                                   ("plain.safetensors@0.25", "plain.safetensors", 0.25),
                                   ("plain.safetensors@-1", "plain.safetensors", -1),
                                   ("plain.safetensors@+.5e0", "plain.safetensors", 0.5),
                                   ("at@sign.safetensors", "at@sign.safetensors", 1),
                                   ("at@sign.safetensors@2", "at@sign.safetensors", 2),
                                   ("ends@2", "ends@2", 1),
                                   ("ends@2@0.5", "ends@2", 0.5)):
            with self.subTest(text):
                use = self.plan("--subject", text)["subject"]
                self.assertEqual((use["file"], use["weight"]), (str(self.folder / file), weight))


if __name__ == "__main__":
    harness.main()
