"""The denoiser: predicts the noise in latents from the caption, on latents and text states that are computed once.

Sources: Ho et al. 2020, arXiv:2006.11239; Hang et al. 2023, arXiv:2303.09556 (weights); Ho and Salimans 2022,
arXiv:2207.12598 (empty captions).
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import diffusers
import numpy as np
import torch
from torch import nn
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

import train_vae
from train_data import Pictures
from train_loop import Optimisation, batch_indices, generator, mixed_precision
from train_options import Options

OPTIMISATION = Optimisation(rate=6e-4, weight_decay=0.01, betas=(0.9, 0.99), warmup_steps=200, decay_share=0.5)
BATCH = {"base": 32, "smoke": 4}
EMPTY_SHARE = 0.1
MAX_SNR = 5.0  # min-SNR's gamma


def fingerprint(*folders: Path) -> str:
    """Of the weights in the folders: what was computed with other weights is of no use."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in folders for path in folder.glob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@torch.no_grad()
def text_states(encoder: CLIPTextModel, tokenizer: CLIPTokenizer, texts: list[str], options: Options) -> torch.Tensor:
    """What the UNet attends to, for each text: float16 [B, L, D]."""
    ids = tokenizer(
        texts, padding="max_length", truncation=True, max_length=tokenizer.model_max_length, return_tensors="pt"
    ).input_ids
    with mixed_precision(options.device, options.bfloat16):
        return encoder(ids.to(options.device)).last_hidden_state.half().cpu()


class Cache:
    """Latents of all pictures and text states of all different captions, on the disk; anew where weights changed."""

    def __init__(
        self, folder: Path, pictures: Pictures, vae: Path, clip: Path, tokenizer: CLIPTokenizer, options: Options
    ):
        texts = sorted({"", *pictures.captions})  # "" comes first
        places = {text: place for place, text in enumerate(texts)}
        self.text_of_picture = torch.tensor([places[caption] for caption in pictures.captions])
        stamp = {"weights": fingerprint(vae, clip), "pictures": len(pictures), "texts": len(texts)}
        stamp_path = folder / "stamp.json"
        if not stamp_path.exists() or json.loads(stamp_path.read_text()) != stamp:
            print(f"unet: computing {len(pictures)} latents and {len(texts)} text states", flush=True)
            folder.mkdir(parents=True, exist_ok=True)
            stamp_path.unlink(missing_ok=True)
            self.fill_latents(folder / "latents.npy", pictures, vae, options)
            self.fill_texts(folder / "texts.npy", texts, clip, tokenizer, options)
            stamp_path.with_suffix(".part").write_text(json.dumps(stamp))
            os.replace(stamp_path.with_suffix(".part"), stamp_path)
        self.latents = np.load(folder / "latents.npy")
        self.texts = np.load(folder / "texts.npy", mmap_mode="r")

    @staticmethod
    def fill_latents(path: Path, pictures: Pictures, vae: Path, options: Options) -> None:
        model = diffusers.AutoencoderKL.from_pretrained(vae).to(options.device)
        latents = train_vae.encode(model, pictures, len(pictures), options) * model.config.scaling_factor
        np.save(path, latents.half().numpy())

    @staticmethod
    def fill_texts(path: Path, texts: list[str], clip: Path, tokenizer: CLIPTokenizer, options: Options) -> None:
        encoder = CLIPModel.from_pretrained(clip).text_model.to(options.device)
        shape = (len(texts), tokenizer.model_max_length, encoder.config.hidden_size)
        states = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
        for first in range(0, len(texts), 128):
            some = texts[first : first + 128]
            states[first : first + len(some)] = text_states(encoder, tokenizer, some, options)
        states.flush()


class UNetLoss:
    def __init__(self, cache: Cache, scheduler: diffusers.SchedulerMixin, options: Options):
        self.cache, self.options = cache, options
        self.alphas_cumprod = scheduler.alphas_cumprod  # [T]

    def __call__(self, step: int, model: diffusers.UNet2DConditionModel, _: nn.Module) -> torch.Tensor:
        options, cache, draw = self.options, self.cache, generator(self.options.seed, step)
        batch = BATCH[options.size]
        chosen = batch_indices(options.seed, step, batch, len(cache.latents))
        clean = torch.from_numpy(cache.latents[chosen.numpy()]).float()
        empty = torch.rand(batch, generator=draw) < EMPTY_SHARE
        text = torch.from_numpy(
            cache.texts[cache.text_of_picture[chosen].where(~empty, torch.tensor(0)).numpy()]
        ).float()
        # One from each of B equal stretches of time: less chance in the loss than with independent draws.
        steps = len(self.alphas_cumprod)
        timestep = ((torch.arange(batch) + torch.rand(batch, generator=draw)) * steps / batch).long()
        noise = torch.randn(clean.shape, generator=draw)
        alpha = self.alphas_cumprod[timestep][:, None, None, None]
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        snr = alpha / (1 - alpha)
        with mixed_precision(options.device, options.bfloat16):
            found = model(*(part.to(options.device) for part in (noisy, timestep, text))).sample
        weight = (snr.clamp(max=MAX_SNR) / snr).to(options.device)
        return (weight * (found.float() - noise.to(options.device)).square()).mean()
