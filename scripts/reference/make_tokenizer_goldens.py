"""Writes tests/goldens/tokenizer/ids.json: what transformers' CLIPTokenizer makes of hard text.

    python scripts/reference/make_tokenizer_goldens.py [--out tests/goldens/tokenizer]
    python scripts/reference/make_tokenizer_goldens.py --fuzz 100000 --encoder PROGRAM

Needs transformers, open_clip_torch (its vocabulary file) and the tiny models of families.py in tests/goldens/models.
The real vocabulary is built in a temporary folder; only texts and ids are written.

ids.json: {"texts": [...], "ids": {tokenizer: [[...], ...]}}. Tokenizers are folders under tests/goldens, or
"openclip" and "openclip!" for the real vocabulary with the two padding tokens of the published checkpoints.

--fuzz compares random text instead and writes nothing. PROGRAM reads texts (4 bytes little-endian length, UTF-8) from
standard input and writes one line of ids each. Texts with a code point that the two Unicode tables know differently
are counted apart.
"""

import argparse
import hashlib
import importlib.metadata
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import unicodedata

import families

SEED = 7
TINY = ("sd15-tiny/tokenizer", "sd15-tiny-transformers4/tokenizer", "sd21-tiny/tokenizer", "sdxl-tiny/tokenizer",
        "sdxl-tiny/tokenizer_2")

HARD = [
    "", " ", "\n", "\t \r\n ", "a", "A", "!", "!!", "hello!", "hello!world", "a photo of a cat",
    "A Photo  of\ta\nCat", "  leading and trailing  ", "masterpiece, best quality, (highly detailed:1.2), 8k uhd, [blurry]",
    # contractions, in every case and place
    "don't", "DON'T", "it's they're I've I'm we'll he'd", "'s't're've'm'll'd", "'S 'T 'RE", "'", "''", "''s", "!'s", "a'b'c",
    "rock'n'roll", "'tis", "o'clock's", "it\u2019s", "'\u00a0s", "1's", "\u00e9's",
    # digits one by one, other numbers
    "1234567890", "3.14159", "1,000,000", "a1b2c3", "\u00bd \u00b2 \u2163 \u2460 \u0663 \u096b \U0001d7d8", "4k8K", "2024-01-02T03:04:05",
    # punctuation
    "...", "!?!?!?", "(((a)))", "---===---", "a,b;c:d.e", "\\ / | ` ~ ^ _", "\"quoted\" \u201ccurly\u201d \u00abguillemets\u00bb", "@user #tag $5 50% &amp;",
    "<b>bold</b>", "a\u2026b", "\u2014\u2013-", "\u3002\u3001\uff01\uff1f", "\u00b7\u2022\u25e6",
    # emoji: skin tones, ZWJ families, flags, keycaps, variation selectors
    "\U0001f600", "\U0001f44d\U0001f3fd", "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466", "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", "1\ufe0f\u20e3", "\u2764\ufe0f\u200d\U0001f525",
    "\u263a\ufe0e\u263a\ufe0f", "cat\U0001f431dog\U0001f436", "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    # scripts
    "\u6771\u4eac\u30bf\u30ef\u30fc", "\u4e00\u53ea\u732b\u5750\u5728\u6905\u5b50\u4e0a", "\uace0\uc591\uc774", "\u1100\u1161\u11a8", "\u0642\u0637\u0629 \u0635\u063a\u064a\u0631\u0629", "\u05d7\u05ea\u05d5\u05dc", "\u092c\u093f\u0932\u094d\u0932\u0940",
    "\u0e41\u0e21\u0e27", "\u03b3\u03ac\u03c4\u03b1 \u0393\u0391\u03a4\u0391\u03a3", "\u039f\u0394\u03a5\u03a3\u03a3\u0395\u03a5\u03a3", "\u043a\u043e\u0442 \u041a\u041e\u0422", "\u10d9\u10d0\u10e2\u10d0", "\u13a0\u13a1\u13a2",
    "\uff37\uff49\uff44\uff45", "\U0001d4b8\U0001d4b6\U0001d4c9", "\ufb01ne \ufb02ag", "\u01c5 \u01c8", "\u1e9e\u00df",
    # combining marks and normal forms
    "caf\u00e9", "cafe\u0301", "CAFE\u0301", "e\u0323\u0302", "e\u0302\u0323", "\u1ec7", "\u0301", "a\u0301\u0301\u0301", "q\u0307\u0323", "q\u0323\u0307", "\u212b\u2126", "\u0958", "\u0344",
    "Z\u0351\u036b\u0343\u036aA\u0321\u031b\u034eL\u0356\u0347\u0332G\u0341\u0300O\u0338", "\u2adc", "\u1100\u1161", "\ud55c\u0301",
    # dotted and dotless i
    "\u0130stanbul", "I\u0307", "\u0131I\u0130i", "\u0130\u0130\u0130", "\u012f\u0307",
    # control characters, invisible characters, white space of all kinds
    "a\x00b", "\x00", "\x01\x02\x1f", "\x7f\x80\x9f", "a\x0bb\x0cc", "a\x1cb\x1db", "a\u0085b", "a\u00a0b", "a\u1680b", "a\u2003b\u2009c\u200ad", "a\u2028b\u2029c", "a\u202fb\u205fc", "a\u3000b",
    "a\u180eb", "a\u200bb", "a\u200cb\u200db", "a\u2060b", "\ufeffa", "a\u00adb", "\u200ea\u200fb", "\u202eabc", "a\ufffdb", "\ufffc", "\ue000\uf8ff", "\U000f0000", "\ufffe\uffff",
    # special tokens spelled in the text
    "<|startoftext|>", "<|endoftext|>", "a<|startoftext|>b", "a <|endoftext|> b", "<|startoftext|><|startoftext|>", "<|STARTOFTEXT|>", "<|EndOfText|>", "x<|EndOfText|>y", "!<|endoftext|>!",
    "<|startoftext|", "<|startoftext|>!!", "<|start oftext|>", "< |endoftext|>", "<|endoftext|>'s", "<<|endoftext|>>", "'<|STARTOFTEXT|>", "<|endoftext|>\u0301", "<pad>", "[PAD]", "!\u0301", "a!\u0301b", "\uff01",
    # long
    "supercalifragilisticexpialidocious", "a" * 200, "ab" * 150, "\u0e01" * 60, "!" * 100, "pneumonoultramicroscopicsilicovolcanoconiosis " * 4, "\U0001f600" * 40, "A" * 33 + "1" * 33 + "." * 33,
    "https://example.com/a/b?c=d&e=f#g", "C:\\Users\\x\\file.txt", "{\"a\": [1, 2, null]}", "for (int i = 0; i < 10; ++i) { s += a[i]; }", "<lora:style_v2:0.8>", "BREAK and AND", "sks dog", "zwx-person_01",
]
WORDS = ("a photo of the an astronaut riding horse masterpiece detailed don't it's THEY'RE we'll Stra\u00dfe \u00c9COLE caf\u00e9 na\u00efve \u6771\u4eac "
         "\u65e5\u672c\u8a9e \ud55c\uad6d\uc5b4 \u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22 \u03b5\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac \u039f\u0394\u03a5\u03a3\u03a3\u0395\u03a5\u03a3 \u0130stanbul \U0001f44d\U0001f3fd \u2665\ufe0f 1234 \u00bd 3.14 <|startoftext|> <|endoftext|> "
         "<|STARTOFTEXT|> ! !! ... ,,, (((x:1.2))) [y] \\ '' 's \"'re\"").split(" ")
