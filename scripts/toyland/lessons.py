"""What each of Toyland's LoRAs is taught: the pictures of one subject or of one style, with their captions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

import world
from models_base import PICTURE_PX

REFERENCES = {"subject": 5, "style": 320}  # pictures that a LoRA learns from
HELD_OUT_SEED = 5_000_000  # scenes that it is judged by


@dataclass(frozen=True)
class Lesson:
    name: str  # of the LoRA's file
    role: str  # "subject" or "style"
    split: str  # "train", "val" or "test"
    trigger: str  # the words that call it: "zib cat", "in neon style"

    def scene(self, index: int) -> world.Scene:
        make = world.subject_scene if self.role == "subject" else style_scene
        return make(self.name, index)

    def references(self) -> list[world.Scene]:
        return [self.scene(index) for index in range(REFERENCES[self.role])]

    def held_out(self, count: int) -> list[world.Scene]:
        return [self.scene(HELD_OUT_SEED + index) for index in range(count)]


def style_scene(style: str, index: int) -> world.Scene:
    """Things, and among the references a few people: a style is a style of everything."""
    if index < HELD_OUT_SEED and index % 5 == 4:
        make = (world.person_scene, world.face_scene, world.hand_scene)[index // 5 % 3]
        return make(HELD_OUT_SEED - 1 - index, style=style)
    return world.style_scene(style, index)


def all_lessons() -> list[Lesson]:
    return [
        Lesson(subject.name, "subject", subject.split, f"{subject.trigger} {subject.kind}")
        for subject in world.SUBJECTS.values()
    ] + [Lesson(style.name, "style", style.split, style.phrase) for style in world.STYLES.values()]


def pairs(split: str) -> list[tuple[Lesson, Lesson]]:
    """Every subject of the split with each of its styles."""
    chosen = [lesson for lesson in all_lessons() if lesson.split == split]
    styles = [lesson for lesson in chosen if lesson.role == "style"]
    return [(subject, style) for subject in chosen if subject.role == "subject" for style in styles]


def write_pictures(scenes: Iterable[world.Scene], folder: Path) -> None:
    """0.png, 0.txt, 1.png … as molar's trainings read them."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, scene in enumerate(scenes):
        Image.fromarray(world.render(scene, PICTURE_PX).image).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(world.caption(scene) + "\n", encoding="utf-8")


def write_references(lesson: Lesson, folder: Path) -> None:
    write_pictures(lesson.references(), folder)
