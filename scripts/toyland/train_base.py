#!/usr/bin/env python3
"""Draws Toyland's training set and trains its base model: tokenizer, image-text pair, autoencoder, DINO, UNet.

    train_base.py all --minutes 90        # everything, in order, the time shared out as SHARES says
    train_base.py vae --minutes 25        # one part; `data`, `tokenizer` and `clip` go before the others
    train_base.py export                  # writes models/toyland

Every command may be stopped (SIGTERM, Ctrl-C, a crash) and goes on when called again; a training that is finished
trains on when called with a larger budget. What is not finished lies in the run folder. Needs the packages of
scripts/reference/reference_python.py and of scripts/toyland/requirements.txt.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import diffusers
import torch
import transformers

import train_clip
import train_data
import train_dino
import train_export
import train_loop
import train_tokenizer
import train_unet
import train_vae
from models_base import SIZES, make_clip, make_scheduler, make_unet, make_vae
from train_options import Options

ROOT = Path(__file__).resolve().parents[2]
# How `all` shares out its minutes between the trainings, after about five minutes for the data set.
SHARES = {"clip": 0.14, "vae": 0.28, "dino": 0.07, "unet": 0.51}


class Run:
    """A run folder and the parts that the trainings leave in it, each as diffusers or transformers write it."""

    def __init__(self, arguments: argparse.Namespace):
        device = torch.device(arguments.device)
        bfloat16 = {"f32": False, "bf16": True, "auto": train_loop.has_fast_bfloat16(device)}[arguments.dtype]
        self.folder: Path = arguments.run
        self.arguments = arguments
        self.options = Options(arguments.size, arguments.seed, device, bfloat16)
        self.size = SIZES[arguments.size]

    def pictures(self) -> train_data.Pictures:
        return train_data.Pictures(self.folder / "data")

    def tokenizer(self) -> transformers.CLIPTokenizer:
        return transformers.CLIPTokenizer.from_pretrained(self.part("tokenizer"))

    def part(self, name: str) -> Path:
        folder = self.folder / name
        if not folder.is_dir():
            sys.exit(f"error: '{folder}' is missing: run `train_base.py {name}` first")
        return folder

    def publish(self, name: str, write: Callable[[Path], None]) -> None:
        """Replaces the folder of a part; readers never see half of it."""
        new, old = self.folder / f"{name}.new", self.folder / f"{name}.old"
        for folder in (new, old):
            shutil.rmtree(folder, ignore_errors=True)
        write(new)
        if (self.folder / name).exists():
            os.rename(self.folder / name, old)
        os.rename(new, self.folder / name)
        shutil.rmtree(old, ignore_errors=True)

    def train(
        self,
        name: str,
        make: Callable[[], torch.nn.Module],
        loss: object,
        optimisation: train_loop.Optimisation,
        write: Callable[[torch.nn.Module, Path], None],
        decay: Callable[[int], float] | None = None,
    ) -> None:
        budget = train_loop.Budget(self.arguments.minutes, self.arguments.steps, self.arguments.checkpoint_minutes)
        torch.manual_seed(self.options.seed)
        module = make().to(self.options.device)
        train_loop.train(
            name,
            self.folder / f"{name}.pt",
            module,
            loss,
            budget,
            optimisation,
            decay or train_loop.power_average(),
            lambda average: self.publish(name, lambda folder: write(average, folder)),
        )


def draw_data(run: Run) -> None:
    train_data.draw(run.folder / "data", run.arguments.pictures, run.arguments.workers)


def make_tokenizer(run: Run) -> None:
    if not (run.folder / "tokenizer").exists():
        run.publish(
            "tokenizer",
            lambda folder: train_tokenizer.write_tokenizer(run.pictures().captions, run.size.num_merges, folder),
        )


def train_image_text_pair(run: Run) -> None:
    tokenizer = run.tokenizer()
    run.train(
        "clip",
        lambda: make_clip(run.size, len(tokenizer)),
        train_clip.ClipLoss(run.pictures(), tokenizer, run.options),
        train_clip.OPTIMISATION,
        lambda average, folder: average.save_pretrained(folder),
    )


def train_autoencoder(run: Run) -> None:
    pictures = run.pictures()

    def write(average: torch.nn.Module, folder: Path) -> None:
        vae = make_vae(run.size).to(run.options.device)
        vae.load_state_dict(average.state_dict())
        train_vae.normalise_latents(vae, train_vae.encode(vae, pictures, min(2048, len(pictures)), run.options))
        vae.save_pretrained(folder)

    run.train(
        "vae", lambda: make_vae(run.size), train_vae.VaeLoss(pictures, run.options), train_vae.OPTIMISATION, write
    )


def train_metric_network(run: Run) -> None:
    run.train(
        "dino",
        lambda: train_dino.DinoNetwork(run.size),
        train_dino.DinoLoss(run.pictures(), run.options),
        train_dino.OPTIMISATION,
        lambda average, folder: average.backbone.save_pretrained(folder),
        train_dino.teacher_decay,
    )


def train_denoiser(run: Run) -> None:
    cache = train_unet.Cache(
        run.folder / "cache", run.pictures(), run.part("vae"), run.part("clip"), run.tokenizer(), run.options
    )
    run.train(
        "unet",
        lambda: make_unet(run.size),
        train_unet.UNetLoss(cache, make_scheduler(), run.options),
        train_unet.OPTIMISATION,
        lambda average, folder: average.save_pretrained(folder),
    )


def export(run: Run) -> None:
    parts = {name: run.part(name) for name in ("tokenizer", "clip", "vae", "dino", "unet")}
    train_export.export(parts, run.arguments.out)


COMMANDS: dict[str, tuple[str, Callable[[Run], None]]] = {
    "data": ("draw the training set", draw_data),
    "tokenizer": ("make the vocabulary from its captions", make_tokenizer),
    "clip": ("train the image-text pair, whose text half the UNet reads", train_image_text_pair),
    "vae": ("train the autoencoder", train_autoencoder),
    "dino": ("train the self-supervised vision transformer", train_metric_network),
    "unet": ("train the denoiser", train_denoiser),
    "export": ("write the model folder, in float16", export),
}


def run_all(arguments: argparse.Namespace) -> None:
    for name, (_, command) in COMMANDS.items():
        share = SHARES.get(name, 1.0)
        command(Run(argparse.Namespace(**vars(arguments) | {"minutes": arguments.minutes * share})))


def parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in [("all", "all of these, in this order")] + [(n, text) for n, (text, _) in COMMANDS.items()]:
        sub = commands.add_parser(name, help=summary, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        sub.add_argument("--run", type=Path, default=ROOT / "build/toyland", help="run folder")
        sub.add_argument("--size", choices=SIZES, default="base", help="sizes of the networks")
        sub.add_argument("--seed", type=int, default=1, help="of weights, batches and noise")
        sub.add_argument("--device", default="cpu", help="cpu or cuda")
        sub.add_argument(
            "--dtype",
            choices=("auto", "f32", "bf16"),
            default="auto",
            help="of products; auto: bf16 where the processor is fast at it",
        )
        sub.add_argument("--threads", type=int, default=os.cpu_count(), help="of the computation on the CPU")
        sub.add_argument("--pictures", type=int, default=30000, help="size of the training set")
        sub.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that draw the training set")
        sub.add_argument("--minutes", type=float, default=90.0, help="wall time to train, over all calls together")
        sub.add_argument("--steps", type=int, default=0, help="train so many steps instead; repeatable to the bit")
        sub.add_argument("--checkpoint-minutes", type=float, default=5.0, help="between checkpoints")
        sub.add_argument("--out", type=Path, default=ROOT / "models/toyland", help="model folder")
    return parser.parse_args(words)


def main(words: list[str]) -> None:
    arguments = parse(words)
    torch.set_num_threads(arguments.threads)
    for library in (diffusers, transformers):  # they would report every file they read
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    arguments.run.mkdir(parents=True, exist_ok=True)
    if arguments.command == "all":
        run_all(arguments)
    else:
        COMMANDS[arguments.command][1](Run(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