GLUE = ["", " ", "  ", "\n", "\t", "\u00a0", "\u3000", ",", "-", "\u0301", "'"]
RANGES = ((0x20, 0x7E),) * 6 + (
    (0, 0x1F), (0x80, 0x24F), (0x250, 0x36F), (0x300, 0x36F), (0x370, 0x52F), (0x590, 0x8FF), (0x900, 0xDFF),
    (0xE00, 0x11FF), (0x1E00, 0x20FF), (0x2000, 0x206F), (0x2100, 0x2BFF), (0x3000, 0x30FF), (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3), (0xF900, 0xFFFF), (0x10000, 0x1FFFF), (0x20000, 0x323AF), (0xE0000, 0xE01EF), (0x1F300, 0x1FAFF),
    (0, 0x10FFFF))


def random_character(rng: random.Random, old_only: bool, limits=None) -> str:
    while True:
        first, last = limits or rng.choice(RANGES)
        character = chr(rng.randint(first, last))
        if 0xD800 <= ord(character) <= 0xDFFF:
            continue
        # Goldens keep to Unicode 3.2, which every table knows alike.
        if not old_only or unicodedata.ucd_3_2_0.category(character) != "Cn":
            return character


def random_text(rng: random.Random, old_only: bool) -> str:
    kind = rng.random()
    if kind < 0.35:
        return "".join(random_character(rng, old_only) for _ in range(rng.randint(0, 40)))
    if kind < 0.55:
        block = rng.choice(RANGES[:17] if old_only else RANGES)  # the others hold too little of Unicode 3.2
        return "".join(random_character(rng, old_only, block) for _ in range(rng.randint(1, 24)))
    if kind < 0.95:
        parts = []
        for _ in range(rng.randint(1, 14)):
            parts += [rng.choice(WORDS), rng.choice([*GLUE, random_character(rng, old_only)])]
        return "".join(parts)
    return "".join(rng.choice("aeiou'stremvld \u0327\u0323\u0308!<|>0") for _ in range(rng.randint(0, 60)))


