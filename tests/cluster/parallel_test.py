"""scripts/cluster/parallel_batch: shards that are stopped or killed, a row that fails, what ends for good."""

import os
import re
import signal
import stat
import subprocess

import recipes
from recipes import ROOT, SHARDS, ClusterTest, arguments, environment, require, shard_process, wait_for

SCRIPT = ROOT / "scripts/cluster/parallel_batch"
STOPPED, KILLED, BAD = 1, 2, recipes.BAD_ROW % SHARDS


class Parallel(ClusterTest):
    @classmethod
    def setUpClass(cls):
        require({"parallel": "parallel"})
        super().setUpClass()

    def start(self, *words, **extra):
        process = subprocess.Popen([SCRIPT, "--gpus", "", *words], cwd=self.folder, env=environment() | extra, text=True,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(lambda: process.poll() is None and process.terminate())
        return process

    def joblog(self, name):
        """(shard, exit code, signal) of each start."""
        rows = [line.split("\t") for line in (self.folder / name).read_text().splitlines() if not line.startswith("Seq")]
        return [(int(row[8].split()[-1]), int(row[6]), int(row[7])) for row in rows]

    def test_shards_end_as_a_single_run(self):
        process = self.start("--shards", str(SHARDS), "--joblog", "log.tsv", *arguments("out"))
        for shard, number in ((STOPPED, signal.SIGUSR1), (KILLED, signal.SIGKILL)):
            wait_for(f"a picture of shard {shard}", lambda: self.num_results("out", shard) >= 1)
            os.kill(shard_process(self.folder, f"{shard}/{SHARDS}"), number)
        out, errors = process.communicate(timeout=recipes.TIMEOUT_S)
        self.assertEqual(process.returncode, 8, errors)
        self.assertIn(f"starting again: shards {STOPPED} {KILLED}\n", errors)
        starts = self.joblog("log.tsv")
        self.assertEqual(sorted(shard for shard, _, _ in starts), [0, STOPPED, STOPPED, KILLED, KILLED, BAD])
        self.assertEqual({code or 128 + number for shard, code, number in starts if shard == KILLED}, {128 + signal.SIGKILL, 128})
        self.assertEqual({code for shard, code, _ in starts if shard == STOPPED}, {75, 0})
        self.assertEqual({code for shard, code, _ in starts if shard == BAD}, {8})
        self.assertTrue(set(out.splitlines()) >= {str(p.relative_to(self.folder)) for p in (self.folder / "out").glob("*.png")})
        self.assert_equals_single_run("out")

    def test_a_signal_stops_all_at_safe_points(self):
        process = self.start("--shards", str(SHARDS), *arguments("stopped"))
        wait_for("a picture", lambda: self.num_results("stopped", 0) >= 1)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=recipes.TIMEOUT_S)
        self.assertEqual(process.returncode, 75, errors)
        self.assertFalse(any(shard_process(self.folder, f"{i}/{SHARDS}") for i in range(SHARDS)), "all have ended")
        self.assertEqual(errors.count("stopping at the next safe point"), SHARDS, errors)
        again = self.start("--shards", str(SHARDS), *arguments("stopped"))
        _, errors = again.communicate(timeout=recipes.TIMEOUT_S)
        self.assertEqual(again.returncode, 8, errors)
        self.assert_equals_single_run("stopped")


class Plan(recipes.unittest.TestCase):
    """With a program in molar's place that says how it was called."""

    def setUp(self):
        self.folder = recipes.pathlib.Path(recipes.tempfile.mkdtemp(prefix="molar-parallel-"))
        self.addCleanup(recipes.shutil.rmtree, self.folder, ignore_errors=True)

    def run_script(self, *words, program="", **extra):
        stand_in = self.folder / "a molar"
        stand_in.write_text('#!/usr/bin/env bash\n'
                            'line=$(printf "%s|" "${CUDA_VISIBLE_DEVICES-none}" "${OMP_NUM_THREADS-none}" "$@")\n'
                            f'echo "$line"\n{program}\n')
        stand_in.chmod(stat.S_IRWXU)
        # A process group of its own, as a terminal gives.
        return subprocess.run([SCRIPT, *words], env=environment() | {"MOLAR": str(stand_in)} | extra, cwd=self.folder, text=True,
                              capture_output=True, stdin=subprocess.DEVNULL, timeout=60)

    def calls(self, *words, **extra):
        result = self.run_script(*words, **extra)
        self.assertEqual(result.returncode, 0, result.stderr)
        return sorted((line.split("|")[:-1] for line in result.stdout.splitlines()), key=lambda words: words[-1])

    def test_gpus_are_used_in_turn(self):
        words = ["list.csv", "-p", "it's {} {%} $HOME `id`", "-o", "an out"]
        calls = self.calls("--gpus", "2,5", "--shards", "4", *words, program="sleep 1")
        self.assertEqual([call[2:] for call in calls], [["batch", *words, "--shard", f"{i}/4"] for i in range(4)])
        self.assertEqual(sorted(call[0] for call in calls), ["2", "2", "5", "5"])
        self.assertEqual(len(self.calls(*words, CUDA_VISIBLE_DEVICES="3,1,0")), 3)

    def test_cores_are_shared_out_without_gpus(self):
        (call,) = self.calls("--gpus", "", "--shards", "1", "list.csv", OMP_NUM_THREADS="")
        self.assertEqual(call[:2], ["none", str(os.cpu_count())])
        calls = self.calls("--gpus", "", "--shards", "64", "list.csv", OMP_NUM_THREADS="3")
        self.assertEqual({call[1] for call in calls}, {"3"})

    def exit_code(self, codes, retries=0):
        program = f'case $* in ' + "".join(f'*{i}/{len(codes)}) exit {code};; ' for i, code in enumerate(codes)) + 'esac'
        log = self.folder / "log.tsv"
        log.unlink(missing_ok=True)
        result = self.run_script("--gpus", "", "--shards", str(len(codes)), "--retries", str(retries), "--joblog", log, "list.csv",
                                 program=program)
        return result.returncode, len(re.findall("run_shard", log.read_text()))

    def test_the_exit_code_says_the_worst(self):
        self.assertEqual(self.exit_code([0, 0]), (0, 2))
        self.assertEqual(self.exit_code([0, 75, 0]), (75, 3))
        self.assertEqual(self.exit_code([75, 8]), (8, 2))
        self.assertEqual(self.exit_code([8, 137, 75]), (137, 3))
        self.assertEqual(self.exit_code([137, 8, 5, 4]), (5, 4))

    def test_only_what_may_end_otherwise_is_tried_again(self):
        self.assertEqual(self.exit_code([75, 5, 8, 0], retries=2), (5, 4 + 1 + 1))
        self.assertEqual(self.exit_code([137, 0], retries=1), (137, 2 + 1))

    def test_mistakes_are_one_line(self):
        for words, says in (([], "no list"), (["-", "-o", "x"], "standard input"), (["--shards", "0", "l"], "--shards '0'"),
                            (["--gpus", "", "l"], "without a GPU"), (["--retries", "-1", "l"], "--retries '-1'"),
                            (["--joblog"], "--joblog needs a value")):
            result = self.run_script(*words, CUDA_VISIBLE_DEVICES="" if "--gpus" in words else "0")
            self.assertEqual((result.returncode, result.stdout), (2, ""), words)
            self.assertRegex(result.stderr, rf"^error: .*{re.escape(says)}.*\n$")
        self.assertIn("--retries", self.run_script("--help").stdout)


if __name__ == "__main__":
    recipes.main()
