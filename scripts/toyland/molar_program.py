"""Calls the program as a user does."""

from __future__ import annotations

import concurrent.futures
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "build/molar"


def run_molar(*words: object) -> str:
    """Its standard output. Ends this process with what the program said if it fails."""
    if not PROGRAM.exists():
        sys.exit(f"error: '{PROGRAM}' is missing: run scripts/quickstart first")
    done = subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: molar {' '.join(map(str, words))}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def draw(jobs: list[tuple[Path, tuple[object, ...]]]) -> list[np.ndarray]:
    """`molar generate` without experts (judge_people judges those) and with each job's options, as many at a time as there are processors; uint8 [H, W, 3] each.

    A file that is there from an earlier call is kept: delete the folder when the model changes.
    """

    def draw_one(job: tuple[Path, tuple[object, ...]]) -> np.ndarray:
        path, options = job
        if not path.exists():
            run_molar("generate", "--no-mole", *options, "--threads", 1, "-q", "-o", path)
        return np.asarray(Image.open(path).convert("RGB"))

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        pictures = []
        for picture in pool.map(draw_one, jobs):
            pictures.append(picture)
            if len(pictures) % 50 == 0 or len(pictures) == len(jobs):
                print(f"drew {len(pictures)} of {len(jobs)} pictures", flush=True)
    return pictures
