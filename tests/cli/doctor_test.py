"""molar doctor: what it says of the machine, and of a bundled model that is whole, damaged or not there."""

import hashlib
import json
import os
import shutil
import subprocess

import harness
from harness import CliTest

TOYLAND = harness.BINARY.parent.parent / "models" / "toyland"


class Doctor(CliTest):
    def test_says_what_the_machine_is(self):
        text = self.run_ok("doctor", "-t", "1").stdout
        self.assertRegex(text, r"^molar \S+ \(git \S+, libtorch 2\.\d+\.\d+.*\)\nprocessor: .+, \d+ cores, 1 threads, \S+\n"
                               r"cpu: f32 [\d.e+]+ GFLOP/s, f16 .* GFLOP/s.*, bf16 .* GFLOP/s.*; --dtype auto is (f32|bf16)\n")
        self.assertIn(f"bundled model: {TOYLAND}, ", text)

    def test_says_it_as_json(self):
        found = json.loads(self.run_ok("doctor", "--json").stdout)
        self.assertEqual(found["schema"], 1)
        version = json.loads(self.run_ok("--version", "--json").stdout)
        self.assertEqual({key: found[key] for key in version}, version)
        cpu = found["devices"][0]
        self.assertEqual(cpu["device"], "cpu")
        types = {entry["dtype"]: entry for entry in cpu["types"]}
        self.assertEqual(list(types), ["f32", "f16", "bf16"])
        self.assertTrue(types["f32"]["real"])
        for entry in types.values():
            self.assertGreater(entry["gflops"], 0)
            self.assertEqual(entry["real"], entry["gflops"] >= types["f32"]["gflops"] / 2)
        self.assertIn(cpu["auto"], types)
        self.assertEqual(found["bundled_model"], {"path": str(TOYLAND), "files": len(self.manifest()), "problems": []})

    def test_refuses_what_it_cannot_mean(self):
        self.assert_fails(2, "doctor", "-t", "0", says="--threads 0")

    def manifest(self):
        return dict(reversed(line.split("  ")) for line in (TOYLAND / "SHA256SUMS").read_text().splitlines())

    def test_the_manifest_is_true(self):
        files = sorted(path.relative_to(TOYLAND).as_posix() for path in TOYLAND.rglob("*") if path.is_file())
        files.remove("SHA256SUMS")
        self.assertEqual({name: hashlib.sha256((TOYLAND / name).read_bytes()).hexdigest() for name in files}, self.manifest(),
                         "cd models/toyland && find . -type f ! -name SHA256SUMS -printf '%P\\0' | LC_ALL=C sort -z | "
                         "xargs -0 sha256sum > SHA256SUMS writes it anew")

    def installed(self):
        """A copy of the program with a bundled model of two files."""
        binary = self.folder / "bin/molar"
        binary.parent.mkdir()
        if os.stat(harness.BINARY).st_dev == os.stat(self.folder).st_dev:
            os.link(harness.BINARY, binary)
        else:
            shutil.copy2(harness.BINARY, binary)
        return binary, self.folder / "models/toyland"

    def examine(self, binary, *words):
        return subprocess.run([binary, "doctor", *words], env=harness.environment(), cwd=self.folder, capture_output=True, text=True)

    def test_a_damaged_model_is_exit_4(self):
        binary, model = self.installed()
        model.mkdir(parents=True)
        sums = ""
        for name in ("model_index.json", "vae.bin", "unet.bin"):
            (model / name).write_text(name)
            sums += f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n"
        (model / "SHA256SUMS").write_text(sums)
        self.assertIn("3 of 3 files", self.examine(binary).stdout)
        (model / "vae.bin").write_text("another")
        (model / "unet.bin").unlink()
        for words in ([], ["--json"]):
            result = self.examine(binary, *words)
            self.assertEqual(result.returncode, 4)
            self.assertRegex(result.stderr, r"^error: the bundled model '.*' is damaged: 2 of 3 files; wanted .*\n$")
        self.assertEqual([problem["file"] for problem in json.loads(result.stdout)["bundled_model"]["problems"]],
                         ["vae.bin", "unet.bin"])
        text = self.examine(binary).stdout
        self.assertIn("1 of 3 files as they should be\n  vae.bin: changed: ", text)
        self.assertIn("  unet.bin: missing\n", text)
        (model / "SHA256SUMS").unlink()
        result = self.examine(binary)
        self.assertEqual(result.returncode, 4)
        self.assertIn("SHA256SUMS", result.stderr)

    def test_no_model_is_no_damage(self):
        binary, _ = self.installed()
        result = self.examine(binary)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("bundled model: none beside the program\n", result.stdout)
        self.assertIsNone(json.loads(self.examine(binary, "--json").stdout)["bundled_model"])


if __name__ == "__main__":
    harness.main()
