"""scripts/cluster/slurm_array on a Slurm of this machine: a shard that is stopped and one that is killed, a row that fails."""

import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

import recipes
from one_machine_slurm import OneMachineSlurm
from recipes import ROOT, SHARDS, ClusterTest, arguments, environment, require, shard_process, wait_for

SCRIPT = ROOT / "scripts/cluster/slurm_array"
STOPPED, KILLED, BAD = 1, 2, recipes.BAD_ROW % SHARDS
ENDED = ("COMPLETED", "FAILED", "CANCELLED")


class Slurm(ClusterTest):
    @classmethod
    def setUpClass(cls):
        require(OneMachineSlurm.PROGRAMS)
        super().setUpClass()
        folder = pathlib.Path(tempfile.mkdtemp(prefix="molar-slurm-"))  # short: sockets are in it
        cls.addClassCleanup(shutil.rmtree, folder, ignore_errors=True)
        cls.slurm = OneMachineSlurm(folder)
        cls.addClassCleanup(cls.slurm.stop)
        cls.slurm.start()

    def submit(self, out, *words):
        return self.slurm.submit(*words, str(SCRIPT), *arguments(out), cwd=self.folder, env=environment())

    def wait_until_ended(self, job):
        def ended():
            tasks = self.slurm.tasks(job)
            return len(tasks) == SHARDS and all(t["JobState"] in ENDED for t in tasks.values()) and tasks
        return wait_for(f"job {job}: {({k: t['JobState'] for k, t in self.slurm.tasks(job).items()})}", ended)

    def assert_ended(self, tasks, **exits):
        wanted = {task: "0:0" for task in range(SHARDS)} | {int(name[1:]): code for name, code in exits.items()}
        self.assertEqual({task: fields["ExitCode"] for task, fields in tasks.items()}, wanted, self.slurm.logs() + self.task_logs())

    def task_logs(self, job="*"):
        return "".join(f"--- {path.name}\n{path.read_text()}" for path in sorted(self.folder.glob(f"molar-{job}_*.log")))

    def test_an_array_ends_as_a_single_run(self):
        job = self.submit("out")
        wait_for("a picture of the shard to stop", lambda: self.num_results("out", STOPPED) >= 1)
        # What --signal=B: sends before the time limit, to whom it sends it.
        self.slurm.call("scancel", "--batch", "--signal=USR1", f"{job}_{STOPPED}")
        wait_for("a picture of the shard to kill", lambda: self.num_results("out", KILLED) >= 1)
        os.kill(shard_process(self.folder, f"{KILLED}/{SHARDS}"), signal.SIGKILL)

        wait_for("the stopped task in the queue", lambda: self.slurm.state(job, STOPPED) == "PENDING")
        self.assertLess(self.num_results("out", STOPPED), recipes.ROWS / SHARDS, "stopped half-way")
        # Slurm holds a requeued task back for two minutes. Some seconds it needs: in the same one slurmd takes the new start
        # for the one that it has just ended.
        self.slurm.call("scontrol", "update", f"JobId={job}_{STOPPED}", "StartTime=now+3")
        tasks = self.wait_until_ended(job)
        self.assertEqual([tasks[i]["Restarts"] for i in range(SHARDS)], ["1" if i == STOPPED else "0" for i in range(SHARDS)])
        self.assert_ended(tasks, **{f"_{KILLED}": "137:0", f"_{BAD}": "8:0"})
        self.assertIn("back into the queue", (self.folder / f"molar-{job}_{STOPPED}.log").read_text())

        # The same line again; an array may start anywhere.
        self.assert_ended(self.wait_until_ended_at(self.submit("out", "--array=10-16:2"), 10, 2), **{f"_{BAD}": "8:0"})
        self.assert_equals_single_run("out")

    def wait_until_ended_at(self, job, start, step):
        """Its tasks, numbered as shards."""
        return {(number - start) // step: fields for number, fields in self.wait_until_ended(job).items()}

    def test_a_cancelled_array_stays_out_of_the_queue(self):
        job = self.submit("cancelled")
        wait_for("a picture", lambda: self.num_results("cancelled", 0) >= 1)
        self.slurm.call("scancel", str(job))
        wait_for("the end of molar", lambda: not any(shard_process(self.folder, f"{i}/{SHARDS}") for i in range(SHARDS)))
        time.sleep(1)
        tasks = self.wait_until_ended(job)
        self.assertEqual({t["JobState"] for t in tasks.values()}, {"CANCELLED"})
        self.assertEqual({t["Restarts"] for t in tasks.values()}, {"0"})
        self.assertNotIn("back into the queue", self.task_logs(job))

    def test_mistakes_are_one_line(self):
        for words, found, says in ((["list.csv"], {}, "not a task of a Slurm array"), ([], {"SLURM_ARRAY_TASK_ID": "1"}, "no list")):
            result = subprocess.run([SCRIPT, *words], env=environment() | found, capture_output=True, text=True)
            self.assertEqual((result.returncode, result.stdout), (2, ""))
            self.assertRegex(result.stderr, rf"^error: {says}; wanted sbatch .*\n$")


if __name__ == "__main__":
    recipes.main()
