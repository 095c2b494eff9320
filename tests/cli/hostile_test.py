"""Broken and malicious files: each ends in the right exit code and one clear line, without a signal.

The corpus is written at run time. A case is a name, the exit code, a piece of the message, and a function
that writes the file and returns the command line. Usage: hostile_test.py MOLAR_BINARY GOLDENS_DIR.
"""

import concurrent.futures
import json
import os
import pathlib
import pickle
import random
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib

import harness
from harness import BINARY, SD15, chunk

CPU_LIMIT_S = 10  # processor time, so that a busy machine does not fail the test
WALL_LIMIT_S = 120
MIN_CASES = 60

USAGE, INPUT, FILE, FIT = 2, 3, 4, 5
SDXL = harness.MODELS / "sdxl-tiny"
NULL = object()  # a value of config()

CASES = []


def case(name, code, says, write):
    assert all(name != other[0] for other in CASES), name
    CASES.append((name, code, says, write))


# ---- safetensors, as a file to inspect ----------------------------------------------------------------

def safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype="F32", shape=(1,), begin=0, end=4):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def inspected(name, content, says, code=FILE, suffix=".safetensors"):
    def write(folder):
        path = folder / ("file" + suffix)
        path.write_bytes(content)
        return ["inspect", path]

    case("inspect " + name, code, says, write)


