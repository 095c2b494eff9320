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

    def rows_left(self):
        results = self.folder / "killed" / "results.jsonl"
        return ROWS - (len(results.read_bytes().split(b"\n")) - 1 if results.exists() else 0)

    def kill_at_random(self, draw, kills_left, startup_s, row_s):
        """While it starts, or during one of the next two rows; true where it was still running. Rows that are left are saved
        for the kills that are left."""
        process = self.start("killed")
        new_rows = draw.choice((None, 0, 1)) if self.rows_left() > kills_left else None
        if new_rows is None:
            time.sleep(draw.uniform(0, startup_s))
        else:
            told = -1  # the first line, of whatever row, tells that it has started
            while told < new_rows and (line := process.stdout.readline()):
                told = max(told, 0) + (not json.loads(line)["skipped"])
            time.sleep(draw.uniform(0, row_s))
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
        row_s = (time.monotonic() - start - startup_s) / ROWS
        whole.stdout.close()
        self.assertEqual(whole.wait(), 0)
        kills = attempts = 0
        while kills < KILLS and attempts < 2 * KILLS:  # one may come too late on a busy machine
            attempts += 1
            kills += self.kill_at_random(draw, KILLS - kills, startup_s, row_s)
        last = subprocess.run(self.command("killed"), cwd=self.folder, env=harness.environment(), capture_output=True, text=True)
        self.assertEqual(last.returncode, 0, last.stderr)
        redrawn = sum(not json.loads(line)["skipped"] for line in last.stdout.splitlines())
        print(f"{kills} of {attempts} kills met a running process; the last run had {redrawn} rows left to draw", flush=True)
        self.assertEqual(kills, KILLS)
        wanted, found = self.files("whole"), self.files("killed")
        self.assertEqual(sorted(found), sorted(wanted), "no file more, none less")
        for name, data in wanted.items():
            self.assertEqual(found[name], data, name)
        rows = [json.loads(line)["row"] for line in found["results.jsonl"].splitlines()]
        self.assertEqual(rows, list(range(1, ROWS + 1)), "one result a row")
        self.assertEqual(len(wanted), ROWS + 2)


if __name__ == "__main__":
    harness.main()
