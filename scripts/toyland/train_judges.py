#!/usr/bin/env python3
"""Trains the judges of hands and faces on renderings whose truth is known, and says how often they are right.

    train_judges.py                    # all: lessons, detector, hand, face, report -> models/toyland/judges
    train_judges.py hand --minutes 3   # one part; report last

Every command may be stopped and goes on when called again; a training that is finished trains on with more --minutes.
Held-out scenes have seeds of their own. What the figures mean: docs/human_judges.md.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import json
import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import judge_data
import judge_files
import judge_networks as networks
import train_loop
from human_faults import PARTS
from judge_data import BROKEN, IGNORED, KINDS, STYLES, VERSIONS, BundledModel, Lessons
from models_base import PICTURE_PX
from molar_program import ROOT
from judge_files import to_model_range

SEEDS = {"train": 10_000_000, "held-out": 20_000_000}  # of scenes; each kind has a million of its own
BATCH = {"detector": 40, "hand": 64, "face": 64}
MINUTES = {"detector": 0.3, "hand": 0.42, "face": 0.28}  # shares of --minutes
OPTIMISATION = train_loop.Optimisation(rate=3e-3, weight_decay=0.02, betas=(0.9, 0.99), warmup_steps=100)
SPREAD = 0.16  # of a heat map's peak, in half heights
NAMES = ("detector", "hand", "face")


def lesson_files(arguments: argparse.Namespace, part: str) -> list[Path]:
    return [arguments.run / f"{part}-{kind.replace(' ', '-')}.npz" for kind in KINDS]


def make_file(path: Path, kind: str, count: int, first_seed: int, model: Path) -> str:
    torch.set_num_threads(1)
    bundled = BundledModel(model, train_loop.has_fast_bfloat16(torch.device("cpu")))
    lessons = judge_data.make_lessons(kind, count, first_seed, bundled)
    lessons.save(path)
    return f"lessons: {path.name}, {len(lessons.images)} pictures"


def make_lessons(arguments: argparse.Namespace) -> None:
    """A file for each kind; those that are there are kept."""
    pool = concurrent.futures.ProcessPoolExecutor(arguments.threads, mp_context=multiprocessing.get_context("spawn"))
    with pool:
        jobs = []
        for part, scenes in (("train", arguments.scenes), ("held-out", arguments.scenes // 5)):
            for number, (kind, path) in enumerate(zip(KINDS, lesson_files(arguments, part))):
                if path.exists():
                    continue
                first, count = SEEDS[part] + number * 1_000_000, int(scenes * judge_data.SHARES[kind])
                jobs.append(pool.submit(make_file, path, kind, count, first, arguments.model))
        for job in concurrent.futures.as_completed(jobs):
            print(job.result(), flush=True)


def _random(draw: torch.Generator, count: int, low: float, high: float) -> torch.Tensor:
    return low + (high - low) * torch.rand(count, generator=draw)


def vary(pictures: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """What no judge may mind: brightness, contrast, a little noise or blur. [B, 3, H, W]."""
    count = len(pictures)
    gain, shift, noise, soft = (_random(draw, count, 0, 1)[:, None, None, None] for _ in range(4))
    pictures = pictures * (0.85 + 0.3 * gain) + 0.2 * (shift - 0.5)
    pictures = torch.where(soft < 0.3, judge_data.blur(pictures, 0.5), pictures)
    return pictures + torch.randn(pictures.shape, generator=draw) * 0.06 * noise * (noise > 0.5)


class DetectorLoss:
    """Heat by a focal loss (Zhou et al. 2019, arXiv:1904.07850, eq. 1), place and size by absolute error."""

    def __init__(self, lessons: Lessons, seed: int, bfloat16: bool) -> None:
        self.lessons, self.seed, self.bfloat16 = lessons, seed, bfloat16
        frames = [(lessons.faces, 0), (lessons.hands, 1)]
        self.boxes: list[list[tuple[int, float, float, float]]] = [[] for _ in lessons.images]
        for rows, kind in frames:
            for row in rows:
                self.boxes[int(row[0])].append((kind, *map(float, row[1:4])))

    def targets(self, chosen: list[int], shifts: torch.Tensor, mirrored: torch.Tensor) -> tuple[torch.Tensor, ...]:
        side = PICTURE_PX // networks.CELL_PX
        heat = torch.zeros(len(chosen), 2, side, side)
        place, there = torch.zeros(len(chosen), 6, side, side), torch.zeros(len(chosen), 2, side, side)
        cells = torch.arange(side) + 0.5
        for b, index in enumerate(chosen):
            for kind, x, y, scale in self.boxes[index]:
                x, y = (PICTURE_PX - x if mirrored[b] else x) + float(shifts[b, 0]), y + float(shifts[b, 1])
                cx, cy = x / networks.CELL_PX, y / networks.CELL_PX
                column, row = int(cx), int(cy)
                if not (0 <= column < side and 0 <= row < side):
                    continue
                spread = max(0.7, SPREAD * scale / networks.CELL_PX)
                bump = torch.exp(-((cells[None] - cx) ** 2 + (cells[:, None] - cy) ** 2) / (2 * spread**2))
                bump[row, column] = 1.0
                heat[b, kind] = torch.maximum(heat[b, kind], bump)
                near = bump > 0.6
                where = torch.tensor(0)
                for k, value in enumerate((cx - cells[None].expand(side, side), cy - cells[:, None].expand(side, side))):
                    place[b, 3 * kind + k][near] = value[near]
                place[b, 3 * kind + 2][near] = float(np.log(scale))
                there[b, kind][near] = 1.0
        return heat, place, there

    def __call__(self, step: int, module: nn.Module, _: nn.Module) -> torch.Tensor:
        draw = train_loop.generator(self.seed, step)
        chosen = train_loop.batch_indices(self.seed, step, BATCH["detector"], len(self.lessons.images))
        pictures = to_model_range(self.lessons.images[chosen.numpy()])
        mirrored = torch.rand(len(chosen), generator=draw) < 0.5
        shifts = torch.randint(-3, 4, (len(chosen), 2), generator=draw)
        pictures = torch.where(mirrored[:, None, None, None], pictures.flip(3), pictures)
        padded = F.pad(pictures, (3, 3, 3, 3), mode="replicate")
        pictures = torch.stack(
            [p[:, 3 - int(dy) : 67 - int(dy), 3 - int(dx) : 67 - int(dx)] for p, (dx, dy) in zip(padded, shifts)]
        )
        heat, place, there = self.targets(chosen.tolist(), shifts, mirrored)
        with train_loop.mixed_precision(torch.device("cpu"), self.bfloat16):
            maps = module(vary(pictures, draw)).float()
        logits = maps[:, :2]
        share = logits.sigmoid()
        middle = heat == 1
        focal = torch.where(
            middle,
            -F.logsigmoid(logits) * (1 - share) ** 2,
            -F.logsigmoid(-logits) * share**2 * (1 - heat) ** 4,
        ).sum() / middle.sum().clamp(min=1)
        weights = there.repeat_interleave(3, dim=1)
        error = (F.smooth_l1_loss(maps[:, 2:], place, reduction="none", beta=0.1) * weights).sum() / weights.sum().clamp(
            min=1
        )
        return focal + 2 * error


class ClassifierLoss:
    """Cross-entropy over crops around each hand or head, a little beside it as the detector will be."""

    def __init__(self, name: str, lessons: Lessons, seed: int, bfloat16: bool) -> None:
        self.name, self.lessons, self.seed, self.bfloat16 = name, lessons, seed, bfloat16
        rows = lessons.hands if name == "hand" else lessons.faces
        self.rows = torch.from_numpy(rows[(rows[:, 4:] != IGNORED).any(axis=1)])

    def __call__(self, step: int, module: nn.Module, _: nn.Module) -> torch.Tensor:
        draw = train_loop.generator(self.seed, step)
        rows = self.rows[train_loop.batch_indices(self.seed, step, BATCH[self.name], len(self.rows))]
        pictures = to_model_range(self.lessons.images[rows[:, 0].long().numpy()])
        count, scale, labels = len(rows), rows[:, 3], rows[:, 4:]
        x, y = (rows[:, 1 + k] + scale * _random(draw, count, -0.12, 0.12) for k in (0, 1))
        half = scale * networks.CROP_HALF[self.name] * _random(draw, count, -0.14, 0.14).exp()
        crops = vary(networks.crop(pictures, x, y, half), draw)
        mirrored = torch.rand(count, generator=draw) < 0.5
        crops = torch.where(mirrored[:, None, None, None], crops.flip(3), crops)
        with train_loop.mixed_precision(torch.device("cpu"), self.bfloat16):
            logits = module(crops).float()
        if self.name == "hand":
            return F.cross_entropy(logits, labels[:, 0].long(), label_smoothing=0.03)
        left_right = [PARTS.index(name) for name in ("right_eye", "left_eye", "right_brow", "left_brow", "mouth")]
        labels = torch.where(mirrored[:, None], labels[:, left_right], labels)
        known = labels != IGNORED
        return F.binary_cross_entropy_with_logits(logits[known], labels[known].clamp(0.02, 0.98))


@torch.no_grad()
def settle(module: nn.Module, loss: Callable, batches: int = 60) -> nn.Module:
    """The averaged weights' own statistics for batch normalisation."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.reset_running_stats()
            part.momentum = None
    module.train()
    for step in range(batches):
        loss(step, module, module)
    return module.eval()


