#!/usr/bin/env python3
"""Trains Toyland's face and hand experts and their gates with `molar train expert` and `molar train gates`, by the recipes
beside this file: the experts on close-ups, the gates on scenes of one to three people, close-ups and things,
mixed.

    train_mole.py                 # into models/toyland/mole; checkpoints in build/toyland/mole
    train_mole.py --out somewhere/mole

On a GPU (a CUDA build of libtorch) the experts take five minutes and the gates two. May be stopped at any moment; the same
command goes on, and does nothing for what is finished.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

import world
from lessons import write_pictures
from molar_program import ROOT, run_molar
from sampling import KNOWN_STYLES

RECIPES = Path(__file__).with_name("recipes")
MODEL = ROOT / "models/toyland"
RUN = ROOT / "build/toyland"
SEED = 8_000_000  # of their scenes; what is judged is drawn from others


def thing_scene(seed: int, style: str) -> world.Scene:
    return world.class_scene(list(world.CLASSES)[seed % len(world.CLASSES)], seed, style=style)


KINDS: dict[str, Callable[..., world.Scene]] = {
    "face": world.face_scene,
    "hand": world.hand_scene,
    "people": world.person_scene,
    "things": thing_scene,
}
EXPERTS = ("face", "hand")
CLOSE_UPS = 2850  # that each expert learns from
# Scenes with people and without, so that gates learn where to stay shut: taught on people alone, they let the experts into
# animals and houses, and fewer of those were named right.
GATE_LESSONS = {"face": 700, "hand": 700, "people": 1500, "things": 2000}
# At full strength the experts change more than faces and hands (CLIP-T falls); chosen on prompts that judge_people does not ask.
STRENGTH = 0.7


def scenes(kind: str, count: int) -> list[world.Scene]:
    """Every fourth in a style that the base knows: an expert is to serve those too."""
    return [
        KINDS[kind](SEED + index, style="plain" if index % 4 else KNOWN_STYLES[index // 4 % len(KNOWN_STYLES)])
        for index in range(count)
    ]


def write_lessons(kind: str, count: int) -> Path:
    folder = RUN / "people" / f"{kind}-{count}"
    if len(list(folder.glob("*.txt"))) < count:
        write_pictures(scenes(kind, count), folder)
    return folder


def train_gates(out: Path, options: tuple[str, ...] = ()) -> None:
    """Of the experts in `out`."""
    pictures = [word for kind, count in GATE_LESSONS.items() for word in ("--instance-images", write_lessons(kind, count))]
    run_molar("train", "gates", "--config", RECIPES / "gates.toml", "-m", MODEL, *pictures, *options, "-q", "-o", out)
    print(f"{out}: gates are trained", flush=True)


def write_scaled(source: Path, target: Path, factor: float, names: tuple[str, ...] = (*EXPERTS, "gates")) -> None:
    """These files of `source` with the experts `factor` as strong and gates of the same values: what a global gate reads grows
    with the experts, so its weights shrink."""
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        with safe_open(source / f"{name}.safetensors", "np") as file:
            metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}
        for key, values in tensors.items():
            if key.endswith(".alpha"):
                tensors[key] = np.asarray(values * factor, values.dtype)
            elif key.endswith("_scale.weight"):
                tensors[key] = np.asarray(values / factor, values.dtype)
        save_file(tensors, target / f"{name}.safetensors", metadata)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=MODEL / "mole")
    out = parser.parse_args().out
    trained = RUN / "mole/trained"

    def train_expert(region: str) -> None:
        run_molar(
            "train", "expert", "--config", RECIPES / "expert.toml", "-m", MODEL, "--region", region,
            "--instance-images", write_lessons(region, CLOSE_UPS), "--threads", 1, "-q", "-o", trained,
        )  # fmt: skip
        print(f"{trained}: {region} is trained", flush=True)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(train_expert, EXPERTS))
    train_gates(trained)
    write_scaled(trained, out, STRENGTH)
    print(f"{out}: the set, at {STRENGTH} of its strength")


if __name__ == "__main__":
    main()
