#!/usr/bin/env python3
"""Does the bundled model draw what it is asked for? Asks `molar batch`, with its default settings in float32.

The image-text pair names the class of each picture: of those that molar drew from captions of unseen scenes, and of
real renderings of the same scenes, which is the ceiling. Prints a table and writes report.json and contact sheets.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import diffusers
import numpy as np
import torch

import world
from labelled_sheet import write_sheet
from metrics import BATCH, ImageTextPair, Namer
from models_base import PICTURE_PX
from molar_program import ROOT, draw
from train_data import to_model_range

PROMPT_SEED, SHEET_SEED = 2_000_000, 3_000_000  # of scenes
SHEET_CLASSES = 4  # pictures of each class
PEOPLE = {"people": world.person_scene, "face": world.face_scene, "hand": world.hand_scene}


@torch.no_grad()
def reconstructions(vae: diffusers.AutoencoderKL, pixels: np.ndarray) -> np.ndarray:
    parts = []
    for part in to_model_range(pixels).split(BATCH):
        decoded = vae.decode(vae.encode(part).latent_dist.mode()).sample
        parts.append((decoded.clamp(-1, 1).permute(0, 2, 3, 1).numpy() + 1) * 127.5)
    return np.concatenate(parts).round().astype(np.uint8)


def real(scenes: list[world.Scene]) -> np.ndarray:
    return np.stack([world.render(scene, PICTURE_PX).image for scene in scenes])


def drawn(scenes: list[world.Scene], folder: Path, options: tuple[object, ...]) -> np.ndarray:
    jobs = [
        (folder / f"{seed}.png", {"prompt": world.caption(scene), "seed": seed})
        for seed, scene in enumerate(scenes)
    ]
    return np.stack(draw(jobs, *options))


def name_pictures(model: Path, out: Path, count: int, options: tuple[object, ...]) -> dict[str, object]:
    namer = Namer(ImageTextPair(model))
    vae = diffusers.AutoencoderKL.from_pretrained(model / "vae", torch_dtype=torch.float32)
    asked = [namer.classes[k % len(namer.classes)] for k in range(count)]
    scenes = [world.class_scene(name, PROMPT_SEED + k) for k, name in enumerate(asked)]
    truth = real(scenes)
    decoded = reconstructions(vae, truth)
    report: dict[str, object] = {
        "prompts": count,
        "error of the autoencoder, grey levels": float(np.abs(decoded.astype(int) - truth).mean()),
    }
    kinds = {
        "drawn by molar": drawn(scenes, out / "classes", options),
        "real": truth,
        "real, through the autoencoder": decoded,
    }
    for kind, pixels in kinds.items():
        named = namer.name(pixels)
        right = [a == b for a, b in zip(asked, named)]
        by_class = {name: np.mean([r for r, a in zip(right, asked) if a == name]) for name in dict.fromkeys(asked)}
        report[kind] = {
            "named right": sum(right) / count,
            "by class": by_class,
            "mistakes": sorted({f"{a} named {b}" for a, b in zip(asked, named) if a != b}),
        }
        worst = ", ".join(f"{name} {100 * share:.0f} %" for name, share in sorted(by_class.items(), key=lambda x: x[1])[:4])
        print(f"| {kind} | {100 * sum(right) / count:.1f} % of {count} | {worst} |", flush=True)
    return report


def sheet_rows(out: Path, options: tuple[object, ...]) -> list[tuple[str, np.ndarray]]:
    """Classes, one scene in the known styles, people: all from captions of unseen scenes."""
    wanted = {
        name: [world.class_scene(name, SHEET_SEED + k) for k in range(SHEET_CLASSES)] for name in world.CLASSES
    }
    for style in (name for name, style in world.STYLES.items() if style.base_known):
        wanted[style] = [
            world.class_scene(name, SHEET_SEED, style=style) for name in ("cat", "car", "house")
        ] + [world.face_scene(SHEET_SEED, style=style)]
    for name, make in PEOPLE.items():
        scenes = [make(SHEET_SEED + k) for k in range(2 * SHEET_CLASSES)]
        wanted |= {name: scenes[:SHEET_CLASSES], f"{name} ": scenes[SHEET_CLASSES:]}
    flat = [dataclasses.replace(scene) for scenes in wanted.values() for scene in scenes]
    pictures = drawn(flat, out / "sheet", options)
    return list(zip(wanted, np.split(pictures, len(wanted))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models/toyland")
    parser.add_argument("--out", type=Path, default=ROOT / "build/toyland/judge", help="pictures and report")
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--sheet", type=Path, help="write the contact sheet here (OUT/sheet.png)")
    parser.add_argument("--only-sheet", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    options = ("-m", arguments.model)
    write_sheet(sheet_rows(arguments.out, options), arguments.sheet or arguments.out / "sheet.png", columns=4)
    if not arguments.only_sheet:
        report = name_pictures(arguments.model, arguments.out, arguments.prompts, options)
        (arguments.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
