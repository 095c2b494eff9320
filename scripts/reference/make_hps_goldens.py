"""Writes tests/goldens/hps: HPS v2's scores of the pictures of tests/goldens/metrics, by that folder's tiny CLIP.

    python scripts/reference/make_hps_goldens.py [--out tests/goldens/hps]

Needs torch, transformers, safetensors. What HPS v2's own code does (Wu et al. 2023, arXiv:2306.09341): the picture as
float32 in 0..1, resized so that its longer side fits (bicubic, antialiased, as torchvision resizes tensors), black to
make it square, CLIP's mean and deviation; 100 times the cosine of both embeddings. goldens.safetensors holds
pixels.<name> [3, 32, 32] and scores [pictures, texts].
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import pathlib
import shutil

import safetensors.torch
import torch
import torch.nn.functional as F
from transformers import AutoTokenizer, CLIPModel

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE = ROOT / "tests/goldens/metrics"
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def preprocess(pixels: torch.Tensor, side: int) -> torch.Tensor:
    """uint8 [H, W, 3] -> [3, side, side]."""
    image = pixels.permute(2, 0, 1).float() / 255
    scale = side / float(max(image.shape[1:]))
    height, width = (round(length * scale) for length in image.shape[1:])
    image = F.interpolate(image[None], (height, width), mode="bicubic", antialias=True, align_corners=False)[0]
    left, top = (side - width) // 2, (side - height) // 2
    image = F.pad(image, (left, side - width - left, top, side - height - top))
    return (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]


@torch.no_grad()
def score(model: CLIPModel, pixels: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """pixels [N, 3, S, S], ids [M, 77] -> [N, M]."""
    pictures = model.visual_projection(model.vision_model(pixels).pooler_output)
    texts = model.text_projection(model.text_model(ids).pooler_output)
    return 100 * F.normalize(pictures, dim=-1) @ F.normalize(texts, dim=-1).T


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "tests/goldens/hps")
    out = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    torch.set_num_threads(1)
    source = json.loads((SOURCE / "MANIFEST.json").read_text())
    tensors = safetensors.torch.load_file(SOURCE / "embeddings.safetensors")
    model = CLIPModel.from_pretrained(SOURCE / "clip").eval()
    tokenizer = AutoTokenizer.from_pretrained(SOURCE / "clip")
    ids = tokenizer(source["texts"], padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    side = model.config.vision_config.image_size
    pixels = {name: preprocess(tensors[f"picture.{name}"], side) for name in source["pictures"]}
    result = {f"pixels.{name}": value.contiguous() for name, value in pixels.items()}
    result["scores"] = score(model, torch.stack(list(pixels.values())), ids)
    safetensors.torch.save_file(result, out / "goldens.safetensors")
    manifest = {
        "generator": "scripts/reference/make_hps_goldens.py",
        "versions": {p: importlib.metadata.version(p) for p in ("torch", "transformers", "safetensors")},
        "pictures": source["pictures"],
        "texts": source["texts"],
        "sha256": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(out.iterdir())},
    }
    (out / "MANIFEST.json").write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main()
