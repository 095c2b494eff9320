"""The training set: base scenes of the world as one array of pixels and a file of captions, and batches from it."""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
import os
import sys
from pathlib import Path

import numpy as np
import torch

from models_base import PICTURE_PX
from train_loop import stop_requests

CHUNK = 250  # pictures that one worker draws, and what is lost at most when it is stopped


def draw_chunk(folder: Path, first: int, end: int) -> int:
    """Pixels first, then, under its final name, the chunk's captions: a caption file says that the pixels are there."""
    import world

    pixels = np.load(folder / "images.part.npy", mmap_mode="r+")
    lines = []
    for seed in range(first, end):
        scene = world.sample_base(seed)
        pixels[seed] = world.render(scene, PICTURE_PX).image
        lines.append(json.dumps({"seed": seed, "caption": world.caption(scene)}, ensure_ascii=False) + "\n")
    pixels.flush()
    part = folder / f"captions-{first:07d}.part"
    part.write_text("".join(lines), encoding="utf-8")
    os.replace(part, folder / f"captions-{first:07d}.jsonl")
    return end - first


def draw(folder: Path, count: int, workers: int) -> None:
    """Scenes 0 to count - 1. Chunks that are there from an earlier call are kept."""
    done = folder / "images.npy"
    if done.exists():
        found = len(np.load(done, mmap_mode="r"))
        if found != count:
            sys.exit(f"error: '{folder}' holds {found} pictures, wanted {count}: delete it, or ask for as many")
        return
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "images.part.npy"
    shape = (count, PICTURE_PX, PICTURE_PX, 3)
    if not part.exists() or np.load(part, mmap_mode="r").shape != shape:
        for stale in folder.glob("captions*"):
            stale.unlink()
        np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape).flush()
    starts = range(0, count, CHUNK)
    names = [folder / f"captions-{first:07d}.jsonl" for first in starts]
    missing = [first for first, name in zip(starts, names) if not name.exists()]
    drawn = count - sum(min(CHUNK, count - first) for first in missing)
    with stop_requests() as received, concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn")
    ) as pool:
        jobs = [pool.submit(draw_chunk, folder, first, min(first + CHUNK, count)) for first in missing]
        for job in concurrent.futures.as_completed(jobs):
            drawn += job.result()
            print(f"data: {drawn} of {count} pictures", flush=True)
            if received:
                pool.shutdown(cancel_futures=True)
                print("data: stopped; the same command goes on", flush=True)
                sys.exit(128 + received[0])
    with (folder / "captions.part").open("w", encoding="utf-8") as file:
        for name in names:
            file.write(name.read_text(encoding="utf-8"))
    os.replace(folder / "captions.part", folder / "captions.jsonl")
    os.replace(part, done)
    for name in names:
        name.unlink()


class Pictures:
    """The drawn data set; pixels stay on the disk until a batch asks for them."""

    def __init__(self, folder: Path):
        if not (folder / "images.npy").exists():
            sys.exit(f"error: '{folder}' holds no finished data set: run `train_base.py data` first")
        self.pixels = np.load(folder / "images.npy", mmap_mode="r")
        with (folder / "captions.jsonl").open(encoding="utf-8") as file:
            self.captions = [json.loads(line)["caption"] for line in file]

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, indices: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] in [-1, 1]."""
        return to_model_range(self.pixels[indices.numpy()])


def to_model_range(pixels: np.ndarray) -> torch.Tensor:
    """uint8 [B, H, W, 3] to float [B, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
