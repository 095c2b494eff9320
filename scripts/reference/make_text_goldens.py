"""Writes tests/goldens/text: what transformers' CLIPTextModel(WithProjection) computes, layer by layer.

    python scripts/reference/make_text_goldens.py [--out tests/goldens/text]

Needs torch, transformers, safetensors, and the tiny models of families.py in tests/goldens/models. One file per
text encoder and length, <family>.<encoder>.<L>.safetensors, with
    ids [2, L], hidden_states.0 (embeddings) .. hidden_states.N, last_hidden_state, pooled_output[, text_embeds]
"""

import argparse
import hashlib
import importlib.metadata
import json
import pathlib

import safetensors.torch
import torch
from transformers import AutoTokenizer, CLIPTextModel, CLIPTextModelWithProjection

ENCODERS = (("sd15", "text_encoder", "tokenizer"), ("sd21", "text_encoder", "tokenizer"),
            ("sdxl", "text_encoder", "tokenizer"), ("sdxl", "text_encoder_2", "tokenizer_2"))
LENGTHS = (77, 9)
PROMPTS = ["a painting of a cat on a chair, soft light!", ""]


def token_ids(tokenizer, length: int) -> torch.Tensor:
    return tokenizer(PROMPTS, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids


@torch.no_grad()
def record(model, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    out = model(ids, output_hidden_states=True)
    tensors = {"ids": ids, "last_hidden_state": out.last_hidden_state}
    tensors |= {f"hidden_states.{i}": state for i, state in enumerate(out.hidden_states)}
    if "text_embeds" in out:
        tensors["text_embeds"] = out.text_embeds
        tensors["pooled_output"] = model.text_model(ids).pooler_output
    else:
        tensors["pooled_output"] = out.pooler_output
    return {name: tensor.contiguous().clone() for name, tensor in tensors.items()}


def main() -> None:
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=root / "tests/goldens/text")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)

    cases = []
    for family, encoder, tokenizer in ENCODERS:
        folder = root / f"tests/goldens/models/{family}-tiny"
        config = json.loads((folder / encoder / "config.json").read_text())
        projected = config["architectures"] == ["CLIPTextModelWithProjection"]
        model = (CLIPTextModelWithProjection if projected else CLIPTextModel).from_pretrained(folder / encoder).eval()
        for length in LENGTHS:
            name = f"{family}.{encoder}.{length}"
            ids = token_ids(AutoTokenizer.from_pretrained(folder / tokenizer), length)
            safetensors.torch.save_file(record(model, ids), out / f"{name}.safetensors")
            cases.append({"name": name, "model": f"models/{family}-tiny/{encoder}"})

    manifest = {
        "generator": "scripts/reference/make_text_goldens.py",
        "seed": "none: the models' weights are files",
        "versions": {p: importlib.metadata.version(p) for p in ("torch", "transformers", "safetensors")},
        "cases": cases,
        "sha256": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(out.glob("*.safetensors"))},
    }
    (out / "MANIFEST.json").write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main()
