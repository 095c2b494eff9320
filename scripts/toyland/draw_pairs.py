#!/usr/bin/env python3
"""Draws every test subject in every test style with `molar batch`, beside each alone, as one sheet.

The first row shows the styles on a thing of the base world, the first column the subjects in no style.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from labelled_sheet import write_sheet
from lessons import Lesson, all_lessons
from molar_program import ROOT, draw
from train_loras import lora_path

THING = "a red house"
PLACE = "on grass"


def prompt(subject: Lesson | None, style: Lesson | None) -> str:
    words = f"{f'a {subject.trigger}' if subject else THING} {PLACE}"
    return f"{words}, {style.trigger}" if style else words


def row(subject: Lesson | None, style: Lesson | None, merge: str, seed: int) -> dict[str, object]:
    files = {lesson.role: lora_path(lesson) for lesson in (subject, style) if lesson}
    return {"prompt": prompt(subject, style), "seed": seed, **files} | ({"merge": merge} if len(files) == 2 else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--merge", default="auto", help="method (auto)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=ROOT / "build/toyland/pairs", help="folder of the pictures")
    parser.add_argument("--sheet", type=Path, help="write the sheet here (OUT/sheet.png)")
    arguments = parser.parse_args()
    subjects: list[Lesson | None] = [None]
    styles: list[Lesson | None] = [None]
    for lesson in all_lessons():
        if lesson.split == "test":
            (subjects if lesson.role == "subject" else styles).append(lesson)
    cells = [(subject, style) for subject in subjects for style in styles]
    jobs = [
        (
            arguments.out / f"{subject.name if subject else 'none'}-{style.name if style else 'none'}.png",
            row(subject, style, arguments.merge, arguments.seed),
        )
        for subject, style in cells
    ]
    pictures = draw(jobs)
    rows = [
        (subject.name if subject else "no subject", pictures[start : start + len(styles)])
        for subject, start in zip(subjects, range(0, len(cells), len(styles)))
    ]
    heads = [style.name if style else "no style" for style in styles]
    write_sheet(rows, arguments.sheet or arguments.out / "sheet.png", heads=heads)


if __name__ == "__main__":
    main()
