#!/usr/bin/env python3
"""Trains networks that predict merges for the bundled model with `molar train hypernet`, on Toyland's training LoRAs, which
train_loras.py makes.

    train_hypernet.py                # every network of the table below, into build/toyland/hypernets
    train_hypernet.py features -t 1  # one of them; what follows its name is handed to molar

The 22 x 18 training pairs are learnt from, the 3 x 3 validation pairs choose the network; the test pairs have no part.
The same command goes on where it was interrupted.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

import world
from lessons import Lesson, all_lessons, write_references
from models_base import PICTURE_PX
from molar_program import run_molar
from train_loras import MODEL, RUN, lora_path

RECIPES = Path(__file__).with_name("recipes")
GROUPS = {("subject", "train"): "subjects", ("style", "train"): "styles",
          ("subject", "val"): "validation-subjects", ("style", "val"): "validation-styles"}  # fmt: skip
JOINT_PICTURES = 4  # of each pair
JOINT_SEED = 3_000_000  # scenes that no LoRA learns from and none is judged by


@dataclass(frozen=True)
class Network:
    recipe: str
    options: tuple[str, ...] = ()
    sees_joint_pictures: bool = False  # of the subject in the style


NETWORKS = {
    "lorarar": Network("hypernet.toml"),  # as published
    "constant": Network("hypernet.toml", ("--constant",)),  # one pair of numbers for each width
    "features": Network("hypernet_features.toml", (), True),
}


def network_path(name: str) -> Path:
    return RUN / "hypernets" / f"{name}.safetensors"


def gather(folder: Path) -> list[str]:
    """Links to LoRAs, each with its pictures beside it, in one folder for each group; the options that name them."""
    shutil.rmtree(folder, ignore_errors=True)
    for lesson in all_lessons():
        if (lesson.role, lesson.split) not in GROUPS:
            continue
        if not lora_path(lesson).exists():
            sys.exit(f"error: '{lora_path(lesson)}' is missing: run train_loras.py first")
        group = folder / GROUPS[lesson.role, lesson.split]
        write_references(lesson, group / lesson.name)
        (group / f"{lesson.name}.safetensors").symlink_to(lora_path(lesson))
    return [word for name in GROUPS.values() for word in (f"--{name}", str(folder / name))]


def write_joint_pictures(subject: Lesson, style: Lesson, folder: Path) -> None:
    """Renderings, with captions; those of an earlier call are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(JOINT_PICTURES):
        path, caption = folder / f"{index}.png", folder / f"{index}.txt"
        scene = world.subject_scene(subject.name, JOINT_SEED + index, style.name)
        if not path.exists():
            Image.fromarray(world.render(scene, PICTURE_PX).image).save(path)
        caption.write_text(world.caption(scene) + "\n", encoding="utf-8")


def gather_joint_pictures(folder: Path) -> list[str]:
    lessons = all_lessons()
    for split in ("train", "val"):
        for subject in lessons:
            for style in lessons:
                if (subject.role, style.role, subject.split, style.split) == ("subject", "style", split, split):
                    write_joint_pictures(subject, style, folder / subject.name / style.name)
    return ["--joint-images", str(folder)]


def train(name: str, options: list[str]) -> None:
    network = NETWORKS[name]
    words = gather(RUN / "hypernets" / name)
    if network.sees_joint_pictures:
        words += gather_joint_pictures(RUN / "joint")
    print(run_molar("train", "hypernet", "--config", RECIPES / network.recipe, "-m", MODEL, *words, *network.options,
                    *options, "-o", network_path(name)), end="")  # fmt: skip


def main() -> None:
    name, *options = sys.argv[1:] or [""]
    if name and name not in NETWORKS:
        sys.exit(f"error: unknown network '{name}': wanted one of {', '.join(NETWORKS)}")
    for each in [name] if name else NETWORKS:
        train(each, options)


if __name__ == "__main__":
    main()