def safetensors_cases():
    inspected("empty file", b"", "")
    inspected("seven bytes", b"\x02\0\0\0\0\0\0", "")
    inspected("length without a header", struct.pack("<Q", 100), "")
    inspected("huge header length", safetensors(b"{}", length=2**64 - 1), "header")
    inspected("header length just past the limit", safetensors(b"{}", length=100_000_001), "header")
    inspected("header longer than the file", safetensors(b"{}", length=1000), "cut short")
    inspected("header is cut JSON", safetensors(b'{"a":{"dtype":'), "not JSON")
    inspected("header is broken UTF-8", safetensors(b'{"a\xff\xfe":{}}'), "not JSON")
    inspected("header holds NUL", safetensors(b"{}\0\0\0"), "not JSON")
    inspected("header nests a million lists", safetensors(b'{"a":' + b"[" * 1_000_000), "must be an object")
    inspected("header nests a million objects", safetensors(b'{"a":' * 1_000_000), "")
    inspected("name twice", safetensors(b'{"a":%s,"a":%s}' % ((json.dumps(entry()).encode(),) * 2), bytes(4)), "twice")
    inspected("metadata twice", safetensors(b'{"__metadata__":{},"__metadata__":{}}'), "twice")
    inspected("metadata with a number", safetensors({"__metadata__": {"k": 1}}), "must be a string")
    inspected("metadata is a list", safetensors({"__metadata__": []}), "must be an object")
    inspected("entry is a number", safetensors({"a": 1}), "must be an object")
    inspected("dtype is a number", safetensors({"a": entry(dtype=7)}, bytes(4)), "dtype must be a string")
    inspected("dtype is unknown", safetensors({"a": entry(dtype="F31")}, bytes(4)), "'F31'")
    inspected("no offsets", safetensors({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)), "data_offsets")
    inspected("no shape", safetensors({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, bytes(4)), "no shape")
    inspected("shape is a string", safetensors({"a": {**entry(), "shape": "1"}}, bytes(4)), "must be a list")
    inspected("negative size", safetensors({"a": entry(shape=[-1])}, bytes(4)), "negative number -1")
    inspected("two negative sizes", safetensors({"a": entry(shape=[-1, -1])}, bytes(4)), "negative number -1")
    inspected("size is a fraction", safetensors({"a": entry(shape=[1.0])}, bytes(4)), "fraction")
    inspected("size wraps to zero bytes", safetensors({"a": entry(shape=[2**62, 4], end=0)}), "overflows")
    inspected("size wraps in 64 bits", safetensors({"a": entry(shape=[2**32, 2**32], end=0)}), "overflows")
    inspected("empty tensor with endless strides", safetensors({"a": entry(shape=[0, 2**40, 2**40], end=0)}), "overflows")
    inspected("more axes than libtorch takes", safetensors({"a": entry(shape=[1] * 2000)}, bytes(4)), "axes")
    inspected("shape contradicts the offsets", safetensors({"a": entry(shape=[2])}, bytes(4)), "needs 8")
    inspected("offsets run backwards", safetensors({"a": entry(begin=4, end=0)}, bytes(4)), "backwards")
    inspected("offsets are negative", safetensors({"a": entry(begin=-4, end=0)}, bytes(4)), "whole numbers")
    inspected("offsets past 64 bits", safetensors({"a": entry(begin=2**64, end=2**64 + 4)}, bytes(4)), "whole numbers")
    inspected("offsets at the end of 64 bits", safetensors({"a": entry(begin=2**64 - 5, end=2**64 - 1)}, bytes(4)), "ends at")
    inspected("tensors overlap", safetensors({"a": entry(end=4), "b": entry(begin=2, end=6)}, bytes(6)), "overlap")
    inspected("tensors leave a hole", safetensors({"a": entry(end=4), "b": entry(begin=8, end=12)}, bytes(12)), "hole")
    inspected("data of nobody", safetensors({"a": entry()}, bytes(5)), "belong to nothing")
    inspected("data cut short", safetensors({"a": entry()}, bytes(3)), "cut short")
    inspected("name with line breaks and escapes", safetensors({"a\nb\x1b[31m\r\x07": 1}), "a\\nb\\x1b[31m")
    inspected("name of a megabyte", safetensors({"n" * 1_000_000: 1}), "nnn")
    inspected("tensors of no model", safetensors({"a": entry()}, bytes(4)), "")
    inspected("300,000 empty tensors", safetensors({str(i): entry(shape=[0], end=0) for i in range(300_000)}), "")
    inspected("pickle under a safetensors name", pickle.dumps({"a": 1}, 2), "pickle")
    inspected("torch zip under a safetensors name", b"PK\x03\x04" + bytes(100), "pickle")
    inspected("Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "")
    inspected("web page", b"<!DOCTYPE html><html><body>404</body></html>", "")
    inspected("GGUF", b"GGUF" + bytes(60), "")
    inspected("random bytes", random.Random(1).randbytes(5000), "")

    case("inspect missing file", FILE, "does not exist", lambda folder: ["inspect", folder / "none.safetensors"])
    case("inspect empty folder", FILE, "neither", lambda folder: ["inspect", folder])
    case("inspect device", FILE, "/dev/zero", lambda folder: ["inspect", "/dev/zero"])

    def pipe(folder):
        os.mkfifo(folder / "pipe.safetensors")
        return ["inspect", folder / "pipe.safetensors"]

    case("inspect pipe without a writer", FILE, "pipe", pipe)

    def loop(folder):
        (folder / "a").symlink_to("b")
        (folder / "b").symlink_to("a")
        return ["inspect", folder / "a"]

    case("inspect link that leads to itself", FILE, "", loop)


# ---- LoRA files ------------------------------------------------------------------------------------------

TO_Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
LORA_MODULE = "lora_unet_" + TO_Q.replace(".", "_")


def lora_width():
    header = harness.read_header(SD15 / "unet/diffusion_pytorch_model.safetensors")
    return header[TO_Q + ".weight"]["shape"]


def lora(name, tensors, says, code=FILE):
    def write(folder):
        harness.write_safetensors(folder / "x.safetensors", tensors)
        return ["generate", "-m", SD15, "-p", "a dog", "--lora", folder / "x.safetensors", *harness.QUICK,
                "-o", folder / "out.png"]

    case("lora " + name, code, says, write)


def lora_cases():
    rows, columns = lora_width()

    def pair(down, up, **more):
        tensors = {LORA_MODULE + ".lora_down.weight": down, LORA_MODULE + ".lora_up.weight": up}
        return tensors | {f"{LORA_MODULE}.{key}": value for key, value in more.items()}

    def zeros(*shape):
        count = 1
        for size in shape:
            count *= size
        return shape, [0.0] * count

    good = zeros(2, columns), zeros(rows, 2)
    lora("without tensors", {}, "")
    lora("with keys of nothing", {"some.weight": zeros(2, 2)}, "")
    lora("for a module that is not there", {k.replace("blocks_0", "blocks_9"): v for k, v in pair(*good).items()}, "", FIT)
    lora("without its up half", {LORA_MODULE + ".lora_down.weight": good[0]}, "")
    lora("without its down half", {LORA_MODULE + ".lora_up.weight": good[1]}, "")
    lora("with ranks that differ", pair(zeros(2, columns), zeros(rows, 3)), "")
    lora("of another width", pair(zeros(2, columns + 1), zeros(rows, 2)), "", FIT)
    lora("of rank zero", pair(zeros(0, columns), zeros(rows, 0)), "")
    lora("with one axis", pair(zeros(columns), zeros(rows)), "")
    lora("with an alpha of many numbers", pair(*good, alpha=((3,), [1.0] * 3)), "")
    lora("with a NaN alpha", pair(*good, alpha=((), [float("nan")])), "")

    def peft(name, fields):
        def write(folder):
            tensors = {f"base_model.model.{TO_Q}.lora_{half}.weight": value for half, value in zip("AB", good)}
            harness.write_safetensors(folder / "adapter_model.safetensors", tensors)
            (folder / "adapter_config.json").write_text(json.dumps(fields))
            return ["generate", "-m", SD15, "-p", "x", "--lora", folder, "--dry-run"]

        case("peft folder " + name, FILE, next(iter(fields)), write)

    for method in ("VERA", "BOFT", "XLORA", "ADALORA", "PROMPT_TUNING"):
        peft("of " + method, {"peft_type": method})
    for key, value in (("alora_invocation_tokens", [1]), ("layer_replication", [[0, 2]]), ("use_qalora", True),
                       ("use_bdlora", {}), ("lora_bias", True), ("bogus_scale", 2)):
        peft("with " + key, {key: value})

    def missing(folder):
        return ["generate", "-m", SD15, "-p", "x", "--lora", folder / "none.safetensors", "--dry-run"]

    case("lora that is missing", FILE, "none.safetensors", missing)

    def pickled(folder):
        (folder / "x.safetensors").write_bytes(b"PK\x03\x04" + bytes(100))
        return ["generate", "-m", SD15, "-p", "x", "--lora", folder / "x.safetensors", "--dry-run"]

    case("lora that is a pickle", FILE, "pickle", pickled)


# ---- diffusers folders -----------------------------------------------------------------------------------

def model(name, says, damage, code=FILE, base=SD15, more=()):
    """A copy of a tiny model, damaged, drawn with."""
    def write(folder):
        shutil.copytree(base, folder / "model")
        damage(folder / "model")
        return ["generate", "-m", folder / "model", "-p", "a dog", *harness.QUICK, "-o", folder / "out.png", *more]

    case("model " + name, code, says, write)


def planned(name, says, damage, base=SD15):
    """As `model`, and what --dry-run says of it."""
    model(name, says, damage, base=base)
    model(name + ", planned", says, damage, base=base, more=["--dry-run"])


def config(part, changes):
    """Sets keys of a config file; None removes one, NULL makes it null."""
    def damage(folder):
        path = folder / part
        fields = json.loads(path.read_text())
        for key, value in changes.items():
            if value is None:
                fields.pop(key)
            else:
                fields[key] = None if value is NULL else value
        path.write_text(json.dumps(fields))

    return damage


def raw(part, content):
    return lambda folder: (folder / part).write_bytes(content)


def weights_cut(folder):
    path = folder / "unet/diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def edited_weights(change):
    """The UNet's weights with a changed header; the data stay in place."""
    def damage(folder):
        path = folder / "unet/diffusion_pytorch_model.safetensors"
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8:8 + length])
        change(header)
        path.write_bytes(safetensors(header, data[8 + length:]))

    return damage


