"""The judges of hands and faces: a detector that finds them, and two classifiers that look at one at a time.

    picture [B, 3, 64, 64] in [-1, 1] -> Detector -> [B, 8, 32, 32]: for face and hand each a heat map (logits) and,
        per cell, where the middle lies (in cells from the cell's own middle) and log(half height in pixels)
    crop [B, 3, 40, 40] around one  -> Classifier -> hands: [B, 10], nine gestures and "broken"; faces: [B, 5], whether
        each part of PARTS is there, once, where it belongs

`read` is the reference of `molar eval --human` (src/evaluation/human_judges.cpp): the same numbers, step by step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from hands import GESTURES
from human_faults import PARTS

PICTURE_PX, CROP_PX = 64, 40
CELL_PX = 2  # of the heat maps
KINDS = ("face", "hand")
CROP_HALF = {"face": 0.95, "hand": 1.3}  # half the crop's side, in half heights of the frame
GESTURE_NAMES = (*GESTURES, "broken")
FOUND = 0.35  # least heat of a detection
NEAR = 0.6  # two detections of a kind that lie nearer, in half heights of the stronger, are one


class ConvNorm(nn.Module):
    """A convolution without bias and batch normalisation; `folded` makes one convolution with bias of both."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))

    def folded(self) -> dict[str, torch.Tensor]:
        scale = self.norm.weight / (self.norm.running_var + self.norm.eps).sqrt()
        return {
            "weight": self.conv.weight * scale[:, None, None, None],
            "bias": self.norm.bias - self.norm.running_mean * scale,
        }


class Stage(nn.Module):
    """Widens and halves (stride 2) or not; then one residual block (He et al. 2015, arXiv:1512.03385)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.enter = ConvNorm(inputs, outputs, 3, stride)
        self.conv1, self.conv2 = ConvNorm(outputs, outputs), ConvNorm(outputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.enter(x))
        return F.relu(x + self.conv2(F.relu(self.conv1(x))))


class Encoder(nn.Module):
    """Every stage but the first halves; the first does as it is told."""

    def __init__(self, widths: Sequence[int], first_stride: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            Stage(inputs, outputs, 2 if k else first_stride)
            for k, (inputs, outputs) in enumerate(zip((3, *widths), widths))
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


class Detector(nn.Module):
    def __init__(self, widths: Sequence[int] = (24, 48, 64), merged: int = 32) -> None:
        super().__init__()
        self.encoder = Encoder(widths, CELL_PX)
        self.laterals = nn.ModuleList(ConvNorm(width, merged, 1) for width in widths)
        self.merge = ConvNorm(merged, merged)
        self.head = nn.Conv2d(merged, 4 * len(KINDS), 1)
        nn.init.constant_(self.head.bias[: len(KINDS)], -4.0)  # few cells are a middle

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        levels = self.encoder(pictures)
        x = self.laterals[-1](levels[-1])
        for lateral, level in zip(reversed(self.laterals[:-1]), reversed(levels[:-1])):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest") + lateral(level)
        return self.head(F.relu(self.merge(F.relu(x))))


class Classifier(nn.Module):
    def __init__(self, outputs: int, widths: Sequence[int] = (16, 32, 64, 64)) -> None:
        super().__init__()
        self.encoder = Encoder(widths, 1)
        side = CROP_PX // 2 ** (len(widths) - 1)
        self.head = nn.Linear(widths[-1] * side * side, outputs)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(crops)[-1].flatten(1))


def make_network(name: str) -> nn.Module:
    return {
        "detector": Detector,
        "hand": lambda: Classifier(len(GESTURE_NAMES)),
        "face": lambda: Classifier(len(PARTS)),
    }[name]()


def fold(network: nn.Module) -> nn.Module:
    """In place: each ConvNorm becomes its convolution with bias."""
    for module in network.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, ConvNorm):
                old, new = child.conv, child.folded()
                conv = nn.Conv2d(old.in_channels, old.out_channels, old.kernel_size, old.stride, old.padding)
                conv.load_state_dict(new)
                if isinstance(module, nn.ModuleList):
                    module[int(name)] = conv
                else:
                    setattr(module, name, conv)
    return network.eval()


def crop(pictures: torch.Tensor, x: torch.Tensor, y: torch.Tensor, half: torch.Tensor) -> torch.Tensor:
    """Squares of `half` pixels around (x, y), bilinear; past the border the border. pictures [B, 3, H, W], the rest [B]."""
    height, width = pictures.shape[2:]
    steps = (torch.arange(CROP_PX, dtype=torch.float32) + 0.5) / CROP_PX * 2 - 1
    columns = (x[:, None] + half[:, None] * steps) * 2 / width - 1
    rows = (y[:, None] + half[:, None] * steps) * 2 / height - 1
    grid = torch.stack(
        [columns[:, None, :].expand(-1, CROP_PX, -1), rows[:, :, None].expand(-1, -1, CROP_PX)], dim=-1
    )
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)


@dataclass(frozen=True)
class Found:
    kind: str
    x: float  # pixels
    y: float
    scale: float  # half height, pixels
    heat: float


def decode(maps: torch.Tensor) -> list[Found]:
    """maps: [8, h, w] of one picture. Strongest first, faces before hands."""
    found = []
    heats = maps[: len(KINDS)].sigmoid()
    peaks = F.max_pool2d(heats[None], 3, 1, 1)[0]
    for k, kind in enumerate(KINDS):
        places = ((heats[k] == peaks[k]) & (heats[k] >= FOUND)).nonzero().tolist()
        kept: list[Found] = []
        for row, column in sorted(places, key=lambda p: -float(heats[k, p[0], p[1]])):
            dx, dy, log_scale = maps[len(KINDS) + 3 * k : len(KINDS) + 3 * k + 3, row, column].tolist()
            one = Found(
                kind,
                (column + 0.5 + dx) * CELL_PX,
                (row + 0.5 + dy) * CELL_PX,
                float(torch.tensor(log_scale).clamp(-1, 5).exp()),
                float(heats[k, row, column]),
            )
            if all((one.x - o.x) ** 2 + (one.y - o.y) ** 2 >= (NEAR * o.scale) ** 2 for o in kept):
                kept.append(one)
        found += kept
    return found


@dataclass(frozen=True)
class Judged:
    found: Found
    gesture: str = ""  # of a hand; "broken" where it is no whole hand of a known gesture
    parts: tuple[bool, ...] = ()  # of a face

    @property
    def intact(self) -> bool:
        return all(self.parts) if self.parts else self.gesture != "broken"


@torch.no_grad()
def read(networks: dict[str, nn.Module], pictures: torch.Tensor) -> list[list[Judged]]:
    """pictures: [B, 3, 64, 64] in [-1, 1]."""
    results = []
    for picture, maps in zip(pictures, networks["detector"](pictures)):
        judged = []
        for one in decode(maps):
            cut = crop(
                picture[None], torch.tensor([one.x]), torch.tensor([one.y]), torch.tensor([one.scale * CROP_HALF[one.kind]])
            )
            logits = networks[one.kind](cut)[0]
            if one.kind == "hand":
                judged.append(Judged(one, gesture=GESTURE_NAMES[int(logits.argmax())]))
            else:
                judged.append(Judged(one, parts=tuple((logits > 0).tolist())))
        results.append(judged)
    return results
