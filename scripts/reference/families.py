"""Random-weight Stable Diffusion models, built with diffusers' and transformers' own classes.

Two sizes: "tiny" (about 1 MB, goldens and the quick part of scripts/parity) and "full" (the exact public
configurations of SD 1.5, SD 2.1-768 and SDXL base). Nothing here comes from anybody's weights; the tiny
tokenizer is trained by this file on text that this file holds.

Weights are drawn per parameter from a generator seeded with (seed, parameter name), so they do not depend
on the order of construction. Their scales are chosen so that a picture depends visibly on the prompt, the
seed, LoRA and the number of steps, while every sampler stays finite; see Note [Lively weights].

    python scripts/reference/families.py --goldens tests/goldens/models     # writes the committed tiny models
    python scripts/reference/families.py --family sdxl --size full --dtype f16 --out FOLDER
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import importlib.metadata
import importlib.util
import json
import math
import pathlib
import shutil
import sys
import zlib

import torch

# Note [Lively weights]
# A UNet that predicts unrelated noise lets the latents grow to about the starting sigma (14.6) and the picture
# clips. Here the noise prediction is  eps = normalised(x) + delta(x, t, prompt):  the first part runs from
# conv_in over the outermost skip connection, in pairs of channels (+x, -x) because silu(u) - silu(-u) = u; it
# makes every sampler contract towards latents of about unit size. delta is what all other layers compute, and
# carries prompt, time and LoRA. With v_prediction delta alone already contracts, so the first part is left out.
# The last normalisation before conv_out (UNet) and conv_out (VAE decoder) makes both output scales known
# beforehand: E[silu(z)^2] = 0.36 for a unit normal z.
SILU_SECOND_MOMENT = 0.356

FAMILIES = ("sd15", "sd21", "sdxl", "sd15-inpaint", "sd21-epsilon", "sd15-lcm", "sd15-sample")
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


# ---- configurations -------------------------------------------------------------------------------------

def base_family(family: str) -> str:
    return family.split("-")[0]


def prediction_type(family: str) -> str:
    return {"sd21": "v_prediction", "sd15-sample": "sample"}.get(family, "epsilon")


def unet_config(family: str, size: str) -> dict:
    base = base_family(family)
    common = dict(in_channels=9 if family == "sd15-inpaint" else 4, out_channels=4, act_fn="silu",
                  flip_sin_to_cos=True, freq_shift=0, norm_eps=1e-5)
    if family == "sd15-lcm":
        common["time_cond_proj_dim"] = 16 if size == "tiny" else 256
    cross3 = dict(down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
                  up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3)
    xl3 = dict(down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
               up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
               addition_embed_type="text_time", use_linear_projection=True)
    cross2 = dict(down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                  up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"))
    if size == "full":
        common["layers_per_block"] = 2
        return common | {
            "sd15": cross3 | dict(sample_size=64, block_out_channels=(320, 640, 1280, 1280),
                                  cross_attention_dim=768, attention_head_dim=8),
            "sd21": cross3 | dict(sample_size=96, block_out_channels=(320, 640, 1280, 1280),
                                  cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20),
                                  use_linear_projection=True, upcast_attention=True),
            "sdxl": xl3 | dict(sample_size=128, block_out_channels=(320, 640, 1280),
                               cross_attention_dim=2048, attention_head_dim=(5, 10, 20),
                               transformer_layers_per_block=(1, 2, 10), addition_time_embed_dim=256,
                               projection_class_embeddings_input_dim=2816),
        }[base]
    common["norm_num_groups"] = 8
    return common | {
        "sd15": cross2 | dict(sample_size=8, block_out_channels=(16, 32), layers_per_block=1,
                              cross_attention_dim=32, attention_head_dim=2),
        "sd21": dict(down_block_types=("CrossAttnDownBlock2D",) * 2, up_block_types=("CrossAttnUpBlock2D",) * 2,
                     sample_size=32, block_out_channels=(16, 24), layers_per_block=1,
                     cross_attention_dim=32, attention_head_dim=(2, 4), use_linear_projection=True,
                     upcast_attention=True),
        "sdxl": xl3 | dict(sample_size=8, block_out_channels=(16, 16, 24), layers_per_block=1,
                           cross_attention_dim=64, attention_head_dim=(2, 2, 4),
                           transformer_layers_per_block=(1, 1, 2), addition_time_embed_dim=8,
                           projection_class_embeddings_input_dim=32 + 6 * 8),
    }[base]


def vae_config(family: str, size: str) -> dict:
    base = base_family(family)
    if size == "full":
        channels, layers, groups = (128, 256, 512, 512), 2, 32
    elif base == "sd21":  # halves only once: nothing may assume a factor of 8
        channels, layers, groups = (8, 16), 1, 4
    else:
        channels, layers, groups = (8, 16, 16, 16), 1, 4
    pixels = {"full": {"sd15": 512, "sd21": 768, "sdxl": 1024}[base], "tiny": 64}[size]
    return dict(in_channels=3, out_channels=3, latent_channels=4, act_fn="silu",
                down_block_types=("DownEncoderBlock2D",) * len(channels),
                up_block_types=("UpDecoderBlock2D",) * len(channels),
                block_out_channels=channels, layers_per_block=layers, norm_num_groups=groups, sample_size=pixels,
                scaling_factor=0.13025 if base == "sdxl" else 0.18215, force_upcast=base == "sdxl")


def text_configs(family: str, size: str, vocab_size: int) -> list[dict]:
    """One dict per text encoder. eos_token_id 2 is what the public SD configs hold, whatever the vocabulary."""
    base = base_family(family)
    common = dict(vocab_size=vocab_size, max_position_embeddings=77, layer_norm_eps=1e-5,
                  bos_token_id=0, eos_token_id=2, pad_token_id=1)
    if size == "full":
        clip_l = common | dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
                               num_attention_heads=12, hidden_act="quick_gelu", projection_dim=768)
        if base == "sd15":
            return [clip_l]
        if base == "sd21":
            return [common | dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=23,
                                  num_attention_heads=16, hidden_act="gelu", projection_dim=512)]
        return [clip_l, common | dict(hidden_size=1280, intermediate_size=5120, num_hidden_layers=32,
                                      num_attention_heads=20, hidden_act="gelu", projection_dim=1280)]
    tiny = common | dict(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
                         hidden_act="quick_gelu", projection_dim=32)
    if base == "sd15":
        return [tiny]
    if base == "sd21":
        return [tiny | dict(hidden_act="gelu", num_hidden_layers=2)]
    # The second encoder finds its end token by equality, not by the largest id.
    return [tiny | dict(num_hidden_layers=2),
            tiny | dict(hidden_act="gelu", bos_token_id=vocab_size - 2, eos_token_id=vocab_size - 1)]


def scheduler_config(family: str) -> tuple[str, dict]:
    betas = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000,
                 steps_offset=1, prediction_type=prediction_type(family))
    base = base_family(family)
    if family == "sd15-lcm":
        return "LCMScheduler", betas | dict(set_alpha_to_one=True, clip_sample=False)
    if base == "sd15":
        return "PNDMScheduler", betas | dict(skip_prk_steps=True, set_alpha_to_one=False, clip_sample=False)
    if base == "sd21":
        return "DDIMScheduler", betas | dict(clip_sample=False, set_alpha_to_one=False)
    return "EulerDiscreteScheduler", betas | dict(timestep_spacing="leading", interpolation_type="linear",
                                                  use_karras_sigmas=False)


# ---- weights --------------------------------------------------------------------------------------------

def name_generator(seed: int, name: str) -> torch.Generator:
    return torch.Generator("cpu").manual_seed((seed * 1_000_003 + zlib.crc32(name.encode())) % 2**32)


@torch.no_grad()
def fill(parameter: torch.Tensor, seed: int, name: str, std: float, mean: float = 0.0) -> None:
    noise = torch.randn(parameter.shape, generator=name_generator(seed, name), dtype=torch.float32)
    parameter.copy_(noise.mul_(std).add_(mean))


def fan_in(parameter: torch.Tensor) -> int:
    return parameter[0].numel()


def set_unet_weights(unet, seed: int, predict: str) -> None:
    for name, p in unet.named_parameters():
        tail = name.rsplit(".", 2)[-2]
        if p.dim() == 1:
            is_norm_weight = name.endswith("weight")
            fill(p, seed, name, 0.1, 1.0 if is_norm_weight else 0.0)
            continue
        gain = 1.0
        if tail in ("to_q", "to_k"):
            gain = 1.4
        elif ".to_out." in name:
            gain = 1.6 if ".attn2." in name else 0.8
        elif tail == "time_emb_proj" or "time_embedding" in name or "add_embedding" in name:
            gain = 1.6
        elif tail == "conv1":
            gain = 1.4
        elif tail == "proj_out":
            gain = 0.9
        fill(p, seed, name, gain / math.sqrt(fan_in(p)))
    lay_identity_path(unet, seed, predict)


@torch.no_grad()
def lay_identity_path(unet, seed: int, predict: str) -> None:
    """Note [Lively weights]: conv_in -> last skip -> last resnet's shortcut -> conv_out, in pairs."""
    strength = {"epsilon": 1.0, "v_prediction": 0.0, "sample": 0.0}[predict]
    delta_std = {"epsilon": 0.45, "v_prediction": 0.75, "sample": 1.0}[predict]
    pairs = [(2 * c, 2 * c + 1, c) for c in range(4)]
    width = 8
    conv_in, conv_out = unet.conv_in, unet.conv_out
    if strength:
        last = unet.up_blocks[-1].resnets[-1]
        skip_start = last.conv_shortcut.weight.shape[1] - conv_in.weight.shape[0]
        conv_in.weight[:width].mul_(0.05)
        conv_in.bias[:width].zero_()
        last.conv_shortcut.weight[:width].mul_(0.05)
        last.conv_shortcut.bias[:width].zero_()
        last.conv2.weight[:width].mul_(0.05)
        last.conv2.bias[:width].zero_()
        if getattr(unet.up_blocks[-1], "has_cross_attention", False):
            unet.up_blocks[-1].attentions[-1].proj_out.weight[:width].mul_(0.05)
            unet.up_blocks[-1].attentions[-1].proj_out.bias[:width].zero_()
        unet.conv_norm_out.weight[:width].fill_(1.0)
        unet.conv_norm_out.bias[:width].zero_()
        for plus, minus, c in pairs:
            conv_in.weight[plus, c, 1, 1] += 1.0
            conv_in.weight[minus, c, 1, 1] -= 1.0
            last.conv_shortcut.weight[plus, skip_start + plus] += 1.0
            last.conv_shortcut.weight[minus, skip_start + minus] += 1.0
    free = conv_out.weight.shape[1] - (width if strength else 0)
    fill(conv_out.weight, seed, "conv_out.weight", delta_std / math.sqrt(free * 9 * SILU_SECOND_MOMENT))
    fill(conv_out.bias, seed, "conv_out.bias", 0.05)
    if strength:
        conv_out.weight[:, :width].mul_(0.05)
        for plus, minus, c in pairs:
            conv_out.weight[c, plus, 1, 1] += strength
            conv_out.weight[c, minus, 1, 1] -= strength