def train_part(name: str, arguments: argparse.Namespace) -> None:
    lessons = Lessons.load(lesson_files(arguments, "train"))
    bfloat16 = train_loop.has_fast_bfloat16(torch.device("cpu"))
    loss = (
        DetectorLoss(lessons, arguments.seed, bfloat16)
        if name == "detector"
        else ClassifierLoss(name, lessons, arguments.seed, bfloat16)
    )
    torch.manual_seed(arguments.seed)
    network = networks.make_network(name).to(memory_format=torch.channels_last)
    budget = train_loop.Budget(arguments.minutes * MINUTES[name], arguments.steps, 2.0)

    def publish(average: nn.Module) -> None:
        copied = networks.make_network(name)
        copied.load_state_dict(average.state_dict())
        train_loop.save_atomically(settle(copied, loss).state_dict(), arguments.run / f"{name}.settled.pt")

    train_loop.train(
        name,
        arguments.run / f"{name}.pt",
        network,
        loss,
        budget,
        OPTIMISATION,
        train_loop.power_average(),
        publish,
    )


def folded_networks(arguments: argparse.Namespace) -> dict[str, nn.Module]:
    found = {}
    for name in NAMES:
        network = networks.make_network(name)
        network.load_state_dict(torch.load(arguments.run / f"{name}.settled.pt", weights_only=True))
        # As they are written: in half precision.
        network = networks.fold(network)
        network.load_state_dict({key: value.half().float() for key, value in network.state_dict().items()})
        found[name] = network.eval()
    return found


