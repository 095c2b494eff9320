"""The loop that every training of the base model runs in: budget, rate, averaging, checkpoints, signals.

A training is a module and a function `loss(step)`. Whatever is random in a step is drawn from `generator(seed, step)`,
so a checkpoint needs no generator states, and a run that was stopped and resumed equals one that was not, bit for bit.
"""

from __future__ import annotations

import contextlib
import copy
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn


@dataclass(frozen=True)
class Budget:
    """How long to train: minutes of wall time over all resumed runs, or a number of steps (repeatable to the bit)."""

    minutes: float = 0.0
    steps: int = 0  # wins over minutes if not 0
    checkpoint_minutes: float = 5.0

    def progress(self, step: int, elapsed_s: float) -> float:
        """0 at the start, 1 and more when the budget is spent."""
        return step / self.steps if self.steps else elapsed_s / (60 * self.minutes)


@dataclass(frozen=True)
class Optimisation:
    rate: float
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    warmup_steps: int = 100
    decay_share: float = 0.4  # the last part of the budget, over which the rate falls to nothing
    max_norm: float = 1.0


def generator(seed: int, step: int, purpose: int = 0) -> torch.Generator:
    """What step `step` draws from. Python's hash of a tuple of integers is the same in every process."""
    return torch.Generator().manual_seed(hash((seed, step, purpose)) % 2**63)


def batch_indices(seed: int, step: int, batch: int, count: int) -> torch.Tensor:
    """Indices of batch `step`, [batch]: each epoch is a permutation of its own, and its odd rest is left out."""
    if batch > count:
        raise SystemExit(f"error: a batch of {batch} needs as many pictures; the data set has {count}")
    epoch, place = divmod(step, count // batch)
    order = torch.randperm(count, generator=generator(seed, epoch, purpose=1))
    return order[place * batch : (place + 1) * batch]


def power_average(width: float = 0.05) -> Callable[[int], float]:
    """The decay after `step` steps of an average over about the last `width` of the training, however long that is.

    Karras et al. 2023, arXiv:2312.02696, eq. 123 and 126 give the exponent for a relative width.
    """
    exponent = 1.0
    while (exponent + 1) ** 0.5 / ((exponent + 2) * (exponent + 3) ** 0.5) > width:
        exponent += 0.01
    return lambda step: (1 - 1 / step) ** (exponent + 1)


def rate_factor(optimisation: Optimisation, step: int, progress: float) -> float:
    """Warm-up, constant, then a straight line to zero: only the last part depends on the total length."""
    rising = min(1.0, (step + 1) / optimisation.warmup_steps)
    return rising * min(1.0, max(0.0, 1 - progress) / optimisation.decay_share)


def mixed_precision(device: torch.device, enabled: bool) -> torch.autocast:
    """Products in bfloat16, weights and sums in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def has_fast_bfloat16(device: torch.device) -> bool:
    return torch.cpu._is_amx_tile_supported() if device.type == "cpu" else torch.cuda.is_bf16_supported()


@contextlib.contextmanager
def stop_requests():
    """Yields a list that SIGTERM and SIGINT append to: the loop stops where it is safe."""
    received: list[int] = []
    signals = (signal.SIGTERM, signal.SIGINT)
    previous = [signal.signal(number, lambda number, _: received.append(number)) for number in signals]
    try:
        yield received
    finally:
        for number, handler in zip(signals, previous):
            signal.signal(number, handler)


def save_atomically(value: object, path: Path) -> None:
    part = path.with_name(path.name + ".part")
    torch.save(value, part)
    os.replace(part, path)


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict]:
    """Biases, gains and embeddings of one row do not decay."""
    trained = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.squeeze().dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.squeeze().dim() < 2], "weight_decay": 0.0},
    ]


@torch.no_grad()
def move_average(average: nn.Module, module: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1 - decay)
    for kept, new in zip(average.buffers(), module.buffers()):
        kept.copy_(new)


def train(
    name: str,
    path: Path,
    module: nn.Module,
    loss: Callable[[int, nn.Module, nn.Module], torch.Tensor],
    budget: Budget,
    optimisation: Optimisation,
    average_decay: Callable[[int], float],
    publish: Callable[[nn.Module], None],
) -> None:
    """Trains `module` until the budget is spent; goes on from the checkpoint `path` where there is one.

    loss(step, module, average): a scalar; `average` is the moving average of the module, whose weights are the result.
    publish(average): called before each checkpoint, to write the model where others read it.
    Ends the process with 128 + signal number after a checkpoint when a signal asks for it.
    """
    average = copy.deepcopy(module).requires_grad_(False).eval()
    optimizer = torch.optim.AdamW(
        parameter_groups(module, optimisation.weight_decay), lr=optimisation.rate, betas=optimisation.betas, fused=True
    )
    step, elapsed_before_s = 0, 0.0
    state = {"module": module, "average": average, "optimizer": optimizer}
    if path.exists():
        saved = torch.load(path, map_location="cpu", weights_only=True)
        step, elapsed_before_s = saved["step"], saved["elapsed_s"]
        for key, part in state.items():
            part.load_state_dict(saved[key])

    start = last_line = last_save = time.monotonic()
    losses: list[float] = []

    def elapsed_s() -> float:
        return elapsed_before_s + time.monotonic() - start

    def save() -> None:
        publish(average)  # first: a checkpoint at the end of the budget says that nothing is left to do
        save_atomically(
            {key: part.state_dict() for key, part in state.items()} | {"step": step, "elapsed_s": elapsed_s()}, path
        )

    first_step, first_progress = step, budget.progress(step, elapsed_before_s)
    module.train()
    with stop_requests() as received:
        while not received and (progress := budget.progress(step, elapsed_s())) < 1:
            for group in optimizer.param_groups:
                group["lr"] = optimisation.rate * rate_factor(optimisation, step, progress)
            value = loss(step, module, average)
            value.backward()
            nn.utils.clip_grad_norm_(module.parameters(), optimisation.max_norm)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            move_average(average, module, average_decay(step))
            losses.append(float(value.detach()))
            if losses[-1] != losses[-1]:
                raise SystemExit(f"error: {name}: the loss of step {step} is not a number")
            now = time.monotonic()
            if now - last_line > 15:
                left_s = (now - start) * (1 - progress) / max(progress - first_progress, 1e-9)
                print(
                    f"{name}: step {step}, loss {sum(losses) / len(losses):.4f}, {elapsed_s() / 60:.1f} min, "
                    f"{left_s / 60:.1f} min left",
                    flush=True,
                )
                last_line, losses = now, []
            if now - last_save > 60 * budget.checkpoint_minutes:
                save()
                last_save = now
    if step > first_step:
        save()
    if received:
        print(f"{name}: stopped at step {step}; the same command goes on", flush=True)
        sys.exit(128 + received[0])
    print(f"{name}: {step} steps in {elapsed_s() / 60:.1f} min", flush=True)
