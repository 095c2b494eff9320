#!/usr/bin/env python3
"""Are hands and faces right? Draws the two sets of human_prompts.py without experts and with them, by `molar batch`, and
judges all by `molar eval --human`: with both gates, with one kind of gate, without gates, and with regions on top. Beside
them stands `truth`, the renderings of the prompts' scenes: what a perfect model would get.

    judge_people.py                             # both sets, every method of the table below; models/toyland/mole is judged
    judge_people.py base "both gates" --set short --prompts 100

Gates of one kind are trained first, like those of train_mole.py. Pictures that are there from an earlier call are kept:
delete the folder when a model or the experts change. Prints the tables and writes them and contact sheets into --out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file, save_file

import world
from human_prompts import REPEATS, SETS, prompt_of, write_set
from labelled_sheet import write_sheet
from lessons import PICTURE_PX
from molar_program import draw_rows, drawn_row, run_molar
from train_mole import EXPERTS, MODEL, RUN, STRENGTH, train_gates, write_scaled

MOLE = MODEL / "mole"
OUT = RUN / "judged_people"
# The bundled model is truest to its prompts at a guidance of 4; 20 steps, so that thousands of pictures take no day.
SAMPLING = ("--cfg-scale", 4, "--steps", 20)
OPEN = 30.0  # a gate's bias: its sigmoid is 1 in float32
REGIONS = [word for expert in EXPERTS for word in ("--region", f"{expert}=auto")]
BASE, TRUTH = "base", "truth"
SHEET_METHODS = (BASE, "both gates")
# Rows of a sheet's two lines, from 1: five faces and five hands; four scenes of one, three of two, three of three people.
SHEET_LINES = (
    (*range(1, 26, 5), *range(2, 27, 5)),
    (*range(3, 23, 5), *range(4, 19, 5), *range(5, 20, 5)),
)


def without_gates() -> Path:
    folder = RUN / "mole/ungated"
    write_scaled(MOLE, folder, 1.0)
    gates = load_file(folder / "gates.safetensors")
    open_gates = {name: np.full_like(values, OPEN if name.endswith("bias") else 0) for name, values in gates.items()}
    save_file(open_gates, folder / "gates.safetensors")
    return folder


def with_one_kind(kind: str) -> Path:
    """As train_mole: gates are taught on experts of full strength."""
    trained, folder = RUN / "mole" / f"trained-{kind}", RUN / "mole" / kind
    write_scaled(MOLE, trained, 1 / STRENGTH, EXPERTS)
    train_gates(trained, ("--gates", kind))
    write_scaled(trained, folder, STRENGTH)
    return folder


METHODS = {
    BASE: lambda: ("--no-mole",),
    "no gates": lambda: ("--mole", without_gates()),
    "local gates": lambda: ("--mole", with_one_kind("local")),
    "global gates": lambda: ("--mole", with_one_kind("global")),
    "both gates": lambda: ("--mole", MOLE),
    "both gates, regions": lambda: ("--mole", MOLE, *REGIONS),
}


def write_truth(name: str, prompts: int, folder: Path) -> Path:
    """The scenes of a set as renderings, named by their rows; one for all seeds."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(prompts):
        pixels = Image.fromarray(world.render(prompt_of(name, index)[1], PICTURE_PX).image)
        for repeat in range(REPEATS):
            pixels.save(folder / f"{repeat * prompts + index + 1:0>5}-truth.png")
    return folder


def picture(folder: Path, row: int) -> np.ndarray:
    return np.asarray(Image.open(drawn_row(folder, row)).convert("RGB"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=list(METHODS), metavar="METHOD", help=", ".join(METHODS))
    parser.add_argument("--set", action="append", choices=list(SETS), help="of prompts (both)")
    parser.add_argument("--prompts", type=int, default=500, help="of each set, drawn with three seeds each (500)")
    parser.add_argument("--out", type=Path, default=OUT, help="folder (build/toyland/judged_people)")
    arguments = parser.parse_args()
    if unknown := set(arguments.methods) - set(METHODS):
        parser.error(f"unknown methods {', '.join(sorted(unknown))}; wanted some of {', '.join(METHODS)}")
    options = {method: METHODS[method]() for method in arguments.methods}
    for name in arguments.set or SETS:
        out = arguments.out / name
        rows = write_set(name, out, arguments.prompts)
        for method, words in options.items():
            draw_rows(out / f"{name}.csv", out / "run" / method, "-m", MODEL, *words, *SAMPLING)
            print(f"{name}, {method}: {len(rows)} pictures", flush=True)
        truth = write_truth(name, arguments.prompts, out / "run" / TRUTH)
        baseline = ("--baseline", out / "run" / BASE) if BASE in options else ()
        print(run_molar("eval", *(out / "run" / method for method in options if method != BASE), truth, *baseline,
                        "--human", MODEL / "judges", "--prompts", out / f"{name}.jsonl", "--clip", MODEL / "clip", "-o",
                        out / "scores"))  # fmt: skip
        shown = [method for method in SHEET_METHODS if method in options]
        write_sheet([(method, [picture(out / "run" / method, row) for row in rows])
                     for rows in SHEET_LINES for method in shown], out / "sheet.jpg")  # fmt: skip


if __name__ == "__main__":
    main()
