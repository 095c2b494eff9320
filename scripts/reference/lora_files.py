"""LoRA files with random factors that visibly change a picture, in the spellings people meet.

Every maker takes a diffusers pipeline, a seed and a strength, and returns the changes it wrote as
{(component, module): delta weight}, so that a caller can also fuse them by plain arithmetic.
"""

from __future__ import annotations

import json
import pathlib

import torch
from families import name_generator
from safetensors.torch import save_file

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
FEED_FORWARD = ("ff.net.0.proj", "ff.net.2")
PROJECTIONS = ("proj_in", "proj_out")
TEXT_LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
CONVOLUTIONS = ("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj")

Deltas = dict[tuple[str, str], torch.Tensor]


def layers(pipe, component: str, endings: tuple[str, ...]):
    """(module name as diffusers and transformers 4 spell it, weight) of the layers whose name ends so."""
    for name, module in getattr(pipe, component).named_modules():
        weight = getattr(module, "weight", None)
        if weight is None or weight.dim() < 2 or not name.endswith(endings):
            continue
        if component != "unet" and not name.startswith("text_model."):
            name = "text_model." + name
        yield name, weight


def factors(name: str, weight: torch.Tensor, rank: int, seed: int, gain: float):
    """down, up with up @ down of about `gain` times the size of the weights themselves."""
    generator = name_generator(seed, name)
    fan_in = weight[0].numel()
    down = torch.randn((rank, *weight.shape[1:]), generator=generator) / fan_in**0.5
    up = torch.randn((weight.shape[0], rank, *(1,) * (weight.dim() - 2)), generator=generator) * gain / rank**0.5
    return down, up


def product(up: torch.Tensor, down: torch.Tensor, shape) -> torch.Tensor:
    return (up.flatten(1) @ down.flatten(1)).reshape(shape)


# ---- kohya ----------------------------------------------------------------------------------------------

LDM_INSIDE = ("input_blocks", "middle_block", "output_blocks")


def ldm_block_name(module: str, layers_per_block: int) -> str:
    """down_blocks.1.attentions.0.x -> input_blocks.4.1.x, as the original checkpoints number their blocks."""
    parts = module.split(".")
    if parts[0] == "mid_block":
        index = 1 if parts[1] == "attentions" else 2 * int(parts[2])
        return ".".join(["middle_block", str(index), *parts[3:]])
    level, kind, item = int(parts[1]), parts[2], int(parts[3])
    if parts[0] == "down_blocks":
        number = 1 + level * (layers_per_block + 1) + item
        return ".".join(["input_blocks", str(number), "1" if kind == "attentions" else "0", *parts[4:]])
    number = level * (layers_per_block + 1) + item
    return ".".join(["output_blocks", str(number), "1" if kind == "attentions" else "0", *parts[4:]])


def write_kohya(pipe, path: pathlib.Path, seed: int, *, rank: int = 4, alpha: float | None = 2.0, gain: float = 0.8,
                unet: tuple[str, ...] = ATTENTION + FEED_FORWARD, text: tuple[str, ...] = (), ldm_blocks: bool = False,
                dtype: torch.dtype = torch.float32) -> Deltas:
    """sd-scripts' flat names: lora_unet_..., lora_te_... (SDXL: lora_te1_..., lora_te2_...)."""
    is_xl = hasattr(pipe, "text_encoder_2")
    components = {"unet": ("lora_unet_", unet), "text_encoder": ("lora_te1_" if is_xl else "lora_te_", text)}
    if is_xl:
        components["text_encoder_2"] = ("lora_te2_", text)
    tensors, deltas = {}, {}
    for component, (prefix, endings) in components.items():
        for name, weight in layers(pipe, component, endings) if endings else ():
            down, up = factors(component + name, weight, rank, seed, gain)
            down, up = down.to(dtype), up.to(dtype)
            spelled = ldm_block_name(name, pipe.unet.config.layers_per_block) if ldm_blocks and component == "unet" else name
            key = prefix + spelled.replace(".", "_")
            tensors[key + ".lora_down.weight"], tensors[key + ".lora_up.weight"] = down, up
            scale = 1.0
            if alpha is not None:
                tensors[key + ".alpha"] = torch.tensor(alpha)
                scale = alpha / rank
            deltas[component, name] = product(up.float(), down.float(), weight.shape) * scale
    save_file(tensors, path, metadata={"ss_network_dim": str(rank), "ss_network_alpha": str(alpha)})
    return deltas


def write_locon_mid(pipe, path: pathlib.Path, seed: int, *, rank: int = 4, gain: float = 0.8) -> Deltas:
    """LoCon with a core: up [out, r, 1, 1], mid [r, r, kh, kw], down [r, in, 1, 1]."""
    tensors, deltas = {}, {}
    for name, weight in layers(pipe, "unet", ("conv1", "conv2")):
        generator = name_generator(seed, name)
        out, fan, kh, kw = weight.shape
        down = torch.randn((rank, fan, 1, 1), generator=generator) / (fan * kh * kw) ** 0.5
        mid = torch.randn((rank, rank, kh, kw), generator=generator)
        up = torch.randn((out, rank, 1, 1), generator=generator) * gain / rank
        key = "lora_unet_" + name.replace(".", "_")
        tensors |= {key + ".lora_down.weight": down, key + ".lora_mid.weight": mid, key + ".lora_up.weight": up,
                    key + ".alpha": torch.tensor(float(rank))}
        deltas["unet", name] = torch.einsum("or,rshw,si->oihw", up[:, :, 0, 0], mid, down[:, :, 0, 0])
    save_file(tensors, path)
    return deltas


