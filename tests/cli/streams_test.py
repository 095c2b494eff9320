"""Standard output carries results only; everything else goes to standard error."""

import json
import os
import pty
import select
import subprocess
import time

import harness
from harness import QUICK, SD15, CliTest, Png, molar, read_png

GENERATE = ("generate", "-m", SD15, "-p", "a dog", *QUICK)


def run_on_terminal(arguments, cwd, env=None, stdout=subprocess.PIPE):
    """Runs the binary with a terminal as standard error (and, with stdout=None, as standard output)."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([str(harness.BINARY), *map(str, arguments)], stdin=subprocess.DEVNULL,
                               stdout=theirs if stdout is None else stdout, stderr=theirs, cwd=cwd,
                               env=harness.environment(**({"TERM": "xterm"} | (env or {}))))
    os.close(theirs)
    seen = b""
    while True:
        ready, _, _ = select.select([ours], [], [], harness.TIMEOUT_S)
        if not ready:
            process.kill()
            raise TimeoutError(seen)
        try:
            data = os.read(ours, 65536)
        except OSError:  # the terminal's other side is closed
            break
        if not data:
            break
        seen += data
    os.close(ours)
    output = process.stdout.read() if process.stdout else b""
    if process.stdout:
        process.stdout.close()
    return process.wait(), output.decode(), seen.decode()


class Output(CliTest):
    def test_standard_output_is_the_path_and_nothing_else(self):
        for arguments in ((), ("-v",), ("-q",), ("--progress", "plain"), ("--progress", "bar"), ("--progress", "none")):
            self.assertEqual(self.draw("-o", "x.png", "--on-exist", "overwrite", *arguments).stdout, "x.png\n")

    def test_json_is_one_object_per_picture(self):
        result = self.draw("-b", "2", "--json", "-o", "{seed}.png")
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        self.assertEqual([line["path"] for line in lines], ["7.png", "8.png"])
        for line, seed in zip(lines, (7, 8)):
            self.assertEqual((line["schema"], line["seed"], line["skipped"], line["width"], line["height"]),
                             (1, seed, False, 64, 64))
            self.assertEqual(line["record"], read_png(self.folder / line["path"]).record)
            self.assertEqual(line["warnings"], [])
            self.assertGreater(line["peak_memory_bytes"], 0)
            self.assertGreater(len(line["timings"]["steps_s"]), 0)

    def test_png_bytes_on_standard_output(self):
        result = molar(*GENERATE, "-o", "-", text=False, cwd=self.folder)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.draw("-o", "x.png")
        self.assertEqual(result.stdout, (self.folder / "x.png").read_bytes())
        self.assertEqual(Png(result.stdout).record["request"]["seed"], 7)

    def test_png_bytes_are_refused_on_a_terminal(self):
        code, _, seen = run_on_terminal([*GENERATE, "-o", "-"], self.folder, stdout=None)
        self.assertEqual(code, 2, seen)
        self.assertIn("terminal", seen)
        self.assertNotIn("PNG\r\n", seen)

    def test_results_arrive_with_standard_error_closed(self):
        result = subprocess.run(["/bin/sh", "-c", 'exec "$0" "$@" 2>&-', str(harness.BINARY), *map(str, GENERATE), "--json",
                                 "-o", "x.png"], env=harness.environment(), stdout=subprocess.PIPE, text=True,
                                cwd=self.folder, stdin=subprocess.DEVNULL)
        self.assertEqual(result.returncode, 0)
        self.assertEqual(json.loads(result.stdout)["path"], "x.png")
        read_png(self.folder / "x.png")

    def test_every_command_keeps_standard_output_clean_with_standard_error_closed(self):
        for arguments in (["generate", "-h"], ["inspect", "--json", SD15], ["--version"]):
            words = [str(harness.BINARY), *map(str, arguments)]
            closed = subprocess.run(["/bin/sh", "-c", 'exec "$0" "$@" 2>&-', *words], env=harness.environment(),
                                    stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
            self.assertEqual(closed.returncode, 0)
            self.assertEqual(closed.stdout.decode(), molar(*arguments).stdout)

    def test_a_closed_standard_output_is_an_error_not_a_lost_result(self):
        result = subprocess.run(["/bin/sh", "-c", 'exec "$0" "$@" >&-', str(harness.BINARY), "--version"],
                                env=harness.environment(), stderr=subprocess.PIPE, text=True)
        self.assertEqual(result.returncode, 1)
        self.assertIn("cannot write to standard output", result.stderr)

    def test_a_full_disk_behind_standard_output_is_an_error(self):
        with open("/dev/full", "w") as full:
            result = molar("--version", stdout=full)
        self.assertEqual(result.returncode, 1)
        self.assertIn("No space left", result.stderr)

    def test_a_reader_that_went_away_ends_the_program_quietly(self):
        for ignored in (False, True):  # some parents leave SIGPIPE ignored
            process = subprocess.Popen([str(harness.BINARY), "generate", "--help"], env=harness.environment(),
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, restore_signals=not ignored)
            process.stdout.close()
            self.assertEqual(process.stderr.read(), b"")
            process.stderr.close()
            self.assertEqual(process.wait(), -13)  # SIGPIPE

    def test_quiet_leaves_standard_error_empty(self):
        self.assertEqual(self.draw("-q", "-o", "x.png").stderr, "")

    def test_quiet_does_not_hide_errors(self):
        self.assert_fails(4, "generate", "-q", "-m", "absent", "-p", "a dog")

    def test_errors_of_unusual_names_stay_on_one_line(self):
        error = self.assert_fails(4, "generate", "-p", "a dog", "-m", "new\nline\x1b[31m")
        self.assertNotIn("\x1b", error)


class Progress(CliTest):
    def test_plain_lines_elsewhere_than_on_a_terminal(self):
        result = self.run_ok("generate", "-m", SD15, "-p", "a dog", "--steps", "20", "-s", "7", "--sampler", "ddim", "-o", "x.png")
        lines = [line for line in result.stderr.splitlines() if " step " in line]
        self.assertEqual(len(lines), 10, result.stderr)
        self.assertRegex(lines[-1], r"picture 1/1: step 20/20, 100 %")
        self.assertNotIn("\r", result.stderr)
        self.assertNotIn("\x1b", result.stderr)

    def test_a_bar_with_the_remaining_time_on_a_terminal(self):
        code, output, seen = run_on_terminal([*GENERATE, "-o", "x.png"], self.folder)
        self.assertEqual((code, output), (0, "x.png\n"), seen)
        self.assertRegex(seen, r"\r\x1b\[Kpicture 1/1 \[#+-*\] \d+/\d+ .* left")
        self.assertTrue(seen.rstrip("\n").endswith("\x1b[K") or seen.endswith("\n"), "the bar is gone at the end")

    def test_a_dumb_terminal_gets_plain_lines(self):
        code, _, seen = run_on_terminal([*GENERATE, "-o", "x.png"], self.folder, env={"TERM": "dumb"})
        self.assertEqual(code, 0, seen)
        self.assertIn("step 1/", seen)
        self.assertNotIn("\x1b", seen)

    def test_styles_asked_for(self):
        self.assertIn("[#", self.draw("--progress", "bar", "-o", "a.png").stderr)
        self.assertNotIn("step", self.draw("--progress", "none", "-o", "b.png").stderr.replace("steps", ""))
        self.assertIn("100 %", self.draw("-q", "--progress", "plain", "-o", "c.png").stderr)

    def test_colour_follows_no_color(self):
        arguments = [*GENERATE, "-o", "x.png", "--progress", "none", "--on-exist", "overwrite"]
        _, _, coloured = run_on_terminal(arguments, self.folder)
        _, _, plain = run_on_terminal(arguments, self.folder, env={"NO_COLOR": "1"})
        self.assertRegex(coloured, "\x1b\\[[0-9;]*m")
        self.assertNotRegex(plain, "\x1b\\[[0-9;]*m")

    def test_a_terminal_shows_the_first_words_before_libtorch_is_ready(self):
        # libtorch's own initialisation takes 130 ms and more, all of it before main().
        first, whole = [], []
        for _ in range(5):
            ours, theirs = pty.openpty()
            start = time.monotonic()
            process = subprocess.Popen([str(harness.BINARY), *map(str, GENERATE), "-o", "x.png"], cwd=self.folder,
                                       env=harness.environment(TERM="xterm"), stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=theirs)
            self.assertTrue(os.read(ours, 8).startswith(b"loading"))
            first.append(time.monotonic() - start)
            process.kill()
            process.wait()
            os.close(ours)
            os.close(theirs)
            start = time.monotonic()
            molar("--version")
            whole.append(time.monotonic() - start)
        self.assertLess(min(first), min(whole) / 2, "the words do not wait for what a run of --version waits for")

    def test_the_first_words_are_gone_before_anything_else_is_said(self):
        _, _, seen = run_on_terminal(["generate", "--bogus"], self.folder)
        self.assertTrue(seen.startswith("loading libtorch ...\r\x1b[Kerror: "), seen)
        for arguments in (["generate", "-h"], ["generate", "-p", "a dog", "-q", "-m", "absent"], ["--version"]):
            _, _, seen = run_on_terminal(arguments, self.folder)
            self.assertNotIn("libtorch ...", seen)


if __name__ == "__main__":
    harness.main()
