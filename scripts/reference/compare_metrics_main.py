"""Likeness by molar eval and by transformers, on full-size models of random weights.

    scripts/compare_metrics [--work compare-out/metrics]

Models, made where they are missing: CLIP ViT-B/32 and ViT-L/14 (openai's shapes), ViT-S/16 and ViT-B/8 (DINO's), DINOv2
small and base. Pictures of several sizes, two references each. Prints the largest difference of a score for each model;
fails past 1e-4.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys

import numpy
import PIL.Image
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

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIMIT = 1e-4
SEED = 5
SIZES = [(512, 512), (300, 451), (1024, 768), (64, 200)]  # height, width
TOKENIZER = ROOT / "tests/goldens/models/sd15-tiny/tokenizer"


def clip(width: int, layers: int, heads: int, patch: int, text_width: int, projection: int):
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    ids = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id,
           "pad_token_id": tokenizer.pad_token_id, "vocab_size": len(tokenizer)}  # fmt: skip
    config = CLIPConfig(
        text_config={**ids, "hidden_size": text_width, "intermediate_size": 4 * text_width,
                     "num_attention_heads": text_width // 64, "projection_dim": projection},
        vision_config={"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers,
                       "num_attention_heads": heads, "patch_size": patch, "projection_dim": projection},
        projection_dim=projection)  # fmt: skip
    return lambda: CLIPModel(config), CLIPImageProcessorPil()


def vit(width: int, heads: int, patch: int):
    config = ViTConfig(hidden_size=width, intermediate_size=4 * width, num_attention_heads=heads, patch_size=patch)
    return lambda: ViTModel(config, add_pooling_layer=False), ViTImageProcessorPil(resample=2)


def dinov2(width: int, heads: int):
    config = Dinov2Config(hidden_size=width, num_attention_heads=heads, image_size=518, patch_size=14)
    processor = BitImageProcessor(size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}, resample=3)
    return lambda: Dinov2Model(config), processor


MODELS = {
    "CLIP ViT-B/32": clip(768, 12, 12, 32, 512, 512),
    "CLIP ViT-L/14": clip(1024, 24, 16, 14, 768, 768),
    "DINO ViT-S/16": vit(384, 6, 16),
    "DINO ViT-B/8": vit(768, 12, 8),
    "DINOv2 small": dinov2(384, 6),
    "DINOv2 base": dinov2(768, 12),
}


def write_pictures(work: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    found: dict[str, list[pathlib.Path]] = {"run/cat": [], "subjects/cat": []}
    random = numpy.random.default_rng(SEED)
    for number, (height, width) in enumerate(SIZES * 2):
        folder = "run/cat" if number < len(SIZES) else "subjects/cat"
        y, x = numpy.mgrid[0:height, 0:width] / 40.0
        a, b, c = random.uniform(-2, 2, 3)
        waves = numpy.stack([127 + 90 * numpy.sin(a * x + k * b * y + c) for k in range(3)], -1)
        pixels = numpy.clip(waves + random.integers(-25, 26, waves.shape), 0, 255).astype(numpy.uint8)
        path = work / folder / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(pixels).save(path)
        found[folder].append(path)
    return found


def make_model(folder: pathlib.Path, make, processor) -> None:
    if (folder / "config.json").exists():
        return
    torch.manual_seed(SEED)
    model = make().eval()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    if isinstance(model, CLIPModel):
        AutoTokenizer.from_pretrained(TOKENIZER).save_pretrained(folder)


@torch.no_grad()
def wanted_scores(folder: pathlib.Path, is_clip: bool, processor, pictures) -> list[float]:
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    kind, options = {"CLIPModel": (CLIPModel, {}), "Dinov2Model": (Dinov2Model, {}),
                     "ViTModel": (ViTModel, {"add_pooling_layer": False})}[name]  # fmt: skip
    model = kind.from_pretrained(folder, dtype=torch.float32, **options).eval()

    def embed(path: pathlib.Path) -> torch.Tensor:
        values = processor(PIL.Image.open(path).convert("RGB"), return_tensors="pt").pixel_values
        if is_clip:
            found = model.visual_projection(model.vision_model(values).pooler_output)
        else:
            found = model(values).last_hidden_state[:, 0]
        return torch.nn.functional.normalize(found, dim=-1)[0]

    references = [embed(path) for path in pictures["subjects/cat"]]
    return [float(sum(embed(path) @ other for other in references)) / len(references) for path in pictures["run/cat"]]


def found_scores(work: pathlib.Path, folder: pathlib.Path, is_clip: bool) -> list[float]:
    option, name = ("--clip", "clip_i_subject") if is_clip else ("--dino", "dino_subject")
    command = [ROOT / "build/molar", "eval", work / "run", "--layout", "subject", option, folder, "--subject-references",
               work / "subjects", "--json", "-q"]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return [json.loads(line)["scores"][name] for line in done.stdout.splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "compare-out/metrics")
    work = parser.parse_args().work
    pictures = write_pictures(work)
    worst = 0.0
    print("| model | cosines | largest difference |\n|---|---|---|")
    for name, (make, processor) in MODELS.items():
        is_clip, folder = name.startswith("CLIP"), work / name.replace(" ", "-").replace("/", "-")
        make_model(folder, make, processor)
        wanted = wanted_scores(folder, is_clip, processor, pictures)
        found = found_scores(work, folder, is_clip)
        difference = max(abs(a - b) for a, b in zip(wanted, found, strict=True))
        worst = max(worst, difference)
        print(f"| {name} | {min(wanted):.4f} to {max(wanted):.4f} | {difference:.1e} |", flush=True)
    sys.exit(f"error: {worst:.1e} is more than {LIMIT:.0e}" if worst > LIMIT else 0)


if __name__ == "__main__":
    main()