@dataclasses.dataclass
class Count:
    """Of hands or faces of one kind and version."""

    whole: int = 0
    broken: int = 0
    found: int = 0
    refused: int = 0  # whole ones that are not found or judged broken
    accepted: int = 0  # broken ones judged whole
    counted: int = 0  # whole hands whose fingers are counted right


def measure(judges: dict[str, nn.Module], lessons: Lessons) -> dict[str, dict[str, dict[str, float]]]:
    """Kind and version, or style where that is not plain -> what the judges make of their hands and faces, beside the truth."""
    counts: dict[tuple[str, str, str], Count] = {}
    surplus: dict[tuple[str, str, str], int] = {}
    truth: list[list[tuple[str, np.ndarray]]] = [[] for _ in lessons.images]
    for what, rows in (("hand", lessons.hands), ("face", lessons.faces)):
        for row in rows:
            truth[int(row[0])].append((what, row[1:]))
    fingers = [len(g.extended) for g in networks.GESTURES.values()]
    names = [
        (KINDS[kind], VERSIONS[version] if STYLES[style] == "plain" else STYLES[style])
        for kind, version, style in zip(lessons.kinds, lessons.versions, lessons.styles)
    ]
    for start in range(0, len(lessons.images), 64):
        chosen = range(start, min(start + 64, len(lessons.images)))
        results = networks.read(judges, to_model_range(lessons.images[start : chosen.stop]))
        for index, judged in zip(chosen, results):
            kind, version = names[index]
            free = list(judged)
            for what, (x, y, scale, *labels) in truth[index]:
                near = [
                    one
                    for one in free
                    if one.found.kind == what and np.hypot(one.found.x - x, one.found.y - y) < 0.6 * scale + 1
                ]
                match = min(near, key=lambda one: np.hypot(one.found.x - x, one.found.y - y), default=None)
                if match:
                    free.remove(match)
                count = counts.setdefault((what, kind, version), Count())
                count.found += match is not None
                if what == "hand":
                    label = int(labels[0])
                    state = None if label == IGNORED else label != BROKEN
                else:
                    state = False if 0 in labels else None if IGNORED in labels else True
                intact = match is not None and match.intact
                if state is True:
                    count.whole += 1
                    count.refused += not intact
                    if what == "hand" and intact:
                        name = networks.GESTURE_NAMES.index(match.gesture)
                        count.counted += fingers[name] == fingers[label]
                elif state is False:
                    count.broken += 1
                    count.accepted += intact
            for one in free:
                key = (one.found.kind, kind, version)
                surplus[key] = surplus.get(key, 0) + 1
    result: dict[str, dict[str, dict[str, float]]] = {}
    shown: dict[tuple[str, str, str], int] = {}
    for index, rows in enumerate(truth):
        for what, _ in rows:
            key = (what, *names[index])
            shown[key] = shown.get(key, 0) + 1
    for (what, kind, version), count in counts.items():
        key = (what, kind, version)
        row = {
            "shown": shown[key],
            "found": count.found / shown[key],
            "surplus": surplus.get(key, 0) / shown[key],
            "whole": count.whole,
            "broken": count.broken,
        }
        if count.whole:
            row["refused"] = count.refused / count.whole
            if what == "hand":
                row["fingers right"] = count.counted / max(1, count.whole - count.refused)
        if count.broken:
            row["accepted"] = count.accepted / count.broken
        result.setdefault(what, {})[f"{kind}, {version}"] = row
    return result


