"""molar completion: the scripts, in the shells that they are for; molar man, through the programs that read such pages."""

import os
import pty
import re
import select
import shutil
import subprocess
import time

import harness
from harness import CliTest

SAMPLERS = ["ddim", "ddpm", "pndm", "lms", "euler", "euler_a", "heun", "dpmpp_2m", "dpmpp_2m_karras", "dpmpp_sde", "unipc", "lcm"]
COMMANDS = ["generate", "batch", "grid", "report", "merge", "inspect", "eval", "train", "doctor", "completion", "man"]


class ShellTest(CliTest):
    programs = {}  # program -> Debian package

    def setUp(self):
        super().setUp()
        missing = [package for program, package in self.programs.items() if not shutil.which(program)]
        self.assertFalse(missing, f"wanted, as root: apt-get install {' '.join(missing)} (scripts/test does it)")
        for name in ("dog.safetensors", "ink.safetensors", "list.csv"):
            (self.folder / name).touch()
        (self.folder / "loras").mkdir()

    def write_script(self, shell, name):
        text = self.run_ok("completion", shell).stdout
        (self.folder / name).write_text(text)
        checked = subprocess.run([shell, "-n", name], cwd=self.folder, capture_output=True, text=True)
        self.assertEqual((checked.returncode, checked.stderr), (0, ""))
        return self.folder / name


class Bash(ShellTest):
    programs = {"bash": "bash"}

    def setUp(self):
        super().setUp()
        self.script = self.write_script("bash", "molar.bash")

    def complete(self, *words):
        """What Tab offers behind `words`, the last of them unfinished; called as bash calls it."""
        array = " ".join("'" + word + "'" for word in ("molar", *words))
        code = f'source ./molar.bash; COMP_WORDS=({array}); COMP_CWORD={len(words)}; _molar; printf "%s\\n" "${{COMPREPLY[@]}}"'
        result = subprocess.run(["bash", "--norc", "-c", code], cwd=self.folder, capture_output=True, text=True)
        self.assertEqual((result.returncode, result.stderr), (0, ""), words)
        return result.stdout.split("\n")[:-1] if result.stdout.strip() else []

    def test_is_registered_for_molar(self):
        shown = subprocess.run(["bash", "--norc", "-c", "source ./molar.bash; complete -p molar"], cwd=self.folder, text=True,
                               capture_output=True)
        self.assertEqual(shown.stdout, "complete -F _molar molar\n", shown.stderr)

    def test_commands(self):
        self.assertEqual(sorted(self.complete("")), sorted(COMMANDS + ["--version", "--json", "-h", "--help"]))
        self.assertEqual(self.complete("gen"), ["generate"])
        self.assertEqual(self.complete("train", ""), ["lora", "ziplora", "hypernet", "expert", "gates"])
        self.assertEqual(self.complete("completion", "")[:3], ["bash", "zsh", "fish"])

    def test_options_of_the_command(self):
        self.assertEqual(self.complete("generate", "--neg"), ["--negative-prompt", "--negative-prompt-2"])
        self.assertEqual(self.complete("train", "lora", "--instance"), ["--instance-images", "--instance-prompt"])
        self.assertEqual(self.complete("merge", "--prompt"), [])

    def test_every_option_of_the_help_is_offered(self):
        for command in ("generate", "batch", "merge", "inspect", "eval", "train lora", "train gates", "doctor"):
            listed = set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", self.run_ok(*command.split(), "--help").stdout, re.MULTILINE))
            self.assertGreater(len(listed), 3)
            self.assertEqual(set(self.complete(*command.split(), "-")) - {"-h", "--help"}, listed, command)

    def test_values(self):
        self.assertEqual(self.complete("generate", "--sampler", ""), SAMPLERS)
        self.assertEqual(self.complete("generate", "--sampler", "dpmpp_2m_"), ["dpmpp_2m_karras"])
        self.assertEqual(self.complete("generate", "--sampler", "="), SAMPLERS)
        self.assertEqual(self.complete("batch", "--sampler", "=", "eu"), ["euler", "euler_a"])
        self.assertIn("lorarar", self.complete("merge", "--method", ""))
        self.assertEqual(self.complete("generate", "--dtype", ""), ["auto", "f32", "f16", "bf16"])
        self.assertEqual(self.complete("generate", "--device", "cu"), ["cuda"])
        self.assertEqual(self.complete("train", "lora", "--target", ""),
                         ["attention", "feed-forward", "convolution", "text-encoder"])
        self.assertEqual(self.complete("generate", "--steps", ""), [], "any number")

    def test_files(self):
        self.assertEqual(sorted(self.complete("generate", "--subject", "")), ["dog.safetensors", "ink.safetensors", "loras"])
        self.assertEqual(self.complete("generate", "--style", "i"), ["ink.safetensors"])
        self.assertEqual(self.complete("generate", "--mole", ""), ["loras"])
        self.assertIn("list.csv", self.complete("generate", "-m", ""))
        self.assertEqual(sorted(self.complete("batch", "l")), ["list.csv", "loras"])
        self.assertEqual(self.complete("eval", ""), ["loras"])
        self.assertIn("dog.safetensors", self.complete("inspect", ""))


