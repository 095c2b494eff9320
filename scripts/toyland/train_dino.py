"""A small vision transformer that learns from pictures alone, to measure whether two pictures show the same individual.

Self-distillation without labels: the student, which sees large and small cuts, is to say what its own moving average
says of the large cuts. Source: Caron et al. 2021, arXiv:2104.14294.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from models_base import PICTURE_PX, Size, make_dino
from train_data import Pictures
from train_loop import Optimisation, batch_indices, generator, mixed_precision
from train_options import Options

OPTIMISATION = Optimisation(rate=5e-4, weight_decay=0.05, warmup_steps=100, decay_share=0.8, max_norm=3.0)
BATCH = {"base": 32, "smoke": 4}
TEACHER_DECAY = 0.99
STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.04
CENTRE_DECAY = 0.95
LARGE, SMALL = (0.5, 1.0), (0.15, 0.5)  # shares of the picture's area
SMALL_PX = PICTURE_PX // 2


class DinoNetwork(nn.Module):
    """The transformer with the head that only training needs."""

    def __init__(self, size: Size):
        super().__init__()
        self.backbone = make_dino(size)
        hidden = 2 * size.dino_width
        self.head = nn.Sequential(
            nn.Linear(size.dino_width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, 64)
        )
        self.prototypes = nn.Linear(64, size.dino_prototypes, bias=False)
        self.register_buffer("centre", torch.zeros(size.dino_prototypes))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] to cosines with the prototypes, float32 [B, K]."""
        features = self.backbone(pictures, interpolate_pos_encoding=True).last_hidden_state[:, 0]
        with torch.autocast(pictures.device.type, enabled=False):
            directions = F.normalize(self.head(features.float()), dim=-1)
            return directions @ F.normalize(self.prototypes.weight, dim=-1).T


def cut(pictures: torch.Tensor, area: tuple[float, float], size_px: int, draw: torch.Generator) -> torch.Tensor:
    """A random square of each picture, resized, perhaps mirrored, in slightly other colours: [B, 3, S, S]."""
    batch = len(pictures)
    share, x, y, mirrored = torch.rand(4, batch, generator=draw)
    side = (area[0] + (area[1] - area[0]) * share).sqrt()
    affine = torch.zeros(batch, 2, 3)
    affine[:, 0, 0] = torch.where(mirrored < 0.5, -side, side)
    affine[:, 1, 1] = side
    affine[:, 0, 2] = (2 * x - 1) * (1 - side)
    affine[:, 1, 2] = (2 * y - 1) * (1 - side)
    grid = F.affine_grid(affine, [batch, 3, size_px, size_px], align_corners=False)
    squares = F.grid_sample(pictures, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    gain = 1 + 0.2 * torch.randn(batch, 3, 1, 1, generator=draw)
    shift = 0.1 * torch.randn(batch, 3, 1, 1, generator=draw)
    return (squares * gain + shift).clamp(-1, 1)


class DinoLoss:
    def __init__(self, pictures: Pictures, options: Options):
        self.pictures, self.options = pictures, options

    def __call__(self, step: int, student: DinoNetwork, teacher: DinoNetwork) -> torch.Tensor:
        options, draw = self.options, generator(self.options.seed, step)
        pictures = self.pictures.batch(batch_indices(options.seed, step, BATCH[options.size], len(self.pictures)))
        large = torch.cat([cut(pictures, LARGE, PICTURE_PX, draw) for _ in range(2)]).to(options.device)
        small = torch.cat([cut(pictures, SMALL, SMALL_PX, draw) for _ in range(2)]).to(options.device)
        with mixed_precision(options.device, options.bfloat16):
            with torch.no_grad():
                answers = teacher(large)
            guesses = torch.cat([student(large), student(small)])
        with torch.no_grad():
            targets = ((answers - student.centre) / TEACHER_TEMPERATURE).softmax(dim=-1).chunk(2)
            student.centre.lerp_(answers.mean(dim=0), 1 - CENTRE_DECAY)
        logs = (guesses / STUDENT_TEMPERATURE).log_softmax(dim=-1).chunk(4)
        pairs = [(t, s) for t in range(2) for s in range(4) if t != s]  # never a cut with itself
        return -sum((targets[t] * logs[s]).sum(dim=-1).mean() for t, s in pairs) / len(pairs)


def teacher_decay(step: int) -> float:
    """Follows the student closely at first, when it learns most."""
    return min(TEACHER_DECAY, step / (step + 10))
