"""Full-size SD 1.5, 2.1 and XL in the single-file layout, by names and shapes only (no weights are made).

    python scripts/reference/check_single_file_keys.py                                    # checks
    python scripts/reference/check_single_file_keys.py --goldens tests/goldens/single_file  # and writes

1. Builds the public architectures on the meta device, renames them with make_single_file.py, and lets diffusers'
   own reader turn the result back: names and shapes must be those of the modules.
2. Writes full_<family>.json for tests/io/single_file_test.cpp: the file's names and shapes as a tree, and for each
   component the number of tensors and the SHA-256 of its lines "name [shape]" under diffusers' names.
3. Writes <family>-tiny.safetensors from tests/goldens/models (float16 or bfloat16: half the size). Run it again
   whenever families.py writes those anew.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import pathlib

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders import single_file_utils
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

import families
import make_single_file

FAMILIES = ("sd15", "sd21", "sdxl")
TINY = {"sd15": "f16", "sd21": "bf16", "sdxl": "f16"}
VOCABULARY_SIZE = 49408


def build(family: str) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, dict]]:
    unet_config, vae_config = families.unet_config(family, "full"), families.vae_config(family, "full")
    texts = families.text_configs(family, "full", VOCABULARY_SIZE)
    with torch.device("meta"):
        modules = {"unet": UNet2DConditionModel(**unet_config), "vae": AutoencoderKL(**vae_config),
                   "text_encoder": CLIPTextModel(CLIPTextConfig(**texts[0]))}
        if len(texts) > 1:
            modules["text_encoder_2"] = CLIPTextModelWithProjection(CLIPTextConfig(**texts[1]))
    components = {name: dict(module.state_dict()) for name, module in modules.items()}
    for name in components:
        if name.startswith("text_encoder"):
            components[name] = make_single_file.with_text_model_prefix(components[name])
    configs = {name: json.loads(json.dumps(dict(module.config) if name in ("unet", "vae") else module.config.to_dict()))
               for name, module in modules.items()}
    return components, configs


def shapes(tensors: dict[str, torch.Tensor]) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in tensors.items()}


def check_with_diffusers(family: str, single: dict[str, torch.Tensor], components: dict, configs: dict) -> None:
    read = {"unet": single_file_utils.convert_ldm_unet_checkpoint(dict(single), configs["unet"]),
            "vae": single_file_utils.convert_ldm_vae_checkpoint(dict(single), configs["vae"])}

    class Text:  # what convert_open_clip_checkpoint asks of a model
        config = type("Config", (), {"hidden_size": configs["text_encoder"]["hidden_size"]})

    if family == "sd21":
        read["text_encoder"] = single_file_utils.convert_open_clip_checkpoint(Text, dict(single))
    else:
        read["text_encoder"] = single_file_utils.convert_ldm_clip_checkpoint(dict(single))
    if family == "sdxl":
        read["text_encoder_2"] = single_file_utils.convert_open_clip_checkpoint(
            Text, dict(single), prefix="conditioner.embedders.1.model.")
    for name, tensors in read.items():
        found = {key: shape for key, shape in shapes(tensors).items() if not key.endswith("position_ids")}
        wanted = shapes(components[name])
        if found != wanted:
            different = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
            raise SystemExit(f"{family} {name}: diffusers reads it otherwise, first at {different[:5]}")
        print(f"{family} {name}: {len(wanted)} tensors, as diffusers reads them")


def tree(names: dict[str, list[int]]) -> dict:
    out: dict = {}
    for name, shape in names.items():
        node = out
        *parents, leaf = name.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = shape
    return out


def digest(tensors: dict[str, torch.Tensor]) -> dict:
    lines = [f"{name} {shape}\n" for name, shape in sorted(shapes(tensors).items())]
    return {"count": len(lines), "sha256": hashlib.sha256("".join(lines).encode()).hexdigest()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--goldens", type=pathlib.Path)
    arguments = parser.parse_args()
    for family in FAMILIES:
        components, configs = build(family)
        single = make_single_file.to_single_file(components, configs)
        check_with_diffusers(family, single, components, configs)
        if not arguments.goldens:
            continue
        golden = {"tensors": tree(shapes(single)), "diffusers": {name: digest(t) for name, t in components.items()},
                  "config": configs}
        arguments.goldens.mkdir(parents=True, exist_ok=True)
        text = json.dumps(golden, sort_keys=True, separators=(",", ":"))
        (arguments.goldens / f"full_{family}.json").write_text(text)
    if arguments.goldens:
        models = pathlib.Path(__file__).resolve().parents[2] / "tests/goldens/models"
        for family, dtype in TINY.items():
            target = arguments.goldens / f"{family}-tiny.safetensors"
            make_single_file.write_single_file(models / f"{family}-tiny", target, dtype)
        write_manifest(arguments.goldens)


def write_manifest(folder: pathlib.Path) -> None:
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
             for path in sorted(folder.iterdir()) if path.name != "MANIFEST.json"}
    versions = {name: importlib.metadata.version(name) for name in ("torch", "diffusers", "transformers")}
    manifest = {"generators": ["scripts/reference/check_single_file_keys.py", "scripts/reference/make_single_file.py"],
                "versions": versions, "seed": None, "sha256": files}
    (folder / "MANIFEST.json").write_text(json.dumps(manifest, indent=2) + "\n")


if __name__ == "__main__":
    main()
