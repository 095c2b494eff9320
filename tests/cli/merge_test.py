"""`molar merge`: one file that draws what the merge in memory draws, and everything that it refuses."""

import json
import math
import pathlib
import random
import shutil
import struct
import xml.etree.ElementTree

import harness
from harness import MODELS, SD15, CliTest, max_distance, read_png

LORAS = MODELS.parent / "lora"
METHODS = ("np", "direct", "concat", "svd", "ties", "dare", "lorarar")


def read_tensors(path):
    """name -> list of floats, of float32 and float16 tensors."""
    data = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, entry in harness.read_header(path).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        kind = {"F32": "f", "F16": "e"}[entry["dtype"]]
        body = data[8 + length + begin:8 + length + end]
        tensors[name] = struct.unpack(f"<{len(body) // struct.calcsize(kind)}{kind}", body)
    return tensors


def write_hypernet(path, widths, hidden=8, seed=3, metadata=None):
    draw = random.Random(seed)
    tensors = {"output.1.weight": ((2, hidden), [draw.gauss(0, 0.3) for _ in range(2 * hidden)]),
               "output.1.bias": ((2,), [0.7, 0.8])}
    for number, width in enumerate(widths, 1):
        tensors[f"input_{number}.weight"] = (hidden, 2 * width), [draw.gauss(0, 1) for _ in range(hidden * 2 * width)]
        tensors[f"input_{number}.bias"] = (hidden,), [draw.gauss(0, 1) for _ in range(hidden)]
    harness.write_safetensors(path, tensors, metadata)


def attention_widths(model):
    header = harness.read_header(model / "unet/diffusion_pytorch_model.safetensors")
    return sorted({entry["shape"][0] for name, entry in header.items() if name.endswith("to_q.weight")})


