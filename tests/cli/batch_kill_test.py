"""A batch that is killed thirty times, at random moments, ends as one that was left alone."""

import json
import os
import random
import signal
import subprocess
import time

import harness
from harness import CliTest

KILLS = 30
ROWS = 40
TOYLAND = harness.BINARY.parent.parent / "models" / "toyland"


def prompt_list():
    pairs = [("ziggy", "neon"), ("ziggy", "comic"), ("cosmo", "oil"), ("", "neon"), ("", "")]
    rows = ["prompt,seed,subject,style,steps"]
    for i in range(ROWS):
        subject, style = (f"{TOYLAND}/loras/{name}.safetensors" if name else "" for name in pairs[i % len(pairs)])
        rows.append(f"a house on grass {i % 7},{i if i % 4 else ''},{subject},{style},{1 + i % 3}")
    return "\n".join(rows) + "\n"


class Kills(CliTest):
    def command(self, folder):
        return [str(harness.BINARY), "batch", "list.csv", "-o", folder, "--dtype", "f32", "--merge", "auto", "--batch-size", "2",
                "--json", "-q"]

    def files(self, folder):
        return {p.name: p.read_bytes() for p in (self.folder / folder).iterdir()}

    def start(self, folder):
        return subprocess.Popen(self.command(folder), cwd=self.folder, env=harness.environment(), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def kill_at_random(self, draw, startup_s):
        """While it starts, or some time after one of the next rows was told."""
        process = self.start("killed")
        wanted = draw.choice((None, 0, 1, 2))
        if wanted is None:
            time.sleep(draw.uniform(0, startup_s))
        else:
            told = 0
            while told < wanted and (line := process.stdout.readline()):
                told += not json.loads(line)["skipped"]
            time.sleep(draw.uniform(0, startup_s / 4))
        process.send_signal(signal.SIGKILL)
        process.stdout.close()
        return process.wait() == -signal.SIGKILL

    def test_thirty_kills_leave_no_trace(self):
        seed = int(os.environ.get("MOLAR_KILL_SEED", random.SystemRandom().randrange(2**32)))
        print(f"kill seed {seed} (MOLAR_KILL_SEED repeats it)", flush=True)
        draw = random.Random(seed)
        (self.folder / "list.csv").write_text(prompt_list())
        start = time.monotonic()
        whole = self.start("whole")
        whole.stdout.readline()
        startup_s = time.monotonic() - start
        whole.stdout.read()
        whole.stdout.close()
        self.assertEqual(whole.wait(), 0)
        kills = sum(self.kill_at_random(draw, startup_s) for _ in range(KILLS))
        last = subprocess.run(self.command("killed"), cwd=self.folder, env=harness.environment(), capture_output=True, text=True)
        self.assertEqual(last.returncode, 0, last.stderr)
        redrawn = sum(not json.loads(line)["skipped"] for line in last.stdout.splitlines())
        print(f"{kills} of {KILLS} kills met a running process; the last run had {redrawn} rows left to draw", flush=True)
        self.assertGreater(kills, KILLS // 2)
        wanted, found = self.files("whole"), self.files("killed")
        self.assertEqual(sorted(found), sorted(wanted), "no file more, none less")
        for name, data in wanted.items():
            self.assertEqual(found[name], data, name)
        rows = [json.loads(line)["row"] for line in found["results.jsonl"].splitlines()]
        self.assertEqual(rows, list(range(1, ROWS + 1)), "one result a row")
        self.assertEqual(len(wanted), ROWS + 2)


if __name__ == "__main__":
    harness.main()
