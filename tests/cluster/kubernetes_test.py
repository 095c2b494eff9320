"""scripts/cluster/kubernetes_job.yaml: against Kubernetes' schema, by the rules that the API server adds to it, and what its pods
run, run here as the Job's controller would. No cluster is asked. Needs requirements.txt."""

import re
import subprocess

import kubernetes_validate
import yaml

import recipes
from recipes import ROOT, SHARDS, TOYLAND, ClusterTest, environment

MANIFEST = ROOT / "scripts/cluster/kubernetes_job.yaml"
DOCUMENT = yaml.safe_load(MANIFEST.read_text())
SPEC = DOCUMENT["spec"]
POD = SPEC["template"]["spec"]
(CONTAINER,) = POD["containers"]
# What DESIGN's exit codes mean here. "Count": a failure that backoffLimitPerIndex limits.
WANTED = {1: "Count", 2: "FailIndex", 3: "FailIndex", 4: "FailIndex", 5: "FailIndex", 6: "Count", 7: "FailIndex", 8: "Count",
          9: "Count", 75: "Ignore", 130: "Count", 137: "Count", 143: "Count"}


def action(code):
    """Of the first rule of podFailurePolicy that has the exit code."""
    for rule in SPEC["podFailurePolicy"]["rules"]:
        if code in rule.get("onExitCodes", {}).get("values", []):
            return rule["action"]
    return "Count"


def command(index):
    """The container's, as the kubelet expands $(NAME)."""
    variables = {entry["name"]: entry["value"] for entry in CONTAINER["env"]} | {"JOB_COMPLETION_INDEX": str(index)}
    return [re.sub(r"\$\((\w+)\)", lambda match: variables[match[1]], word) for word in CONTAINER["command"] + CONTAINER["args"]]


class Manifest(recipes.unittest.TestCase):
    def test_fits_the_schema(self):
        for version in ("1.33", "1.37"):
            kubernetes_validate.validate(DOCUMENT, version, strict=True)

    def test_a_misspelt_field_does_not(self):
        broken = yaml.safe_load(MANIFEST.read_text().replace("backoffLimitPerIndex", "backoffLimitPerIndices"))
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(broken, "1.33", strict=True)

    def test_the_api_server_would_take_it(self):
        """Rules that the schema cannot say: Kubernetes' documentation of Job, PodFailurePolicy."""
        self.assertEqual((SPEC["completionMode"], POD["restartPolicy"]), ("Indexed", "Never"))
        self.assertIn("backoffLimitPerIndex", SPEC, "FailIndex needs it")
        for rule in SPEC["podFailurePolicy"]["rules"]:
            self.assertEqual(("onExitCodes" in rule) + ("onPodConditions" in rule), 1)
            if codes := rule.get("onExitCodes"):
                self.assertEqual(codes["containerName"], CONTAINER["name"])
                self.assertEqual(codes["values"], sorted(set(codes["values"])))
                self.assertNotIn(0, codes["values"])
        self.assertEqual({mount["name"] for mount in CONTAINER["volumeMounts"]}, {volume["name"] for volume in POD["volumes"]})

    def test_one_number_of_shards(self):
        self.assertEqual(command(2)[-2:], ["--shard", f"2/{SPEC['completions']}"])
        self.assertEqual(SPEC["parallelism"], SPEC["completions"])

    def test_every_exit_code_has_its_action(self):
        header = (ROOT / "include/molar/core/error.h").read_text()
        codes = {int(code) for code in re.findall(r"^ +k\w+ = (\d+),", header, re.MULTILINE)}
        self.assertEqual(codes - {0}, {code for code in WANTED if code < 128}, "every code of error.h is in this table")
        self.assertEqual({code: action(code) for code in WANTED}, WANTED)


class Pods(ClusterTest):
    def test_pods_end_as_a_single_run(self):
        """One after the other, each index until the policy lets it be."""
        (self.folder / "prompts.csv").write_text((self.folder / "list.csv").read_text())
        defaults = {"MOLAR_MODEL": str(TOYLAND), "MOLAR_DTYPE": "f32", "MOLAR_BATCH_SIZE": "1"}
        ends = {}
        for index in range(SHARDS):
            ends[index] = []
            while len(ends[index]) <= SPEC["backoffLimitPerIndex"]:
                run = subprocess.run([recipes.BINARY, *command(index)[1:]], cwd=self.folder, env=environment() | defaults,
                                     capture_output=True, text=True)
                ends[index].append(run.returncode)
                if run.returncode == 0 or action(run.returncode) == "FailIndex":
                    break
        self.assertEqual(ends, {i: [8] * (SPEC["backoffLimitPerIndex"] + 1) if i == recipes.BAD_ROW % SHARDS else [0]
                                for i in range(SHARDS)})
        self.assert_equals_single_run("out")


if __name__ == "__main__":
    recipes.main()
