"""`molar eval`: from pictures that molar drew to tables, and the judge behind a real server."""

import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import harness
from harness import CliTest, write_png

TOYLAND = harness.BINARY.parent.parent / "models/toyland"
METRICS = pathlib.Path(sys.argv[2]).resolve() / "metrics"
SERVER = pathlib.Path(__file__).resolve().parents[1] / "evaluation/judge_server.py"
ENCODERS = ("--clip", METRICS / "clip", "--dino", METRICS / "vit")


def paint(path, shade):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, 12, 10, lambda x, y: ((shade * 37 + 9 * x) % 256, (shade * 91 + 7 * y) % 256, (x * y + shade) % 256))


class EvalTest(CliTest):
    """Two methods, two pairs, two pictures of each; references and truths."""

    def setUp(self):
        super().setUp()
        self.references = ("--subject-references", "subjects", "--style-references", "styles")
        shade = 0
        for method in ("np", "direct"):
            for subject in ("cat", "dog"):
                for number in range(2):
                    shade += 1
                    paint(self.folder / "run" / method / subject / "ink" / f"{number}.png", shade)
        for name in ("subjects/cat", "subjects/dog", "styles/ink", "truth/cat/ink", "truth/dog/ink"):
            for number in range(2):
                shade += 1
                paint(self.folder / name / f"{number}.png", shade)

    def evaluate(self, *arguments):
        return self.run_ok("eval", "run", "--layout", "method/subject/style", *arguments, "-q")


class Tables(EvalTest):
    def test_writes_a_line_per_picture_and_two_tables_and_prints_one(self):
        result = self.evaluate(*ENCODERS, *self.references, "--truth", "truth", "--baseline", "direct", "-o", "scores")
        lines = [json.loads(line) for line in (self.folder / "scores/pictures.jsonl").read_text().splitlines()]
        self.assertEqual(len(lines), 8)
        first = lines[0]
        self.assertEqual((first["schema"], first["path"], first["method"], first["subject"], first["style"], first["prompt"]),
                         (1, "run/direct/cat/ink/0.png", "direct", "cat", "ink", None))
        self.assertEqual(set(first["scores"]), {
            "clip_i_subject", "clip_i_style", "dino_subject", "dino_style", "truth_clip_i", "truth_dino",
            "subject", "style", "harmonic", "truth_distance"})
        self.assertEqual(result.stdout, (self.folder / "scores/table.md").read_text())
        rows = [line.split("|") for line in result.stdout.splitlines() if line.startswith("|")]
        self.assertEqual([row[1].strip() for row in rows], ["method", "---", "direct", "np", "method", "---", "np"])
        mean = sum(line["scores"]["truth_distance"] for line in lines if line["method"] == "np") / 4
        self.assertIn(f" {mean:.3f} ± ", result.stdout)
        self.assertIn("<td>direct</td>", (self.folder / "scores/table.html").read_text())

    def test_json_prints_the_lines(self):
        lines = [json.loads(line) for line in self.evaluate(*ENCODERS, *self.references, "--json").stdout.splitlines()]
        self.assertEqual(len(lines), 8)
        self.assertNotIn("truth_distance", lines[0]["scores"])

    def test_pictures_that_molar_drew_need_no_layout(self):
        subject, style = self.folder / "cat.safetensors", self.folder / "ink.safetensors"
        harness.write_lora(subject, 1)
        harness.write_lora(style, 2)
        for method in ("direct", "np"):
            self.draw("--subject", subject, "--style", style, "--merge", method, "-o", f"drawn/{method}.png")
        result = self.run_ok("eval", "drawn", *ENCODERS, *self.references, "--json", "-q")
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        self.assertEqual([(line["method"], line["subject"], line["style"], line["prompt"]) for line in lines],
                         [(method, "cat", "ink", "a dog") for method in ("direct", "np")])
        self.assertIn("clip_t", lines[0]["scores"])
        line = json.loads(self.run_ok("eval", "drawn", "--hps", METRICS / "clip", "--json", "-q").stdout.splitlines()[0])
        self.assertEqual(set(line["scores"]), {"hps"})
        self.assertLess(abs(line["scores"]["hps"]), 100)

    def test_the_bundled_networks_measure(self):
        result = self.evaluate("--clip", TOYLAND / "clip", "--dino", TOYLAND / "dino", *self.references)
        self.assertIn("harmonic mean ↑", result.stdout)

    def test_existing_files_are_treated_as_asked(self):
        self.evaluate(*ENCODERS, *self.references, "-o", "scores")
        self.assert_fails(2, "eval", "run", "--layout", "method/subject/style", *ENCODERS, "-q", "-o", "scores", "--on-exist",
                          "error", says="pictures.jsonl")


