#!/usr/bin/env python3
"""Finds a network of the layout "features" by what its merges draw: build/toyland/hypernets/searched.safetensors.

    search_hypernet.py                    # 16 generations of 8 candidates
    search_hypernet.py --generations 30   # the same command goes on where it was interrupted, or with more generations

`molar train hypernet` follows the loss of noise prediction, which says little about the picture that thirty guided steps end
with. Here each candidate merges a draw of training pairs, `molar batch` draws a scene of each as a user would, and
the distance to the scene's rendering, as `molar eval` measures it, is what CMA-ES (Hansen 2016, arXiv:1604.00772) makes small.
All candidates of a generation have the same pairs, scenes and seeds. A candidate is few numbers (PARAMETERS): the network's
hidden values are four of the features, so that a few thousand pictures suffice. Validation and test pairs have no part.
Needs `pip install cma==4.5.0` beside requirements.txt.
"""

from __future__ import annotations

import argparse
import json
import math
import pickle
import random
import shutil
import statistics
from pathlib import Path

import cma
import numpy as np
from PIL import Image
from safetensors.numpy import save_file

import world
from lessons import Lesson, pairs
from models_base import PICTURE_PX
from molar_program import draw, run_molar
from train_hypernet import JOINT_SEED, network_path
from train_loras import MODEL, RUN, lora_path

OUT = RUN / "search"
SEARCHED = "searched"  # beside the networks that are trained
PAIRS = 24  # of a generation
CANDIDATES = 8
SEED = 1
# Rows of column_features.h, in its order.
FEATURES = 29
NORM_RATIO, MIDDLE, UP = 7, 27, 28
# m_subject = subject + its offsets where they hold + slopes times the logarithm of |subject| / |style|; m_style likewise.
PARAMETERS = {
    "subject": 1.0, "subject in mid_block": 0.0, "subject in up_blocks": 0.0, "subject where louder": 0.0,
    "subject where softer": 0.0, "style": 1.15, "style in mid_block": 0.0, "style in up_blocks": 0.0,
    "style where subject louder": 0.0, "style where subject softer": 0.0, "log mu": math.log(0.5),
}  # fmt: skip
STEP = 0.15  # of the first generation


def network(values: np.ndarray) -> dict[str, np.ndarray]:
    """Hidden values: mid_block, up_blocks, the parts of the norm ratio above and below 0."""
    first = np.zeros((4, FEATURES))
    first[0, MIDDLE] = first[1, UP] = first[2, NORM_RATIO] = 1
    first[3, NORM_RATIO] = -1
    subject, style, log_mu = values[:5], values[5:10], values[10]
    tensors = {
        "features.0.weight": first, "features.0.bias": np.zeros(4), "features.2.weight": np.eye(4),
        "features.2.bias": np.zeros(4), "features.4.weight": np.stack([subject[1:], style[1:], np.zeros(4)]),
        "features.4.bias": np.array([subject[0], style[0], log_mu]),
    }  # fmt: skip
    return {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}


def write_network(values: np.ndarray, path: Path, generations: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    described = dict(zip(PARAMETERS, map(float, values))) | {"generations": generations, "pairs": PAIRS, "seed": SEED}
    save_file(network(values), path, {"molar.kind": "hypernet", "molar.search": json.dumps(described)})


def distances(candidates: list[np.ndarray], chosen: list[tuple[Lesson, Lesson]], generation: int) -> list[float]:
    shutil.rmtree(OUT / "run", ignore_errors=True)
    jobs = []
    for number, (subject, style) in enumerate(chosen):
        scene = world.subject_scene(subject.name, JOINT_SEED + 1000 * (generation + 1) + number, style.name)
        name = f"{subject.name}/{style.name}/0.png"
        truth = OUT / "run/truth" / name
        truth.parent.mkdir(parents=True)
        Image.fromarray(world.render(scene, PICTURE_PX).image).save(truth)
        for candidate in range(len(candidates)):
            jobs.append((OUT / "run/drawn" / str(candidate) / name,
                         {"subject": lora_path(subject), "style": lora_path(style), "hypernet": OUT / f"{candidate}.safetensors",
                          "prompt": world.caption(scene), "seed": number}))  # fmt: skip
    for candidate, values in enumerate(candidates):
        write_network(values, OUT / f"{candidate}.safetensors", generation)
    draw(jobs, "-m", MODEL)
    run_molar("eval", OUT / "run/drawn", "--layout", "method/subject/style", "--clip", MODEL / "clip", "--dino", MODEL / "dino",
              "--truth", OUT / "run/truth", "-o", OUT / "run/scores")  # fmt: skip
    found: list[list[float]] = [[] for _ in candidates]
    for line in (OUT / "run/scores/pictures.jsonl").read_text().splitlines():
        picture = json.loads(line)
        found[int(picture["method"])].append(picture["scores"]["truth_distance"])
    return [statistics.mean(values) for values in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generations", type=int, default=16, help=f"of {CANDIDATES} candidates and {PAIRS} pairs (16)")
    generations = parser.parse_args().generations
    kept = OUT / "search.pickle"
    all_pairs = pairs("train")
    search = pickle.loads(kept.read_bytes()) if kept.exists() else cma.CMAEvolutionStrategy(
        list(PARAMETERS.values()), STEP, {"popsize": CANDIDATES, "seed": SEED, "verbose": -9})  # fmt: skip
    while search.countiter < generations:
        generation = search.countiter
        candidates = search.ask()
        found = distances(candidates, random.Random(f"{SEED} {generation}").sample(all_pairs, PAIRS), generation)
        search.tell(candidates, found)
        write_network(search.mean, network_path(SEARCHED), search.countiter)
        temporary = kept.with_suffix(".new")
        temporary.write_bytes(pickle.dumps(search))
        temporary.replace(kept)
        print(f"generation {generation}: distances {', '.join(f'{d:.3f}' for d in sorted(found))}; mean now "
              f"{', '.join(f'{name} {value:.2f}' for name, value in zip(PARAMETERS, search.mean))}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
