"""Writes tests/goldens/vae: what diffusers' AutoencoderKL computes, part by part, whole and in tiles.

    python scripts/reference/make_vae_goldens.py [--out tests/goldens/vae]

Needs torch, diffusers, safetensors, and the tiny models of families.py in tests/goldens/models. The autoencoders of
the families are read from there; the variants below, each a config that no family uses, are written here with
random weights. MANIFEST.json lists the cases; the C++ test runs every one. <case>.safetensors holds
    image, latents                 inputs of encode and decode; H and W differ
    parts/encoder.<part>, parts/moments, parts/decoder.<part>
    noise, sample                  of the distribution that encode gives
    tiled/image, tiled/moments, tiled/latents, tiled/pixels     with enable_tiling, several tiles each way
"""

import argparse
import hashlib
import importlib.metadata
import json
import math
import pathlib

import diffusers
import safetensors.torch
import torch

import families

SEED = 5
BLOCKS = dict(down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2)
VARIANTS = {
    "no_quant_no_attention": BLOCKS | dict(
        block_out_channels=(4, 6), layers_per_block=2, norm_num_groups=2, sample_size=16, latent_channels=3,
        use_quant_conv=False, use_post_quant_conv=False, mid_block_add_attention=False, act_fn="swish"),
    # A tile of 18 pixels is 9 latents; the overlap of a quarter is cut to whole pixels and latents apart.
    "uneven_tiles": BLOCKS | dict(
        block_out_channels=(4, 4), layers_per_block=1, norm_num_groups=4, sample_size=18, in_channels=4,
        out_channels=2, latents_mean=(0.5, -0.25, 0.0, 1.0), latents_std=(1.5, 0.5, 1.0, 2.0)),
}


def fill_weights(vae) -> None:
    for name, parameter in vae.named_parameters():
        if parameter.dim() == 1:
            families.fill(parameter, SEED, name, 0.1, 1.0 if name.endswith("weight") else 0.0)
        else:
            families.fill(parameter, SEED, name, 1.2 / math.sqrt(families.fan_in(parameter)))


def watched_modules(vae) -> dict:
    modules = {}
    for side, kind in (("encoder", "down_blocks"), ("decoder", "up_blocks")):
        part = getattr(vae, side)
        modules |= {f"{side}.conv_in": part.conv_in, f"{side}.mid_block": part.mid_block,
                    f"{side}.conv_out": part.conv_out}
        modules |= {f"{side}.{kind}.{i}": block for i, block in enumerate(getattr(part, kind))}
    return modules


def moments_of(distribution) -> torch.Tensor:
    return distribution.parameters


@torch.no_grad()
def record(vae, name: str) -> dict[str, torch.Tensor]:
    generator = families.name_generator(SEED, name)
    scale = 2 ** (len(vae.config.block_out_channels) - 1)
    latents, tile = vae.config.latent_channels, vae.config.sample_size

    def randn(*shape):
        return torch.randn(shape, generator=generator)

    def image(height, width):
        return randn(1, vae.config.in_channels, height, width).clamp(-1, 1)

    tensors = {"image": image(3 * scale, 4 * scale), "latents": randn(1, latents, 4, 3)}
    handles = []
    for part, module in watched_modules(vae).items():
        handles.append(module.register_forward_hook(
            lambda _m, _a, output, part=part: tensors.__setitem__(f"parts/{part}", output.contiguous().clone())))
    distribution = vae.encode(tensors["image"]).latent_dist
    vae.decode(tensors["latents"])
    for handle in handles:
        handle.remove()
    tensors["parts/moments"] = moments_of(distribution)
    tensors["noise"] = randn(*distribution.mean.shape)
    tensors["sample"] = distribution.mean + distribution.std * tensors["noise"]

    # One and three quarters of a tile high, a bit over two tiles wide; whole numbers of latents.
    height, width = (int(tile * f) // scale * scale for f in (1.75, 2.15))
    vae.enable_tiling()
    tensors["tiled/image"] = image(height, width)
    tensors["tiled/moments"] = moments_of(vae.encode(tensors["tiled/image"]).latent_dist)
    tensors["tiled/latents"] = randn(1, latents, height // scale, width // scale)
    tensors["tiled/pixels"] = vae.decode(tensors["tiled/latents"]).sample
    vae.disable_tiling()
    return {key: tensor.contiguous().clone() for key, tensor in tensors.items()}


def main() -> None:
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=root / "tests/goldens/vae")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)

    models = {f: (f"models/{f}-tiny/vae", diffusers.AutoencoderKL.from_pretrained(
        root / f"tests/goldens/models/{f}-tiny/vae")) for f in ("sd15", "sd21", "sdxl")}
    for name, config in VARIANTS.items():
        vae = diffusers.AutoencoderKL(**config).eval()
        fill_weights(vae)
        vae.save_pretrained(out / name)
        models[name] = (f"vae/{name}", vae)

    cases = []
    for name, (folder, vae) in models.items():
        safetensors.torch.save_file(record(vae.eval(), name), out / f"{name}.safetensors")
        cases.append({"name": name, "model": folder})

    manifest = {
        "generator": "scripts/reference/make_vae_goldens.py",
        "seed": SEED,
        "versions": {p: importlib.metadata.version(p) for p in ("torch", "diffusers", "safetensors")},
        "cases": cases,
        "sha256": {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest()
                   for p in sorted(out.rglob("*")) if p.is_file() and p.name != "MANIFEST.json"},
    }
    (out / "MANIFEST.json").write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main()
