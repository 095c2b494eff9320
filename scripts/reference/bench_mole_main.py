"""Times MoLE's experts on a full-size SD 1.5 UNet with random weights, in tests/bench/bench_mole.cpp.

Two experts over every layer of the transformers, gates as they are before they are trained (uniform, as nn.Linear draws
them). Every round measures the UNet's call (a batch of two: both guidance branches) without experts, in the fused form and
expert by expert. Beside the time stands the arithmetic: what the fused form would take if it multiplied at the base's pace.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess

import safetensors.torch
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench_main import machine
from families import name_generator
from make_mole_goldens import expert_layers, spelled
from parity_models import ShapesOnly, Workshop

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
WANTED = {256: 1.30, 64: 1.10}  # rank -> seconds per step against base, at most
SEED = 3


def write_set(folder: pathlib.Path, rank: int) -> None:
    """float16 files, as large as published ones: scale 1/4 and 1/2."""
    folder.mkdir(parents=True)
    experts: dict[str, dict] = {"face": {}, "hand": {}}
    gates = {}
    for name, module in expert_layers(ShapesOnly("sd15").unet):
        key = spelled(name, "sd15")
        rows, columns = module.weight.shape[0], module.weight[0].numel()
        kernel = (1,) * (module.weight.dim() - 2)

        def draw(what, shape, bound, name=name):
            uniform = torch.rand(shape, generator=name_generator(SEED, f"{name} {what}"))
            return ((2 * uniform - 1) * bound).half()

        for expert, alpha in (("face", rank / 4), ("hand", rank / 2)):
            experts[expert] |= {f"{key}.lora_down.weight": draw(expert + "d", (rank, columns, *kernel), columns**-0.5),
                                f"{key}.lora_up.weight": draw(expert + "u", (rows, rank, *kernel), 0.5 * rank**-0.5),
                                f"{key}.alpha": torch.tensor(alpha).half()}
            gates[f"moe_{key}.softmoe.{expert}_scale.weight"] = draw(expert + "w", (1, rows), rows**-0.5)
            gates[f"moe_{key}.softmoe.{expert}_scale.bias"] = draw(expert + "b", (1,), rows**-0.5)
        gates[f"moe_{key}.softmoe.Phi_1.weight"] = draw("p", (2, columns), columns**-0.5)
        gates[f"moe_{key}.softmoe.Phi_1.bias"] = draw("q", (2,), columns**-0.5)
    for expert, tensors in experts.items():
        safetensors.torch.save_file(tensors, folder / f"{expert}.safetensors")
    safetensors.torch.save_file(gates, folder / "gates.safetensors")  # last: a whole set has it


class Multiplications:
    """Of one call of the UNet on a batch of two, by the modules' shapes."""

    def __init__(self, size_px: int):
        unet = ShapesOnly("sd15").unet
        self.layers = dict(expert_layers(unet))
        self.tokens: dict[str, int] = {}  # of both rows, that the layer works on
        for name, module in self.layers.items():
            module.register_forward_hook(
                lambda module, inputs, out, name=name: self.tokens.update({name: out.numel() // module.weight.shape[0]}))
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            unet(torch.zeros(2, 4, size_px // 8, size_px // 8), torch.zeros(1), encoder_hidden_states=torch.zeros(2, 77, 768))
        self.base = counter.get_total_flops() // 2

    def fused(self, rank: int) -> int:
        """What two experts add: factors or whole changes, as molar chooses, and four rows for the gates."""
        total = 0
        for name, module in self.layers.items():
            rows, columns = module.weight.shape[0], module.weight[0].numel()
            total += self.tokens[name] * (2 * min(rank * (rows + columns), rows * columns) + 4 * columns)
        return total


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):8.2f}  [{min(values):.2f}, {max(values):.2f}]"


def measure(args, model: pathlib.Path, rank: int) -> dict:
    folder = args.out / f"mole-rank{rank}"
    if not (folder / "gates.safetensors").exists():
        write_set(folder, rank)
    done = subprocess.run([str(args.program), str(model), str(folder), str(args.size), str(args.threads), str(args.n)],
                          capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": str(args.threads)})
    if done.returncode:
        raise SystemExit(f"bench_mole ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def report(rank: int, result: dict, multiplications: Multiplications) -> None:
    times = result["seconds"]
    added = multiplications.fused(rank) / multiplications.base
    print(f"\nrank {rank}, {result['layers']} layers; largest difference of fused and literal "
          f"{result['difference']:.1e} (experts change {result['change']:.2f})\n"
          f"multiplications: base {multiplications.base / 1e9:.0f} G, experts {added:.1%} of that: at the base's pace {1 + added:.3f}")
    for form in ("base", "fused", "literal"):
        ratios = [a / b for a, b in zip(times[form], times["base"])]
        verdict = ""
        if form == "fused" and rank in WANTED:
            good = statistics.median(ratios) <= WANTED[rank]
            verdict = f"  wanted <= {WANTED[rank]:.2f}: {'yes' if good else 'NO'}"
        print(f"{form:10}{spread(times[form]):34} s a step, ratio to base {statistics.median(ratios):.3f} "
              f"[{min(ratios):.3f}, {max(ratios):.3f}]{verdict}", flush=True)


def parse():
    parser = argparse.ArgumentParser(prog="scripts/bench_mole", description=__doc__)
    parser.add_argument("--python", help="interpreter with torch and diffusers (read by scripts/bench_mole)")
    parser.add_argument("--build", type=pathlib.Path, default=REPOSITORY / "build", help="CMake's folder (build)")
    parser.add_argument("--out", type=pathlib.Path, default=REPOSITORY / "bench-out")
    parser.add_argument("--full-models", type=pathlib.Path, default=REPOSITORY / "parity-out" / "full",
                        help="folder of scripts/parity's full-size models; the SD 1.5 one is made there if it is missing")
    parser.add_argument("--ranks", type=int, nargs="+", default=[256, 64])
    parser.add_argument("-n", type=int, default=5, help="rounds; one before them is not counted (5)")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    args.program = args.build / "tests" / "bench_mole"
    args.out = args.out.resolve()
    return args


def main() -> int:
    args = parse()
    subprocess.run(["cmake", "--build", str(args.build), "--target", "bench_mole"], check=True)
    args.out.mkdir(parents=True, exist_ok=True)
    model = Workshop(args.out, args.full_models.resolve()).model_folder("sd15-full")
    facts = {"machine": machine(), "threads": args.threads, "dtype": "float32", "size": f"{args.size}x{args.size}",
             "batch": 2, "n": args.n, "warm-up": "one round", "load average before": os.getloadavg()[0]}
    print("\n".join(f"{k}: {v}" for k, v in facts.items()), flush=True)
    multiplications = Multiplications(args.size)
    results = {}
    for rank in args.ranks:
        results[rank] = measure(args, model, rank)
        report(rank, results[rank], multiplications)
    (args.out / "mole.json").write_text(json.dumps({"facts": facts, "ranks": results}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
