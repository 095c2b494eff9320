"""One small LoRA in the spellings that training tools write.

A source LoRA is {(component, module): Factors}, module as diffusers and transformers 4 name it. Each function
below spells it as one family of tools does and returns the tensors of a .safetensors file.
"""

from __future__ import annotations

import dataclasses

import torch
from families import name_generator

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
LINEAR = ATTENTION + ("ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")
CONVOLUTION = ("conv1", "conv2", "conv_shortcut", "conv", "time_emb_proj")
TEXT = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


@dataclasses.dataclass
class Factors:
    down: torch.Tensor
    up: torch.Tensor
    alpha: float

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    def delta(self, shape) -> torch.Tensor:
        return (self.up.flatten(1) @ self.down.flatten(1)).reshape(shape) * (self.alpha / self.rank)


Source = dict[tuple[str, str], Factors]


def source_lora(pipe, seed: int, unet: tuple[str, ...], text: tuple[str, ...], plain_alpha: bool = False) -> Source:
    """Random factors for every layer whose name ends so; to_v has another rank, conv1 and ff.net.2 another alpha.

    Attention layers share one alpha: diffusers 0.42 gives all of a kohya file's the most common one.
    """
    source: Source = {}
    for component in ("unet", "text_encoder", "text_encoder_2"):
        model = getattr(pipe, component, None)
        endings = unet if component == "unet" else text
        for name, module in model.named_modules() if model is not None and endings else ():
            weight = getattr(module, "weight", None)
            if weight is None or weight.dim() < 2 or not ("." + name).endswith(tuple("." + e for e in endings)):
                continue
            if component != "unet" and not name.startswith("text_model."):
                name = "text_model." + name
            rank = 2 if name.endswith("to_v") else 3
            generator = name_generator(seed, component + name)
            down = torch.randn((rank, *weight.shape[1:]), generator=generator) * 0.2
            up = torch.randn((weight.shape[0], rank, *(1,) * (weight.dim() - 2)), generator=generator) * 0.2
            alpha = float(rank) if plain_alpha else (1.0 if name.endswith(("conv1", "ff.net.2")) else 4.0)
            source[component, name] = Factors(down, up, alpha)
    return source


def ldm_name(module: str, pipe) -> str:
    """Original names of SDXL's blocks, counted out block by block as its network builds them."""
    unet = pipe.unet
    inputs, outputs = ["conv_in"], []
    for level, block in enumerate(unet.down_blocks):
        inputs += [f"down_blocks.{level}.{{}}.{i}" for i in range(len(block.resnets))]
        inputs += [f"down_blocks.{level}.downsamplers.0"] if block.downsamplers is not None else []
    for level, block in enumerate(unet.up_blocks):
        outputs += [f"up_blocks.{level}.{{}}.{i}" for i in range(len(block.resnets))]
    rename = {"conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "conv2": "out_layers.3",
              "conv_shortcut": "skip_connection"}
    for side, blocks in (("input_blocks", inputs), ("output_blocks", outputs)):
        for number, pattern in enumerate(blocks):
            for kind, inner in (("resnets", 0), ("attentions", 1)):
                start = pattern.format(kind) + "."
                if "{}" in pattern and module.startswith(start):
                    rest = module[len(start):]
                    return f"{side}.{number}.{inner}.{rename.get(rest, rest)}"
            if "downsamplers" in pattern and module == pattern + ".conv":
                return f"{side}.{number}.0.op"
    for level, block in enumerate(unet.up_blocks):
        if module == f"up_blocks.{level}.upsamplers.0.conv":
            last = sum(len(b.resnets) for b in list(unet.up_blocks)[:level + 1]) - 1
            return f"output_blocks.{last}.{2 if hasattr(block, 'attentions') else 1}.conv"
    for ours, theirs in (("mid_block.resnets.0.", "middle_block.0."), ("mid_block.attentions.0.", "middle_block.1."),
                         ("mid_block.resnets.1.", "middle_block.2.")):
        if module.startswith(ours):
            rest = module[len(ours):]
            return theirs + rename.get(rest, rest)
    raise ValueError(module)


def kohya(source: Source, pipe, ldm_blocks: bool = False) -> dict[str, torch.Tensor]:
    """sd-scripts: flat names and one alpha per layer."""
    is_xl = hasattr(pipe, "text_encoder_2")
    prefixes = {"unet": "lora_unet_", "text_encoder": "lora_te1_" if is_xl else "lora_te_", "text_encoder_2": "lora_te2_"}
    tensors = {}
    for (component, module), factors in source.items():
        spelled = ldm_name(module, pipe) if ldm_blocks and component == "unet" else module
        key = prefixes[component] + spelled.replace(".", "_")
        tensors[key + ".lora_down.weight"] = factors.down
        tensors[key + ".lora_up.weight"] = factors.up
        tensors[key + ".alpha"] = torch.tensor(factors.alpha)
    return tensors


def attention_processors(source: Source) -> dict[str, torch.Tensor]:
    """diffusers before 0.22: the factors live in the attention processors; no alpha."""
    tensors = {}
    for (component, module), factors in source.items():
        parent, layer = module.removesuffix(".0").rsplit(".", 1)
        layer = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}.get(layer, layer)
        between = ".processor" if component == "unet" else ""
        key = f"{component}.{parent}{between}.{layer}_lora"
        tensors[key + ".down.weight"], tensors[key + ".up.weight"] = factors.down, factors.up
    return tensors


def diffusers_mixed(source: Source) -> dict[str, torch.Tensor]:
    """diffusers with PEFT: attention of the UNet as .lora.down, its other layers as .lora_A, text as lora_linear_layer."""
    tensors = {}
    for (component, module), factors in source.items():
        if component != "unet":
            down, up = ".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"
        elif module.endswith(ATTENTION):
            down, up = ".lora.down.weight", ".lora.up.weight"
        else:
            down, up = ".lora_A.weight", ".lora_B.weight"
        tensors[f"{component}.{module}{down}"], tensors[f"{component}.{module}{up}"] = factors.down, factors.up
    return tensors