@torch.no_grad()
def set_vae_weights(vae, seed: int) -> None:
    for name, p in vae.named_parameters():
        if p.dim() == 1:
            fill(p, seed, name, 0.1, 1.0 if name.endswith("weight") else 0.0)
            continue
        gain = 1.4 if ".conv1." in name else 1.0
        if ".to_out." in name:
            gain = 0.6
        fill(p, seed, name, gain / math.sqrt(fan_in(p)))
    out = vae.decoder.conv_out
    fill(out.weight, seed, "decoder.conv_out.weight", 0.42 / math.sqrt(fan_in(out.weight) * SILU_SECOND_MOMENT))
    fill(out.bias, seed, "decoder.conv_out.bias", 0.02)
    # Moments: the mean at 1 / scaling_factor (scaled latents have unit size), the logarithm of the variance near -3.
    latents = vae.config.latent_channels
    vae.quant_conv.weight[:latents].mul_(1.0 / vae.config.scaling_factor)
    vae.quant_conv.weight[latents:].mul_(0.5)
    vae.quant_conv.bias[latents:].sub_(3.0)


def set_text_weights(model, seed: int) -> None:
    depth = model.config.num_hidden_layers
    for name, p in model.named_parameters():
        name = name.removeprefix("text_model.")  # transformers 4 and 5 differ here, the weights must not
        if "embedding" in name:
            fill(p, seed, name, 0.5 if "token" in name else 0.25)
        elif p.dim() == 1:
            is_norm_weight = name.endswith("weight")
            fill(p, seed, name, 0.1, 1.0 if is_norm_weight else 0.0)
        else:
            gain = 1.0
            if "q_proj" in name or "k_proj" in name:
                gain = 1.4
            elif "out_proj" in name or "fc2" in name:
                gain = 2.5 / math.sqrt(2 * depth)
            fill(p, seed, name, gain / math.sqrt(fan_in(p)))


