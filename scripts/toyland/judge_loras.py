#!/usr/bin/env python3
"""Does each LoRA draw what it was taught? The same captions and seeds with `molar batch`, without and with it.

Captions are those of scenes that no LoRA was trained on. Each picture is compared with the rendering of its scene, the
truth, by cosine of CLIP and of DINO embeddings. Prints a table with the training's loss over its first and last tenth,
95 % intervals of the gain, and the share of pictures that came out worse. "plain": for styles, what the model without LoRA
gets for the same scenes in no style, by their plain renderings: how near it comes where no style is asked of it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import world
from judge_base import real
from labelled_sheet import write_sheet
from lessons import Lesson
from metrics import ImageTextPair, VisionTransformer
from molar_program import ROOT, draw
from train_loras import MODEL, choose, lora_path, losses

SHOWN = 5  # pictures of each on the sheet


def draw_scenes(scenes: list[world.Scene], folder: Path, **adapter: object) -> np.ndarray:
    jobs = [(folder / f"{seed}.png", {"prompt": world.caption(scene), "seed": seed} | adapter)
            for seed, scene in enumerate(scenes)]  # fmt: skip
    return np.stack(draw(jobs, "-m", MODEL))


def loss_text(lesson: Lesson) -> str:
    found = losses(lesson)
    tenth = len(found) // 10
    return f"{np.mean(found[:tenth]):.3f} → {np.mean(found[-tenth:]):.3f}" if tenth else "?"


def gain_text(without: torch.Tensor, with_lora: torch.Tensor) -> str:
    gain = with_lora - without
    half = 1.96 * gain.std().item() / len(gain) ** 0.5
    worse = 100 * (gain < 0).float().mean().item()
    return (
        f"{without.mean():.3f} | {with_lora.mean():.3f} | {gain.mean():+.3f} ± {half:.3f} | {worse:.0f} %"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="*", default=["test"], help="splits or names (test)")
    parser.add_argument("--out", type=Path, default=ROOT / "build/toyland/judge-loras", help="pictures and report")
    parser.add_argument("--scenes", type=int, default=100, help="of each LoRA (100)")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    embed = {"CLIP-I": ImageTextPair(MODEL).embed_pictures, "DINO": VisionTransformer(MODEL).embed_pictures}
    lines, rows, report = [], [], {}
    for lesson in choose(arguments.which):
        scenes = lesson.held_out(arguments.scenes)
        truth, pictures = real(scenes), {
            "without": draw_scenes(scenes, arguments.out / f"{lesson.name}-without"),
            "with": draw_scenes(scenes, arguments.out / f"{lesson.name}-with", lora=lora_path(lesson)),
        }
        plain = ()  # drawn without LoRA, and true
        if lesson.role == "style":
            plain_scenes = [replace(scene, style="plain") for scene in scenes]
            plain = draw_scenes(plain_scenes, arguments.out / f"{lesson.name}-plain"), real(plain_scenes)
        rows += [(f"{lesson.name} {kind}", pixels[:SHOWN]) for kind, pixels in
                 {"truth": truth, **pictures}.items()]  # fmt: skip
        for metric, embedded in embed.items():
            cosines = {kind: (embedded(pixels) * embedded(truth)).sum(dim=1) for kind, pixels in pictures.items()}
            report[f"{lesson.name} {metric}"] = {kind: value.tolist() for kind, value in cosines.items()}
            gain = gain_text(cosines["without"], cosines["with"])
            in_plain = f"{torch.mul(*map(embedded, plain)).sum(dim=1).mean():.3f}" if plain else "–"
            lines.append(f"| {lesson.name} | {lesson.role} | {loss_text(lesson)} | {metric} | {gain} | {in_plain} |")
    print("| LoRA | kind | loss | measure | without | with | gain, 95 % | worse | plain |\n|---|---|---|---|---|---|---|---|---|")
    print("\n".join(lines))
    (arguments.out / "report.json").write_text(json.dumps(report) + "\n")
    write_sheet(rows, arguments.out / "sheet.png", columns=2)


if __name__ == "__main__":
    main()
