"""Writes tests/goldens/unet: what diffusers' UNet2DConditionModel computes, part by part.

    python scripts/reference/make_unet_goldens.py [--out tests/goldens/unet]

Needs torch, diffusers, safetensors, and the tiny models of families.py in tests/goldens/models. The UNets of the
families are read from there; the variants below, each a config that no family uses, are written here with
random weights. MANIFEST.json lists the cases; the C++ test runs every one.

A case is one UNet and one file <case>.safetensors. For each call in it ("8x8", "9x7", ...) the file holds
    <call>/sample, <call>/timesteps, <call>/encoder_hidden_states[, text_embeds, time_ids, timestep_cond]
    <call>/parts/<part>     results of time_embedding, conv_in, down_blocks.i, mid_block, up_blocks.i, conv_out
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

SEED = 3
SIZES = ((8, 8), (9, 7))  # the second is divided by no power of two: skip connections fix the sizes
TEXT_TOKENS = 5

SMALL = dict(
    sample_size=8, block_out_channels=(8, 12), layers_per_block=1, norm_num_groups=4, cross_attention_dim=6,
    attention_head_dim=2, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"))
BOTH = dict(down_block_types=("CrossAttnDownBlock2D",) * 2, up_block_types=("CrossAttnUpBlock2D",) * 2)
VARIANTS = {
    "timestep_cond": SMALL | dict(time_cond_proj_dim=6, flip_sin_to_cos=False, freq_shift=1, time_embedding_dim=20,
                                  center_input_sample=True),
    "scale_shift": SMALL | dict(resnet_time_scale_shift="scale_shift", mid_block_scale_factor=1.5, norm_eps=1e-3,
                                downsample_padding=0, conv_in_kernel=1, conv_out_kernel=5, in_channels=8),
    "only_cross_attention": SMALL | BOTH | dict(only_cross_attention=(True, False), attention_head_dim=(2, 3),
                                                layers_per_block=(2, 1), use_linear_projection=True),
    # 12 channels in 5 heads of 2: the transformer is narrower than the block.
    "uneven_heads": SMALL | BOTH | dict(attention_head_dim=(3, 5), cross_attention_dim=(6, 6)),
    "nested_depths": SMALL | BOTH | dict(layers_per_block=2, transformer_layers_per_block=((1, 2), 0),
                                         reverse_transformer_layers_per_block=((0, 1, 2), 1),
                                         mid_block_type="UNetMidBlock2D"),
    "no_attention": SMALL | dict(down_block_types=("DownBlock2D",) * 3, up_block_types=("UpBlock2D",) * 3,
                                 block_out_channels=(8, 8, 12), mid_block_type=None, out_channels=3),
    # What reaches the normalisations has variances about their epsilons, so that a wrong one shows.
    "faint": SMALL,
}
FAINT_LAYERS = ("conv_in", "conv1", "conv2", "conv_shortcut", "time_emb_proj", "proj_in", "proj_out", "to_out.0", "net.2")


@torch.no_grad()
def fill_weights(unet, faint: bool) -> None:
    for name, parameter in unet.named_parameters():
        if parameter.dim() == 1:
            families.fill(parameter, SEED, name, 0.1, 1.0 if name.endswith("weight") else 0.0)
        else:
            families.fill(parameter, SEED, name, 1.2 / math.sqrt(families.fan_in(parameter)))
        if faint and any(f".{layer}." in f".{name}" for layer in FAINT_LAYERS):
            parameter.mul_(3e-3)


def make_inputs(config, height: int, width: int, name: str) -> dict[str, torch.Tensor]:
    generator = families.name_generator(SEED, name)

    def randn(*shape):
        return torch.randn(shape, generator=generator)

    text_width = config.cross_attention_dim
    text_width = text_width if isinstance(text_width, int) else text_width[0]
    inputs = {"sample": randn(2, config.in_channels, height, width),
              "timesteps": torch.tensor([981.0, 20.5]) if height == 8 else torch.tensor([501]),
              "encoder_hidden_states": randn(2, TEXT_TOKENS, text_width)}
    if config.addition_embed_type == "text_time":
        inputs["time_ids"] = torch.tensor([[64.0, 56.0, 0.0, 8.0, 64.0, 64.0]]).repeat(2, 1)
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        inputs["text_embeds"] = randn(2, pooled)
    if config.time_cond_proj_dim:
        inputs["timestep_cond"] = randn(2, config.time_cond_proj_dim)
    return inputs


@torch.no_grad()
def record(unet, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    parts, handles = {}, []

    def keep(name):
        def hook(_module, _args, output):
            # A down block returns its result and the skip connections.
            parts[name] = (output[0] if isinstance(output, tuple) else output).contiguous().clone()
        return hook

    watched = {"conv_in": unet.conv_in, "conv_out": unet.conv_out}
    if unet.mid_block is not None:
        watched["mid_block"] = unet.mid_block
    for kind in ("down_blocks", "up_blocks"):
        watched |= {f"{kind}.{i}": block for i, block in enumerate(getattr(unet, kind))}
    for name, module in watched.items():
        handles.append(module.register_forward_hook(keep(name)))
    # The embedding that the blocks receive: time, condition and SDXL's sizes together.
    first = unet.down_blocks[0]
    handles.append(first.register_forward_pre_hook(
        lambda _module, _args, kwargs: parts.__setitem__("time_embedding", kwargs["temb"].clone()), with_kwargs=True))
    added = {k: inputs[k] for k in ("text_embeds", "time_ids") if k in inputs}
    unet(inputs["sample"], inputs["timesteps"], inputs["encoder_hidden_states"],
         timestep_cond=inputs.get("timestep_cond"), added_cond_kwargs=added or None)
    for handle in handles:
        handle.remove()
    return parts


def main() -> None:
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=root / "tests/goldens/unet")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)

    models = {f: (f"models/{f}-tiny/unet", diffusers.UNet2DConditionModel.from_pretrained(
        root / f"tests/goldens/models/{f}-tiny/unet")) for f in ("sd15", "sd21", "sdxl", "sd15-inpaint")}
    for name, config in VARIANTS.items():
        unet = diffusers.UNet2DConditionModel(**config).eval()
        fill_weights(unet, faint=name == "faint")
        unet.save_pretrained(out / name)
        models[name] = (f"unet/{name}", unet)

    cases = []
    for name, (folder, unet) in models.items():
        tensors = {}
        for height, width in SIZES:
            call = f"{height}x{width}"
            inputs = make_inputs(unet.config, height, width, name + call)
            tensors |= {f"{call}/{k}": v for k, v in inputs.items()}
            tensors |= {f"{call}/parts/{k}": v for k, v in record(unet.eval(), inputs).items()}
        safetensors.torch.save_file(tensors, out / f"{name}.safetensors")
        cases.append({"name": name, "model": folder, "calls": [f"{h}x{w}" for h, w in SIZES]})

    manifest = {
        "generator": "scripts/reference/make_unet_goldens.py",
        "seed": SEED,
        "versions": {p: importlib.metadata.version(p) for p in ("torch", "diffusers", "safetensors")},
        "cases": cases,
        "sha256": {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest()
                   for p in sorted(out.rglob("*")) if p.is_file() and p.name != "MANIFEST.json"},
    }
    (out / "MANIFEST.json").write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main()
