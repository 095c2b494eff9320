"""A CLIP tokenizer for the data set's captions, in the files of published checkpoints."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "reference"))
import families  # noqa: E402

# With captions alone, words of prompts that nobody drew would fall into single letters: families.CORPUS brings the
# common ones, once each, so that the captions' own words come first.
BOS, EOS = "<|startoftext|>", "<|endoftext|>"


def write_tokenizer(captions: list[str], num_merges: int, folder: Path) -> None:
    """vocab.json, merges.txt and tokenizer_config.json: 256 bytes, the same as ends of words, merges, BOS and EOS."""
    merges = families.train_merges("\n".join([*captions, families.CORPUS]), num_merges)
    families.write_vocabulary_files(folder, merges)
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "do_lower_case": True,
        "add_prefix_space": False,
        "errors": "replace",
        "bos_token": BOS,
        "eos_token": EOS,
        "unk_token": EOS,
        "pad_token": EOS,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