def markdown(report: dict) -> str:
    lines = []
    for what, rows in report.items():
        head = [what, "shown", "found", "surplus", "whole", "refused", "broken", "accepted"]
        head += ["fingers right"] if what == "hand" else []
        lines += ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
        for name, row in rows.items():
            cells = [name, str(row["shown"])]
            for key in head[2:]:
                value = row.get(key)
                cells.append("–" if value is None else str(value) if key in ("whole", "broken") else f"{100 * value:.1f} %")
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def write_report(arguments: argparse.Namespace) -> None:
    judges = folded_networks(arguments)
    report = measure(judges, Lessons.load(lesson_files(arguments, "held-out")))
    print(markdown(report))
    for name in NAMES:
        judge_files.write(arguments.out, name, judges[name], report.get(name, report))
    (arguments.run / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    (arguments.run / "report.md").write_text(markdown(report))


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "lessons": make_lessons,
    **{name: lambda arguments, name=name: train_part(name, arguments) for name in NAMES},
    "report": write_report,
}


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", choices=("all", *COMMANDS), default="all")
    parser.add_argument("--run", type=Path, default=ROOT / "build/toyland/judges", help="lessons and checkpoints")
    parser.add_argument("--model", type=Path, default=ROOT / "models/toyland")
    parser.add_argument("--out", type=Path, default=ROOT / "models/toyland/judges")
    parser.add_argument("--scenes", type=int, default=3200, help="to learn from; a fifth as many are held out")
    parser.add_argument("--minutes", type=float, default=10.0, help="wall time of all trainings together")
    parser.add_argument("--steps", type=int, default=0, help="train each so many steps instead")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args(words)
    torch.set_num_threads(arguments.threads)
    arguments.run.mkdir(parents=True, exist_ok=True)
    for name, command in COMMANDS.items():
        if arguments.command in ("all", name):
            command(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