def transposed(header):
    shape = header["conv_in.weight"]["shape"]
    shape[0], shape[1] = shape[1], shape[0]


def renamed(header):
    header["conv_out_of_place.weight"] = header.pop("conv_in.weight")


def without_a_bias(header):
    """Its bytes go to a tensor of another name, so that the file itself is whole."""
    header["conv_on.bias"] = header.pop("conv_in.bias")


def pipe_for(part):
    def damage(folder):
        (folder / part).unlink()
        os.mkfifo(folder / part)

    return damage


def sharded(files, weight_map=None, index=None):
    """The UNet as shards of which the index says `files`."""
    def damage(folder):
        unet = folder / "unet"
        names = harness.read_header(unet / "diffusion_pytorch_model.safetensors")
        (unet / "diffusion_pytorch_model.safetensors").rename(folder.parent / "outside.safetensors")
        names.pop("__metadata__", None)
        content = {"metadata": {}, "weight_map": weight_map or {name: files for name in names}}
        (unet / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(content if index is None else index))

    return damage


def pickled_unet(folder):
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    (folder / "unet/diffusion_pytorch_model.bin").write_bytes(b"PK\x03\x04" + bytes(100))


def model_cases():
    model("without its index", "model_index.json", lambda folder: (folder / "model_index.json").unlink())
    model("whose index is a list", "model_index.json", raw("model_index.json", b"[]"))
    model("whose index is cut", "model_index.json", raw("model_index.json", b'{"_class_name": "Stable'))
    model("whose index is empty", "model_index.json", raw("model_index.json", b""))
    model("whose index is binary", "model_index.json", raw("model_index.json", bytes(range(256))))
    model("whose index repeats a key", "twice", raw("model_index.json", b'{"unet": ["a", "b"], "unet": ["a", "b"]}'))
    model("whose index nests 100,000 lists", "64 levels", raw("model_index.json", b"[" * 100_000))
    model("whose index holds NaN", "not valid JSON", raw("model_index.json", b'{"a": NaN}'))
    model("whose index is of another pipeline", "", config("model_index.json", {"_class_name": "FluxPipeline"}))
    model("whose index names classes by number", "", config("model_index.json", {"unet": [1, 2]}))

    for value in (NULL, "x", 1):
        planned(f"whose index forces zeros {'null' if value is NULL else value}", "force_zeros_for_empty_prompt",
                config("model_index.json", {"force_zeros_for_empty_prompt": value}), SDXL)
    planned("whose tokenizer is of another class", "T5Tokenizer",
            config("model_index.json", {"tokenizer": ["transformers", "T5Tokenizer"]}))
    for name in ("EvilScheduler", "FlowMatchEulerDiscreteScheduler"):
        planned(f"whose scheduler is an {name}", name, config("model_index.json", {"scheduler": ["diffusers", name]}))

    unet = "unet/config.json"
    model("without a unet config", "config.json", lambda folder: (folder / unet).unlink())
    model("whose unet config is a string", "object", raw(unet, b'"x"'))
    for name, changes in (
            ("has a string for a number", {"in_channels": "4"}),
            ("has no channels", {"block_out_channels": []}),
            ("has zero channels", {"block_out_channels": [0, 0]}),
            ("has negative channels", {"block_out_channels": [-32, 64]}),
            ("has endless channels", {"block_out_channels": [2**40, 2**40]}),
            ("has channels past 64 bits", {"block_out_channels": [2**64, 64]}),
            ("has channels as a number", {"block_out_channels": 32}),
            ("has zero groups", {"norm_num_groups": 0}),
            ("has groups that do not divide", {"norm_num_groups": 7}),
            ("has zero heads", {"attention_head_dim": 0}),
            ("has negative heads", {"attention_head_dim": -8}),
            ("has endless layers", {"layers_per_block": 10**9}),
            ("has negative layers", {"layers_per_block": -1}),
            ("has zero text width", {"cross_attention_dim": 0}),
            ("has another text width", {"cross_attention_dim": 123}),
            ("has a null size", {"sample_size": NULL}),
            ("has unknown blocks", {"down_block_types": ["EvilBlock2D", "DownBlock2D"]}),
            ("has blocks as a string", {"down_block_types": "DownBlock2D"}),
            ("has an unknown activation", {"act_fn": "system('reboot')"}),
            ("has an unknown key", {"exec": "import os"}),
            ("has a huge number", {"norm_eps": 10**400})):
        model(f"whose unet config {name}", "", config(unet, changes))

    for dim in (4, 9):
        planned(f"whose sizes are embedded by {dim}", "projection_class_embeddings_input_dim",
                config(unet, {"addition_time_embed_dim": dim}), SDXL)

    vae = "vae/config.json"
    model("whose vae config has a null scale", "scaling_factor", config(vae, {"scaling_factor": NULL}))
    model("whose vae config has zero groups", "", config(vae, {"norm_num_groups": 0}))
    model("whose vae config has zero channels", "", config(vae, {"latent_channels": 0}))
    model("whose vae config has a string scale", "", config(vae, {"scaling_factor": "0.18215"}))
    model("whose vae config has a scale of zero", "", config(vae, {"scaling_factor": 0}))
    text = "text_encoder/config.json"
    model("whose text config has zero heads", "", config(text, {"num_attention_heads": 0}))
    model("whose text config has endless layers", "", config(text, {"num_hidden_layers": 10**9}))
    model("whose text config has a million layers", "64", config(text, {"num_hidden_layers": 2**20}))
    planned("whose text config has few positions", "", config(text, {"max_position_embeddings": 64}))
    model("whose text config has a negative width", "", config(text, {"hidden_size": -32}))
    model("whose text config has an endless vocabulary", "", config(text, {"vocab_size": 2**62}))
    model("whose text config has no positions", "", config(text, {"max_position_embeddings": 0}))

    scheduler = "scheduler/scheduler_config.json"
    model("without a scheduler", "scheduler", lambda folder: shutil.rmtree(folder / "scheduler"))
    for name, changes in (
            ("names its class by number", {"_class_name": 7}),
            ("has no steps", {"num_train_timesteps": 0}),
            ("has negative steps", {"num_train_timesteps": -1000}),
            ("has endless steps", {"num_train_timesteps": 10**15}),
            ("has a beta in words", {"beta_start": "small"}),
            ("has an unknown schedule", {"beta_schedule": "../../etc"}),
            ("has a prediction type of its own", {"prediction_type": "prophecy"})):
        model(f"whose scheduler {name}", "", config(scheduler, changes))

    model("whose weights are cut short", "cut short", weights_cut)
    model("whose weights have another shape", "conv_in.weight", edited_weights(transposed))
    model("whose weights lack a tensor", "conv_in.weight", edited_weights(renamed))
    planned("whose weights lack a bias", "conv_in.bias", edited_weights(without_a_bias))
    model("whose weights are a pipe", "pipe", pipe_for("unet/diffusion_pytorch_model.safetensors"))
    model("whose config is a pipe", "pipe", pipe_for("unet/config.json"))
    model("whose weights are missing", "unet", lambda folder: (folder / "unet/diffusion_pytorch_model.safetensors").unlink())
    model("whose weights are a pickle", "", pickled_unet)
    model("whose weights are an empty file", "", raw("unet/diffusion_pytorch_model.safetensors", b""))

    def pipe(*options):
        def write(folder):
            os.mkfifo(folder / "pipe")
            return ["generate", "-p", "x", "--dry-run", *(folder / "pipe" if o == "pipe" else o for o in options)]

        return write

    case("model that is a pipe", FILE, "pipe", pipe("-m", "pipe"))
    case("vae that is a pipe", FILE, "pipe", pipe("-m", SD15, "--vae", "pipe"))
    model("whose shards lie outside", "..", sharded("../../outside.safetensors"))
    model("whose shards have absolute names", "/etc/passwd", sharded("/etc/passwd"))
    model("whose shards are missing", "", sharded("none.safetensors"))
    model("whose shard names are empty", "", sharded(""))
    model("whose shard map is a list", "weight_map", sharded("", index={"weight_map": []}))
    model("whose shard map holds numbers", "", sharded("", weight_map={"conv_in.weight": 5}))
    model("without a shard map", "weight_map", sharded("", index={"metadata": {}}))


