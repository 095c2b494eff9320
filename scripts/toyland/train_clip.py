"""The image-text pair: each picture of a batch is to find its own caption among all of them, and the other way round.

Source: Radford et al. 2021, arXiv:2103.00020.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPModel, CLIPTokenizer

from train_data import Pictures
from train_loop import Optimisation, batch_indices, generator, mixed_precision
from train_options import Options

OPTIMISATION = Optimisation(rate=7e-4, weight_decay=0.05, betas=(0.9, 0.98), warmup_steps=150, decay_share=0.7)
BATCH = {"base": 64, "smoke": 8}
MAX_LOGIT_SCALE = 4.6052  # ln 100, as in CLIP


def roughen(pictures: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Shifted, blurred and noisy by chance: the pair shall also read what a generator draws. [B, 3, H, W]."""
    batch, _, height, width = pictures.shape
    reach = height // 16
    padded = F.pad(pictures, (reach,) * 4, mode="replicate")
    places = torch.randint(0, 2 * reach + 1, (batch, 2), generator=draw).tolist()
    shifted = torch.stack([one[:, y : y + height, x : x + width] for one, (y, x) in zip(padded, places)])
    blurred = F.avg_pool2d(F.pad(shifted, (1,) * 4, mode="replicate"), 3, stride=1)
    amount = torch.rand(batch, 2, 1, 1, 1, generator=draw).square()
    noise = torch.randn(pictures.shape, generator=draw)
    return torch.lerp(shifted, blurred, amount[:, 0]) + 0.1 * amount[:, 1] * noise


def contrastive_loss(logits: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
    """logits: [B, B], pictures by captions. same: [B, B], whether two captions are equal, for then both are right."""
    target = same / same.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


class ClipLoss:
    def __init__(self, pictures: Pictures, tokenizer: CLIPTokenizer, options: Options):
        self.pictures, self.options = pictures, options
        ids = tokenizer(pictures.captions, truncation=True, max_length=tokenizer.model_max_length).input_ids
        self.ids = nn.utils.rnn.pad_sequence(
            [torch.tensor(one) for one in ids], batch_first=True, padding_value=tokenizer.pad_token_id
        )
        self.lengths = torch.tensor([len(one) for one in ids])

    def __call__(self, step: int, model: CLIPModel, _: nn.Module) -> torch.Tensor:
        options = self.options
        chosen = batch_indices(options.seed, step, BATCH[options.size], len(self.pictures))
        pictures = roughen(self.pictures.batch(chosen), generator(options.seed, step))
        # What follows EOS does not reach the text's embedding, as attention looks back only.
        ids = self.ids[chosen, : int(self.lengths[chosen].max())]
        same = (ids[:, None] == ids[None]).all(dim=-1).float().to(options.device)
        with torch.no_grad():
            model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
        with mixed_precision(options.device, options.bfloat16):
            output = model(input_ids=ids.to(options.device), pixel_values=pictures.to(options.device))
        # Again in float32: similarities times 100 need more than eight bits.
        logits = model.logit_scale.exp() * output.image_embeds.float() @ output.text_embeds.float().T
        return contrastive_loss(logits, same)