def openclip_folder(folder: pathlib.Path, pad_token: str) -> pathlib.Path:
    """The files that published checkpoints of transformers 4's time hold, with the real vocabulary."""
    families.write_vocabulary_files(folder, families.openclip_merges())

    def flags(content):
        return {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}

    special = {"bos_token": flags("<|startoftext|>"), "eos_token": flags("<|endoftext|>"), "pad_token": pad_token,
               "unk_token": flags("<|endoftext|>")}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    typed = {k: v if isinstance(v, str) else {"__type": "AddedToken", **v} for k, v in special.items()}
    (folder / "tokenizer_config.json").write_text(json.dumps(
        typed | {"model_max_length": 77, "do_lower_case": True, "tokenizer_class": "CLIPTokenizer"}))
    return folder


def encode(tokenizer, texts: list[str]) -> list[list[int]]:
    return tokenizer(texts, add_special_tokens=False).input_ids


def write_goldens(root: pathlib.Path, out: pathlib.Path, clip_tokenizer) -> None:
    rng = random.Random(SEED)
    texts = HARD + [random_text(rng, old_only=True) for _ in range(250)]
    ids = {}
    for name in TINY:
        ids["models/" + name] = encode(clip_tokenizer.from_pretrained(root / "tests/goldens/models" / name), texts)
    for name, pad_token in (("openclip", "<|endoftext|>"), ("openclip!", "!")):
        with tempfile.TemporaryDirectory() as folder:
            tokenizer = clip_tokenizer.from_pretrained(openclip_folder(pathlib.Path(folder), pad_token))
            ids[name] = encode(tokenizer, texts)
    out.mkdir(parents=True, exist_ok=True)
    (out / "ids.json").write_text(json.dumps({"texts": texts, "ids": ids}, separators=(",", ":")) + "\n")
    manifest = {
        "generator": "scripts/reference/make_tokenizer_goldens.py",
        "seed": SEED,
        "versions": {p: importlib.metadata.version(p) for p in ("transformers", "tokenizers", "open_clip_torch")},
        "sha256": {"ids.json": hashlib.sha256((out / "ids.json").read_bytes()).hexdigest()},
    }
    (out / "MANIFEST.json").write_text(json.dumps(manifest, indent=1) + "\n")


def differently_known(normalizer) -> set[str]:
    """Code points that this Python's Unicode table does not assign, and marks that the reference's normaliser does not
    reorder because its table is older."""
    found = set()
    for code in range(0x110000):
        character = chr(code)
        if 0xD800 <= code <= 0xDFFF:
            continue
        mark_class = unicodedata.combining(character)
        other = "\u0345" if mark_class == 1 else "\u0334"  # of class 240, and 1
        text = "a" + (other + character if mark_class == 1 else character + other)
        if unicodedata.category(character) == "Cn":
            found.add(character)
        elif mark_class and normalizer.normalize_str(text) != unicodedata.normalize("NFC", text):
            found.add(character)
    return found


def fuzz(count: int, seed: int, encoder: str, clip_tokenizer) -> int:
    import tokenizers

    rng = random.Random(seed)
    texts = [random_text(rng, old_only=False) for _ in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        openclip_folder(pathlib.Path(folder), "<|endoftext|>")
        wanted = encode(clip_tokenizer.from_pretrained(folder), texts)
        packed = b"".join(struct.pack("<I", len(b := text.encode())) + b for text in texts)
        output = subprocess.run([encoder, folder], input=packed, stdout=subprocess.PIPE, check=True).stdout.decode()
    found = [[int(word) for word in line.split()] for line in output.split("\n")[:-1]]
    assert len(found) == len(texts), f"{encoder} wrote {len(found)} lines for {len(texts)} texts"
    newer = differently_known(tokenizers.normalizers.NFC())
    different = [text for text, a, b in zip(texts, wanted, found) if a != b]
    unexplained = [text for text in different if not newer & set(text)]
    print(f"{count} texts (seed {seed}): {len(different)} differ, {len(different) - len(unexplained)} of them hold a code "
          f"point that the Unicode tables know differently; {len(unexplained)} unexplained")
    for text in unexplained[:10]:
        print("  ", ascii(text))
    return 1 if unexplained else 0


def main() -> int:
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=root / "tests/goldens/tokenizer")
    parser.add_argument("--fuzz", type=int, default=0, metavar="N", help="compare N random texts instead")
    parser.add_argument("--seed", type=int, default=1, help="of --fuzz")
    parser.add_argument("--encoder", help="program under test, for --fuzz")
    options = parser.parse_args()

    from transformers import CLIPTokenizer

    if options.fuzz:
        return fuzz(options.fuzz, options.seed, options.encoder, CLIPTokenizer)
    write_goldens(root, options.out, CLIPTokenizer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
