"""Does the base model draw what it is asked for? The image-text pair names the class of each picture, drawn and real.

A class is named by the mean of the embeddings of several captions, of scenes that are not among the prompts. The share
that the pair names right in real renderings of the same scenes is the ceiling.
"""

from __future__ import annotations

import json
from pathlib import Path

import diffusers
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from transformers import CLIPModel

import world
from models_base import PICTURE_PX
from train_data import to_model_range
from train_loop import mixed_precision
from train_options import Options

STEPS = 20
BATCH = 50
NAMING_CAPTIONS = 16  # of each class
# Seeds of scenes: those of the captions that name classes, of the prompts, of the sheets.
NAMING_SEED, PROMPT_SEED, SHEET_SEED = 1_000_000, 2_000_000, 3_000_000
SHEET_COLUMNS = 8
PEOPLE = {"people": world.person_scene, "face": world.face_scene, "hand": world.hand_scene}


def load_pipeline(folder: Path, options: Options) -> diffusers.StableDiffusionPipeline:
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32).to(options.device)
    pipe.set_progress_bar_config(disable=True)
    forward = pipe.unet.forward

    def with_mixed_precision(*inputs, **settings):
        with mixed_precision(options.device, options.bfloat16):
            return (forward(*inputs, **settings)[0].float(),)

    pipe.unet.forward = with_mixed_precision  # inside, so that the sampler computes in float32
    return pipe


def draw(pipe: diffusers.StableDiffusionPipeline, prompts: list[str], first_seed: int, guidance: float) -> np.ndarray:
    """uint8 [N, H, W, 3]; each picture from its own seed."""
    pictures = []
    for start in range(0, len(prompts), BATCH):
        some = prompts[start : start + BATCH]
        noise = [torch.Generator().manual_seed(first_seed + start + k) for k in range(len(some))]
        drawn = pipe(some, num_inference_steps=STEPS, guidance_scale=guidance, generator=noise, output_type="np").images
        pictures.append((drawn * 255).round().astype(np.uint8))
        print(f"judge: {start + len(some)} of {len(prompts)} pictures drawn", flush=True)
    return np.concatenate(pictures)


class Namer:
    """Names the class of a picture."""

    def __init__(self, pair: CLIPModel, tokenizer, device: torch.device):
        self.pair, self.tokenizer, self.device = pair.to(device).eval(), tokenizer, device
        self.classes = list(world.CLASSES)
        self.names = torch.stack(
            [
                self.embed_texts(
                    [world.caption(world.class_scene(name, NAMING_SEED + k)) for k in range(NAMING_CAPTIONS)]
                ).mean(dim=0)
                for name in self.classes
            ]
        )

    @torch.no_grad()
    def embed_texts(self, texts: list[str]) -> torch.Tensor:
        ids = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt").input_ids.to(self.device)
        return F.normalize(self.pair.text_projection(self.pair.text_model(ids).pooler_output), dim=-1)

    @torch.no_grad()
    def embed_pictures(self, pixels: np.ndarray) -> torch.Tensor:
        parts = [
            self.pair.visual_projection(self.pair.vision_model(part.to(self.device)).pooler_output)
            for part in to_model_range(pixels).split(BATCH)
        ]
        return F.normalize(torch.cat(parts), dim=-1)

    def name(self, pixels: np.ndarray) -> list[str]:
        best = (self.embed_pictures(pixels) @ F.normalize(self.names, dim=-1).T).argmax(dim=1)
        return [self.classes[k] for k in best.tolist()]


def sheet(rows: list[tuple[str, np.ndarray]], path: Path, zoom: int = 2, label_px: int = 90) -> None:
    """One labelled row of pictures each."""
    side = PICTURE_PX * zoom
    columns = max(len(pictures) for _, pictures in rows)
    image = Image.new("RGB", (label_px + columns * side, len(rows) * side), "white")
    text = ImageDraw.Draw(image)
    for y, (label, pictures) in enumerate(rows):
        text.multiline_text((4, y * side + 8), label.replace(" ", "\n"), fill="black")
        for x, pixels in enumerate(pictures):
            image.paste(
                Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC), (label_px + x * side, y * side)
            )
    image.save(path)


@torch.no_grad()
def reconstructions(vae: diffusers.AutoencoderKL, pixels: np.ndarray) -> np.ndarray:
    latents = vae.encode(to_model_range(pixels).to(vae.device)).latent_dist.mode()
    decoded = vae.decode(latents).sample.clamp(-1, 1).permute(0, 2, 3, 1).cpu().numpy()
    return ((decoded + 1) * 127.5).round().astype(np.uint8)


def judge(model: Path, out: Path, count: int, guidance: float, options: Options) -> None:
    out.mkdir(parents=True, exist_ok=True)
    pipe = load_pipeline(model, options)
    namer = Namer(CLIPModel.from_pretrained(model / "clip", dtype=torch.float32), pipe.tokenizer, options.device)
    asked = [namer.classes[k % len(namer.classes)] for k in range(count)]
    scenes = [world.class_scene(name, PROMPT_SEED + k) for k, name in enumerate(asked)]

    real = np.stack([world.render(scene, PICTURE_PX).image for scene in scenes])
    decoded = np.concatenate([reconstructions(pipe.vae, part) for part in np.array_split(real, -(-count // BATCH))])
    drawn = draw(pipe, [world.caption(scene) for scene in scenes], 0, guidance)
    report: dict[str, object] = {"prompts": count, "guidance_scale": guidance, "steps": STEPS}
    for kind, pixels in (("drawn", drawn), ("real", real), ("real, through the autoencoder", decoded)):
        named = namer.name(pixels)
        right = [a == b for a, b in zip(asked, named)]
        report[kind] = {
            "named right": sum(right) / count,
            "by class": {
                name: sum(r for r, a in zip(right, asked) if a == name) / asked.count(name)
                for name in namer.classes
                if name in asked
            },
            "mistakes": sorted({f"{a} named {b}" for a, b in zip(asked, named) if a != b}),
        }
        print(f"judge: {100 * sum(right) / count:.1f} % of {count} pictures named right: {kind}", flush=True)
    report["error of the autoencoder, grey levels"] = float(np.abs(decoded.astype(int) - real).mean())
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n")

    sheet(
        [
            (name, drawn[[k for k, a in enumerate(asked) if a == name][:SHEET_COLUMNS]])
            for name in namer.classes
            if name in asked
        ],
        out / "classes.png",
    )
    people = []
    for name, make in PEOPLE.items():
        prompts = [world.caption(make(SHEET_SEED + k)) for k in range(2 * SHEET_COLUMNS)]
        people += [(name, row) for row in np.split(draw(pipe, prompts, SHEET_SEED, guidance), 2)]
    sheet(people, out / "people.png")
    samples = [
        np.stack(
            [
                world.render(world.sample_base(SHEET_SEED + SHEET_COLUMNS * row + k), PICTURE_PX).image
                for k in range(SHEET_COLUMNS)
            ]
        )
        for row in range(4)
    ]
    sheet(
        [pair for pixels in samples for pair in (("real", pixels), ("decoded", reconstructions(pipe.vae, pixels)))],
        out / "reconstructions.png",
    )