# ---- tokenizers -----------------------------------------------------------------------------------------

# Written for this file. It only has to give a vocabulary in which common words of prompts are one token and
# others fall into pieces.
CORPUS = """
a photo of a dog in the garden. a painting of a cat on a chair. the portrait of a woman with long hair, soft light.
a watercolor of a house by the river, in the style of old paper. a man with a red hat, standing in the snow.
two hands holding a small blue bird. the face of a child, smiling, close up, detailed, sharp focus.
a very long road through the mountains at night, with stars and a bright moon over the forest.
an oil painting of ships on the sea, stormy weather, dark clouds, golden light. a sketch of a horse, black and white.
a toy car on the table beside a green bottle. a drawing of a castle, flags, towers, and a wooden bridge.
best quality, highly detailed, beautiful, colorful, studio lighting. ugly, blurry, low quality, bad hands, deformed.
photograph of a street in the rain, people with umbrellas, reflections on the ground, evening.
the dog runs. the dog sleeps. the cat sleeps near the dog. a dog and a cat and a bird and a horse in watercolor style.
portrait photo of an old man wearing glasses, hands folded, warm colors, background of trees and water.
a sculpture made of glass, a vase with flowers, still life, fruit on a plate, a knife, a window, morning light.
it's winter; they're walking and we've seen that i'm cold, you'll see, he'd say, don't.
"""


