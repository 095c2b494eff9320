"""scripts/bench_merge: see there. Both sides run in turn, each as a process of its own, on files in the page cache.

The other side is the plain computation in PyTorch: change by change as a full matrix, the rows of both through the
network, the columns weighed. It keeps no result and writes no file, which molar does.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

import numpy as np
import torch
from safetensors.numpy import save_file

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
HIDDEN, TEXT_WIDTH = 128, 2048
# Attention blocks of SDXL's UNet: name of the attention module, its width, transformer blocks in it.
ATTENTIONS = [
    *((f"down_blocks.1.attentions.{i}", 640, 2) for i in range(2)),
    *((f"down_blocks.2.attentions.{i}", 1280, 10) for i in range(2)),
    ("mid_block.attentions.0", 1280, 10),
    *((f"up_blocks.0.attentions.{i}", 1280, 10) for i in range(3)),
    *((f"up_blocks.1.attentions.{i}", 640, 2) for i in range(3)),
]

NAIVE = """
import sys, time, torch
start = time.monotonic()
from safetensors.torch import load_file
subject, style, network = (load_file(path) for path in sys.argv[1:4])
begin = time.monotonic()
heads = {v.shape[1] // 2: k.split(".")[0] for k, v in network.items() if k.startswith("input") and k.endswith("weight")}
with torch.no_grad():
    for key in [k.removesuffix(".lora_up.weight") for k in subject if k.endswith(".lora_up.weight")]:
        deltas = []
        for file in (subject, style):
            up, down = file[key + ".lora_up.weight"].float(), file[key + ".lora_down.weight"].float()
            deltas.append(up @ down * (file[key + ".alpha"].item() / down.shape[0]))
        if key.endswith(("to_q", "to_out_0")):
            head = heads[len(deltas[0])]
            rows = torch.cat([deltas[0].T, deltas[1].T], dim=1)
            hidden = torch.relu(torch.nn.functional.linear(rows, network[head + ".weight"], network[head + ".bias"]))
            m = torch.nn.functional.linear(hidden, network["output.1.weight"], network["output.1.bias"])
            merged = deltas[0] * m[:, 0] + deltas[1] * m[:, 1]
        else:
            merged = deltas[0] + deltas[1]
end = time.monotonic()
print(end - begin)
"""


def write_lora(path: pathlib.Path, rank: int, seed: int) -> int:
    draw, tensors = np.random.default_rng(seed), {}
    for attention, width, blocks in ATTENTIONS:
        for block in range(blocks):
            for layer in ("attn1", "attn2"):
                for projection in ("to_q", "to_k", "to_v", "to_out_0"):
                    fan_in = TEXT_WIDTH if layer == "attn2" and projection in ("to_k", "to_v") else width
                    key = f"lora_unet_{attention.replace('.', '_')}_transformer_blocks_{block}_{layer}_{projection}"
                    tensors[key + ".lora_down.weight"] = draw.normal(0, 0.02, (rank, fan_in)).astype(np.float16)
                    tensors[key + ".lora_up.weight"] = draw.normal(0, 0.02, (width, rank)).astype(np.float16)
                    tensors[key + ".alpha"] = np.array(rank, np.float16)
    save_file(tensors, path, metadata={"ss_base_model_version": "sdxl_base_v1-0"})
    return len(tensors) // 3


def write_network(path: pathlib.Path, widths: tuple[int, ...] = (640, 1280)) -> None:
    draw = np.random.default_rng(3)
    tensors = {"output.1.weight": draw.normal(0, 0.1, (2, HIDDEN)), "output.1.bias": np.array([0.7, 0.8])}
    for number, width in enumerate(widths, 1):
        tensors[f"input_{number}.weight"] = draw.normal(0, 0.05, (HIDDEN, 2 * width))
        tensors[f"input_{number}.bias"] = draw.normal(0, 0.1, HIDDEN)
    save_file({name: value.astype(np.float32) for name, value in tensors.items()}, path)


def measured(command: list[str], environment: dict[str, str]) -> tuple[float, float, str]:
    """Seconds of the whole process, its peak memory in MiB, its standard output."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - start
    if status != 0:
        sys.exit(f"bench_merge: {command[0]} failed")
    return seconds, usage.ru_maxrss / 1024, output


def bench_ziplora(args: argparse.Namespace, environment: dict[str, str], sdxl_pair: list[str], sdxl_merge_s: float) -> None:
    """ZipLoRA's 100 steps against one forward pass of a hypernetwork, on the bundled model; steps on a full-size SDXL."""
    model, out = REPOSITORY / "models/toyland", args.out / "ziplora"
    roles, pictures = [], []
    for role, name, prompt in (("subject", "ziggy", "a zib cat"), ("style", "stained-glass", "a red house, in stained glass style")):
        lora, folder = model / f"loras/{name}.safetensors", out / name
        roles += [f"--{role}", str(lora)]
        pictures += [f"--{role}-images", str(folder), f"--{role}-prompt", prompt]
        measured([str(args.molar), "generate", "-q", "-p", prompt, "-b", "5", "-s", "1", "--lora", str(lora), "--on-exist", "skip",
                  "-o", f"{folder}/{{seed}}.png"], environment)
    write_network(out / "network.safetensors", (128,))
    train = [str(args.molar), "train", "ziplora", "-q", "--no-resume"]
    learn = [*train, *roles, *pictures, "--steps", "100", "-o", str(out / "coefficients.safetensors")]
    merge = [str(args.molar), "merge", "-q", "-m", str(model), *roles, "--method", "lorarar", "--hypernet", str(out / "network.safetensors"),
             "-o", str(out / "merged.safetensors"), "--on-exist", "overwrite"]
    learning, merging = [], []
    for _ in range(args.ziplora_runs):
        learning.append(measured(learn, environment)[0])
        merging.append(measured(merge, environment)[0])
    print("\n| figure | ZipLoRA, 100 steps | molar merge --method lorarar | ratio |\n|---|---|---|---|")
    print(row(f"bundled model, n = {args.ziplora_runs}, whole process", learning, merging, "s"))
    if not args.sdxl:
        return
    seconds = {}
    for steps in (1, 2):
        seconds[steps] = measured([*train, "-m", str(args.sdxl), *sdxl_pair, *pictures, "--steps", str(steps), "--resolution",
                                   str(args.sdxl_resolution), "--gradient-checkpointing", "--checkpoint-every", "0",
                                   "-o", str(out / "sdxl.safetensors")], environment)[0]
    step_s = seconds[2] - seconds[1]
    print(f"\nSDXL, {args.sdxl_resolution} x {args.sdxl_resolution}, float32: {step_s:.0f} s a step (two steps less one, n = 1); 100 steps, "
          f"extrapolated: {100 * step_s:.0f} s, {100 * step_s / sdxl_merge_s:.0f} times the merge's {sdxl_merge_s:.2f} s")


def row(name: str, ours: list[float], theirs: list[float], unit: str) -> str:
    def text(values: list[float]) -> str:
        return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"

    ratios = [a / b for a, b in zip(ours, theirs)]
    return f"| {name}, {unit} | {text(ours)} | {text(theirs)} | {text(ratios)} |"


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench_merge", description=__doc__)
    parser.add_argument("--python", help="interpreter with torch and safetensors")
    parser.add_argument("--molar", type=pathlib.Path, default=REPOSITORY / "build" / "molar")
    parser.add_argument("--out", type=pathlib.Path, default=REPOSITORY / "bench-out/merge")
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("-n", type=int, default=5, help="alternations, after one warm-up of each side")
    parser.add_argument("--ziplora-runs", type=int, default=0, help="also time so many times ZipLoRA's 100 steps on the bundled model")
    parser.add_argument("--sdxl", type=pathlib.Path, help="with --ziplora-runs: also measure a step on this SDXL model")
    parser.add_argument("--sdxl-resolution", type=int, default=1024)
    args = parser.parse_args()
    if not args.molar.exists():
        print(f"bench_merge: {args.molar} is missing; build it first (scripts/quickstart)", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    subject, style, network = (args.out / f"{name}.safetensors" for name in ("subject", "style", "network"))
    layers = write_lora(subject, args.rank, 1)
    write_lora(style, args.rank, 2)
    write_network(network)
    merged = args.out / "merged.safetensors"
    merge = [str(args.molar), "merge", "--subject", str(subject), "--style", str(style), "--method", "lorarar", "--hypernet",
             str(network), "-o", str(merged), "-q"]
    naive = [sys.executable, "-c", NAIVE, str(subject), str(style), str(network)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MOLAR_")}
    ours, theirs, ours_mib, theirs_mib, computing = [], [], [], [], []
    for turn in range(args.n + 1):
        merged.unlink(missing_ok=True)  # giving an old file's pages back is not part of a merge
        a = measured(merge, environment)
        b = measured(naive, environment)
        if turn == 0:
            continue
        ours.append(a[0])
        theirs.append(b[0])
        ours_mib.append(a[1])
        theirs_mib.append(b[1])
        computing.append(float(b[2]))
    print(f"{layers} layers, rank {args.rank}, float16 files of {subject.stat().st_size / 2**20:.0f} MiB; {platform.processor() or platform.machine()}, "
          f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}, n = {args.n}; median [lowest, highest]\n")
    print("| figure | molar merge | PyTorch, whole changes | ratio |\n|---|---|---|---|")
    print(row("whole process", ours, theirs, "s"))
    print(row("whole process against its computation alone", ours, computing, "s"))
    print(row("peak memory", ours_mib, theirs_mib, "MiB"))
    if args.ziplora_runs:
        bench_ziplora(args, environment, ["--subject", str(subject), "--style", str(style)], statistics.median(ours))
    return 0


if __name__ == "__main__":
    sys.exit(main())
