"""The autoencoder between 64 x 64 pixels and 16 x 16 latents: Rombach et al. 2021, arXiv:2112.10752, without a critic.

Edges get a loss of their own at three scales in place of the usual perceptual network, which would have to be
downloaded: flat colours with sharp borders are what these pictures are made of.
"""

from __future__ import annotations

import diffusers
import torch
import torch.nn.functional as F
from torch import nn

from train_data import Pictures
from train_loop import Optimisation, batch_indices, generator, mixed_precision
from train_options import Options

OPTIMISATION = Optimisation(rate=1e-3, weight_decay=0.0, betas=(0.9, 0.99), warmup_steps=200, decay_share=0.6)
BATCH = {"base": 16, "smoke": 4}
KL_WEIGHT = 3e-4  # per latent value; the reconstruction is per pixel value
EDGE_WEIGHT = 1.0
SQUARE_WEIGHT = 2.0  # against few large errors, which the absolute error forgives
LOG_VARIANCE_LIMITS = (-30.0, 20.0)  # as diffusers clamps them


def vary(pictures: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """By chance mirrored, tiled at half size, with exchanged, inverted or brighter colours, or all of it: subjects and
    styles that the data set lacks must pass as well. [B, 3, H, W] in [-1, 1]."""
    batch = len(pictures)
    mirrored, turned, tiled, exchanged, inverted, vivid, gain = torch.rand(7, batch, 1, 1, 1, generator=draw)
    pictures = torch.where(mirrored < 0.5, pictures.flip(3), pictures)
    pictures = torch.where(turned < 0.1, pictures.transpose(2, 3), pictures)
    pictures = torch.where(tiled < 0.15, F.avg_pool2d(pictures, 2).repeat(1, 1, 2, 2), pictures)
    order = torch.rand(batch, 3, generator=draw).argsort(dim=1)[:, :, None, None].expand_as(pictures)
    pictures = torch.where(exchanged < 0.4, pictures.gather(1, order), pictures)
    pictures = torch.where(inverted < 0.15, -pictures, pictures)
    grey = pictures.mean(dim=1, keepdim=True)
    return torch.where(vivid < 0.4, (grey + (1 + 1.5 * gain) * (pictures - grey)).clamp(-1, 1), pictures)


def edge_loss(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Absolute error of differences between neighbours, at full, half and quarter size."""
    difference, total = found - wanted, found.new_zeros(())
    for _ in range(3):
        total = total + difference.diff(dim=2).abs().mean() + difference.diff(dim=3).abs().mean()
        difference = F.avg_pool2d(difference, 2)
    return total / 3


class VaeLoss:
    def __init__(self, pictures: Pictures, options: Options):
        self.pictures, self.options = pictures, options

    def __call__(self, step: int, model: diffusers.AutoencoderKL, _: nn.Module) -> torch.Tensor:
        options, draw = self.options, generator(self.options.seed, step)
        pictures = vary(
            self.pictures.batch(batch_indices(options.seed, step, BATCH[options.size], len(self.pictures))), draw
        ).to(options.device)
        with mixed_precision(options.device, options.bfloat16):
            mean, log_variance = model.quant_conv(model.encoder(pictures)).float().chunk(2, dim=1)
            log_variance = log_variance.clamp(*LOG_VARIANCE_LIMITS)
            noise = torch.randn(mean.shape, generator=draw).to(options.device)
            latents = mean + (log_variance / 2).exp() * noise
            found = model.decoder(model.post_quant_conv(latents)).float()
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).mean() / 2
        return (
            F.l1_loss(found, pictures)
            + SQUARE_WEIGHT * F.mse_loss(found, pictures)
            + EDGE_WEIGHT * edge_loss(found, pictures)
            + KL_WEIGHT * divergence
        )


@torch.no_grad()
def encode(model: diffusers.AutoencoderKL, pictures: Pictures, count: int, options: Options) -> torch.Tensor:
    """Means of the first `count` pictures' latents, unscaled, float32 [count, C, h, w]."""
    means = []
    for indices in torch.arange(count).split(64):
        with mixed_precision(options.device, options.bfloat16):
            moments = model.quant_conv(model.encoder(pictures.batch(indices).to(options.device)))
        means.append(moments.float().chunk(2, dim=1)[0].cpu())
    return torch.cat(means)


@torch.no_grad()
def normalise_latents(model: diffusers.AutoencoderKL, latents: torch.Tensor) -> None:
    """Writes shift and scale of each channel into the two 1 x 1 convolutions around the latents.

    Every channel then has mean 0 and variance 1 over `latents` [N, C, h, w], which one scaling factor for all could not
    give; that factor becomes 1.
    """
    mean, deviation = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    inner, outer = model.quant_conv, model.post_quant_conv
    channels = len(mean)
    outer.bias += outer.weight[:, :, 0, 0] @ mean
    outer.weight *= deviation[None, :, None, None]
    inner.bias[:channels] = (inner.bias[:channels] - mean) / deviation
    inner.weight[:channels] /= deviation[:, None, None, None]
    inner.bias[channels:] -= 2 * deviation.log()  # the logarithm of the variance
    model.register_to_config(scaling_factor=1.0)