# ---- tokenizers ------------------------------------------------------------------------------------------

def tokenizer(change):
    def damage(folder):
        path = folder / "tokenizer/tokenizer.json"
        fields = json.loads(path.read_text())
        change(fields)
        path.write_text(json.dumps(fields))

    return damage


def vocabulary_files(vocabulary, merges):
    def damage(folder):
        (folder / "tokenizer/tokenizer.json").unlink()
        (folder / "tokenizer/vocab.json").write_bytes(vocabulary)
        if merges is not None:
            (folder / "tokenizer/merges.txt").write_bytes(merges)

    return damage


def huge_ids(fields):
    fields["model"]["vocab"] = {token: 2**62 + i for i, token in enumerate(fields["model"]["vocab"])}


def equal_ids(fields):
    fields["model"]["vocab"] = {token: 1 for token in fields["model"]["vocab"]}


def negative_ids(fields):
    fields["model"]["vocab"] = {token: -1 for token in fields["model"]["vocab"]}


def ids_past_the_embedding(fields):
    vocabulary = fields["model"]["vocab"]
    for token in list(vocabulary)[:600]:
        vocabulary[token] += 2**30


def tokenizer_cases():
    model("without a tokenizer", "tokenizer", lambda folder: shutil.rmtree(folder / "tokenizer"))
    model("whose tokenizer is cut", "tokenizer.json", raw("tokenizer/tokenizer.json", b'{"model": {"vocab": {"a"'))
    model("whose tokenizer is a list", "tokenizer.json", raw("tokenizer/tokenizer.json", b"[]"))
    model("whose tokenizer nests 100,000 objects", "64 levels", raw("tokenizer/tokenizer.json", b'{"a":' * 100_000))
    model("whose tokenizer has no model", "model", tokenizer(lambda fields: fields.pop("model")))
    model("whose tokenizer is of another kind", "", tokenizer(lambda fields: fields["model"].update(type="Unigram")))
    model("whose tokenizer has huge ids", "", tokenizer(huge_ids))
    model("whose tokenizer has equal ids", "", tokenizer(equal_ids))
    model("whose tokenizer has negative ids", "", tokenizer(negative_ids))
    model("whose tokenizer has ids past the embedding", "", tokenizer(ids_past_the_embedding))
    model("whose tokenizer has no words", "", tokenizer(lambda fields: fields["model"].update(vocab={})))
    model("whose tokenizer has a list of words", "", tokenizer(lambda fields: fields["model"].update(vocab=["a"])))
    model("whose tokenizer merges numbers", "merge", tokenizer(lambda fields: fields["model"].update(merges=[1, 2])))
    model("whose tokenizer merges what is no token", "", tokenizer(lambda fields: fields["model"].update(merges=["q\u4e2dx zz"])))
    model("whose tokenizer runs a hostile pattern", "", tokenizer(
        lambda fields: fields["pre_tokenizer"]["pretokenizers"][0]["pattern"].update(Regex="(a+)+$")))
    model("whose merges are missing", "merges.txt", vocabulary_files(b'{"a": 0}', None))
    model("whose merges have three words", "merges.txt", vocabulary_files(b'{"a": 0}', b"#version\na b c\n"))
    model("whose vocabulary is a list", "vocab", vocabulary_files(b'["a"]', b""))
    settings = "tokenizer/tokenizer_config.json"
    planned("whose tokenizer pads on the left", "padding_side", config(settings, {"padding_side": "left"}))
    model("whose tokenizer.json pads on the left", "Left", tokenizer(lambda fields: fields.update(padding={"direction": "Left"})))
    for length in (32, 64, 100):
        planned(f"whose tokenizer cuts at {length}", "model_max_length", config(settings, {"model_max_length": length}))
    model("whose tokenizer config has an unknown key", "bogus", config(settings, {"bogus": 1}))
    model("whose tokenizer config is broken", "tokenizer_config.json", raw("tokenizer/tokenizer_config.json", b'{"bos_token": '))
    model("whose tokenizer config has numbers for words", "", raw("tokenizer/tokenizer_config.json", b'{"bos_token": 5}'))