class Mistakes(EvalTest):
    def assert_refused(self, code, *arguments, says):
        self.assert_fails(code, "eval", "run", "--layout", "method/subject/style", *arguments, "-q", says=says)

    def test_options_that_would_do_nothing(self):
        self.assert_refused(2, says=("nothing to measure with", "--clip"))
        self.assert_refused(2, *ENCODERS, "--judge-model", "x", says="--judge-model does nothing without --judge-url")
        self.assert_refused(2, *ENCODERS, "--judge-url", "http://x", says="--judge-model")
        self.assert_refused(2, "--judge-url", "http://x", "--judge-model", "x", says="nothing to compare with")
        self.assert_refused(2, "--judge-url", "http://x", "--judge-model", "x", "--truth", "truth", *self.references,
                            says="--truth does nothing")
        self.assert_refused(2, *ENCODERS, "--on-exist", "skip", says="-o")
        self.assert_refused(2, *ENCODERS, "--baseline", "ties", says=("ties", "direct, np"))

    def test_folders_that_say_too_little(self):
        self.assert_fails(2, "eval", says="RUN_DIR")
        self.assert_fails(2, "eval", "run", "--layout", "method/theme", *ENCODERS, says="theme")
        self.assert_fails(3, "eval", "run", *ENCODERS, "-q", says=("carries no molar record", "--layout"))
        self.assert_fails(3, "eval", "nowhere", *ENCODERS, "-q", says="nowhere")
        self.assert_refused(4, "--clip", "nowhere", says=("nowhere", "config.json"))
        self.assert_refused(3, "--hps", METRICS / "clip", says=("no molar record", "--hps needs its prompt", "--prompts"))
        shutil.rmtree(self.folder / "subjects/dog")
        self.assert_refused(3, *ENCODERS, *self.references, says="subjects/dog")
        (self.folder / "truth/cat/ink/1.png").unlink()
        self.assert_refused(3, *ENCODERS, "--truth", "truth", says="truth/cat/ink/1.png")
        (self.folder / "run/np/cat/ink/0.png").write_bytes(b"GIF89a")
        self.assert_refused(3, *ENCODERS, says="0.png")


