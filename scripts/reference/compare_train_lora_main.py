"""scripts/compare_train_lora: see there. Exit status 1 where a loss differs by more than 1e-3 of itself."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import families
import make_training_goldens as goldens
import torch
import train_lora_reference as reference
from safetensors import safe_open

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
ALLOWED = 1e-3  # of a loss, relative
INSTANCE_PROMPT, CLASS_PROMPT = "a photo of sks dog", "a photo of a dog"


def parse(argv: list[str] | None = None):
    parser = argparse.ArgumentParser(prog="scripts/compare_train_lora", description=__doc__)
    parser.add_argument("--python", help="interpreter with torch, diffusers, transformers and peft")
    parser.add_argument("--molar", type=pathlib.Path, default=REPOSITORY / "build" / "molar")
    parser.add_argument("--out", type=pathlib.Path, default=REPOSITORY / "compare-out", help="model, pictures and LoRA")
    parser.add_argument("--family", choices=("sd15", "sd21", "sdxl"), default="sd15")
    parser.add_argument("--size", choices=("tiny", "full"), default="tiny")
    parser.add_argument("--resolution", type=int, help="side of the pictures (tiny: 64, full: 512)")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="high: 20 steps have to show")
    parser.add_argument("--target", default="attention")
    parser.add_argument("--min-snr-gamma", type=float)
    parser.add_argument("--class-images", action="store_true", help="with prior preservation")
    parser.add_argument("--gradient-checkpointing", action="store_true", help="on both sides")
    parser.add_argument("--format", choices=("kohya", "diffusers"), default="kohya")
    args = parser.parse_args(argv)
    args.out = args.out.resolve()
    args.resolution = args.resolution or {"tiny": 64, "full": 512}[args.size]
    return args


def model_folder(args) -> pathlib.Path:
    """Full-size weights are stored in float16, to save disk; both sides compute in float32."""
    folder = args.out / f"{args.family}-{args.size}"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        dtype = torch.float16 if args.size == "full" else torch.float32
        families.save(families.build(args.family, args.size, 0, dtype), folder, dtype)
        (folder / "complete").touch()
    return folder


def train_with_molar(args, model: pathlib.Path, pictures: pathlib.Path, lora: pathlib.Path) -> list[float]:
    command = [str(args.molar), "train", "lora", "-m", str(model), "--instance-images", str(pictures / "instance"),
               "--instance-prompt", INSTANCE_PROMPT, "--rank", str(args.rank), "--target", args.target, "--steps",
               str(args.steps), "--learning-rate", str(args.learning_rate), "--resolution", str(args.resolution),
               "--format", args.format, "--dtype", "f32", "--device", "cpu", "--no-resume", "--json", "-o", str(lora)]
    if args.class_images:
        command += ["--class-images", str(pictures / "class"), "--class-prompt", CLASS_PROMPT]
    if args.min_snr_gamma:
        command += ["--min-snr-gamma", str(args.min_snr_gamma)]
    if args.gradient_checkpointing:
        command.append("--gradient-checkpointing")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MOLAR_")}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    return [line["loss"] for line in map(json.loads, output.splitlines()) if "loss" in line]


def train_with_peft(args, pipe, pictures: pathlib.Path) -> reference.Result:
    options = reference.Options(rank=args.rank, target=tuple(args.target.split(",")), steps=args.steps,
                                learning_rate=args.learning_rate, min_snr_gamma=args.min_snr_gamma)
    instance = reference.read_folder(pictures / "instance", INSTANCE_PROMPT)
    classes = reference.read_folder(pictures / "class", CLASS_PROMPT) if args.class_images else None
    if args.gradient_checkpointing:
        pipe.unet.enable_gradient_checkpointing()
        pipe.unet.train()  # diffusers checkpoints in this mode only; nothing here has a dropout
    trainer = reference.Trainer(pipe, options, instance, classes)
    return trainer.run(lambda step, loss: print(f"peft: step {step}, loss {loss:.6f}", file=sys.stderr, flush=True))


def changes(result: reference.Result) -> dict[str, torch.Tensor]:
    """up @ down of every layer, by "unet/<module>"."""
    names = sorted({name.rpartition("/")[0] for name in result.factors})
    return {name: result.factors[name + "/up"].flatten(1) @ result.factors[name + "/down"].flatten(1) for name in names}


def changes_of_file(path: pathlib.Path, names: list[str]) -> dict[str, torch.Tensor]:
    """The same from a kohya or diffusers file; alpha is the rank there."""
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    prefixes = {"unet": "lora_unet_", "text_encoder": "lora_te_", "text_encoder_2": "lora_te2_"}
    if any(key.startswith("lora_te1_") for key in tensors):
        prefixes["text_encoder"] = "lora_te1_"
    found = {}
    for name in names:
        component, module = name.split("/")
        kohya = prefixes[component] + module.replace(".", "_")
        down = tensors.get(kohya + ".lora_down.weight", tensors.get(f"{component}.{module}.lora_A.weight"))
        up = tensors.get(kohya + ".lora_up.weight", tensors.get(f"{component}.{module}.lora_B.weight"))
        found[name] = up.flatten(1) @ down.flatten(1)
    return found


def compare(args, molar_losses: list[float], result: reference.Result, lora: pathlib.Path) -> int:
    print(f"{'step':>4} {'molar':>12} {'peft':>12} {'relative':>10}")
    worst = 0.0
    for step, (ours, theirs) in enumerate(zip(molar_losses, result.losses, strict=True), start=1):
        relative = abs(ours - theirs) / abs(theirs)
        worst = max(worst, relative)
        print(f"{step:4} {ours:12.8f} {theirs:12.8f} {relative:10.2e}")
    theirs = changes(result)
    ours = changes_of_file(lora, list(theirs))
    norms = [((ours[n] - theirs[n]).norm() / theirs[n].norm()).item() for n in theirs if theirs[n].norm() > 0]
    print(f"largest difference of a loss {worst:.2e} (allowed {ALLOWED:.0e}); {len(norms)} layers, difference of the "
          f"learnt change relative to itself: median {sorted(norms)[len(norms) // 2]:.2e}, largest {max(norms):.2e}")
    return 0 if worst <= ALLOWED else 1


def main() -> int:
    args = parse()
    if not args.molar.exists():
        print(f"compare_train_lora: {args.molar} is missing; build it first (scripts/quickstart)", file=sys.stderr)
        return 2
    from diffusers import DiffusionPipeline

    model = model_folder(args)
    pictures = args.out / f"pictures-{args.resolution}"
    if not pictures.exists():
        goldens.write_pictures(pictures / "instance", 1, [None, "a dog in the snow", None, None], args.resolution)
        goldens.write_pictures(pictures / "class", 2, [None, None, None], args.resolution)
    lora = args.out / "lora.safetensors"
    start = time.monotonic()
    molar_losses = train_with_molar(args, model, pictures, lora)
    molar_s = time.monotonic() - start
    pipe = DiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32, local_files_only=True)
    pipe.load_lora_weights(lora)  # what molar writes is read by diffusers
    pipe.unload_lora_weights()
    start = time.monotonic()
    result = train_with_peft(args, pipe, pictures)
    print(f"{args.family}, {args.size}, {args.resolution} pixels, {args.target}; molar {molar_s:.0f} s, "
          f"peft {time.monotonic() - start:.0f} s")
    return compare(args, molar_losses, result, lora)


if __name__ == "__main__":
    sys.exit(main())
