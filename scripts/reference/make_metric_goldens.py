"""Writes tests/goldens/metrics: what transformers' CLIP, ViT (DINO) and DINOv2 see in pictures of many sizes.

    python scripts/reference/make_metric_goldens.py [--out tests/goldens/metrics]

Needs torch, transformers, pillow, safetensors, and the tokenizer of tests/goldens/models/sd15-tiny. The models are
tiny, with random weights, in folders as transformers writes them. embeddings.safetensors holds
    picture.<name> [H, W, 3]; <model>.pixels.<name> [3, h, w]; <model>.embeds.<name> [D], of length 1;
    clip.text_embeds [N, D] for the texts that MANIFEST.json lists.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import pathlib
import shutil

import numpy
import PIL.Image
import safetensors.torch
import torch
from transformers import (
    AutoTokenizer,
    BitImageProcessor,
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTModel,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

SEED = 11
ROOT = pathlib.Path(__file__).resolve().parents[2]
SIZES = {"square": (32, 32), "wide": (45, 83), "tall": (121, 34), "small": (9, 7), "large": (300, 200)}  # height, width
TEXTS = ["a painting of a cat on a chair, soft light!", "", "house " * 100]
WIDTHS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def picture(height: int, width: int) -> numpy.ndarray:
    random = numpy.random.default_rng(SEED + height)
    y, x = numpy.mgrid[0:height, 0:width] / 7.0
    waves = [127 + 100 * numpy.sin(a * x + b * y + c) for a, b, c in ((1, 0.4, 0), (-0.7, 1, 1), (0.3, -1.3, 2))]
    noise = random.integers(-20, 21, (height, width, 3))
    return numpy.clip(numpy.stack(waves, -1) + noise, 0, 255).astype(numpy.uint8)


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    """Weights large enough that every part changes the result, norms and scales near one."""
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_scale = "norm" in name and name.endswith("weight") or "lambda" in name
            parameter.copy_(1 + 0.2 * noise if is_scale else 0.2 * noise)
    return model.eval()


def clip() -> tuple[torch.nn.Module, object]:
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "tests/goldens/models/sd15-tiny/tokenizer")
    shared = {**WIDTHS, "intermediate_size": 48}
    config = CLIPConfig(
        text_config={**shared, "vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id,
                     "bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id},
        vision_config={**shared, "image_size": 32, "patch_size": 8, "hidden_act": "gelu"}, projection_dim=24,
    )  # fmt: skip
    return CLIPModel(config), CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def vit() -> tuple[torch.nn.Module, object]:
    config = ViTConfig(**WIDTHS, intermediate_size=48, image_size=40, patch_size=8)
    return ViTModel(config, add_pooling_layer=False), ViTImageProcessorPil(size={"height": 40, "width": 40}, resample=2)


def dinov2() -> tuple[torch.nn.Module, object]:
    """Position embeddings for 70 x 70 pixels, read at 42 x 42: they are interpolated."""
    config = Dinov2Config(**WIDTHS, mlp_ratio=2, image_size=70, patch_size=14)
    processor = BitImageProcessor(size={"shortest_edge": 48}, crop_size={"height": 42, "width": 42}, resample=3)
    return Dinov2Model(config), processor


def embed(model: torch.nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    if isinstance(model, CLIPModel):
        return model.visual_projection(model.vision_model(pixels).pooler_output)
    return model(pixels).last_hidden_state[:, 0]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "tests/goldens/metrics")
    out = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    torch.set_num_threads(1)
    pictures = {name: picture(*size) for name, size in SIZES.items()}
    tensors = {f"picture.{name}": torch.from_numpy(pixels) for name, pixels in pictures.items()}
    for kind, make in (("clip", clip), ("vit", vit), ("dinov2", dinov2)):
        model, processor = make()
        randomised(model).save_pretrained(out / kind)
        processor.save_pretrained(out / kind)
        for name, pixels in pictures.items():
            values = processor(PIL.Image.fromarray(pixels), return_tensors="pt").pixel_values
            embedding = torch.nn.functional.normalize(embed(model, values), dim=-1)
            tensors[f"{kind}.pixels.{name}"], tensors[f"{kind}.embeds.{name}"] = values[0].clone(), embedding[0].clone()
        if kind == "clip":
            tokenizer = AutoTokenizer.from_pretrained(ROOT / "tests/goldens/models/sd15-tiny/tokenizer")
            for file in (ROOT / "tests/goldens/models/sd15-tiny/tokenizer").iterdir():
                shutil.copy(file, out / kind)
            ids = tokenizer(TEXTS, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
            embeds = model.text_projection(model.text_model(ids).pooler_output)
            tensors["clip.text_embeds"] = torch.nn.functional.normalize(embeds, dim=-1)
    safetensors.torch.save_file(tensors, out / "embeddings.safetensors")
    manifest = {
        "generator": "scripts/reference/make_metric_goldens.py",
        "seed": SEED,
        "versions": {p: importlib.metadata.version(p) for p in ("torch", "transformers", "safetensors", "pillow")},
        "pictures": list(SIZES),
        "texts": TEXTS,
        "sha256": {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest()
                   for p in sorted(out.rglob("*")) if p.is_file()},
    }  # fmt: skip
    (out / "MANIFEST.json").write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main()
