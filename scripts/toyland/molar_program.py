"""Calls the program as a user does."""

from __future__ import annotations

import concurrent.futures
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "build/molar"
# Judged pictures are in float32, so that they do not depend on what the machine is fastest at.
JUDGED_DTYPE = ("--dtype", "f32")


def run_molar(*words: object) -> str:
    """Its standard output. Ends this process with what the program said if it fails."""
    if not PROGRAM.exists():
        sys.exit(f"error: '{PROGRAM}' is missing: run scripts/quickstart first")
    done = subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: molar {' '.join(map(str, words))}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def draw_rows(table: Path, out: Path, *words: object) -> None:
    """`molar batch` with options `words`. A shard for each processor: the bundled model is too small for two threads."""
    shards = os.cpu_count() or 1

    def draw_shard(shard: int) -> None:
        run_molar("batch", table, *words, *JUDGED_DTYPE, "-o", out, "--shard", f"{shard}/{shards}", "--threads", 1, "-q")

    with concurrent.futures.ThreadPoolExecutor(shards) as pool:
        list(pool.map(draw_shard, range(shards)))


def draw(jobs: list[tuple[Path, dict[str, object]]], *words: object) -> list[np.ndarray]:
    """Each job's picture, uint8 [H, W, 3]: where it is kept, and its row of `molar batch`. Without experts, which judge_people judges.

    A file that is there from an earlier call is kept: delete the folder when the model changes.
    """
    missing = [(path, row) for path, row in jobs if not path.exists()]
    if missing:
        with tempfile.TemporaryDirectory() as folder:
            table, out = Path(folder) / "rows.jsonl", Path(folder) / "drawn"
            table.write_text("".join(json.dumps(row, default=str) + "\n" for _, row in missing), encoding="utf-8")
            draw_rows(table, out, "--no-mole", *words)
            for number, (path, _) in enumerate(missing, start=1):
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(drawn_row(out, number), path)
        print(f"drew {len(missing)} pictures", flush=True)
    return [np.asarray(Image.open(path).convert("RGB")) for path, _ in jobs]


def drawn_row(folder: Path, row: int) -> Path:
    """The picture of row `row`, from 1: `molar batch` begins each name with it."""
    (path,) = folder.glob(f"{row:0>5}-*.png")
    return path