# ---- pictures --------------------------------------------------------------------------------------------

SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = chunk(b"IEND", b"")


def head(width=8, height=8, depth=8, colour=2, interlace=0):
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


PIXELS = chunk(b"IDAT", zlib.compress((b"\0" + bytes(24)) * 8))


def picture(name, content, says, suffix=".png"):
    def write(folder):
        path = folder / ("in" + suffix)
        path.write_bytes(content)
        return ["generate", "-m", SD15, "-p", "a dog", "--init-image", path, *harness.QUICK, "-o", folder / "out.png"]

    case("picture " + name, INPUT, says, write)


def jpeg(frame=b"\xff\xc0\x00\x0b\x08\x00\x08\x00\x08\x01\x01\x11\x00", rest=b""):
    """The start of a grey JPEG of 8 x 8 pixels, without the tables that it needs."""
    return b"\xff\xd8\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0" + frame + rest


def picture_cases():
    good = SIGNATURE + head() + PIXELS + END
    picture("empty", b"", "empty file")
    picture("of text", b"this is no picture", "something else")
    picture("cut in its signature", SIGNATURE[:5], "something else")
    picture("cut after its header", SIGNATURE + head(), "cut short")
    picture("cut in its data", good[:-30], "cut short")
    picture("without an end", good[:-12], "cut short")
    picture("without data", SIGNATURE + head() + END, "broken PNG")
    picture("with too little data", SIGNATURE + head() + chunk(b"IDAT", zlib.compress(b"\0")) + END, "broken PNG")
    picture("with data that do not unpack", SIGNATURE + head() + chunk(b"IDAT", b"garbage") + END, "broken PNG")
    picture("with an unknown filter", SIGNATURE + head() + chunk(b"IDAT", zlib.compress((b"\x09" + bytes(24)) * 8)) + END, "")
    picture("with a wrong checksum", good[:-1] + b"\0", "checksum")
    picture("with a chunk of 4 GB", SIGNATURE + head() + b"\xff\xff\xff\xffIDAT" + bytes(20), "cut short")
    picture("with a broken text", SIGNATURE + head() + chunk(b"zTXt", b"a\0\0garbage") + PIXELS + END, "packed wrongly")
    bomb = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100 << 20)))
    picture("with a text bomb", SIGNATURE + head() + bomb + PIXELS + END, "too much text")
    picture("of zero pixels", SIGNATURE + head(width=0) + PIXELS + END, "empty")
    picture("of 2^32 x 2^32 pixels", SIGNATURE + head(2**32 - 1, 2**32 - 1) + PIXELS + END, "the most is 16384")
    picture("of 16384 x 16384 pixels", SIGNATURE + head(16384, 16384) + PIXELS + END, "the most is 16384")
    picture("of seven bits", SIGNATURE + head(depth=7) + PIXELS + END, "broken PNG")
    picture("of an unknown colour type", SIGNATURE + head(colour=5) + PIXELS + END, "broken PNG")
    picture("of an unknown interlace", SIGNATURE + head(interlace=9) + PIXELS + END, "broken PNG")
    picture("without its palette", SIGNATURE + head(colour=3) + PIXELS + END, "broken PNG")
    picture("with two headers", SIGNATURE + head() + head() + PIXELS + END, "broken PNG")
    picture("of a GIF", b"GIF89a" + bytes(20), "GIF")
    picture("of a WebP", b"RIFF\x20\0\0\0WEBPVP8 " + bytes(20), "WebP")
    picture("of a JPEG that only starts", b"\xff\xd8\xff", "broken JPEG", ".jpg")
    picture("of a JPEG without tables", jpeg(rest=b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + bytes(50) + b"\xff\xd9"), "broken JPEG", ".jpg")
    picture("of a JPEG that ends in its frame", jpeg(), "broken JPEG", ".jpg")
    picture("of a JPEG of 65500 x 65535 pixels", jpeg(frame=b"\xff\xc0\x00\x0b\x08\xff\xff\xff\xdc\x01\x01\x11\x00",
                                                      rest=b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + bytes(50)), "", ".jpg")
    picture("of a JPEG with a lying length", b"\xff\xd8\xff\xe1\xff\xffExif\0\0", "broken JPEG", ".jpg")

    def missing(folder):
        return ["generate", "-m", SD15, "-p", "x", "--init-image", folder / "none.png", *harness.QUICK, "-o", folder / "o.png"]

    case("picture that is missing", INPUT, "none.png", missing)

    def mask(folder):
        harness.write_png(folder / "in.png", 64, 64, lambda x, y: (x, y, 0))
        (folder / "mask.png").write_bytes(good[:-30])
        return ["generate", "-m", SD15, "-p", "x", "--init-image", folder / "in.png", "--mask", folder / "mask.png",
                *harness.QUICK, "-o", folder / "o.png"]

    case("mask that is cut", INPUT, "mask.png", mask)
    inspected("picture with a wrong checksum", good[:-1] + b"\0", "checksum", suffix=".png")
    inspected("picture of 2^32 pixels", SIGNATURE + head(2**32 - 1, 1) + PIXELS + END, "the most is 16384", suffix=".png")


