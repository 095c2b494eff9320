"""What every training of the base model is told from outside."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Options:
    size: str  # a name in models_base.SIZES
    seed: int
    device: torch.device
    bfloat16: bool  # products in bfloat16; weights, sums and losses stay float32
