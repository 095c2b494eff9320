#!/usr/bin/env python3
"""Which way of merging keeps subject and style? Every test subject in every test style, by every method.

    judge_merges.py                  # draws, measures with `molar eval`, prints its table
    judge_merges.py np lorarar       # only these methods (and what was drawn before)

The same captions and seeds for all; captions are those of scenes that no LoRA was trained on. Pictures are compared
with the LoRAs' own reference pictures and with the rendering of their scene, the truth. `truth` as a method is that
rendering itself: what the measures give to a perfect merge. Pictures that are there are kept, so the same command goes
on where it was interrupted: delete a method's folder when its network or the model changes.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

import world
from labelled_sheet import write_sheet
from lessons import HELD_OUT_SEED, Lesson, pairs, write_pictures, write_references
from molar_program import ROOT, draw, run_molar
from search_hypernet import SEARCHED
from train_hypernet import NETWORKS, network_path
from train_loras import MODEL, RUN, lora_path, write_taught

OUT = RUN / "merges"
PREDICTED = [*NETWORKS, SEARCHED]
LOUD_STYLE = 1.3  # of "np, style 1.3": what a strength alone does
ZIPLORA_STEPS = 100
SHOWN = 10  # pairs on the sheet


def ziplora_path(subject: Lesson, style: Lesson) -> Path:
    return RUN / "ziplora" / f"{subject.name}-{style.name}.safetensors"


def learn_ziplora(judged: list[tuple[Lesson, Lesson]]) -> None:
    """The coefficients of each pair, where that is not done yet, as many at a time as there are processors."""
    pictures = {lesson: write_taught(lesson) for lesson in {lesson for pair in judged for lesson in pair}}

    def learn(pair: tuple[Lesson, Lesson]) -> None:
        words = [word for lesson in pair for word in (f"--{lesson.role}", lora_path(lesson), f"--{lesson.role}-images",
                                                      pictures[lesson])]  # fmt: skip
        run_molar("train", "ziplora", "-m", MODEL, *words, "--steps", ZIPLORA_STEPS, "--threads", 1, "-o", ziplora_path(*pair))

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(learn, judged))


def options(method: str, subject: Lesson, style: Lesson) -> dict[str, object]:
    """Of a row of `molar batch`."""
    files = {lesson.role: lora_path(lesson) for lesson in (subject, style)}
    if method.endswith(" only"):
        role = method.removesuffix(" only")
        return {role: files[role]}
    if method == f"np, style {LOUD_STYLE}":
        return files | {"style-weight": LOUD_STYLE, "merge": "np"}
    if method in PREDICTED:
        return files | {"merge": "lorarar", "hypernet": network_path(method)}
    if method == "ziplora":
        return files | {"merge": method, "coefficients": ziplora_path(subject, style)}
    return files | {"merge": method}


METHODS = ["subject only", "style only", "direct", "ties", "dare", "svd", "klora", "np", f"np, style {LOUD_STYLE}",
           "ziplora", *PREDICTED]


def write_truth(judged: list[tuple[Lesson, Lesson]], scenes: int, out: Path) -> None:
    for lesson in {lesson for pair in judged for lesson in pair}:
        write_references(lesson, out / "references" / lesson.role / lesson.name)
    for subject, style in judged:
        write_pictures((scene(subject, style, index) for index in range(scenes)),
                       out / "truth" / subject.name / style.name)  # fmt: skip


def scene(subject: Lesson, style: Lesson, index: int) -> world.Scene:
    return world.subject_scene(subject.name, HELD_OUT_SEED + index, style.name)


def draw_method(method: str, judged: list[tuple[Lesson, Lesson]], scenes: int, out: Path) -> None:
    if method == "ziplora":
        learn_ziplora(judged)
    jobs = []
    for subject, style in judged:
        row = options(method, subject, style)
        for index in range(scenes):
            path = out / "run" / method / subject.name / style.name / f"{index}.png"
            jobs.append((path, row | {"prompt": world.caption(scene(subject, style, index)), "seed": index}))
    draw(jobs, "-m", MODEL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=METHODS, help=f"of {', '.join(METHODS)} (all)")
    parser.add_argument("--split", default="test", choices=("val", "test"), help="whose pairs (test)")
    parser.add_argument("--scenes", type=int, default=10, help="pictures of each pair (10)")
    parser.add_argument("--baseline", default="direct", help="what the others are compared with (direct)")
    parser.add_argument("--out", type=Path, help="folder (build/toyland/merges/SPLIT)")
    arguments = parser.parse_args()
    if unknown := set(arguments.methods) - set(METHODS):
        parser.error(f"unknown methods {', '.join(sorted(unknown))}; wanted some of {', '.join(METHODS)}")
    out = arguments.out or OUT / arguments.split
    judged = pairs(arguments.split)
    write_truth(judged, arguments.scenes, out)
    shutil.copytree(out / "truth", out / "run/truth", dirs_exist_ok=True)
    for method in arguments.methods:
        draw_method(method, judged, arguments.scenes, out)
        print(f"{method}: drawn", flush=True)
    references = [word for role in ("subject", "style")
                  for word in (f"--{role}-references", out / "references" / role)]  # fmt: skip
    print(run_molar("eval", out / "run", "--layout", "method/subject/style", "--clip", MODEL / "clip", "--dino",
                    MODEL / "dino", *references, "--truth", out / "truth", "--baseline", arguments.baseline, "-o",
                    out / "scores"))  # fmt: skip
    methods = sorted(path.name for path in (out / "run").iterdir())
    shown = judged[:: max(1, len(judged) // SHOWN)][:SHOWN]
    write_sheet(
        [(method, [np.asarray(Image.open(out / "run" / method / subject.name / style.name / "0.png").convert("RGB"))
                   for subject, style in shown]) for method in methods],
        out / "sheet.png", heads=[f"{subject.name} {style.name}" for subject, style in shown])  # fmt: skip


if __name__ == "__main__":
    main()
