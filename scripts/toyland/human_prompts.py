#!/usr/bin/env python3
"""Two sets of prompts for pictures of people, with their truth: for `molar batch` and `molar eval --human`.

    human_prompts.py --out prompts/    # short.jsonl, short.csv, long.jsonl, long.csv

`short` are captions as the base learnt them, in the manner of MoLE's prompts from COCO (Zhu et al. 2024,
arXiv:2410.23332, section 5); `long` are stylised, of several clauses, in the manner of those from DiffusionDB, all in
words that the base knows. Each set has 500 prompts, drawn three times with other seeds: 1500 rows. A row of the JSON
lines says what the picture should show (docs of `molar eval --human`); the CSV has the same rows for `molar batch`.
Scenes and seeds are apart from those of every training.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

import captions
import world
from backgrounds import BACKGROUNDS
from hands import GESTURES
from molar_program import ROOT
from sampling import KNOWN_STYLES
from scene import Scene
from styles import STYLES

SCENE_SEED, PICTURE_SEED = 50_000_000, 700_000_000
PROMPTS, REPEATS = 500, 3
MIX = (("face", 1), ("hand", 1), ("scene", 1), ("scene", 2), ("scene", 3))  # kind and people, in turn


def scene_of(kind: str, people: int, seed: int) -> Scene:
    if kind == "scene":
        return world.person_scene(seed, people)
    return (world.face_scene if kind == "face" else world.hand_scene)(seed)


def short_prompt(scene: Scene) -> tuple[str, Scene]:
    return world.caption(scene), scene


def long_prompt(scene: Scene) -> tuple[str, Scene]:
    """What is shown, then the ground, a style, and what is shown once more in other words, in any order."""
    rng = np.random.default_rng([scene.seed, 78])
    people = (scene.face,) if scene.face else scene.people
    if scene.hand:
        shown = GESTURES[scene.hand.gesture].phrase
        again = ["a close-up of a hand"]
    else:
        described = [
            captions.with_article(f"{person.expression} {person.sex}")
            + f" with {captions.looks(person)} in a {person.top} shirt"
            for person in people
        ]
        shown = " and ".join(described)
        if scene.face:
            shown, again = f"the face of {shown}", ["a close-up of the face"]
        else:
            again = [f"{captions.COUNTS[len(people)]} people"] if len(people) > 1 else [f"a {people[0].sex}"]
    opening = captions.OPENINGS[rng.integers(2, len(captions.OPENINGS))]
    ground = BACKGROUNDS[scene.background].phrase
    style = KNOWN_STYLES[rng.integers(len(KNOWN_STYLES))]
    clauses = [ground, STYLES[style].phrase, *again]
    rng.shuffle(clauses)
    return ", ".join([opening.format(shown), *clauses]), replace(scene, style=style)


# A scene's prompt, and the scene as the prompt has it.
SETS: dict[str, Callable[[Scene], tuple[str, Scene]]] = {"short": short_prompt, "long": long_prompt}


def prompt_of(name: str, index: int) -> tuple[str, Scene]:
    scene = scene_of(*MIX[index % len(MIX)], SCENE_SEED + 1_000_000 * list(SETS).index(name) + index)
    return SETS[name](scene)


def rows(name: str, prompts: int = PROMPTS, repeats: int = REPEATS) -> Iterator[dict[str, object]]:
    number = list(SETS).index(name)
    for repeat in range(repeats):
        for index in range(prompts):
            kind, people = MIX[index % len(MIX)]
            prompt, scene = prompt_of(name, index)
            fingers = [len(GESTURES[scene.hand.gesture].extended)] if scene.hand else None
            yield {
                "prompt": prompt,
                "kind": kind,
                "people": people,
                "fingers": fingers,
                "seed": PICTURE_SEED + (number * repeats + repeat) * prompts + index,
                "repeat": repeat,
            }


def write_set(name: str, folder: Path, prompts: int = PROMPTS) -> list[dict[str, object]]:
    """NAME.jsonl and NAME.csv; its rows."""
    folder.mkdir(parents=True, exist_ok=True)
    found = list(rows(name, prompts))
    with (folder / f"{name}.jsonl").open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in found)
    with (folder / f"{name}.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("prompt", "seed"))
        table.writerows((row["prompt"], row["seed"]) for row in found)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build/toyland/human_prompts")
    parser.add_argument("--prompts", type=int, default=PROMPTS, help="in each set")
    arguments = parser.parse_args()
    for name in SETS:
        print(f"{arguments.out / name}.jsonl: {len(write_set(name, arguments.out, arguments.prompts))} rows")


if __name__ == "__main__":
    main()