def byte_alphabet() -> list[str]:
    """The printable stand-in for each byte, as byte-level BPE has it since GPT-2: the visible Latin-1 characters
    stand for themselves, the other bytes for characters from U+0100 on. In the order of CLIP's vocabulary."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table, free = {b: chr(b) for b in visible}, 0x100
    for b in range(256):
        if b not in table:
            table[b] = chr(free)
            free += 1
    return [table[b] for b in visible] + [table[b] for b in range(256) if b not in visible]


def vocabulary(merges: list[tuple[str, str]]) -> dict[str, int]:
    letters = byte_alphabet()
    tokens = letters + [c + "</w>" for c in letters] + [a + b for a, b in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(tokens)}


def train_merges(text: str, count: int) -> list[tuple[str, str]]:
    """Plain byte-pair encoding: the most frequent neighbouring pair joins, ties by alphabet."""
    import regex

    words: dict[tuple[str, ...], int] = {}
    for word in regex.findall(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", text.lower()):
        pieces = tuple(word[:-1]) + (word[-1] + "</w>",)
        words[pieces] = words.get(pieces, 0) + 1
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs: dict[tuple[str, str], int] = {}
        for pieces, n in words.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] = pairs.get(pair, 0) + n
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        joined: dict[tuple[str, ...], int] = {}
        for pieces, n in words.items():
            out, i = [], 0
            while i < len(pieces):
                if pieces[i:i + 2] == best:
                    out.append(pieces[i] + pieces[i + 1])
                    i += 2
                else:
                    out.append(pieces[i])
                    i += 1
            joined[tuple(out)] = joined.get(tuple(out), 0) + n
        words = joined
    return merges


def openclip_merges() -> list[tuple[str, str]]:
    """The real vocabulary's merges, from the installed open_clip_torch package (never committed)."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("full-size models need the package open_clip_torch: pip install --no-deps open_clip_torch")
    path = pathlib.Path(list(spec.submodule_search_locations)[0]) / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    return [tuple(line.split()) for line in lines[1:49152 - 256 - 2 + 1]]


