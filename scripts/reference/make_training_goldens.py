"""Writes tests/goldens/training: pictures, and what diffusers and peft learn from them on the tiny models.

    python scripts/reference/make_training_goldens.py

Every case is a file of the losses and the final factors; cases.json holds its options.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import pathlib
import shutil
import sys

import torch
from PIL import Image
from safetensors.torch import save_file

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import train_lora_reference as reference  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = ROOT / "tests/goldens/models"
OUT = ROOT / "tests/goldens/training"

# The rates are high and the steps few, so that the factors move far from where they start.
CASES = [
    dict(name="attention", model="sd15-tiny", classes=False, rank=2, alpha=1.0, steps=8, learning_rate=1e-2),
    dict(name="everything", model="sd15-tiny", classes=True, rank=2, steps=6, learning_rate=5e-3, batch_size=2,
         gradient_accumulation=2, lr_scheduler="cosine", warmup_steps=2, min_snr_gamma=5.0, prior_weight=0.5,
         weight_decay=0.1, beta1=0.8, beta2=0.95, epsilon=1e-6, flip=True, seed=5,
         target=["attention", "feed-forward", "convolution", "text-encoder"]),
    dict(name="v_prediction", model="sd21-tiny", classes=False, rank=2, steps=6, learning_rate=1e-2, min_snr_gamma=5.0,
         max_grad_norm=0.0, target=["attention", "feed-forward"]),
    dict(name="sdxl", model="sdxl-tiny", classes=False, rank=2, steps=6, learning_rate=1e-2,
         target=["attention", "text-encoder"]),
]


def write_pictures(folder: pathlib.Path, seed: int, captions: list[str | None], side: int) -> None:
    """Smooth coloured fields: noise of 6x6 enlarged."""
    folder.mkdir(parents=True)
    draws = torch.Generator("cpu").manual_seed(seed)
    for i, caption in enumerate(captions):
        small = (torch.rand((6, 6, 3), generator=draws) * 255).to(torch.uint8).numpy()
        Image.fromarray(small).resize((side, side), Image.BICUBIC).save(folder / f"{i}.png")
        if caption is not None:
            (folder / f"{i}.txt").write_text(caption + "\n")


def run_case(case: dict) -> None:
    from diffusers import DiffusionPipeline

    fields = {k: v for k, v in case.items() if k not in ("name", "model", "classes")}
    options = reference.Options(**fields | {"target": tuple(case.get("target", ["attention"]))})
    pipe = DiffusionPipeline.from_pretrained(MODELS / case["model"], torch_dtype=torch.float32, local_files_only=True)
    instance = reference.read_folder(OUT / "instance", "a photo of sks dog")
    classes = reference.read_folder(OUT / "class", "a photo of a dog") if case["classes"] else None
    result = reference.Trainer(pipe, options, instance, classes).run()
    tensors = {name: value.contiguous() for name, value in result.factors.items()}
    save_file({"losses": torch.tensor(result.losses, dtype=torch.float64), **tensors},
              OUT / f"{case['name']}.safetensors")
    print(case["name"], [round(loss, 4) for loss in result.losses])


def main() -> int:
    torch.set_num_threads(1)
    shutil.rmtree(OUT, ignore_errors=True)
    write_pictures(OUT / "instance", 1, [None, "a dog in the snow", None], 64)
    write_pictures(OUT / "class", 2, [None, None], 64)
    for case in CASES:
        run_case(case)
    (OUT / "cases.json").write_text(json.dumps(
        [{"target": ["attention"], **case} for case in CASES], indent=1) + "\n")
    files = sorted(p for p in OUT.rglob("*") if p.is_file())
    versions = {p: importlib.metadata.version(p) for p in ("torch", "diffusers", "transformers", "peft")}
    (OUT / "MANIFEST.json").write_text(json.dumps(
        {"generator": "scripts/reference/make_training_goldens.py", "versions": versions,
         "sha256": {str(p.relative_to(OUT)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