class Fish(ShellTest):
    programs = {"fish": "fish"}

    def setUp(self):
        super().setUp()
        self.script = self.write_script("fish", "molar.fish")

    def complete(self, line):
        """Candidate -> description, as Tab shows them."""
        result = subprocess.run(["fish", "--no-config", "-c", f"source ./molar.fish; complete -C '{line}'"], cwd=self.folder,
                                capture_output=True, text=True, env=os.environ | {"HOME": str(self.folder)})
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return dict(row.split("\t") if "\t" in row else (row, "") for row in result.stdout.splitlines())

    def test_commands(self):
        self.assertEqual(set(self.complete("molar ")), set(COMMANDS))
        self.assertEqual(self.complete("molar gen"), {"generate": "Draw pictures from a prompt"})
        self.assertEqual(set(self.complete("molar train ")), {"lora", "ziplora", "hypernet", "expert", "gates"})
        self.assertEqual(set(self.complete("molar completion ")), {"bash", "zsh", "fish"})

    def test_options_and_values(self):
        found = self.complete("molar generate --neg")
        self.assertEqual(set(found), {"--negative-prompt", "--negative-prompt-2"})
        self.assertIn("--instance-images", self.complete("molar train lora --inst"))
        self.assertEqual(self.complete("molar merge --prompt"), {})
        self.assertEqual(set(self.complete("molar generate -p merge --sampler ")), set(SAMPLERS))
        self.assertEqual(set(self.complete("molar generate --sampler=dpmpp_2m_")), {"--sampler=dpmpp_2m_karras"})
        self.assertIn("model's own", self.complete("molar generate --sampl")["--sampler"])

    def test_files(self):
        self.assertEqual(set(self.complete("molar generate --subject d")), {"dog.safetensors"})
        self.assertEqual(set(self.complete("molar generate --mole ")), {"loras/"})
        self.assertIn("list.csv", self.complete("molar batch li"))
        self.assertIn("list.csv", self.complete("molar generate -m li"))


