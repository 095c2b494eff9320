"""A diffusers folder -> one .safetensors file in the layout of the training code (LDM, sgm, OpenCLIP).

    python scripts/reference/make_single_file.py tests/goldens/models/sdxl-tiny OUT.safetensors
    python scripts/reference/make_single_file.py MODEL OUT.safetensors --dtype f16 --no-config

The way back from what src/io/single_file*.cpp reads; written on its own from the layouts' facts, so that the two
check each other, and scripts/reference/check_single_file_keys.py holds this one against diffusers' reader.
Config fields that no tensor shows go into the metadata entry `molar.config`; --no-config leaves it out, which
suits models of the public sizes only.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re

import torch
from safetensors import safe_open
from safetensors.torch import save_file

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
StateDict = dict[str, torch.Tensor]

# diffusers' word -> LDM's word, inside one block
UNET_RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
               "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
UNET_TOP = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
            "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
            "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP_LAYER = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
                   "self_attn.out_proj": "attn.out_proj"}

# Fields of the configs that tensor names and shapes do not show.
HIDDEN_FIELDS = {
    "unet": ("attention_head_dim", "norm_num_groups", "upcast_attention", "sample_size"),
    "vae": ("norm_num_groups", "sample_size", "scaling_factor", "force_upcast"),
    "text_encoder": ("num_attention_heads", "hidden_act", "bos_token_id", "eos_token_id", "pad_token_id",
                     "projection_dim"),
    "text_encoder_2": ("num_attention_heads", "hidden_act", "bos_token_id", "eos_token_id", "pad_token_id"),
}


def split(name: str, words: dict[str, str]) -> str:
    """Renames the first words of `name`."""
    for ours, theirs in words.items():
        if name == ours or name.startswith(ours + "."):
            return theirs + name[len(ours):]
    raise KeyError(name)


def unet_to_ldm(unet: StateDict, layers: int) -> StateDict:
    attends_up = {int(m[1]) for m in (re.match(r"up_blocks\.(\d+)\.attentions", key) for key in unet) if m}
    out: StateDict = {}
    for name, tensor in unet.items():
        match = re.match(r"(down|up|mid)_blocks?\.(?:(\d+)\.)?"
                         r"(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", name)
        if not match:
            out[split(name, UNET_TOP)] = tensor
            continue
        side, block, kind, index, rest = match[1], int(match[2] or 0), match[3], int(match[4]), match[5]
        inner = split(rest, UNET_RESNET) if kind == "resnets" else rest
        if side == "mid":
            place = {"resnets": 2 * index, "attentions": 1}[kind]
            out[f"middle_block.{place}.{inner}"] = tensor
        elif kind == "downsamplers":
            out[f"input_blocks.{(block + 1) * (layers + 1)}.0.op.{rest.removeprefix('conv.')}"] = tensor
        elif kind == "upsamplers":
            place = 2 if block in attends_up else 1
            out[f"output_blocks.{block * (layers + 1) + layers}.{place}.{rest}"] = tensor
        else:
            number = block * (layers + 1) + index + (1 if side == "down" else 0)
            place = 0 if kind == "resnets" else 1
            out[f"{'input' if side == 'down' else 'output'}_blocks.{number}.{place}.{inner}"] = tensor
    return out


def vae_to_ldm(vae: StateDict) -> StateDict:
    blocks = 1 + max(int(m[1]) for m in (re.match(r"decoder\.up_blocks\.(\d+)", key) for key in vae) if m)
    out: StateDict = {}
    for name, tensor in vae.items():
        new = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        if match := re.match(r"(encoder|decoder)\.mid_block\.attentions\.0\.(.+)", new):
            new = f"{match[1]}.mid.attn_1.{split(match[2], VAE_ATTENTION)}"
            if tensor.dim() == 2:  # the training code has 1x1 convolutions here
                tensor = tensor[:, :, None, None]
        elif match := re.match(r"(encoder|decoder)\.mid_block\.resnets\.(\d)\.(.+)", new):
            new = f"{match[1]}.mid.block_{int(match[2]) + 1}.{match[3]}"
        elif match := re.match(r"encoder\.down_blocks\.(\d+)\.(.+)", new):
            rest = match[2].replace("resnets.", "block.").replace("downsamplers.0.", "downsample.")
            new = f"encoder.down.{match[1]}.{rest}"
        elif match := re.match(r"decoder\.up_blocks\.(\d+)\.(.+)", new):
            rest = match[2].replace("resnets.", "block.").replace("upsamplers.0.", "upsample.")
            new = f"decoder.up.{blocks - 1 - int(match[1])}.{rest}"
        out[new] = tensor
    return out


def text_to_open_clip(text: StateDict, unused_last_layer: bool) -> StateDict:
    """`unused_last_layer`: SD 2.x files hold one layer, and a projection, that the model does not use."""
    width = text["text_model.embeddings.token_embedding.weight"].shape[1]
    layers = 1 + max(int(m[1]) for m in (re.search(r"layers\.(\d+)\.", key) for key in text) if m)
    out: StateDict = {}
    for name, tensor in text.items():
        if name == "text_projection.weight":
            out["text_projection"] = tensor.T.contiguous()
        elif name == "text_model.embeddings.position_embedding.weight":
            out["positional_embedding"] = tensor
        elif name.startswith("text_model.embeddings.") or name.startswith("text_model.final_layer_norm."):
            new = name.removeprefix("text_model.").removeprefix("embeddings.")
            out[new.replace("final_layer_norm", "ln_final")] = tensor
        else:
            layer, rest = re.fullmatch(r"text_model\.encoder\.layers\.(\d+)\.(.+)", name).groups()
            if match := re.fullmatch(r"self_attn\.([qkv])_proj\.(weight|bias)", rest):
                if match[1] == "q":
                    stem = f"text_model.encoder.layers.{layer}.self_attn."
                    fused = torch.cat([text[f"{stem}{role}_proj.{match[2]}"] for role in "qkv"])
                    out[f"transformer.resblocks.{layer}.attn.in_proj_{match[2]}"] = fused
            else:
                out[f"transformer.resblocks.{layer}.{split(rest, OPEN_CLIP_LAYER)}"] = tensor
    if unused_last_layer:
        last = f"transformer.resblocks.{layers - 1}."
        out |= {name.replace(last, f"transformer.resblocks.{layers}."): torch.zeros_like(tensor)
                for name, tensor in out.items() if name.startswith(last)}
        out["text_projection"] = torch.zeros(width, width)
    return out


def with_text_model_prefix(text: StateDict) -> StateDict:
    return {name if name.startswith(("text_model.", "text_projection.")) else f"text_model.{name}": tensor
            for name, tensor in text.items() if not name.endswith("position_ids")}


def to_single_file(components: dict[str, StateDict], configs: dict[str, dict]) -> StateDict:
    """`components` by diffusers' names; `configs` needs the UNet's. Adds training state as real files have it."""
    sdxl, open_clip = "text_encoder_2" in components, configs["unet"]["use_linear_projection"]
    text = with_text_model_prefix(components["text_encoder"])
    parts = {"model.diffusion_model.": unet_to_ldm(components["unet"], configs["unet"]["layers_per_block"]),
             "first_stage_model.": vae_to_ldm(components["vae"])}
    extras: StateDict = {}
    if sdxl:
        parts["conditioner.embedders.0.transformer."] = text
        parts["conditioner.embedders.1.model."] = text_to_open_clip(components["text_encoder_2"], False)
        extras["conditioner.embedders.1.model.logit_scale"] = torch.tensor(4.6)
    elif open_clip:
        parts["cond_stage_model.model."] = text_to_open_clip(text, True)
        extras["cond_stage_model.model.logit_scale"] = torch.tensor(4.6)
    else:
        parts["cond_stage_model.transformer."] = text
    if not open_clip or sdxl:
        prefix = "conditioner.embedders.0" if sdxl else "cond_stage_model"
        extras[f"{prefix}.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    extras |= {"betas": betas, "alphas_cumprod": (1 - betas).cumprod(0), "model_ema.decay": torch.tensor(0.9999)}
    return {prefix + name: tensor for prefix, part in parts.items() for name, tensor in part.items()} | extras


def read_folder(folder: pathlib.Path) -> tuple[dict[str, StateDict], dict[str, dict]]:
    components, configs = {}, {}
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if not (folder / name).is_dir():
            continue
        configs[name] = json.loads((folder / name / "config.json").read_text())
        file, = (folder / name).glob("*.safetensors")
        with safe_open(file, framework="pt") as tensors:
            components[name] = {key: tensors.get_tensor(key) for key in tensors.keys()}
    configs["scheduler"] = json.loads((folder / "scheduler/scheduler_config.json").read_text())
    return components, configs


def hidden_config(configs: dict[str, dict]) -> dict[str, dict]:
    out = {name: {field: configs[name][field] for field in fields if field in configs[name]}
           for name, fields in HIDDEN_FIELDS.items() if name in configs}
    out["scheduler"] = {key: value for key, value in configs["scheduler"].items() if key != "_diffusers_version"}
    return out


def write_single_file(folder: pathlib.Path, target: pathlib.Path, dtype: str | None = None, with_config: bool = True,
                      metadata: dict[str, str] | None = None) -> None:
    components, configs = read_folder(folder)
    tensors = to_single_file(components, configs)
    if dtype:
        tensors = {name: t.to(DTYPES[dtype]) if t.is_floating_point() else t for name, t in tensors.items()}
    entries = dict(metadata or {})
    if with_config:
        entries["molar.config"] = json.dumps(hidden_config(configs), sort_keys=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, target, metadata=entries)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("target", type=pathlib.Path)
    parser.add_argument("--dtype", choices=DTYPES)
    parser.add_argument("--no-config", action="store_true", help="leave the metadata entry molar.config out")
    arguments = parser.parse_args()
    write_single_file(arguments.folder, arguments.target, arguments.dtype, not arguments.no_config)


if __name__ == "__main__":
    main()
