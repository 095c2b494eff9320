"""The training of `molar train gates` with hooks on diffusers' UNet, by the published formula: what molar is compared with.

Passes, noise, AdamW and rates are train_lora_reference's; gates begin as torch.nn.Linear's, drawn in the order that
include/molar/training/training_order.h documents.
"""

from __future__ import annotations

import pathlib

import safetensors.torch
import torch

import train_lora_reference as reference
from make_mole_goldens import EXPERTS, expert_layers, spelled


class Trainer(reference.Trainer):
    """`experts`: the folder of a set in MoLE's layout; its gates are not read."""

    def __init__(self, pipe, family: str, experts: pathlib.Path, options: reference.Options, pictures):
        self.family = family
        self.experts = {name: safetensors.torch.load_file(experts / f"{name}.safetensors") for name in EXPERTS}
        self.statistics: list[list[float]] = []  # of each step: local and global of each expert in turn
        self.seen: dict[str, list[list[float]]] = {}
        super().__init__(pipe, options, pictures)

    def add_adapters(self) -> dict[str, torch.nn.Parameter]:
        found = {}
        draws = reference.generator(self.o.seed, reference.FACTORS, 0)
        for name, module in sorted(expert_layers(self.pipe.unet), key=lambda item: item[0]):
            out, fan_in = module.weight.shape[0], module.weight[0].numel()

            def leaf(*shape, fan):
                bound = fan**-0.5
                return torch.nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=draws))

            gates = {
                "local_weight": leaf(len(EXPERTS), fan_in, fan=fan_in), "local_bias": leaf(len(EXPERTS), fan=fan_in),
                "global_weight": leaf(len(EXPERTS), out, fan=out), "global_bias": leaf(len(EXPERTS), fan=out)}  # fmt: skip
            module.register_forward_hook(self.make_hook(spelled(name, self.family), gates))
            found |= {f"{name}/{gate}": values for gate, values in gates.items()}
        return found

    def make_hook(self, key: str, gates: dict[str, torch.nn.Parameter]):
        def hook(_, inputs, output):
            x, y = inputs[0], output
            is_map = x.dim() == 4
            if is_map:
                x = x.flatten(2).transpose(1, 2)
            local = torch.sigmoid(x @ gates["local_weight"].T + gates["local_bias"])
            change, seen = 0, []
            for e, (expert, (rank, alpha)) in enumerate(EXPERTS.items()):
                down, up = (self.experts[expert][f"{key}.lora_{part}.weight"].flatten(1) for part in ("down", "up"))
                r = (x @ down.T @ up.T) * (alpha / rank)
                g = torch.sigmoid(r.mean(1) @ gates["global_weight"][e] + gates["global_bias"][e])  # [B]
                change = change + r * local[:, :, e : e + 1] * g[:, None, None]
                seen += [local[:, :, e].mean().item(), g.mean().item()]
            self.seen.setdefault(key, []).append(seen)
            return y + (change.transpose(1, 2).reshape(y.shape) if is_map else change)

        return hook

    def run(self, on_step=lambda step, loss: None) -> reference.Result:
        def after_step(step: int, loss: float) -> None:
            calls = torch.tensor([row for rows in self.seen.values() for row in rows], dtype=torch.float64)
            self.statistics.append(calls.mean(0).tolist())
            self.seen = {}
            on_step(step, loss)

        return super().run(after_step)
