"""Runs the binary as a user would, and reads what it writes. Standard library only.

Every test of this folder is called as `x_test.py BINARY GOLDENS` (ctest does).
"""

import array
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib

BINARY = pathlib.Path(sys.argv[1]).resolve()
MODELS = pathlib.Path(sys.argv[2]).resolve() / "models"
SD15 = MODELS / "sd15-tiny"
TIMEOUT_S = 300
# Enough of a picture to compare, few enough steps to be quick.
QUICK = ("--steps", "2", "-s", "7", "--dtype", "f32")


def environment(**extra):
    """The caller's environment without what would change the program, plus `extra`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MOLAR_")}
    return kept | {"OMP_NUM_THREADS": "1"} | extra


def molar(*arguments, env=None, **options):
    """Runs the binary to its end; both streams come back as bytes unless text=True."""
    options.setdefault("stdin", subprocess.DEVNULL if "input" not in options else None)
    if options["stdin"] is None:
        del options["stdin"]
    for stream in ("stdout", "stderr"):
        options.setdefault(stream, subprocess.PIPE)
    options.setdefault("text", True)
    return subprocess.run([str(BINARY), *map(str, arguments)], env=environment(**(env or {})), timeout=TIMEOUT_S, **options)


class CliTest(unittest.TestCase):
    """A temporary folder to work in, and assertions about a run."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="molar-test-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def run_ok(self, *arguments, **options):
        options.setdefault("cwd", self.folder)
        result = molar(*arguments, **options)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result

    def draw(self, *arguments, **options):
        """A quick picture of the tiny model."""
        return self.run_ok("generate", "-m", SD15, "-p", "a dog", *QUICK, *arguments, **options)

    def assert_fails(self, code, *arguments, says=(), **options):
        """The run ends with `code` and exactly one line "error: ..." that holds each text of `says`."""
        options.setdefault("cwd", self.folder)
        result = molar(*arguments, **options)
        self.assertEqual(result.returncode, code, f"{arguments}: {result.stderr}")
        self.assertEqual(result.stdout, "", "a failed run has no result")
        errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        self.assertEqual(len(errors), 1, result.stderr)
        self.assertEqual(result.stderr.splitlines()[-1], errors[0])
        for text in (says,) if isinstance(says, str) else says:
            self.assertIn(text, errors[0])
        return errors[0]


def max_distance(a, b):
    """Of two pictures' bytes of one size, in grey levels."""
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


# ---- PNG ------------------------------------------------------------------------------------------------

class Png:
    """An 8-bit RGB or grey PNG: its pixels and text chunks, read with nothing but zlib."""

    def __init__(self, data):
        if data[:8] != b"\x89PNG\r\n\x1a\n":
            raise ValueError("no PNG")
        self.text, self.chunk_types, compressed, at = {}, [], b"", 8
        while at < len(data):
            length, kind = struct.unpack(">I4s", data[at:at + 8])
            body = data[at + 8:at + 8 + length]
            if zlib.crc32(kind + body) != struct.unpack(">I", data[at + 8 + length:at + 12 + length])[0]:
                raise ValueError(f"chunk {kind}: wrong checksum")
            self._take(kind, body)
            if kind == b"IDAT":
                compressed += body
            at += 12 + length
        self.rows = self._unfilter(zlib.decompress(compressed))

    def _take(self, kind, body):
        self.chunk_types.append(kind.decode())
        if kind == b"IHDR":
            self.width, self.height, depth, colour, *_ = struct.unpack(">IIBBBBB", body)
            if depth != 8 or colour not in (0, 2):
                raise ValueError(f"depth {depth}, colour type {colour}")
            self.channels = 3 if colour == 2 else 1
        elif kind == b"tEXt":
            keyword, _, text = body.partition(b"\0")
            self.text[keyword.decode()] = text.decode("latin-1")
        elif kind == b"iTXt":
            keyword, _, rest = body.partition(b"\0")
            is_compressed, rest = rest[0], rest[2:]
            text = rest.split(b"\0", 2)[2]
            self.text[keyword.decode()] = (zlib.decompress(text) if is_compressed else text).decode()

    def _unfilter(self, data):
        stride, step, rows = self.width * self.channels, self.channels, []
        above = bytes(stride)
        for y in range(self.height):
            start = y * (stride + 1)
            kind, row = data[start], bytearray(data[start + 1:start + 1 + stride])
            for x in range(stride):
                left = row[x - step] if x >= step else 0
                corner = above[x - step] if x >= step else 0
                row[x] = (row[x] + self._predict(kind, left, above[x], corner)) & 255
            above = bytes(row)
            rows.append(above)
        return rows

    @staticmethod
    def _predict(kind, left, up, corner):
        if kind < 4:
            return (0, left, up, (left + up) // 2)[kind]
        guess = left + up - corner
        return min((left, up, corner), key=lambda value: abs(guess - value))

    @property
    def pixels(self):
        return b"".join(self.rows)

    @property
    def record(self):
        return json.loads(self.text["molar"])


def read_png(path):
    return Png(pathlib.Path(path).read_bytes())


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def write_png(path, width, height, colour_at, text=None):
    """colour_at(x, y) -> (r, g, b); text: keyword -> text, as tEXt."""
    rows = b"".join(b"\0" + bytes(v for x in range(width) for v in colour_at(x, y)) for y in range(height))
    chunks = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))]
    chunks += [chunk(b"tEXt", k.encode() + b"\0" + v.encode("latin-1")) for k, v in (text or {}).items()]
    chunks += [chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    pathlib.Path(path).write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


# ---- safetensors ----------------------------------------------------------------------------------------

def read_header(path):
    data = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8:8 + length])


def write_safetensors(path, tensors, metadata=None):
    """tensors: name -> (shape, list of floats), as float32."""
    header, body = {"__metadata__": metadata} if metadata else {}, b""
    for name, (shape, values) in tensors.items():
        data = array.array("f", values).tobytes()
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + body)


def write_lora(path, seed, gain=0.5, model=SD15, metadata=None):
    """A kohya LoRA of rank 2 for the attention of the model's UNet, strong enough to change a picture."""
    draw, tensors = random.Random(seed), {}
    for name, entry in read_header(model / "unet/diffusion_pytorch_model.safetensors").items():
        module = name.removesuffix(".weight")
        if module == name or not module.endswith((".to_q", ".to_k", ".to_v", ".to_out.0")):
            continue
        rows, columns = entry["shape"]
        key = "lora_unet_" + module.replace(".", "_")
        tensors[key + ".lora_down.weight"] = (2, columns), [draw.gauss(0, columns**-0.5) for _ in range(2 * columns)]
        tensors[key + ".lora_up.weight"] = (rows, 2), [draw.gauss(0, gain) for _ in range(rows * 2)]
        tensors[key + ".alpha"] = (), [2.0]
    assert tensors, "the model has attention layers"
    write_safetensors(path, tensors, metadata)


# ---- pages ----------------------------------------------------------------------------------------------

def report_data(page):
    """The JSON in a page of `molar report`."""
    start = '<script type="application/json" id="data">'
    return json.loads(pathlib.Path(page).read_text().partition(start)[2].partition("</script>")[0])


def main():
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], module="__main__")
