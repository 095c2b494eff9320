"""Times 60 rows of six LoRA pairs: molar batch, a call of molar generate a row, and a loop with diffusers, in turn."""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

import numpy as np
from bench_main import machine
from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
MODEL = REPOSITORY / "models" / "toyland"
PAIRS = tuple((subject, style) for subject in ("ziggy", "cosmo") for style in ("neon", "comic", "stained-glass"))
SCENES = ("a zib cat on grass", "a zib cat in the snow", "a house on a hill", "a red car on a road", "a tree at night")


def write_list(args) -> pathlib.Path:
    path = args.out / "list.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("prompt", "seed", "steps", "cfg-scale", "subject", "style", "merge"))
        for i in range(args.rows):
            subject, style = PAIRS[i * len(PAIRS) // args.rows]
            rows.writerow((f"{SCENES[i % len(SCENES)]}, in {style.replace('-', ' ')} style", i, args.steps, 7.5,
                           MODEL / "loras" / f"{subject}.safetensors", MODEL / "loras" / f"{style}.safetensors", "direct"))
    return path


def cpu_seconds() -> float:
    """Of all child processes that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Spent(NamedTuple):
    """What one side took. Where others use the machine, the CPU's time says more than the clock's."""
    whole_s: float
    cpu_s: float
    peak_bytes: int


def run(command: list[str], args) -> tuple[float, float, str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MOLAR_")}
    environment["OMP_NUM_THREADS"] = str(args.threads)
    start, cpu_start = time.monotonic(), cpu_seconds()
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    whole_s, cpu_s = time.monotonic() - start, cpu_seconds() - cpu_start
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command[:3]))} ... ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return whole_s, cpu_s, done.stdout


def peak_bytes(output: str) -> int:
    """The highest that any line of --json reports, of a row or of its pictures."""
    peaks = [0]
    for line in output.splitlines():
        result = json.loads(line)
        peaks += [part.get("peak_memory_bytes", 0) for part in (result, *result.get("pictures", ()))]
    return max(peaks)


def molar_batch(args, rows, *more) -> Spent:
    out = args.out / "batch"
    shutil.rmtree(out, ignore_errors=True)
    whole_s, cpu_s, output = run([args.molar, "batch", rows, "-m", MODEL, "--no-mole", "-o", out, "--device", "cpu", "--dtype", "f32", "--prompt-syntax",
                           "plain", "-t", args.threads, "--json", "-q", *more], args)
    return Spent(whole_s, cpu_s, peak_bytes(output))


def molar_alone(args, rows) -> Spent:
    out = args.out / "generate"
    shutil.rmtree(out, ignore_errors=True)
    whole_s, cpu_s, peak = 0.0, 0.0, 0
    for number, row in enumerate(csv.DictReader(rows.open()), start=1):
        seconds, cpu, output = run([args.molar, "generate", "-m", MODEL, "--no-mole", "-p", row["prompt"], "-s", row["seed"], "--steps", row["steps"],
                               "--cfg-scale", row["cfg-scale"], "--subject", row["subject"], "--style", row["style"], "--merge",
                               row["merge"], "--device", "cpu", "--dtype", "f32", "--prompt-syntax", "plain", "-t", args.threads,
                               "--json", "-q", "-o", out / f"{number:05}.png"], args)
        whole_s, cpu_s, peak = whole_s + seconds, cpu_s + cpu, max(peak, peak_bytes(output))
    return Spent(whole_s, cpu_s, peak)


def diffusers_loop(args, rows) -> Spent:
    out = args.out / "diffusers"
    shutil.rmtree(out, ignore_errors=True)
    whole_s, cpu_s, output = run([sys.executable, HERE / "bench_batch_diffusers.py", "--model", MODEL, "--list", rows, "--threads",
                           args.threads, "--out", out], args)
    return Spent(whole_s, cpu_s, json.loads(output.splitlines()[-1])["peak_memory_bytes"])


SIDES = {"molar batch": molar_batch, "molar batch, --batch-size 1": lambda a, r: molar_batch(a, r, "--batch-size", "1"),
         "molar generate, a call a row": molar_alone, "diffusers loop": diffusers_loop}


def compare(args) -> dict:
    """Bytes of batch and generate; grey levels of batch and diffusers."""
    batch, alone, loop = (sorted((args.out / name).glob("*.png")) for name in ("batch", "generate", "diffusers"))

    def pixels(path):
        return np.asarray(Image.open(path).convert("RGB")).astype(int)

    levels = [np.abs(pixels(a) - pixels(b)).max() for a, b in zip(batch, loop)]
    return {"pictures of batch and generate with equal bytes": f"{sum(a.read_bytes() == b.read_bytes() for a, b in zip(batch, alone))}"
            f" of {min(len(batch), len(alone))}", "largest difference of batch and diffusers, grey levels": int(max(levels, default=-1))}


def middle(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench_batch", description=__doc__)
    parser.add_argument("--python", help="interpreter with torch and diffusers (read by scripts/bench_batch)")
    parser.add_argument("--molar", type=pathlib.Path, default=REPOSITORY / "build" / "molar")
    parser.add_argument("--out", type=pathlib.Path, default=REPOSITORY / "bench-out" / "batch")
    parser.add_argument("-n", type=int, default=3, help="rounds; each runs every side once, in turn (3)")
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sides", nargs="*", choices=SIDES, default=list(SIDES), help="which to run (all)")
    args = parser.parse_args()
    args.out = args.out.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in ("batch", "generate", "diffusers"):  # of an earlier run, of other rows perhaps
        shutil.rmtree(args.out / name, ignore_errors=True)
    rows = write_list(args)
    versions = {p: importlib.metadata.version(p) for p in ("torch", "diffusers", "transformers", "peft")}
    facts = {"machine": machine(), "threads": args.threads, "dtype": "float32", "rows": args.rows, "LoRA pairs": len(PAIRS),
             "steps": args.steps, "size": "64x64", "n": args.n, **versions}
    print("\n".join(f"{k}: {v}" for k, v in facts.items()), flush=True)
    spent = {side: [] for side in args.sides}
    for i in range(args.n):
        for side in args.sides if i % 2 == 0 else reversed(args.sides):
            load = os.getloadavg()[0]
            one = SIDES[side](args, rows)
            spent[side].append(one)
            print(f"round {i + 1}, {side}: {one.whole_s:.1f} s, {60 * args.rows / one.whole_s:.1f} rows a minute, CPU "
                  f"{one.cpu_s:.1f} s, {one.peak_bytes / 2**20:.0f} MiB (load average before: {load:.1f})", flush=True)
    print(f"\n{'median [min, max]':34}{'rows a minute':>26}{'CPU s a row':>24}{'peak MiB':>10}{'times diffusers, CPU':>30}")
    loop = spent.get("diffusers loop")
    for side in args.sides:
        rates = [60 * args.rows / one.whole_s for one in spent[side]]
        cpu = [one.cpu_s / args.rows for one in spent[side]]
        text = f"{side:34}{middle(rates, 1):>26}{middle(cpu, 3):>24}{statistics.median(o.peak_bytes for o in spent[side]) / 2**20:10.0f}"
        if loop:
            wall, work = (statistics.median(getattr(b, key) / getattr(a, key) for a, b in zip(spent[side], loop))
                          for key in ("whole_s", "cpu_s"))
            text += f"{f'{wall:.2f}, {work:.2f}':>30}"
        print(text)
    differences = compare(args)
    print("\n".join(f"{k}: {v}" for k, v in differences.items()))
    (args.out / "report.json").write_text(json.dumps({"facts": facts, "spent": {side: [one._asdict() for one in runs] for side, runs in spent.items()},
                                                      "differences": differences}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
