#!/usr/bin/env python3
"""Trains Toyland's face and hand experts and their gates with `molar train expert` and `molar train gates`, by the recipes
beside this file: the experts on close-ups, the gates on scenes of one to three people and close-ups, mixed.

    train_mole.py                 # into models/toyland/mole, checkpoints beside
    train_mole.py --out build/toyland/mole

May be stopped at any moment; the same command goes on, and does nothing for what is finished.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
from collections.abc import Callable
from pathlib import Path

import world
from lessons import write_pictures
from molar_program import ROOT, run_molar
from sampling import KNOWN_STYLES

RECIPES = Path(__file__).with_name("recipes")
MODEL = ROOT / "models/toyland"
PICTURES = ROOT / "build/toyland/people"
COUNT = 1500  # pictures of each kind
SEED = 8_000_000  # of their scenes; what is judged is drawn from others
KINDS: dict[str, Callable[..., world.Scene]] = {
    "face": world.face_scene,
    "hand": world.hand_scene,
    "people": world.person_scene,
}
EXPERTS = ("face", "hand")


def scenes(kind: str) -> list[world.Scene]:
    """Every fourth in a style that the base knows: an expert is to serve those too."""
    return [
        KINDS[kind](SEED + index, style="plain" if index % 4 else KNOWN_STYLES[index // 4 % len(KNOWN_STYLES)])
        for index in range(COUNT)
    ]


def write_lessons(kind: str) -> Path:
    folder = PICTURES / kind
    if len(list(folder.glob("*.txt"))) < COUNT:
        write_pictures(scenes(kind), folder)
    return folder


def train_gates(out: Path, options: tuple[str, ...] = ()) -> None:
    """Of the experts in `out`."""
    pictures = [word for kind in KINDS for word in ("--instance-images", write_lessons(kind))]
    run_molar("train", "gates", "--config", RECIPES / "gates.toml", "-m", MODEL, *pictures, *options, "-q", "-o", out)
    print(f"{out}: gates are trained", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=MODEL / "mole")
    out = parser.parse_args().out

    def train_expert(region: str) -> None:
        run_molar(
            "train", "expert", "--config", RECIPES / "expert.toml", "-m", MODEL, "--region", region,
            "--instance-images", write_lessons(region), "--threads", 1, "-q", "-o", out,
        )  # fmt: skip
        print(f"{out}: {region} is trained", flush=True)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(train_expert, EXPERTS))
    train_gates(out)


if __name__ == "__main__":
    main()
