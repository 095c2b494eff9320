#!/usr/bin/env python3
"""Trains a hypernetwork for the bundled model with `molar train hypernet` on Toyland's training LoRAs, which train_loras.py makes.

    train_hypernet.py                          # build/toyland/hypernet.safetensors
    train_hypernet.py --constant -o FILE       # what follows is handed to molar: here the ablation

The 22 x 18 training pairs are learnt from, the 3 x 3 validation pairs choose the network; the test pairs have no part.
The same command goes on where it was interrupted.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from lessons import all_lessons, write_references
from molar_program import run_molar
from train_loras import MODEL, RUN, lora_path

RECIPE = Path(__file__).with_name("recipes") / "hypernet.toml"
GROUPS = {("subject", "train"): "subjects", ("style", "train"): "styles",
          ("subject", "val"): "validation-subjects", ("style", "val"): "validation-styles"}  # fmt: skip


def gather(folder: Path) -> None:
    """Links to LoRAs, each with its pictures beside it, in one folder for each group."""
    shutil.rmtree(folder, ignore_errors=True)
    for lesson in all_lessons():
        if (lesson.role, lesson.split) not in GROUPS:
            continue
        if not lora_path(lesson).exists():
            sys.exit(f"error: '{lora_path(lesson)}' is missing: run train_loras.py first")
        group = folder / GROUPS[lesson.role, lesson.split]
        write_references(lesson, group / lesson.name)
        (group / f"{lesson.name}.safetensors").symlink_to(lora_path(lesson))


def main() -> None:
    folder = RUN / "hypernet"
    gather(folder)
    options = sys.argv[1:]
    if "-o" not in options:
        options += ["-o", str(RUN / "hypernet.safetensors")]
    groups = [word for name in GROUPS.values() for word in (f"--{name}", folder / name)]
    print(run_molar("train", "hypernet", "--config", RECIPE, "-m", MODEL, *groups, *options), end="")


if __name__ == "__main__":
    main()
