"""Stopping: the first signal at a safe point (exit 75), the second at once."""

import os
import signal
import subprocess
import time

import harness
from harness import SD15, CliTest, read_png


class Signals(CliTest):
    def start(self, *arguments, size=None):
        """A drawing that would take long; returns once the first step is done."""
        process = subprocess.Popen(
            [str(harness.BINARY), "generate", "-m", str(SD15), "-p", "a dog", "-s", "7", "--steps", "200", "--sampler", "ddim",
             "-b", "1000", "-o", "{seed}.png", "--progress", "bar", *(size or ("-W", "256", "-H", "256")), *arguments],
            cwd=self.folder, env=harness.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        seen = b""
        while b" left" not in seen:
            data = os.read(process.stderr.fileno(), 4096)
            self.assertTrue(data, f"ended early: {seen.decode()}")
            seen += data
        return process

    def finish(self, process):
        output, errors = process.communicate(timeout=harness.TIMEOUT_S)
        return process.returncode, output.decode(), errors.decode()

    def test_the_first_signal_stops_at_a_safe_point(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            process = self.start()
            process.send_signal(number)
            code, output, errors = self.finish(process)
            self.assertEqual(code, 75, errors)
            self.assertIn("stopping at the next safe point", errors)
            self.assertEqual(errors.replace("\x1b[K", "").splitlines()[-1],
                             "stopped at a safe point as asked; run the same command again")
            self.assertEqual(output, "")
            self.assertEqual(list(self.folder.iterdir()), [], "no part of a picture stays")

    def test_quiet_says_nothing_but_the_last_line(self):
        process = self.start("-q")
        process.send_signal(signal.SIGINT)
        code, _, errors = self.finish(process)
        self.assertEqual(code, 75)
        self.assertNotIn("stopping at", errors)

    def test_the_same_command_continues_after_a_stop(self):
        arguments = ("generate", "-m", SD15, "-p", "a dog", "-s", "7", "--steps", "2", "-b", "3", "-o", "{seed}.png", "--on-exist",
                     "skip", "--dtype", "f32")
        self.run_ok(*arguments)
        whole = {p.name: p.read_bytes() for p in self.folder.iterdir()}
        (self.folder / "8.png").unlink()
        self.run_ok(*arguments)
        self.assertEqual({p.name: p.read_bytes() for p in self.folder.iterdir()}, whole)

    def test_pictures_that_were_finished_stay_whole(self):
        process = subprocess.Popen([str(harness.BINARY), "generate", "-m", str(SD15), "-p", "a dog", "-s", "7", "--steps", "3", "-b",
                                    "100000", "-o", "{seed}.png"], cwd=self.folder, env=harness.environment(),
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        first = process.stdout.readline().decode().strip()
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=harness.TIMEOUT_S)
        self.assertEqual(process.returncode, 75)
        names = [first, *rest.decode().split()]
        self.assertEqual(sorted(p.name for p in self.folder.iterdir()), sorted(names))
        for name in names:
            read_png(self.folder / name)

    def test_a_second_sigterm_ends_at_once(self):
        process = self.start()
        os.kill(process.pid, signal.SIGSTOP)
        process.send_signal(signal.SIGUSR1)  # of pending signals the lower number comes first
        process.send_signal(signal.SIGTERM)
        os.kill(process.pid, signal.SIGCONT)
        code, output, errors = self.finish(process)
        self.assertEqual((code, output), (143, ""), errors)

    def test_a_second_sigint_ends_at_once(self):
        # No signal of ours comes before SIGINT, so the second one is a race against the end of a step.
        for _ in range(10):
            process = self.start(size=("-W", "768", "-H", "768"))
            process.send_signal(signal.SIGINT)
            while b"stopping at" not in os.read(process.stderr.fileno(), 4096):
                pass
            process.send_signal(signal.SIGINT)
            code, _, errors = self.finish(process)
            self.assertIn(code, (75, 130), errors)
            if code == 130:
                return
        self.fail("ten times the step ended first")

    def test_a_second_usr1_still_waits_for_the_safe_point(self):
        process = self.start()
        process.send_signal(signal.SIGUSR1)
        time.sleep(0.01)
        process.send_signal(signal.SIGUSR1)
        self.assertEqual(self.finish(process)[0], 75)


if __name__ == "__main__":
    harness.main()