def write_loha(pipe, path: pathlib.Path, seed: int, *, rank: int = 3, alpha: float = 3.0, gain: float = 0.8) -> Deltas:
    tensors, deltas = {}, {}
    for name, weight in layers(pipe, "unet", ATTENTION):
        generator = name_generator(seed, name)
        rows, columns = weight.shape
        w1_a, w2_a = (torch.randn((rows, rank), generator=generator) / rank**0.5 for _ in range(2))
        w1_b = torch.randn((rank, columns), generator=generator)
        w2_b = torch.randn((rank, columns), generator=generator) * gain / columns**0.5
        key = "lora_unet_" + name.replace(".", "_")
        tensors |= {key + ".hada_w1_a": w1_a, key + ".hada_w1_b": w1_b, key + ".hada_w2_a": w2_a,
                    key + ".hada_w2_b": w2_b, key + ".alpha": torch.tensor(alpha)}
        deltas["unet", name] = (w1_a @ w1_b) * (w2_a @ w2_b) * (alpha / rank)
    save_file(tensors, path)
    return deltas


def write_lokr(pipe, path: pathlib.Path, seed: int, *, rank: int = 4, alpha: float = 2.0, gain: float = 0.8) -> Deltas:
    tensors, deltas = {}, {}
    for name, weight in layers(pipe, "unet", ATTENTION):
        generator = name_generator(seed, name)
        rows, columns = weight.shape
        w1 = torch.randn((4, 4), generator=generator)
        w2_a = torch.randn((rows // 4, rank), generator=generator) * gain / rank**0.5
        w2_b = torch.randn((rank, columns // 4), generator=generator) / columns**0.5
        key = "lora_unet_" + name.replace(".", "_")
        tensors |= {key + ".lokr_w1": w1, key + ".lokr_w2_a": w2_a, key + ".lokr_w2_b": w2_b,
                    key + ".alpha": torch.tensor(alpha)}
        deltas["unet", name] = torch.kron(w1, w2_a @ w2_b) * (alpha / rank)
    save_file(tensors, path)
    return deltas


# ---- diffusers, older spellings ---------------------------------------------------------------------------

def write_old_diffusers(pipe, path: pathlib.Path, seed: int, *, rank: int = 4, gain: float = 0.8,
                        prefix: str = "unet.") -> Deltas:
    """Before PEFT: unet.<module>.processor.to_q_lora.down.weight, without alpha."""
    tensors, deltas = {}, {}
    for name, weight in layers(pipe, "unet", ATTENTION):
        down, up = factors(name, weight, rank, seed, gain)
        block, projection = name.rsplit(".to_", 1)
        key = f"{prefix}{block}.processor.to_{projection.removesuffix('.0')}_lora"
        tensors[key + ".down.weight"], tensors[key + ".up.weight"] = down, up
        deltas["unet", name] = product(up, down, weight.shape)
    save_file(tensors, path)
    return deltas


# ---- PEFT, written by PEFT and diffusers themselves ---------------------------------------------------------

def randomise_adapter(model, seed: int, gain: float) -> None:
    for name, parameter in model.named_parameters():
        if "lora_" not in name:
            continue
        # PEFT's wrapping must not change the numbers: only what follows the wrappers counts.
        plain = name.replace("base_model.model.", "").replace(".default", "").replace(".parity", "")
        noise = torch.randn(parameter.shape, generator=name_generator(seed, plain))
        size = 1 / parameter[0].numel() ** 0.5 if "lora_A" in name else gain / parameter.shape[1] ** 0.5
        with torch.no_grad():
            parameter.copy_(noise * size)


def write_with_diffusers(pipe, folder: pathlib.Path, seed: int, *, rank: int = 4, alpha: float = 2.0,
                         gain: float = 0.8, unet=ATTENTION, text: tuple[str, ...] = ()) -> None:
    """pytorch_lora_weights.safetensors, written by the pipeline's own save_lora_weights. Spoils `pipe`."""
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    parts = {"unet": unet}
    if text:
        parts["text_encoder"] = text
        if hasattr(pipe, "text_encoder_2"):
            parts["text_encoder_2"] = text
    states, metadata = {}, {}
    for component, targets in parts.items():
        model = getattr(pipe, component)
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), init_lora_weights=False)
        model.add_adapter(config, adapter_name="parity")
        randomise_adapter(model, seed, gain)
        states[f"{component}_lora_layers"] = get_peft_model_state_dict(model, adapter_name="parity")
        metadata[f"{component}_lora_adapter_metadata"] = config.to_dict()
    type(pipe).save_lora_weights(folder, safe_serialization=True, **states, **metadata)


def write_peft_folder(pipe, folder: pathlib.Path, seed: int, *, rank: int = 4, alpha: float = 2.0, gain: float = 0.8,
                      rslora: bool = False) -> None:
    """adapter_model.safetensors + adapter_config.json of a PEFT-wrapped UNet. Spoils `pipe`."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(ATTENTION), use_rslora=rslora,
                        init_lora_weights=False, rank_pattern={"to_v": 2}, alpha_pattern={"to_v": 4})
    model = get_peft_model(pipe.unet, config)
    randomise_adapter(model, seed, gain)
    model.save_pretrained(str(folder))
    config_path = pathlib.Path(folder) / "adapter_config.json"
    json.loads(config_path.read_text())  # a folder that is no PEFT folder would be our own mistake
