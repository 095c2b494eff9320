"""Times molar and diffusers in alternation on a full-size SD 1.5 model with random weights."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

import numpy as np
import torch
from parity_models import Workshop
from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
PROMPT = "a photo of a dog in the garden"
# What is measured: key, name, unit, required ratio molar / diffusers (None: reported only).
FIGURES = (("step", "UNet step (both guidance branches)", "s", 1.0), ("first_step", "start-up to first step", "s", 0.25),
           ("text", "text encoding", "s", None), ("decode", "VAE decode", "s", None), ("load", "load", "s", None),
           ("picture", "from first step to pixels", "s", None), ("whole", "whole run", "s", None),
           ("memory", "peak memory", "MiB", 0.85))
# A GPU works behind the program's back: the clock sees no single step of it, and the memory is its own.
ON_GPU = {"picture": 1.0, "first_step": None, "load": None, "whole": 1.0}


def figures(result: dict) -> dict[str, float]:
    """The first step of a run is left out where there are others: it fills caches."""
    times = result["timings"]
    steps = times["steps_s"][1:] or times["steps_s"]
    return {"step": statistics.median(steps), "first_step": times["first_step_s"], "text": times["text_encoding_s"],
            "decode": times["decode_s"], "load": times["load_s"], "whole": result["whole_s"],
            "picture": sum(times["steps_s"]) + times["decode_s"],
            "memory": result["peak_memory_bytes"] / 2**20}


def run(command: list[str], args) -> dict:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MOLAR_")}
    environment["OMP_NUM_THREADS"] = str(args.threads)
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    whole = time.monotonic() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:3])} ... ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1]) | {"whole_s": whole}


def run_molar(args, model: pathlib.Path, loras: tuple[pathlib.Path, ...] = ()) -> dict:
    return run([str(args.molar), "generate", "-m", str(model), "-p", PROMPT, "--prompt-syntax", "plain", "--device", args.device,
                "--dtype", args.dtype, "--steps", str(args.steps), "--seed", str(args.seed), "-W", str(args.size), "-H",
                str(args.size), "--threads", str(args.threads), "-o", str(args.out / "molar.png"), "--on-exist",
                "overwrite", "--json", "-q", *(f"--lora={path}" for path in loras)], args)


def run_diffusers(args, model: pathlib.Path, loras: tuple[pathlib.Path, ...] = ()) -> dict:
    return run([sys.executable, str(HERE / "bench_diffusers.py"), "--model", str(model), "--prompt", PROMPT, "--steps",
                str(args.steps), "--size", str(args.size), "--seed", str(args.seed), "--threads", str(args.threads),
                "--device", args.device, "--dtype", args.dtype, "--out", str(args.out / "diffusers.png"), *(f"--lora={path}" for path in loras)], args)


def measure_loras(args, workshop: Workshop, model: pathlib.Path) -> list[dict]:
    """Peak memory with two LoRA files fused into the weights: a second copy of the UNet would add 3,279 MiB."""
    loras = tuple(workshop.lora("sd15-full", name) for name in ("kohya-a", "kohya-b"))
    rows = []
    for _ in range(args.lora_runs):
        ours, theirs = figures(run_molar(args, model, loras)), figures(run_diffusers(args, model, loras))
        rows.append({"molar": ours, "diffusers": theirs, "picture_difference": picture_difference(args)})
        print(f"with two LoRA files: {ours['memory']:.0f} / {theirs['memory']:.0f} MiB, first step after "
              f"{ours['first_step']:.2f} / {theirs['first_step']:.2f} s, step {ours['step']:.2f} / {theirs['step']:.2f} s, "
              f"pictures {rows[-1]['picture_difference']} grey level(s) apart", flush=True)
    return rows


def machine() -> str:
    rows = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((r.split(":", 1)[1].strip() for r in rows if r.startswith("model name")), platform.machine())
    memory = int(pathlib.Path("/proc/meminfo").read_text().split()[1]) / 2**20
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ", ".join([cpu, f"{os.cpu_count()} cores, {memory:.0f} GiB", *gpus])


def picture_difference(args) -> int:
    a, b = (np.asarray(Image.open(args.out / f"{name}.png").convert("RGB")).astype(int) for name in ("molar", "diffusers"))
    return int(np.abs(a - b).max()) if a.shape == b.shape else 255


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):9.2f}  [{min(values):.2f}, {max(values):.2f}]"


def report(pairs: list[tuple[dict, dict]], on_gpu: bool) -> list[dict]:
    rows = []
    shown = [(key, name, unit, ON_GPU[key] if on_gpu else required) for key, name, unit, required in FIGURES
             if not on_gpu or key in ON_GPU]
    print(f"\n{'':38}{'molar':>9}  {'':18}{'diffusers':>9}  {'':18}{'ratio':>6}")
    print(f"{'median [min, max]':38}")
    for key, name, unit, required in shown:
        ours, theirs = [a[key] for a, _ in pairs], [b[key] for _, b in pairs]
        ratios = [a / b for a, b in zip(ours, theirs)]
        middle = statistics.median(ratios)
        verdict = "" if required is None else f"  wanted <= {required}: {'yes' if middle <= required else 'NO'}"
        print(f"{name + ', ' + unit:38}{spread(ours):29}{spread(theirs):29}{middle:6.3f}  "
              f"[{min(ratios):.3f}, {max(ratios):.3f}]{verdict}")
        rows.append({"figure": key, "unit": unit, "molar": ours, "diffusers": theirs, "ratio_median": middle,
                     "required_ratio": required})
    return rows


def parse():
    parser = argparse.ArgumentParser(prog="scripts/bench_generate", description=__doc__)
    parser.add_argument("--python", help="interpreter with torch and diffusers (read by scripts/bench_generate)")
    parser.add_argument("--molar", type=pathlib.Path, default=REPOSITORY / "build" / "molar")
    parser.add_argument("--out", type=pathlib.Path, default=REPOSITORY / "bench-out")
    parser.add_argument("--full-models", type=pathlib.Path, default=REPOSITORY / "parity-out" / "full",
                        help="folder of scripts/parity's full-size models; the SD 1.5 one is made there if it is missing")
    parser.add_argument("-n", type=int, default=5, help="alternations (5)")
    parser.add_argument("--lora-runs", type=int, default=2, help="alternations with two LoRA files (2)")
    parser.add_argument("--steps", type=int, default=4, help="UNet steps a run; the first is not counted (4)")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N, for both (cpu)")
    parser.add_argument("--dtype", choices=("f32", "f16", "bf16"), default="f32", help="for both (f32)")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--no-warm-up", action="store_true", help="leave out the uncounted first run of each program")
    args = parser.parse_args()
    if args.n < 1 or args.steps < 1:
        parser.error("-n and --steps: wanted at least 1")
    args.out = args.out.resolve()
    return args


def main() -> int:
    args = parse()
    if not args.molar.exists():
        raise SystemExit(f"bench_generate: {args.molar} is missing; build it first (scripts/quickstart)")
    args.out.mkdir(parents=True, exist_ok=True)
    workshop = Workshop(args.out, args.full_models.resolve())
    model = workshop.model_folder("sd15-full")
    versions = {p: importlib.metadata.version(p) for p in ("torch", "diffusers", "transformers")}
    facts = {"machine": machine(), "threads": args.threads, "dtype": args.dtype, "device": args.device, "seed": args.seed,
             "size": f"{args.size}x{args.size}", "guidance": "batch of two", "steps": args.steps, "n": args.n,
             "warm-up": "none" if args.no_warm_up else "one run of each program", **versions}
    print("\n".join(f"{k}: {v}" for k, v in facts.items()), flush=True)
    if not args.no_warm_up:
        run_diffusers(args, model)
        run_molar(args, model)
    pairs = []
    for i in range(args.n):
        load = os.getloadavg()[0]
        if i % 2 == 0:
            ours = figures(run_molar(args, model))
            theirs = figures(run_diffusers(args, model))
        else:
            theirs = figures(run_diffusers(args, model))
            ours = figures(run_molar(args, model))
        pairs.append((ours, theirs))
        print(f"pair {i + 1}: step {ours['step']:.2f} / {theirs['step']:.2f} s, first step after {ours['first_step']:.2f} / "
              f"{theirs['first_step']:.2f} s, decode {ours['decode']:.2f} / {theirs['decode']:.2f} s, "
              f"{ours['memory']:.0f} / {theirs['memory']:.0f} MiB (load average before: {load:.1f})", flush=True)
    rows = report(pairs, on_gpu=args.device != "cpu")
    difference = picture_difference(args)
    print(f"largest difference of the two pictures: {difference} grey level(s)")
    with_loras = measure_loras(args, workshop, model)
    (args.out / "report.json").write_text(json.dumps({"facts": facts, "figures": rows, "picture_difference": difference,
                                                      "with_two_loras": with_loras}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