# ---- records in pictures ---------------------------------------------------------------------------------

def record(name, content, says, code=INPUT):
    def write(folder):
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        body = SIGNATURE + head() + chunk(b"iTXt", b"molar\0\0\0\0\0" + text) + PIXELS + END
        (folder / "from.png").write_bytes(body)
        return ["generate", "-m", SD15, "--from", folder / "from.png", "--dry-run", "-o", folder / "o.png"]

    case("record " + name, code, says, write)


def record_cases():
    record("that is not JSON", b"{", "")
    record("that is a list", [], "")
    record("that is empty", {}, "")
    record("of a future schema", {"schema": 999}, "")
    record("whose schema is a word", {"schema": "one"}, "")
    record("that nests 100,000 lists", b"[" * 100_000, "")
    record("whose text is broken UTF-8", b'{"schema": 1, "prompt": "\xff"}', "")

    def plain(folder):
        (folder / "from.png").write_bytes(SIGNATURE + head() + PIXELS + END)
        return ["generate", "-m", SD15, "--from", folder / "from.png", "--dry-run"]

    case("record that is not there", INPUT, "from.png", plain)


def other_cases():
    def prompt(folder):
        return ["generate", "-m", SD15, "-p", b"caf\xe9", "--dry-run"]

    case("prompt of broken UTF-8", INPUT, "UTF-8", prompt)

    def settings(content):
        def write(folder):
            (folder / "molar.toml").write_bytes(content)
            return ["generate", "-m", SD15, "-p", "x", "--config", folder / "molar.toml", "--dry-run"]

        return write

    case("settings of binary", USAGE, "", settings(bytes(range(256))))
    case("settings with an unknown key", USAGE, "stepz", settings(b"stepz = 3\n"))
    case("settings with a wrong type", USAGE, "steps", settings(b'steps = "many"\n'))


