"""Draws contact sheets of the world, to look at it: `python sheet.py classes --out classes.png`."""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from hands import GESTURES
from world import (
    CLASSES,
    STYLES,
    SUBJECTS,
    Scene,
    caption,
    class_scene,
    face_scene,
    hand_scene,
    person_scene,
    render,
    sample_base,
    subject_scene,
)

PER_CLASS = 4


def classes() -> tuple[list[Scene], int]:
    """Four of each class, three classes a row."""
    return [class_scene(name, seed) for name in CLASSES for seed in range(PER_CLASS)], 3 * PER_CLASS


def subjects() -> tuple[list[Scene], int]:
    """The five reference pictures of each subject, two subjects a row."""
    return [subject_scene(name, index) for name in SUBJECTS for index in range(5)], 10


def styles() -> tuple[list[Scene], int]:
    """A row for each style: the same three class pictures, two subjects, a face, a hand and a figure."""
    row = [
        class_scene("dog", 3), class_scene("car", 5), class_scene("house", 3), subject_scene("ziggy", 1),
        subject_scene("smiley", 0), face_scene(3), hand_scene(5), person_scene(2, 2),
    ]
    return [dataclasses.replace(scene, style=style) for style in ("plain", *STYLES) for scene in row], len(row)


def pairs() -> tuple[list[Scene], int]:
    """The truth that merging is judged by: each test subject (a row) in each test style."""
    tested = ["plain"] + [style.name for style in STYLES.values() if style.split == "test"]
    return [
        subject_scene(subject, 0, style) for subject in SUBJECTS.values() if subject.split == "test" for style in tested
    ], len(tested)


def people() -> tuple[list[Scene], int]:
    figures = [person_scene(seed, count) for count in (1, 2, 3) for seed in range(10)]
    hands = [hand_scene(seed) for seed in range(400)]
    each = [next(scene for scene in hands if scene.hand.gesture == gesture) for gesture in GESTURES]
    return figures + [face_scene(seed) for seed in range(20)] + each, 10


def base() -> tuple[list[Scene], int]:
    """What the base model is trained on, with captions on standard output."""
    scenes = [sample_base(seed) for seed in range(80)]
    print("\n".join(caption(scene) for scene in scenes))
    return scenes, 10


SHEETS = {sheet.__name__: sheet for sheet in (classes, subjects, styles, pairs, people, base)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sheet", choices=SHEETS)
    parser.add_argument("--out", type=Path, required=True, help="the PNG to write")
    parser.add_argument("--size", type=int, default=64, help="pixels a picture is drawn at (default: 64)")
    parser.add_argument("--enlarge", type=int, default=2, help="whole factor by which pixels are repeated (default: 2)")
    options = parser.parse_args()
    scenes, columns = SHEETS[options.sheet]()
    pictures = [
        render(scene, options.size).image.repeat(options.enlarge, 0).repeat(options.enlarge, 1) for scene in scenes
    ]
    pictures += [np.full_like(pictures[0], 255)] * (-len(pictures) % columns)
    rows = [np.concatenate(pictures[start : start + columns], axis=1) for start in range(0, len(pictures), columns)]
    Image.fromarray(np.concatenate(rows)).save(options.out)


if __name__ == "__main__":
    main()
