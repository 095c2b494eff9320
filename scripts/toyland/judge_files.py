"""The files of the judges, as `molar eval --human` reads them (src/evaluation/human_judges.cpp)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from judge_networks import GESTURES, PARTS, PICTURE_PX


def to_model_range(pixels: np.ndarray) -> torch.Tensor:
    """uint8 [B, H, W, 3] to float [B, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1


def write(folder: Path, name: str, network: nn.Module, held_out: dict) -> None:
    """A folded network (judge_networks.fold) in half precision, with what it scored on held-out scenes."""
    metadata = {"molar.kind": "human-judge", "molar.judge": name, "molar.version": "1", "held_out": json.dumps(held_out)}
    metadata |= {
        "detector": {"picture_px": str(PICTURE_PX)},
        "hand": {"gestures": json.dumps([(key, len(gesture.extended)) for key, gesture in GESTURES.items()])},
        "face": {"parts": json.dumps(PARTS)},
    }[name]
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{name}.safetensors.part"
    save_file({key: value.half().contiguous() for key, value in network.state_dict().items()}, part, metadata)
    part.chmod(0o644)
    part.replace(folder / f"{name}.safetensors")
