"""Writes tests/goldens/training: pictures, and what diffusers and peft learn from them on the tiny models; LoRAs, and
what train_merge_reference learns from pairs of them; and the gates that train_gates_reference learns for the experts of
tests/goldens/mole.

    python scripts/reference/make_training_goldens.py

Every case is a file of the losses and of what was learnt; cases.json, merge/cases.json and gates/cases.json hold its options.
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
import train_gates_reference as gates_reference  # noqa: E402
import train_lora_reference as reference  # noqa: E402
import train_merge_reference as merge_reference  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = ROOT / "tests/goldens/models"
OUT = ROOT / "tests/goldens/training"

# The rates are high and the steps few, so that the factors move far from where they start.
CASES = [
    dict(name="attention", model="sd15-tiny", classes=False, rank=2, alpha=1.0, steps=8, learning_rate=1e-2),
    dict(name="everything", model="sd15-tiny", classes=True, rank=2, steps=6, learning_rate=5e-3, batch_size=2,
         gradient_accumulation=2, lr_scheduler="cosine", warmup_steps=2, min_snr_gamma=5.0, prior_weight=0.5,
         proportion_empty_prompts=0.3, weight_decay=0.1, beta1=0.8, beta2=0.95, epsilon=1e-6, flip=True, seed=5,
         target=["attention", "feed-forward", "convolution", "text-encoder"]),
    dict(name="v_prediction", model="sd21-tiny", classes=False, rank=2, steps=6, learning_rate=1e-2, min_snr_gamma=5.0,
         max_grad_norm=0.0, target=["attention", "feed-forward"]),
    dict(name="sdxl", model="sdxl-tiny", classes=False, rank=2, steps=6, learning_rate=1e-2,
         target=["attention", "text-encoder"]),
]


# name -> (seed, rank, alpha, folder of the pictures, prompt of those without a caption)
LORAS = {
    "subject": (1, 2, 1.0, "instance", "a photo of sks dog"),
    "style": (2, 3, 3.0, "class", "a photo of a dog"),
    "style-2": (3, 1, 1.0, "instance", "a photo in ink"),
}
MERGE_CASES = [
    dict(name="ziplora", training="ziplora", steps=5, learning_rate=0.05, similarity_weight=0.5),
    dict(name="ziplora-batch", training="ziplora", steps=3, batch_size=2, learning_rate=0.02, seed=7),
    dict(name="hypernet", training="hypernet", steps=6, pairs_per_step=2, validate_every=2, learning_rate=0.05),
    dict(name="hypernet-constant", training="hypernet", constant=True, steps=4, learning_rate=0.05, weight_decay=0.1,
         max_grad_norm=0.0, similarity_weight=1.0, seed=3),
    dict(name="hypernet-features", training="hypernet", layout="features", joint_weight=0.7, steps=6, pairs_per_step=2,
         validate_every=2, learning_rate=0.05),
]
GATE_CASES = [
    dict(name="gates", model="sd15-tiny", family="sd15", steps=5, learning_rate=0.05, batch_size=2, flip=True,
         proportion_empty_prompts=0.4),
    dict(name="gates-sdxl", model="sdxl-tiny", family="sdxl", steps=4, learning_rate=0.05, gradient_accumulation=2,
         lr_scheduler="cosine", warmup_steps=1, min_snr_gamma=5.0, seed=4),
]
JOINT = ("instance", "a photo of sks dog in ink")  # pictures of the first pair


def write_lora(path: pathlib.Path, unet, seed: int, rank: int, alpha: float, with_convolutions: bool) -> None:
    """A kohya file of the attention and feed-forward layers, and of convolutions if so."""
    draws = torch.Generator("cpu").manual_seed(seed)
    endings = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.2") + (("conv1",) if with_convolutions else ())
    tensors = {}
    for name, module in unet.named_modules():
        if name.endswith(endings):
            shape = module.weight.shape
            key = "lora_unet_" + name.replace(".", "_")
            tensors[key + ".lora_down.weight"] = torch.randn((rank, *shape[1:]), generator=draws) * 0.3
            tensors[key + ".lora_up.weight"] = torch.randn((shape[0], rank, *[1] * (len(shape) - 2)), generator=draws) * 0.3
            tensors[key + ".alpha"] = torch.tensor(alpha)
    save_file(tensors, path)


def run_merge_cases(folder: pathlib.Path) -> None:
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(MODELS / "sd15-tiny", torch_dtype=torch.float32, local_files_only=True)
    folder.mkdir()
    for name, (seed, rank, alpha, _, _) in LORAS.items():
        write_lora(folder / f"{name}.safetensors", pipe.unet, seed, rank, alpha, with_convolutions=name != "style-2")
    for case in MERGE_CASES:
        fields = {k: v for k, v in case.items() if k not in ("name", "training")}
        options = merge_reference.Options(**fields)
        subject, style, style_2 = (
            merge_reference.Taught(pipe.unet, folder / f"{name}.safetensors",
                                   reference.read_folder(OUT / pictures, prompt), options.seed)
            for name, (_, _, _, pictures, prompt) in LORAS.items())
        if case["training"] == "ziplora":
            history, learnt = merge_reference.train_ziplora(pipe, options, subject, style)
            validations = []
        else:
            validation = ([subject], [style_2]) if "validate_every" in case else ((), ())
            pictures, prompt = JOINT
            joint = {0: merge_reference.Joint(reference.read_folder(OUT / pictures, prompt), options.seed)}
            history, validations, learnt = merge_reference.train_hypernet(
                pipe, options, [subject], [style, style_2], validation, joint if "joint_weight" in case else None)
        save_file({"losses": torch.tensor(history, dtype=torch.float64),
                   "validations": torch.tensor(validations, dtype=torch.float64),
                   **{name: value.contiguous() for name, value in learnt.items()}}, folder / f"{case['name']}.safetensors")
        print(case["name"], [[round(v, 5) for v in row] for row in history], validations)
    (folder / "cases.json").write_text(json.dumps(MERGE_CASES, indent=1) + "\n")


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


def run_gate_case(case: dict, folder: pathlib.Path) -> None:
    from diffusers import DiffusionPipeline

    options = reference.Options(**{k: v for k, v in case.items() if k not in ("name", "model", "family")})
    pipe = DiffusionPipeline.from_pretrained(MODELS / case["model"], torch_dtype=torch.float32, local_files_only=True)
    pictures = reference.read_folder(OUT / "instance", "a photo of sks dog") + reference.read_folder(OUT / "class", "a photo of sks dog")
    trainer = gates_reference.Trainer(pipe, case["family"], MODELS.parent / "mole/sets" / case["family"], options, pictures)
    result = trainer.run()
    save_file({"losses": torch.tensor(result.losses, dtype=torch.float64),
               "statistics": torch.tensor(trainer.statistics, dtype=torch.float64),
               **{name: value.contiguous() for name, value in result.factors.items()}}, folder / f"{case['name']}.safetensors")
    print(case["name"], [round(loss, 4) for loss in result.losses], trainer.statistics[-1])


def main() -> int:
    torch.set_num_threads(1)
    shutil.rmtree(OUT, ignore_errors=True)
    write_pictures(OUT / "instance", 1, [None, "a dog in the snow", None], 64)
    write_pictures(OUT / "class", 2, [None, None], 64)
    for case in CASES:
        run_case(case)
    run_merge_cases(OUT / "merge")
    (OUT / "gates").mkdir()
    for case in GATE_CASES:
        run_gate_case(case, OUT / "gates")
    (OUT / "gates/cases.json").write_text(json.dumps(GATE_CASES, indent=1) + "\n")
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