class Merging(CliTest):
    def setUp(self):
        super().setUp()
        for seed, name in ((1, "subject"), (2, "style")):
            harness.write_lora(self.folder / f"{name}.safetensors", seed,
                               metadata={"modelspec.trigger_phrase": f"word-{name}", "modelspec.license": "CC0"})
        write_hypernet(self.folder / "hypernet.safetensors", attention_widths(SD15))

    def merge(self, *arguments, roles=("--subject", "subject.safetensors@0.75", "--style", "style.safetensors")):
        return self.run_ok("merge", "-m", SD15, *roles, *arguments, "--on-exist", "overwrite")

    def pixels(self, *arguments):
        self.draw(*arguments, "-o", "picture.png", "--on-exist", "overwrite")
        return read_png(self.folder / "picture.png").pixels

    def test_the_file_draws_what_the_merge_in_memory_draws(self):
        seen = {}
        for method in METHODS:
            network = ("--hypernet", "hypernet.safetensors") if method == "lorarar" else ()
            in_memory = self.pixels("--subject", "subject.safetensors@0.75", "--style", "style.safetensors", "--merge", method,
                                    *network)
            for form in ("kohya", "diffusers"):
                result = self.merge("--method", method, *network, "--format", form, "-o", "merged.safetensors")
                self.assertEqual(result.stdout, "merged.safetensors\n")
                self.assertLessEqual(max_distance(self.pixels("--lora", "merged.safetensors"), in_memory), 1, (method, form))
            for other, pixels in seen.items():
                same = {method, other} == {"direct", "concat"}
                self.assertEqual(max_distance(in_memory, pixels) <= 1, same, (method, other))
            seen[method] = in_memory

    def test_merging_in_a_file_equals_stacking(self):  # pain point 2: strengths once, no cross terms
        self.merge("--method", "concat", "-o", "merged.safetensors")
        stacked = self.pixels("--lora", "subject.safetensors@0.75", "--lora", "style.safetensors")
        self.assertLessEqual(max_distance(self.pixels("--lora", "merged.safetensors"), stacked), 1)

    def test_strength_scales_a_roles_final_part(self):
        for method in ("np", "lorarar"):
            network = ("--hypernet", "hypernet.safetensors") if method == "lorarar" else ()
            at_zero = ("--subject", "subject.safetensors@0", "--style", "style.safetensors")
            self.merge("--method", method, *network, "-o", "merged.safetensors", roles=at_zero)
            subject_rows = {name: values for name, values in read_tensors(self.folder / "merged.safetensors").items()
                            if name.endswith("lora_down.weight")}
            for name, values in subject_rows.items():
                half = len(values) // 2  # the subject's rows come first
                self.assertTrue(all(v == 0 for v in values[:half]) and any(v != 0 for v in values[half:]), name)

    def test_blocks_have_strengths_of_their_own(self):  # pain point 9
        whole = ("--subject", "subject.safetensors@0.75", "--style", "style.safetensors")
        one = ("--subject", "subject.safetensors@0.75:MID=1,OUT=1", "--style", "style.safetensors")
        off = ("--subject", "subject.safetensors@0.75:IN=0,MID=0,OUT=0,BASE=0", "--style", "style.safetensors")
        some = ("--subject", "subject.safetensors@0.75:OUT=0,mid_block.attentions.0=-2", "--style", "style.safetensors@1:BASE=0")
        for method in ("direct", "np", "klora"):
            plain = self.pixels(*whole, "--merge", method)
            self.assertEqual(self.pixels(*one, "--merge", method), plain)
            if method != "klora":  # which layers are whose is measured on the unscaled files
                self.assertLessEqual(max_distance(self.pixels(*off, "--merge", method), self.pixels("--lora", "style.safetensors")), 1)
                self.merge("--method", method, "-o", "merged.safetensors", roles=some)
                self.assertLessEqual(max_distance(self.pixels("--lora", "merged.safetensors"), self.pixels(*some, "--merge", method)), 1)
            self.assertGreater(max_distance(self.pixels(*some, "--merge", method), plain), 1)
        inputs = json.loads(harness.read_header(self.folder / "merged.safetensors")["__metadata__"]["molar.merge"])["inputs"]
        self.assertEqual([i["blocks"] for i in inputs], ["OUT=0,mid_block.attentions.0=-2", "BASE=0"])
        # Without a merge, and from the picture's record.
        self.draw("--lora", "subject.safetensors@1:OUT=0", "-o", "block.png")
        self.assertNotEqual(read_png(self.folder / "block.png").pixels, self.pixels("--lora", "subject.safetensors"))
        self.run_ok("generate", "--from", "block.png", "-o", "again.png")
        self.assertEqual(read_png(self.folder / "block.png").pixels, read_png(self.folder / "again.png").pixels)
        self.assertIn("subject@1:OUT=0", read_png(self.folder / "block.png").text["parameters"])

    def test_files_of_all_families_and_ranks_merge(self):  # pain points 1, 3 and 4
        files = ("sd15-kohya/lora.safetensors", "sd15-diffusers/lora.safetensors", "sd15-peft", "sd15-peft-loha",
                 "sd15-peft-lokr", "sd15-attention-processors/lora.safetensors")
        paths = [LORAS / name for name in files]
        self.assertTrue(all(path.exists() for path in paths), paths)
        uses = [word for path in paths for word in ("--lora", f"{path}@0.4")]
        self.merge("-o", "merged.safetensors", roles=uses)
        self.assertLessEqual(max_distance(self.pixels("--lora", "merged.safetensors"), self.pixels(*uses)), 1)
        for path in paths[1:]:
            self.merge("--method", "np", "-o", "merged.safetensors", roles=("--subject", paths[0], "--style", path))

    def test_without_a_model_the_files_tell(self):
        for family, width in (("sd15", 768), ("sd21", 1024), ("sdxl", 2048)):
            draw, names = random.Random(width), []
            for name in ("a", "b"):
                block = {"sd15": "down_blocks_0", "sd21": "down_blocks_0", "sdxl": "down_blocks_1"}[family]
                out = 640 if family == "sdxl" else 320
                key = f"lora_unet_{block}_attentions_0_transformer_blocks_0_attn2_to_k"
                harness.write_safetensors(self.folder / f"{name}.safetensors", {
                    key + ".lora_down.weight": ((1, width), [draw.gauss(0, 1) for _ in range(width)]),
                    key + ".lora_up.weight": ((out, 1), [draw.gauss(0, 1) for _ in range(out)])})
            with self.subTest(family=family):
                self.run_ok("merge", "--lora", "a.safetensors", "--lora", "b.safetensors", "-o", f"{family}.safetensors")
                merged = read_tensors(self.folder / f"{family}.safetensors")
                down = next(values for name, values in merged.items() if name.endswith("lora_down.weight"))
                a, b = (read_tensors(self.folder / f"{name}.safetensors")[key + ".lora_down.weight"] for name in "ab")
                self.assertEqual(down, a + b)

    def test_rank(self):
        self.merge("--rank", "2", "--method", "svd", "-o", "merged.safetensors")
        metadata = harness.read_header(self.folder / "merged.safetensors")["__metadata__"]
        self.assertEqual((metadata["ss_network_dim"], metadata["ss_network_alpha"]), ("2", "2"))
        self.merge("--method", "concat", "-o", "merged.safetensors")
        self.assertEqual(harness.read_header(self.folder / "merged.safetensors")["__metadata__"]["ss_network_dim"], "4")

    def test_metadata_names_both_parents(self):  # pain point 10
        self.merge("--method", "lorarar", "--hypernet", "hypernet.safetensors", "-o", "merged.safetensors")
        metadata = harness.read_header(self.folder / "merged.safetensors")["__metadata__"]
        self.assertEqual(metadata["modelspec.trigger_phrase"], "word-subject, word-style")
        self.assertEqual(metadata["modelspec.license"], "CC0")
        self.assertEqual(metadata["ss_base_model_version"], "sd_v1")
        merge = json.loads(metadata["molar.merge"])
        self.assertEqual(merge["method"], "lorarar")
        self.assertRegex(merge["coefficients_sha256"], "^[0-9a-f]{64}$")
        self.assertRegex(merge["hypernet_sha256"], "^[0-9a-f]{64}$")
        self.assertEqual([(i["role"], i["file"], i["strength"], i["trigger_words"]) for i in merge["inputs"]],
                         [("subject", "subject.safetensors", 0.75, "word-subject"), ("style", "style.safetensors", 1.0, "word-style")])
        for parent in merge["inputs"]:
            self.assertIn(parent["sha256"], metadata["modelspec.merged_from"])
        self.assertIn("word-subject", self.run_ok("inspect", "merged.safetensors").stdout)

    def test_dtype_is_the_files_own(self):  # pain point 10: no doubling
        self.merge("--method", "concat", "--dtype", "f16", "-o", "half.safetensors")
        shutil.copy(self.folder / "half.safetensors", self.folder / "other.safetensors")
        self.merge("-o", "both.safetensors", roles=("--lora", "half.safetensors", "--lora", "other.safetensors"))
        self.assertEqual({e["dtype"] for n, e in harness.read_header(self.folder / "both.safetensors").items() if n != "__metadata__"},
                         {"F16"})
        self.merge("-o", "mixed.safetensors", roles=("--lora", "half.safetensors", "--lora", "subject.safetensors"))
        self.assertEqual({e["dtype"] for n, e in harness.read_header(self.folder / "mixed.safetensors").items() if n != "__metadata__"},
                         {"F32"})

    def test_auto_predicts_with_a_hypernetwork_and_projects_without(self):
        def method(*network):
            return json.loads(self.merge("--json", *network, "-o", "x.safetensors").stdout)["method"]
        self.assertEqual(method(), "np")
        self.assertEqual(method("--hypernet", "hypernet.safetensors"), "lorarar")

    def test_a_hypernetwork_beside_the_model_is_used(self):
        shutil.copytree(SD15, self.folder / "model")
        roles = ("--subject", "subject.safetensors", "--style", "style.safetensors")
        draw = ("generate", "-m", "model", "-p", "a dog", *harness.QUICK, *roles, "--on-exist", "overwrite")
        self.run_ok(*draw, "-o", "x.png")
        self.assertEqual(read_png(self.folder / "x.png").record["merge"], "np")
        shutil.copy(self.folder / "hypernet.safetensors", self.folder / "model/hypernet.safetensors")
        self.run_ok(*draw, "-o", "y.png")
        record = read_png(self.folder / "y.png").record
        self.assertEqual((record["merge"], record["request"]["merge"]), ("lorarar", "lorarar"))
        self.assertTrue(record["request"]["hypernet"].endswith("model/hypernet.safetensors"))
        # The record of x.png says np, whatever lies beside the model by now.
        self.run_ok("generate", "--from", "x.png", "-o", "again.png")
        self.assertEqual(read_png(self.folder / "x.png").pixels, read_png(self.folder / "again.png").pixels)
        write_hypernet(self.folder / "model/hypernet.safetensors", [4444])
        result = self.run_ok(*draw, "-o", "z.png")
        self.assertIn("no head for a layer of this model", result.stderr)
        self.assertEqual(read_png(self.folder / "z.png").record["merge"], "np")
        self.run_ok("generate", "--from", "z.png", "-o", "z-again.png")
        self.assertEqual(read_png(self.folder / "z.png").pixels, read_png(self.folder / "z-again.png").pixels)

    def test_inspect_knows_a_hypernetwork(self):
        text = self.run_ok("inspect", "hypernet.safetensors").stdout
        self.assertIn("kind: hypernetwork", text)
        fields = json.loads(self.run_ok("inspect", "--json", "hypernet.safetensors").stdout)
        self.assertEqual((fields["kind"], fields["widths"], fields["hidden"], fields["key_value"]),
                         ("hypernetwork", attention_widths(SD15), 8, "sum"))

    def test_report(self):
        self.merge("--method", "lorarar", "--hypernet", "hypernet.safetensors", "--report", "report", "-o", "merged.safetensors")
        report = json.loads((self.folder / "report/report.json").read_text())
        self.assertEqual(report["method"], "lorarar")
        predicted = [layer for layer in report["layers"] if layer["rule"] == "predicted"]
        self.assertTrue(predicted)
        self.assertTrue(all(layer["module"].endswith(("to_q", "to_out.0")) and len(layer["mean_coefficients"]) == 2
                            for layer in predicted))
        for layer in report["layers"]:
            (cosine,) = layer["cosines"]
            self.assertLess(abs(cosine), 0.9)
            self.assertTrue(all(norm > 0 for norm in layer["norms"]))
        xml.etree.ElementTree.parse(self.folder / "report/report.svg")
        same = ("--lora", "subject.safetensors", "--lora", "subject.safetensors@0.5")
        self.merge("--report", "same", "-o", "merged.safetensors", roles=same)
        for layer in json.loads((self.folder / "same/report.json").read_text())["layers"]:
            self.assertTrue(math.isclose(layer["cosines"][0], 1, rel_tol=1e-4))

    def test_an_existing_file_is_not_replaced_unasked(self):
        (self.folder / "merged.safetensors").write_text("mine")
        command = ("merge", "-m", SD15, "--subject", "subject.safetensors", "--style", "style.safetensors", "-o", "merged.safetensors")
        self.assert_fails(2, *command, says=("merged.safetensors", "exist"))
        self.assertEqual(self.run_ok(*command, "--on-exist", "skip").stdout, "merged.safetensors\n")
        self.assertEqual((self.folder / "merged.safetensors").read_text(), "mine")

    def test_the_same_command_writes_the_same_bytes(self):
        for method in METHODS:
            network = ("--hypernet", "hypernet.safetensors") if method == "lorarar" else ()
            for name in ("one", "two"):
                self.merge("--method", method, *network, "-o", f"{name}/x.safetensors")
            self.merge("--method", method, *network, "--threads", "4", "-o", "threads/x.safetensors")
            one, two, threads = ((self.folder / name / "x.safetensors").read_bytes() for name in ("one", "two", "threads"))
            self.assertEqual(one, two)
            self.assertEqual(one, threads, method)