# ---- running them ----------------------------------------------------------------------------------------

def limit_processor_time():
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S + 1))


def problem_with(one):
    """Why a case fails, or None."""
    name, code, says, write = one
    with tempfile.TemporaryDirectory(prefix="molar-hostile-") as folder:
        arguments = write(pathlib.Path(folder))
        try:
            result = subprocess.run([str(BINARY), *(a if isinstance(a, bytes) else str(a) for a in arguments)],
                                    stdin=subprocess.DEVNULL, capture_output=True, timeout=WALL_LIMIT_S, cwd=folder,
                                    env=harness.environment(), preexec_fn=limit_processor_time)
        except subprocess.TimeoutExpired:
            return f"still running after {WALL_LIMIT_S} s"
        drawn = sorted(path.name for path in pathlib.Path(folder).glob("o*.png"))
    lines = result.stderr.decode(errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    notes = [line for line in lines if line.startswith(("info: ", "warning: "))]
    if result.returncode != code:
        return f"exit code {result.returncode}, wanted {code}: {lines[-5:]}"
    if len(errors) != 1 or lines[-1:] != errors or len(errors) + len(notes) != len(lines):
        return f"wanted one last line 'error: ...', got {lines[-5:]}"
    if says not in errors[0]:
        return f"'{says}' is not in: {errors[0]}"
    if any(character < " " for character in errors[0]) or len(errors[0]) > 2200:
        return f"the message is not fit for a terminal: {errors[0][:300]!r}"
    if result.stdout or drawn:
        return f"a failed run left something: {result.stdout[:100]!r} {drawn}"
    return None


class HostileFiles(unittest.TestCase):
    def test_each_ends_in_its_exit_code_and_one_line(self):
        self.assertGreaterEqual(len(CASES), MIN_CASES)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            problems = list(pool.map(problem_with, CASES))
        for (name, *_), problem in zip(CASES, problems):
            with self.subTest(name):
                self.assertIsNone(problem, problem)
        print(f"{len(CASES)} hostile files", file=sys.stderr)

    def test_what_diffusers_does_not_read_or_has_a_default_for_changes_no_pixel(self):
        statistics = {"latents_mean": [1, 2, 3, 4], "latents_std": [2, 2, 2, 2]}
        cases = (
            ("an absent default", SDXL, config("model_index.json", {"force_zeros_for_empty_prompt": None}), True),
            ("the other value", SDXL, config("model_index.json", {"force_zeros_for_empty_prompt": False}), False),
            ("statistics of latents", SD15, config("vae/config.json", statistics), True),
            ("the same for SDXL", SDXL, config("vae/config.json", statistics), False),
            ("the class in the scheduler's file", SD15, config("scheduler/scheduler_config.json", {"_class_name": "DDIMScheduler"}), True),
            ("the class in the index", SD15, config("model_index.json", {"scheduler": ["diffusers", "DDIMScheduler"]}), False))
        for name, base, change, same in cases:
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                folder = pathlib.Path(folder)
                shutil.copytree(base, folder / "changed")
                change(folder / "changed")
                rows = []
                for path in (base, folder / "changed"):
                    out = folder / "out.png"
                    result = harness.molar("generate", "-m", path, "-p", "a dog", *harness.QUICK, "-o", out, "--on-exist", "overwrite")
                    self.assertEqual(result.returncode, 0, result.stderr)
                    rows.append(harness.Png(out.read_bytes()).rows)
                self.assertEqual(rows[0] == rows[1], same)

    def test_the_files_that_they_are_made_from_are_good(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            harness.write_lora(folder / "dog.safetensors", 1)
            (folder / "in.png").write_bytes(SIGNATURE + head() + PIXELS + END)
            result = harness.molar("generate", "-m", SD15, "-p", "a dog", *harness.QUICK, "--lora",
                                   folder / "dog.safetensors", "--init-image", folder / "in.png", "-o", folder / "out.png")
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertTrue((folder / "out.png").exists())


for add in (safetensors_cases, lora_cases, model_cases, tokenizer_cases, picture_cases, record_cases, other_cases):
    add()

if __name__ == "__main__":
    harness.main()
