"""The training of `molar train lora`, step for step, with diffusers and peft: what molar is compared with.

The loop is diffusers' train_dreambooth_lora.py in the order of randomness that include/molar/training/training_order.h
documents. Everything that decides a number is theirs: peft's layers and initialisation, DDPMScheduler's noise and
velocity, compute_snr, get_scheduler, torch's AdamW and clipping.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

MASK = 2**64 - 1
FACTORS, INSTANCES, CLASSES, PASS = range(4)
COMPONENTS = ("text_encoder", "text_encoder_2", "unet")
TARGETS = {
    "attention": ("unet", ("to_q", "to_k", "to_v", "to_out.0")),
    "feed-forward": ("unet", ("ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")),
    "convolution": ("unet", ("conv1", "conv2", "conv_shortcut", "conv")),
    "text-encoder": ("text_encoder", ("q_proj", "k_proj", "v_proj", "out_proj")),
}


@dataclasses.dataclass
class Options:
    """Names and meaning as the options of `molar train lora`."""

    rank: int = 8
    alpha: float | None = None
    target: tuple[str, ...] = ("attention",)
    steps: int = 20
    batch_size: int = 1
    gradient_accumulation: int = 1
    learning_rate: float = 1e-4
    lr_scheduler: str = "constant"
    warmup_steps: int = 0
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.01
    epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    min_snr_gamma: float | None = None
    prior_weight: float = 1.0
    flip: bool = False
    proportion_empty_prompts: float = 0.0
    seed: int = 0


@dataclasses.dataclass
class Result:
    losses: list[float]
    factors: dict[str, torch.Tensor]  # "unet/<module>/down" -> lora_A


def split_mix(z: int) -> int:
    z = (z + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def generator(seed: int, stream: int, index: int) -> torch.Generator:
    derived = split_mix(split_mix(split_mix(seed) ^ stream) ^ index) & 0xFFFFFFFF
    return torch.Generator("cpu").manual_seed(derived)


class EpochOrder:
    def __init__(self, seed: int, stream: int, count: int):
        self.seed, self.stream, self.count = seed, stream, count

    def batch(self, index: int, size: int) -> list[int]:
        picked = []
        for position in range(index * size, (index + 1) * size):
            epoch, place = divmod(position, self.count)
            order = torch.randperm(self.count, generator=generator(self.seed, self.stream, epoch))
            picked.append(int(order[place]))
        return picked


def plain_name(component: str, name: str) -> str:
    """transformers 5 drops the prefix that files and molar keep."""
    return name if component == "unet" or name.startswith("text_model.") else "text_model." + name


class Trainer:
    def __init__(self, pipe, options: Options, instance, classes=None):
        """instance, classes: lists of (picture's path, caption); the pictures have the size to train at."""
        from diffusers import DDPMScheduler

        self.pipe, self.o = pipe, options
        self.is_xl = hasattr(pipe, "text_encoder_2")
        self.encoders = ["text_encoder"] + (["text_encoder_2"] if self.is_xl else [])
        self.noise_scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
        self.sets = [(instance, EpochOrder(options.seed, INSTANCES, len(instance)))]
        if classes:
            self.sets.append((classes, EpochOrder(options.seed, CLASSES, len(classes))))
        for name in ("unet", "vae", *self.encoders):
            getattr(pipe, name).requires_grad_(False)
        self.moments: dict[tuple[pathlib.Path, bool], torch.Tensor] = {}
        self.parameters = self.add_adapters()

    # ---- factors ----

    def add_adapters(self) -> dict[str, torch.nn.Parameter]:
        from peft import LoraConfig

        for component in ("unet", *self.encoders):
            endings = [e for t in self.o.target for c, es in [TARGETS[t]] if component.startswith(c) for e in es]
            if endings:
                config = LoraConfig(r=self.o.rank, lora_alpha=self.o.alpha or self.o.rank, target_modules=endings)
                getattr(self.pipe, component).add_adapter(config)
        found = {}
        for component in COMPONENTS:
            model = getattr(self.pipe, component, None)
            for name, parameter in model.named_parameters() if model is not None else ():
                if "lora_" in name:
                    module, _, factor = name.removesuffix(".default.weight").rpartition(".")
                    found[component, plain_name(component, module), factor] = parameter
        draws = generator(self.o.seed, FACTORS, 0)
        for (_, _, factor), parameter in sorted(found.items(), key=lambda item: item[0]):
            if factor == "lora_A":  # as peft's reset_lora_parameters, from a generator of our own
                torch.nn.init.kaiming_uniform_(parameter, a=math.sqrt(5), generator=draws)
        ending = {"lora_A": "down", "lora_B": "up"}
        return {f"{c}/{m}/{ending[f]}": p for (c, m, f), p in sorted(found.items(), key=lambda item: item[0])}

    # ---- one pass ----

    def distribution(self, path: pathlib.Path, mirrored: bool):
        if (path, mirrored) not in self.moments:
            pixels = np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) / 127.5 - 1.0
            image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
            with torch.no_grad():
                latent_dist = self.pipe.vae.encode(image.flip(3) if mirrored else image).latent_dist
            self.moments[path, mirrored] = (latent_dist.mean, latent_dist.std)
        return self.moments[path, mirrored]

    def encode(self, captions: list[str]) -> tuple[torch.Tensor, torch.Tensor | None]:
        widths, pooled = [], None
        for name in self.encoders:
            tokenizer = getattr(self.pipe, name.replace("text_encoder", "tokenizer"))
            ids = tokenizer(captions, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
            output = getattr(self.pipe, name)(ids, output_hidden_states=True)
            widths.append(output.hidden_states[-2] if self.is_xl else output[0])
            pooled = output[0]
        return torch.cat(widths, dim=-1), pooled if self.is_xl else None

    def loss(self, index: int) -> torch.Tensor:
        rows = [pictures[i] for pictures, order in self.sets for i in order.batch(index, self.o.batch_size)]
        draws = generator(self.o.seed, PASS, index)
        mirrored = [False] * len(rows)
        if self.o.flip:
            mirrored = (torch.empty(len(rows)).uniform_(0, 1, generator=draws) < 0.5).tolist()
        means, stds = zip(*(self.distribution(path, flip) for (path, _), flip in zip(rows, mirrored)))
        mean, std = torch.cat(means), torch.cat(stds)
        latents = (mean + std * torch.randn(mean.shape, generator=draws)) * self.pipe.vae.config.scaling_factor
        noise = torch.randn(latents.shape, generator=draws)
        timesteps = torch.randint(self.noise_scheduler.config.num_train_timesteps, (len(rows),), generator=draws)

        captions = [caption for _, caption in rows]
        if self.o.proportion_empty_prompts:
            empty = torch.empty(len(rows)).uniform_(0, 1, generator=draws) < self.o.proportion_empty_prompts
            captions = ["" if gone else caption for caption, gone in zip(captions, empty.tolist())]
        hidden, pooled = self.encode(captions)
        added = None
        if self.is_xl:
            side = Image.open(rows[0][0]).width
            added = {"text_embeds": pooled, "time_ids": torch.tensor([[side, side, 0, 0, side, side]] * len(rows))}
        noisy = self.noise_scheduler.add_noise(latents, noise, timesteps)
        prediction = self.pipe.unet(noisy, timesteps, hidden, added_cond_kwargs=added).sample
        kind = self.noise_scheduler.config.prediction_type
        target = noise if kind == "epsilon" else self.noise_scheduler.get_velocity(latents, noise, timesteps)
        losses = F.mse_loss(prediction.float(), target.float(), reduction="none").mean(dim=(1, 2, 3))
        if self.o.min_snr_gamma:
            losses = losses * self.snr_weights(timesteps, kind)
        parts = losses.split(self.o.batch_size)
        return parts[0].mean() + (self.o.prior_weight * parts[1].mean() if len(parts) > 1 else 0.0)

    def snr_weights(self, timesteps: torch.Tensor, kind: str) -> torch.Tensor:
        from diffusers.training_utils import compute_snr

        snr = compute_snr(self.noise_scheduler, timesteps)
        clipped = torch.stack([snr, self.o.min_snr_gamma * torch.ones_like(snr)], dim=1).min(dim=1)[0]
        return clipped / snr if kind == "epsilon" else clipped / (snr + 1)

    # ---- the loop ----

    def run(self, on_step=lambda step, loss: None) -> Result:
        from diffusers.optimization import get_scheduler

        o = self.o
        trained = list(self.parameters.values())
        optimizer = torch.optim.AdamW(trained, lr=o.learning_rate, betas=(o.beta1, o.beta2), eps=o.epsilon,
                                      weight_decay=o.weight_decay)
        name = "constant_with_warmup" if o.lr_scheduler == "constant" else o.lr_scheduler
        schedule = get_scheduler(name, optimizer, num_warmup_steps=o.warmup_steps, num_training_steps=o.steps)
        losses = []
        for step in range(o.steps):
            optimizer.zero_grad()
            total = 0.0
            for k in range(o.gradient_accumulation):
                loss = self.loss(step * o.gradient_accumulation + k)
                (loss / o.gradient_accumulation).backward()
                total += loss.item() / o.gradient_accumulation
            if o.max_grad_norm > 0:
                torch.nn.utils.clip_grad_norm_(trained, o.max_grad_norm)
            optimizer.step()
            schedule.step()
            losses.append(total)
            on_step(step + 1, total)
        return Result(losses, {name: p.detach().clone() for name, p in self.parameters.items()})


def read_folder(folder: pathlib.Path, prompt: str | None) -> list[tuple[pathlib.Path, str]]:
    pictures = []
    for path in sorted(p for p in folder.iterdir() if p.suffix == ".png"):
        caption = path.with_suffix(".txt")
        pictures.append((path, caption.read_text().strip() if caption.exists() else prompt))
    return pictures