class Refusals(CliTest):
    def setUp(self):
        super().setUp()
        harness.write_lora(self.folder / "a.safetensors", 1)
        harness.write_lora(self.folder / "b.safetensors", 2)
        write_hypernet(self.folder / "hypernet.safetensors", attention_widths(SD15))

    def refuse(self, code, *arguments, says, roles=("--subject", "a.safetensors", "--style", "b.safetensors"), model=("-m", SD15)):
        self.assert_fails(code, "merge", *model, *roles, "-o", "merged.safetensors", *arguments, says=says)
        self.assertFalse((self.folder / "merged.safetensors").exists(), "nothing is written")

    def test_usage(self):
        self.assert_fails(2, "merge", "--subject", "a.safetensors", "--style", "b.safetensors", says="-o FILE")
        self.refuse(2, roles=("--subject", "a.safetensors"), says=("two LoRA files", "found 1"))
        self.refuse(2, "--method", "klora", says=("'klora'", "during sampling", "generate --merge klora"))
        self.refuse(2, "--method", "drect", says=("'drect'", "direct"))
        self.refuse(2, "--method", "lorarar", says="--hypernet FILE")
        self.refuse(2, "--method", "np", roles=("--lora", "a.safetensors", "--lora", "b.safetensors"), says=("'np'", "--subject", "--style"))
        self.refuse(2, "--format", "ckpt", says=("--format 'ckpt'", "kohya"))
        self.refuse(2, "--dtype", "f64", says="--dtype")
        self.refuse(2, "--rank", "0", says="--rank 0")
        self.refuse(2, "--threads", "0", says="--threads 0")
        self.refuse(2, "--key-value", "max", "--method", "lorarar", "--hypernet", "hypernet.safetensors", says="--key-value 'max'")
        self.refuse(2, "--method", "ties", "--density", "1.5", says="--density 1.5")
        self.refuse(2, "--np-mu", "-2", says="--np-mu -2")
        for blocks, says in (("IN77=1", "block 'IN77'"), ("MID=x", "wanted BLOCK=NUMBER"), ("1,2", "2 strengths of blocks")):
            self.refuse(2, roles=("--subject", f"a.safetensors@1:{blocks}", "--style", "b.safetensors"), says=says)

    def test_options_that_would_do_nothing(self):
        for option in (("--density", "0.3"), ("--seed", "1"), ("--key-value", "sum"), ("--hypernet", "hypernet.safetensors")):
            self.refuse(2, "--method", "direct", *option, says=(option[0], "nothing", "direct"))
        self.refuse(2, "--method", "svd", "--np-mu", "1", says=("--np-mu", "np"))

    def test_files(self):
        self.refuse(4, roles=("--subject", "no.safetensors", "--style", "b.safetensors"), says="no.safetensors")
        self.refuse(4, "--hypernet", "no.safetensors", says="no.safetensors")
        self.refuse(4, "--hypernet", "a.safetensors", says=("a.safetensors", "no hypernetwork"))
        (self.folder / "h.pth").write_bytes(b"PK\x03\x04")
        self.refuse(4, "--hypernet", "h.pth", says="h.pth")
        harness.write_safetensors(self.folder / "dora.safetensors", {"lora_unet_mid_block_attentions_0_proj_in.dora_scale": ((1,), [1.0])})
        self.refuse(4, roles=("--subject", "dora.safetensors", "--style", "b.safetensors"), says=("dora.safetensors", "DoRA"))

    def test_fit(self):
        write_hypernet(self.folder / "wide.safetensors", [4444])
        self.refuse(5, "--hypernet", "wide.safetensors", says=("wide.safetensors", "4444"))
        harness.write_lora(self.folder / "xl.safetensors", 1, model=MODELS / "sdxl-tiny")
        self.refuse(5, roles=("--subject", "a.safetensors", "--style", "xl.safetensors"), says="xl.safetensors")

    def test_files_of_different_or_unknown_models(self):
        self.refuse(2, model=(), says=("cannot tell", "-m MODEL"))
        for name, width in (("one", 768), ("two", 1024)):
            key = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
            harness.write_safetensors(self.folder / f"{name}.safetensors", {
                key + ".lora_down.weight": ((1, width), [0.5] * width), key + ".lora_up.weight": ((320, 1), [0.5] * 320)})
        self.refuse(5, model=(), roles=("--lora", "one.safetensors", "--lora", "two.safetensors"),
                    says=("different models", "SD 1.x", "SD 2.x", "-m MODEL"))

    def test_a_type_that_is_too_narrow(self):
        self.refuse(1, "--method", "concat", "--dtype", "f16", roles=("--lora", "a.safetensors@1e6", "--lora", "b.safetensors"),
                    says=("do not fit f16", "--dtype"))

    def test_generate_refuses_a_hypernetwork_that_would_do_nothing(self):
        draw = ("generate", "-m", SD15, "-p", "a dog", *harness.QUICK, "-o", "x.png", "--hypernet", "hypernet.safetensors")
        self.assert_fails(2, *draw, says=("--hypernet", "--subject and --style"))
        self.assert_fails(2, *draw, "--subject", "a.safetensors", "--style", "b.safetensors", "--merge", "np",
                          says=("--hypernet", "lorarar or auto"))
        self.assert_fails(2, "generate", "-m", SD15, "-p", "a dog", *harness.QUICK, "-o", "x.png", "--subject", "a.safetensors",
                          "--style", "b.safetensors", "--merge", "lorarar", says="--hypernet FILE")


if __name__ == "__main__":
    harness.main()