def write_vocabulary_files(folder: pathlib.Path, merges: list[tuple[str, str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary(merges), ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2"] + [f"{a} {b}" for a, b in merges]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def make_tokenizer(merges: list[tuple[str, str]], pad_token: str):
    from transformers import CLIPTokenizer

    return CLIPTokenizer(vocab=vocabulary(merges), merges=list(merges), pad_token=pad_token, model_max_length=77)


def tiny_tokenizer(folder=None, pad_token: str = "<|endoftext|>"):
    """A CLIP-style tokenizer of about 800 entries; with `folder`, also vocab.json and merges.txt there."""
    merges = train_merges(CORPUS, 300)
    if folder is not None:
        write_vocabulary_files(pathlib.Path(folder), merges)
    return make_tokenizer(merges, pad_token)


def tokenizers(family: str, size: str) -> list:
    merges = train_merges(CORPUS, 300) if size == "tiny" else openclip_merges()
    pads = {"sd15": ["<|endoftext|>"], "sd21": ["!"], "sdxl": ["<|endoftext|>", "!"]}[base_family(family)]
    return [make_tokenizer(merges, pad) for pad in pads]


# ---- building and saving --------------------------------------------------------------------------------

def empty_model(cls, config: dict, dtype: torch.dtype):
    """A diffusers model whose parameters are allocated, but not drawn twice: random initialisation of 2.6
    thousand million numbers by the constructor would cost a minute and be overwritten."""
    with torch.device("meta"):
        model = cls.from_config(config)
    return model.to(dtype).to_empty(device="cpu").eval()


def text_model(cls, config: dict, seed: int, dtype: torch.dtype):
    from transformers import CLIPTextConfig

    model = cls(CLIPTextConfig(**config)).to(dtype).eval()
    set_text_weights(model, seed)
    return model


def build(family: str, size: str = "tiny", seed: int = 0, dtype: torch.dtype = torch.float32):
    """The diffusers pipeline of `family` with random weights that depend on (family's base, size, seed) alone."""
    import diffusers
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    if family not in FAMILIES:
        raise SystemExit(f"family '{family}' is unknown; known: {', '.join(FAMILIES)}")
    unet = empty_model(diffusers.UNet2DConditionModel, unet_config(family, size), dtype)
    set_unet_weights(unet, seed, prediction_type(family))
    vae = empty_model(diffusers.AutoencoderKL, vae_config(family, size), dtype)
    set_vae_weights(vae, seed + 1)
    tokens = tokenizers(family, size)
    texts = text_configs(family, size, len(tokens[0].get_vocab()))
    name, config = scheduler_config(family)
    scheduler = getattr(diffusers, name).from_config(config)
    encoder = text_model(CLIPTextModel, texts[0], seed + 2, dtype)
    if base_family(family) == "sdxl":
        return diffusers.StableDiffusionXLPipeline(
            vae=vae, unet=unet, scheduler=scheduler, text_encoder=encoder, tokenizer=tokens[0],
            text_encoder_2=text_model(CLIPTextModelWithProjection, texts[1], seed + 3, dtype), tokenizer_2=tokens[1],
            force_zeros_for_empty_prompt=True, add_watermarker=False)
    cls = diffusers.StableDiffusionInpaintPipeline if family == "sd15-inpaint" else diffusers.StableDiffusionPipeline
    return cls(vae=vae, unet=unet, scheduler=scheduler, text_encoder=encoder, tokenizer=tokens[0],
               safety_checker=None, feature_extractor=None, requires_safety_checker=False)


def save(pipe, folder, dtype: torch.dtype = torch.float32, safe: bool = True, variant: str | None = None,
         max_shard_size: str = "10GB") -> None:
    """Writes the diffusers folder. safe=False writes pickle .bin files, which molar has to refuse."""
    pipe.to(dtype)
    pipe.save_pretrained(str(folder), safe_serialization=safe, variant=variant, max_shard_size=max_shard_size)


def to_transformers4(folder) -> None:
    """Respells a folder's text encoders and tokenizers as transformers 4 wrote them: keys under `text_model.`,
    `position_ids` stored, vocab.json + merges.txt instead of tokenizer.json."""
    from safetensors.torch import load_file, save_file

    folder = pathlib.Path(folder)
    for encoder in folder.glob("text_encoder*"):
        path = encoder / "model.safetensors"
        tensors = {}
        for key, value in load_file(path).items():
            prefixed = key if key.startswith(("text_model.", "text_projection.")) else "text_model." + key
            tensors[prefixed] = value
        tensors["text_model.embeddings.position_ids"] = torch.arange(77).unsqueeze(0)
        save_file(tensors, path, metadata={"format": "pt"})
        config = json.loads((encoder / "config.json").read_text())
        config["torch_dtype"] = config.pop("dtype", "float16")
        config["transformers_version"] = "4.46.3"
        (encoder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for tokenizer in folder.glob("tokenizer*"):
        model = json.loads((tokenizer / "tokenizer.json").read_text(encoding="utf-8"))["model"]
        config = json.loads((tokenizer / "tokenizer_config.json").read_text())
        vocab, merges = model["vocab"], [tuple(m) for m in model["merges"]]
        write_vocabulary_files(tokenizer, merges)
        (tokenizer / "tokenizer.json").unlink()
        pad = config.get("pad_token", "<|endoftext|>")
        special = {role: {"content": text, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
                   for role, text in (("bos_token", "<|startoftext|>"), ("eos_token", "<|endoftext|>"),
                                      ("unk_token", "<|endoftext|>"))}
        special["pad_token"] = pad
        (tokenizer / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
        added = {str(vocab[t]): {"content": t, "lstrip": False, "normalized": t != pad or t != "!", "rstrip": False,
                                 "single_word": False, "special": True}
                 for t in sorted({"<|startoftext|>", "<|endoftext|>", pad}, key=lambda t: vocab[t])}
        (tokenizer / "tokenizer_config.json").write_text(json.dumps({
            "add_prefix_space": False, "added_tokens_decoder": added, "bos_token": "<|startoftext|>",
            "clean_up_tokenization_spaces": True, "do_lower_case": True, "eos_token": "<|endoftext|>",
            "errors": "replace", "model_max_length": 77, "pad_token": pad, "tokenizer_class": "CLIPTokenizer",
            "unk_token": "<|endoftext|>"}, indent=2) + "\n")


# ---- command line ---------------------------------------------------------------------------------------

def write_manifest(root: pathlib.Path, seed: int) -> None:
    files = {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()
             for p in sorted(root.rglob("*")) if p.is_file() and p.name != "MANIFEST.json"}
    versions = {name: importlib.metadata.version(name)
                for name in ("torch", "diffusers", "transformers", "tokenizers", "safetensors")}
    (root / "MANIFEST.json").write_text(json.dumps(
        {"generator": "scripts/reference/families.py --goldens", "seed": seed, "versions": versions,
         "sha256": files}, indent=1) + "\n")


def write_goldens(root: pathlib.Path, seed: int) -> None:
    """Four models and one old spelling; two of them stored in float16 to stay small."""
    for family in ("sd15", "sd21", "sdxl", "sd15-inpaint"):
        folder = root / f"{family}-tiny"
        shutil.rmtree(folder, ignore_errors=True)
        stored = torch.float16 if family == "sd15-inpaint" else torch.float32
        save(build(family, "tiny", seed), folder, stored)
    old = root / "sd15-tiny-transformers4"
    shutil.rmtree(old, ignore_errors=True)
    save(build("sd15", "tiny", seed), old, torch.float16)
    to_transformers4(old)
    write_manifest(root, seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--goldens", type=pathlib.Path, help="write the committed tiny models into this folder")
    parser.add_argument("--family", choices=FAMILIES)
    parser.add_argument("--size", choices=("tiny", "full"), default="tiny")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--out", type=pathlib.Path, help="folder to write")
    args = parser.parse_args()
    if args.goldens:
        write_goldens(args.goldens, args.seed)
    elif args.family and args.out:
        dtype = DTYPES[args.dtype]
        save(build(args.family, args.size, args.seed, dtype), args.out, dtype)
    else:
        parser.error("give --goldens FOLDER, or --family and --out")
    return 0


if __name__ == "__main__":
    sys.exit(main())
