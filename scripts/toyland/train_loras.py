#!/usr/bin/env python3
"""Trains Toyland's 56 LoRAs, one for each subject and style, with `molar train lora` and the recipes beside this file.

    train_loras.py                # all: the test ones into models/toyland/loras, the others into build/toyland/loras
    train_loras.py test           # those of one split, or by name: train_loras.py ziggy neon

May be stopped at any moment; the same command goes on, and does nothing for what is finished. Delete a file to have it
trained anew.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import sys
import time
from pathlib import Path

from lessons import Lesson, all_lessons, write_references
from molar_program import ROOT, run_molar

RECIPES = Path(__file__).with_name("recipes")
MODEL = ROOT / "models/toyland"
RUN = ROOT / "build/toyland"
FOLDERS = {"train": RUN / "loras", "val": RUN / "loras", "test": MODEL / "loras"}


def lora_path(lesson: Lesson) -> Path:
    return FOLDERS[lesson.split] / f"{lesson.name}.safetensors"


def losses_path(lesson: Lesson) -> Path:
    """One JSON object for each step that was taken, as `molar train lora --json` prints them."""
    return RUN / "losses" / f"{lesson.name}.jsonl"


def losses(lesson: Lesson) -> list[float]:
    """In the order of the steps; empty where the LoRA was trained elsewhere."""
    if not losses_path(lesson).exists():
        return []
    lines = [json.loads(line) for line in losses_path(lesson).read_text().splitlines()]
    found = {line["step"]: line["loss"] for line in lines if "loss" in line}
    return [found[step] for step in sorted(found)]


def write_taught(lesson: Lesson) -> Path:
    """The folder of the pictures that trainings read."""
    folder = RUN / "lessons" / lesson.name
    write_references(lesson, folder)
    return folder


def train(lesson: Lesson) -> None:
    path = lora_path(lesson)
    steps = run_molar(
        "train", "lora", "--config", RECIPES / f"{lesson.role}.toml", "-m", MODEL, "--instance-images", write_taught(lesson),
        "--instance-prompt", lesson.trigger, "--threads", 1, "--json", "-o", path,
    )  # fmt: skip
    losses_path(lesson).parent.mkdir(parents=True, exist_ok=True)
    with losses_path(lesson).open("a", encoding="utf-8") as file:
        file.write(steps)


def choose(words: list[str]) -> list[Lesson]:
    lessons = all_lessons()
    known = {word for lesson in lessons for word in (lesson.name, lesson.split)}
    for word in words:
        if word not in known:
            sys.exit(f"error: '{word}' is neither a split (train, val, test) nor a subject or style")
    return [lesson for lesson in lessons if not words or lesson.split in words or lesson.name in words]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="*", help="splits or names (all)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="trainings at a time, of one thread each")
    arguments = parser.parse_args()

    def train_one(lesson: Lesson) -> None:
        start = time.monotonic()
        train(lesson)
        print(f"{lora_path(lesson)}: {time.monotonic() - start:.0f} s", flush=True)

    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        try:
            list(pool.map(train_one, choose(arguments.which)))
        except SystemExit:
            pool.shutdown(cancel_futures=True)
            raise


if __name__ == "__main__":
    main()
