"""What the bundled image-text pair and vision transformer see in pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPModel, CLIPTokenizer, ViTModel

import world
from train_data import to_model_range

BATCH = 50
NAMING_CAPTIONS = 512  # of each class: they differ in colour, place and wording, as pictures do
NAMING_SEED = 1_000_000  # of their scenes


class ImageTextPair:
    """CLIP; embeddings have length 1, [N, D]."""

    def __init__(self, model: Path):
        self.pair = CLIPModel.from_pretrained(model / "clip", dtype=torch.float32).eval()
        self.tokenizer = CLIPTokenizer.from_pretrained(model / "tokenizer")
        self.scale = float(self.pair.logit_scale.detach().exp())

    @torch.no_grad()
    def embed_texts(self, texts: list[str]) -> torch.Tensor:
        ids = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt").input_ids
        return F.normalize(self.pair.text_projection(self.pair.text_model(ids).pooler_output), dim=-1)

    @torch.no_grad()
    def embed_pictures(self, pixels: np.ndarray) -> torch.Tensor:
        """uint8 [N, H, W, 3]."""
        parts = to_model_range(pixels).split(BATCH)
        found = [self.pair.visual_projection(self.pair.vision_model(part).pooler_output) for part in parts]
        return F.normalize(torch.cat(found), dim=-1)


class VisionTransformer:
    """DINO; embeddings have length 1, [N, D]."""

    def __init__(self, model: Path):
        self.model = ViTModel.from_pretrained(model / "dino", add_pooling_layer=False, dtype=torch.float32).eval()

    @torch.no_grad()
    def embed_pictures(self, pixels: np.ndarray) -> torch.Tensor:
        """uint8 [N, H, W, 3]."""
        found = [self.model(part).last_hidden_state[:, 0] for part in to_model_range(pixels).split(BATCH)]
        return F.normalize(torch.cat(found), dim=-1)


class Namer:
    """Names the class of a picture: the likeliest, where each of a class's captions is equally likely and the pair's
    scaled cosine is the logarithm of a picture's likelihood under a caption."""

    def __init__(self, pair: ImageTextPair):
        self.pair, self.classes = pair, list(world.CLASSES)
        self.captions_of = [self.pair.embed_texts(self.captions(name)) for name in self.classes]  # [N, D] each

    @staticmethod
    def captions(name: str) -> list[str]:
        return [world.caption(world.class_scene(name, NAMING_SEED + k)) for k in range(NAMING_CAPTIONS)]

    def name(self, pixels: np.ndarray) -> list[str]:
        pictures = self.pair.embed_pictures(pixels) * self.pair.scale
        scores = torch.stack([(pictures @ captions.T).logsumexp(dim=1) for captions in self.captions_of], dim=1)
        return [self.classes[k] for k in scores.argmax(dim=1).tolist()]
