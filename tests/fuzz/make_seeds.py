"""Writes the seed inputs of the fuzz targets: make_seeds.py OUT GOLDENS_DIR -> OUT/<target>/*."""

import json
import pathlib
import shutil
import struct
import sys


def safetensors_file(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + data


def safetensors_seeds():
    def entry(dtype, shape, begin, end):
        return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}

    yield safetensors_file({})
    yield safetensors_file({"__metadata__": {"format": "pt", "k": "\u00fc\n"}})
    yield safetensors_file({"a": entry("F32", [2, 2], 0, 16), "b": entry("BF16", [3], 16, 22)}, bytes(22))
    yield safetensors_file({"a": entry("U8", [1], 0, 1), "b": entry("I64", [1], 1, 9)}, bytes(9))
    yield safetensors_file({"e": entry("F16", [0, 5], 0, 0), "s": entry("BOOL", [], 0, 1)}, bytes(1))
    yield safetensors_file({"a": entry("F32", [2**62, 4], 0, 0)})
    yield safetensors_file({"a": entry("F8_E4M3", [4], 0, 4), "b": entry("F8_E5M2", [4], 2, 6)}, bytes(6))
    yield safetensors_file(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":1}', b"x")
    yield safetensors_file(b"[" * 300)
    yield struct.pack("<Q", 2**64 - 1) + b"{}"


def byte_letters():
    """CLIP's letter for each byte: itself where it is printable Latin-1, else one past U+0100."""
    letters, extra = [], 0
    for byte in range(256):
        if 33 <= byte <= 126 or 161 <= byte <= 172 or 174 <= byte <= 255:
            letters.append(chr(byte))
        else:
            letters.append(chr(256 + extra))
            extra += 1
    return letters


def tokenizer_seeds():
    words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    split = {"type": "Split", "pattern": {"Regex": words}, "behavior": "Removed", "invert": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    letters = byte_letters()
    merges = [["c", "a"], ["ca", "t</w>"], ["a", "b</w>"]]
    tokens = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: i for i, token in enumerate(tokens)}
    added = [{"id": vocab[text], "content": text, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for text in tokens[-2:]]
    whole = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}, {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": {"type": "RobertaProcessing", "sep": ["<|endoftext|>", vocab["<|endoftext|>"]],
                           "cls": ["<|startoftext|>", vocab["<|startoftext|>"]], "trim_offsets": False,
                           "add_prefix_space": False},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<|endoftext|>", "continuing_subword_prefix": "",
                  "end_of_word_suffix": "</w>", "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": vocab, "merges": merges},
    }
    yield whole
    template = [{"SpecialToken": {"id": "<|startoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}]
    old_merges = {**whole["model"], "merges": [" ".join(pair) for pair in merges]}
    yield {**whole, "model": old_merges, "post_processor": {"type": "TemplateProcessing", "single": template}}
    small = {**whole["model"], "vocab": dict(list(vocab.items())[:40])}
    yield {**whole, "model": small, "added_tokens": []}
    yield {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}
    yield {}


def main(out, goldens):
    for target, seeds in (("safetensors", safetensors_seeds()),
                          ("tokenizer", (json.dumps(seed, ensure_ascii=False, separators=(",", ":")).encode()
                                         for seed in tokenizer_seeds()))):
        folder = out / target
        folder.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(seeds):
            (folder / f"seed-{number}").write_bytes(seed)
    pictures = out / "image"
    pictures.mkdir(parents=True, exist_ok=True)
    for picture in sorted((goldens / "image").glob("*.*g")):
        shutil.copy(picture, pictures / picture.name)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
