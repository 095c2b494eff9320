"""What the recipes of scripts/cluster are tested with: a list with a bad row, and its folder from a single run. Standard
library only.

Every test of this folder that draws is called as `x_test.py BINARY` (ctest does)."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOYLAND = ROOT / "models/toyland"
SHARDS = 4
ROWS = 16
BAD_ROW = 7  # exit 7 once it is drawn: of a strength that no check can refuse
TIMEOUT_S = 600  # of machines that do much else
BINARY = pathlib.Path(sys.argv[1]).resolve()


def require(programs):
    """program -> Debian package. A missing one is a failure: nothing is left out in silence."""
    missing = sorted({package for program, package in programs.items() if not shutil.which(program, path=search_path())})
    if missing:
        raise AssertionError(f"wanted, as root: apt-get install {' '.join(missing)} (scripts/test does it)")


def search_path():
    return os.environ["PATH"] + ":/usr/sbin:/sbin"


def environment():
    """One thread each: shards share the machine, and so a picture's bytes depend on nothing else."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MOLAR_", "SLURM_", "SBATCH_", "PARALLEL"))}
    return kept | {"MOLAR": str(BINARY), "OMP_NUM_THREADS": "1", "PATH": search_path()}


def write_list(path):
    """Rows long enough to be interrupted, each a call of its own (--batch-size 1)."""
    ziggy, neon = TOYLAND / "loras/ziggy.safetensors", TOYLAND / "loras/neon.safetensors"
    rows = ["prompt,seed,subject,style,steps"]
    for number in range(1, ROWS + 1):
        subject = f"{ziggy}@1e30" if number == BAD_ROW else ziggy if number % 3 == 0 else ""
        rows.append(f"a house on grass {number},{number},{subject},{neon if number % 2 else ''},20")
    path.write_text("\n".join(rows) + "\n")


def arguments(out):
    return ["list.csv", "-o", str(out), "-m", str(TOYLAND), "--dtype", "f32", "--batch-size", "1", "--progress", "none"]


def wait_for(what, condition, timeout_s=TIMEOUT_S):
    end = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout_s} s for {what}")
        time.sleep(0.1)
    return value


def shard_process(folder, shard):
    """The pid of the molar that draws `shard` in `folder`, None where none does."""
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if words[0] == os.fsencode(BINARY) and os.fsencode(shard) in words and (entry / "cwd").resolve() == folder:
                return int(entry.name)
    return None


class ClusterTest(unittest.TestCase):
    """A folder to work in, with list.csv, and the folder of a single run of it to compare with."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="molar-cluster-")).resolve()
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        write_list(cls.folder / "list.csv")
        cls.single = subprocess.run([BINARY, "batch", *arguments("single"), "-q"], cwd=cls.folder, env=environment(),
                                    capture_output=True, text=True)
        if cls.single.returncode != 8:
            raise AssertionError(f"the single run: exit {cls.single.returncode}: {cls.single.stderr}")

    def results(self, out):
        return {path.name: path.read_text().splitlines() for path in (self.folder / out).glob("results*.jsonl")}

    def num_results(self, out, shard):
        return len(self.results(out).get(f"results.{shard}-of-{SHARDS}.jsonl", []))

    def assert_equals_single_run(self, out):
        """The same files byte for byte; the shards' results are the single run's lines, each once, in the shard of its row."""
        def files(folder):
            return {p.name: p.read_bytes() for p in (self.folder / folder).iterdir() if not p.name.startswith("results")}
        wanted, found = files("single"), files(out)
        self.assertEqual(sorted(found), sorted(wanted))
        self.assertEqual(len(wanted), ROWS - 1 + 1, "a picture for each row but the bad one, and batch.json")
        for name, data in wanted.items():
            self.assertEqual(found[name], data, name)
        shards = self.results(out)
        self.assertEqual(sorted(shards), [f"results.{i}-of-{SHARDS}.jsonl" for i in range(SHARDS)])
        for i in range(SHARDS):
            rows = [json.loads(line)["row"] for line in shards[f"results.{i}-of-{SHARDS}.jsonl"]]
            self.assertEqual(rows, [row for row in range(1, ROWS + 1) if row % SHARDS == i])
        lines = sorted((line for lines in shards.values() for line in lines), key=lambda line: json.loads(line)["row"])
        self.assertEqual(lines, self.results("single")["results.jsonl"])
        told = [subprocess.run([BINARY, "batch", "--status", folder], cwd=self.folder, env=environment(),
                               capture_output=True, text=True) for folder in ("single", out)]
        self.assertEqual(told[0].returncode, 8)
        self.assertEqual((told[1].returncode, told[1].stdout), (told[0].returncode, told[0].stdout))


def main():
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], module="__main__")