class Judge(EvalTest):
    def setUp(self):
        super().setUp()
        server = subprocess.Popen([sys.executable, "-B", SERVER, self.folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  text=True)
        self.addCleanup(server.communicate)
        self.port = server.stdout.readline().strip()

    def judge(self, script, steps):
        """Options for a judge that answers by these steps."""
        (self.folder / f"{script}.json").write_text(json.dumps(steps))
        return ("--judge-url", f"http://127.0.0.1:{self.port}/{script}/v1", "--judge-model", "critic", *self.references)

    def requests(self, script):
        return [json.loads(line) for line in (self.folder / f"{script}.log").read_text().splitlines()]

    def test_mars2_asks_two_questions_per_reference(self):
        judge = self.judge("yes", [{"answer": "Yes."}])
        (self.folder / "key").write_text("sesame\n")
        result = self.evaluate(*judge, "--judge-key-file", "key", "-o", "scores")
        self.assertIn("MARS² both ↑", result.stdout)
        self.assertIn("| 1.000 ± 0.000 ", result.stdout)
        requests = self.requests("yes")
        self.assertEqual(len(requests), 8 * (2 + 2))
        self.assertEqual({request["authorization"] for request in requests}, {"Bearer sesame"})
        self.assertEqual({json.loads(request["body"])["model"] for request in requests}, {"critic"})

    def test_answers_are_kept_and_not_asked_again(self):
        judge = self.judge("half", [{"answer": "Yes"}] * 20 + [{"status": 400, "body": '{"error": {"message": "enough"}}'}])
        self.assert_fails(9, "eval", "run", "--layout", "method/subject/style", *judge, "--judge-jobs", "1", "-o", "scores",
                          "-q", says=("400", "enough"))
        self.assertEqual(len((self.folder / "scores/judge.jsonl").read_text().splitlines()), 20)
        self.evaluate(*self.judge("rest", [{"answer": "No"}]), "-o", "scores")
        self.assertEqual(len(self.requests("rest")), 32 - 20)

    def test_a_signal_stops_it_and_the_same_command_goes_on(self):
        judge = self.judge("slow", [{"answer": "Yes"}] * 5 + [{"hang": True}])
        command = [harness.BINARY, "eval", "run", "--layout", "method/subject/style", *judge, "--judge-jobs", "1", "-o", "scores"]
        process = subprocess.Popen(list(map(str, command)), cwd=self.folder, env=harness.environment(),
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        log = self.folder / "slow.log"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (log.exists() and len(log.read_text().splitlines()) == 6):
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
        self.assertEqual((process.returncode, out), (75, ""))
        self.evaluate(*self.judge("after", [{"answer": "Yes"}]), "-o", "scores")
        self.assertEqual(len(self.requests("after")), 32 - 5)

    def test_a_judge_that_is_not_there_is_a_network_error(self):
        judge = self.judge("none", [])
        self.assert_fails(9, "eval", "run", "--layout", "method/subject/style", "--judge-url", "http://127.0.0.1:1/v1",
                          *judge[2:], "--judge-retries", "0", "-q", says="http://127.0.0.1:1/v1")
        self.assert_fails(2, "eval", "run", "--layout", "method/subject/style", "--judge-url", "ftp://x", *judge[2:], "-q",
                          says="ftp://x")


JUDGES = TOYLAND / "judges"


class Human(CliTest):
    """Hands and faces in pictures of the bundled model, against a file of prompts."""

    PROMPTS = ({"prompt": "an open hand with five fingers", "kind": "hand", "fingers": [5]},
               {"prompt": "the face of a calm man with short brown hair", "kind": "face"})

    def setUp(self):
        super().setUp()
        rows = [{**prompt, "seed": 10 * repeat + number, "repeat": repeat}
                for repeat in range(2) for number, prompt in enumerate(self.PROMPTS)]
        self.write_prompts(rows)
        for run, steps in (("base", "2"), ("mole", "12")):
            for row in rows:
                self.run_ok("generate", "-m", TOYLAND, "-p", row["prompt"], "-s", row["seed"], "--steps", steps, "-q",
                            "-o", f"{run}/{row['seed']}.png")
        self.judges = ("--human", JUDGES, "--prompts", "prompts.jsonl", "-q")

    def write_prompts(self, rows):
        (self.folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def test_measures_hands_and_faces_over_repeats_against_a_folder(self):
        result = self.run_ok("eval", "mole/", "--baseline", "base", *self.judges, "--clip", TOYLAND / "clip", "-o", "scores")
        lines = [json.loads(line) for line in (self.folder / "scores/pictures.jsonl").read_text().splitlines()]
        self.assertEqual([(line["method"], line["prompted"]["group"], line["prompted"]["repeat"]) for line in lines],
                         [(method, group, repeat) for method in ("mole", "base")
                          for repeat in (0, 1) for group in ("hand", "face")])
        for line in lines:
            what = line["prompted"]["group"]
            self.assertEqual(set(line["scores"]), {"clip_t", f"correct_{what}s", f"counted_{what}s"})
            found = line["prompted"][f"{what}s"]
            self.assertEqual(line["scores"][f"counted_{what}s"], float(len(found) == 1))
            right = [one for one in found if (one["fingers"] == 5 if what == "hand" else not one["wrong_parts"])]
            self.assertEqual(line["scores"][f"correct_{what}s"], min(1, len(right)) / max(1, len(found)))
        tables = [line for line in result.stdout.splitlines() if line.startswith("**")]
        self.assertEqual([table.split(":")[0] for table in tables], ["**All"] * 2 + ["**face"] * 2 + ["**hand"] * 2)
        self.assertIn("Differences from base", tables[1])
        self.assertIn("| method | pictures | repeats | CLIP-T ↑ | correct hands ↑ | correct faces ↑ |", result.stdout)
        self.assertEqual(result.stdout, (self.folder / "scores/table.md").read_text())
        self.assertIn("<td>mole</td>", (self.folder / "scores/table.html").read_text())
        means = [sum(line["scores"]["clip_t"] for line in lines if line["method"] == "mole" and line["prompted"]["repeat"] == k) / 2
                 for k in (0, 1)]
        row = next(line for line in result.stdout.splitlines() if line.startswith("| mole | 4 | 2 |"))
        self.assertIn(f"{sum(means) / 2:.3f} ± {abs(means[0] - means[1]) / 2:.3f} (", row)

    def test_rows_of_pictures_without_a_record_are_told_by_their_number(self):
        (self.folder / "plain").mkdir()
        for number in (1, 2):
            write_png(self.folder / f"plain/{number:05}-x.png", 64, 64, lambda x, y: (200, 200, 220))
        lines = [json.loads(line) for line in
                 self.run_ok("eval", "plain", *self.judges, "--json").stdout.splitlines()]
        self.assertEqual([(line["prompted"]["group"], line["scores"]) for line in lines],
                         [("hand", {"correct_hands": 0.0, "counted_hands": 0.0}),
                          ("face", {"correct_faces": 0.0, "counted_faces": 0.0})])

    def test_mistakes(self):
        self.assert_fails(2, "eval", "mole", "--human", JUDGES, says="--human needs --prompts")
        self.assert_fails(4, "eval", "mole", "--human", "nowhere", "--prompts", "prompts.jsonl", "-q",
                          says=("nowhere/detector.safetensors", "missing"))
        self.assert_fails(3, "eval", "mole", "--human", JUDGES, "--prompts", "none.jsonl", "-q", says="none.jsonl")
        shutil.copytree(JUDGES, self.folder / "mixed")
        shutil.copy(JUDGES / "hand.safetensors", self.folder / "mixed/face.safetensors")
        self.assert_fails(4, "eval", "mole", "--human", "mixed", "--prompts", "prompts.jsonl", "-q",
                          says=("mixed/face.safetensors", "'hand'", "wanted 'face'"))
        self.write_prompts([{**self.PROMPTS[0], "seed": 0}])
        self.assert_fails(3, "eval", "mole", *self.judges, says=("mole/1.png", "the face of a calm man", "seed 1"))
        self.assert_fails(3, "eval", "mole", "--baseline", "base2", *self.judges, says="base2")
        self.write_prompts([{"prompt": prompt["prompt"]} for prompt in self.PROMPTS])
        self.assert_fails(3, "eval", "mole", *self.judges, says=("mole/0.png", "'kind'", self.PROMPTS[0]["prompt"]))
        self.run_ok("eval", "mole", "--prompts", "prompts.jsonl", "--clip", TOYLAND / "clip", "-q")
        self.write_prompts([self.PROMPTS[0]])
        (self.folder / "large").mkdir()
        write_png(self.folder / "large/1.png", 72, 64, lambda x, y: (9, 9, 9))
        self.assert_fails(3, "eval", "large", *self.judges, says=("large/1.png", "72 x 64", "64 x 64"))
        shutil.copytree(self.folder / "mole", self.folder / "others")
        for name in ("1", "10", "11"):
            (self.folder / f"others/{name}.png").unlink()
        for name in ("0", "1", "11"):
            (self.folder / f"mole/{name}.png").unlink()
        self.assert_fails(2, "eval", "others", "--baseline", "mole", *self.judges, says=("others", "same prompt and seed"))


if __name__ == "__main__":
    harness.main()