class Zsh(ShellTest):
    programs = {"zsh": "zsh"}

    def setUp(self):
        super().setUp()
        self.write_script("zsh", "_molar")
        pid, self.terminal = pty.fork()  # its completions only work in a shell that somebody types in
        if pid == 0:
            os.chdir(self.folder)
            os.environ.update(TERM="dumb", HOME=str(self.folder), PS1="READY> ", COLUMNS="400", LINES="100")
            os.execvp("zsh", ["zsh", "-f", "-i"])
        self.addCleanup(lambda: (os.close(self.terminal), os.waitpid(pid, 0)))
        self.type("unsetopt zle_bracketed_paste; setopt no_beep no_list_ambiguous; LISTMAX=1000; fpath=($PWD $fpath)\n")
        self.type("autoload -Uz compinit; compinit -u -D; molar() { print -r -- \"<$*>\" }; PS1='GO''> '\n")
        self.read_until("GO> ")

    def type(self, text):
        os.write(self.terminal, text.encode())

    def read_until(self, pattern, timeout_s=60):
        """The match. The prompt is shown again after a list of candidates, so it alone ends nothing."""
        seen, end = "", time.monotonic() + timeout_s
        while not (match := re.search(pattern, seen, re.MULTILINE | re.DOTALL)):
            ready, _, _ = select.select([self.terminal], [], [], max(0, end - time.monotonic()))
            self.assertTrue(ready, f"waited for {pattern!r}, found {seen!r}")
            seen += os.read(self.terminal, 65536).decode(errors="replace")
        self.assertNotRegex(seen, "bad option|not found|parse error")
        return match

    def complete(self, line):
        """The arguments of molar after Tab and Return behind `line`."""
        self.type(f"molar {line}\t\n")
        return self.read_until(r"^<([^\n]*)>\r?\n.*GO> ")[1].rstrip()

    def test_commands_and_options(self):
        self.assertEqual(self.complete("gen"), "generate")
        self.assertEqual(self.complete("train hyp"), "train hypernet")
        self.assertEqual(self.complete("completion zs"), "completion zsh")
        self.assertEqual(self.complete("generate --guidance-re").removesuffix("="), "generate --guidance-rescale")
        self.assertEqual(self.complete("train lora --instance-im").removesuffix("="), "train lora --instance-images")
        self.assertEqual(self.complete("merge --promp"), "merge --promp")

    def test_values_and_files(self):
        self.assertEqual(self.complete("generate -p x --sampler dpmpp_2m_"), "generate -p x --sampler dpmpp_2m_karras")
        self.assertEqual(self.complete("generate --sampler=uni"), "generate --sampler=unipc")
        self.assertEqual(self.complete("merge --method lorar"), "merge --method lorarar")
        self.assertEqual(self.complete("generate --subject do"), "generate --subject dog.safetensors")
        (self.folder / "dog.txt").touch()
        self.assertEqual(self.complete("generate --subject do"), "generate --subject dog.safetensors", "a LoRA")
        self.assertEqual(self.complete("generate -m li"), "generate -m list.csv")
        self.assertEqual(self.complete("generate --mole lo"), "generate --mole loras")
        self.assertEqual(self.complete("batch li"), "batch list.csv")
        self.assertEqual(self.complete("eval --baseline lo"), "eval --baseline lora", "lorarar, or the folder loras")


class Mistakes(CliTest):
    def test_shells(self):
        self.assert_fails(2, "completion", says="wanted one shell")
        self.assert_fails(2, "completion", "bash", "zsh", says="wanted one shell")
        self.assert_fails(2, "completion", "bahs", says=("'bahs'", "bash, zsh or fish", "did you mean 'bash'?"))
        self.assert_fails(2, "man", "generate", says="unexpected argument 'generate'")


class Man(ShellTest):
    programs = {"mandoc": "mandoc", "groff": "groff"}

    def setUp(self):
        super().setUp()
        self.page = self.run_ok("man").stdout

    def test_readers_of_pages_have_nothing_to_say(self):
        (self.folder / "molar.1").write_text(self.page)
        for words in (["mandoc", "-Tlint", "-Wwarning", "molar.1"], ["groff", "-man", "-ww", "-Tutf8", "-z", "molar.1"]):
            result = subprocess.run(words, cwd=self.folder, capture_output=True, text=True)
            self.assertEqual((result.returncode, result.stdout + result.stderr), (0, ""))

    def test_holds_every_command_option_and_exit_code(self):
        shown = subprocess.run(["mandoc", "-Tutf8", "-Owidth=400"], input=self.page, capture_output=True, text=True).stdout
        text = re.sub(".\b", "", shown)
        for command in ("generate", "batch", "merge", "inspect", "eval", "train lora", "train expert", "doctor", "completion", "man"):
            section = re.search(rf"^   molar {command}\n(.*?)^(?:   molar|\w)", text, re.MULTILINE | re.DOTALL)
            self.assertTrue(section, command)
            help_text = self.run_ok(*command.split(), "--help").stdout
            for example in re.findall(r"^  (\S.*)$", help_text.split("\nUsage:")[0], re.MULTILINE):
                self.assertIn(example, section[1])
            for option in re.findall(r"^  (?:-\w, )?(--[\w-]+)", help_text, re.MULTILINE):
                self.assertRegex(section[1], rf"(?m)^ +(-\w, )?{option}( |$)")
        header = (harness.MODELS.parents[2] / "include/molar/core/error.h").read_text()
        for code in re.findall(r"^  k\w+ = (\d+),", header, re.MULTILINE):
            self.assertRegex(text.split("EXIT STATUS")[1], rf"(?m)^ +{code} ")


if __name__ == "__main__":
    harness.main()
