"""Writes tests/goldens/lora: small LoRA files and the weights that diffusers or peft make of them.

    python scripts/reference/make_lora_goldens.py

Every case is a folder with the LoRA (lora.safetensors or a PEFT folder) and fused.safetensors: the weights of
some layers after load_lora_weights and fuse_lora, or after peft's merge_and_unload, on the tiny models of
tests/goldens/models. The models' own weights are drawn again from the same seed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import pathlib
import shutil
import sys
import warnings

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import lora_families as spell  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = ROOT / "tests/goldens/models"
OUT = ROOT / "tests/goldens/lora"
SEED = 7
# Layers whose fused weights are stored: every kind of layer that a LoRA can change, once or twice.
SHOWN = ("down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", "attn2.to_k", "attn2.to_v", "attn1.to_out.0",
         "ff.net.0.proj", "mid_block.attentions.0.proj_in", "mid_block.resnets.1.conv2", "time_emb_proj",
         "up_blocks.0.resnets.0.conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "layers.1.self_attn.k_proj",
         "layers.0.self_attn.out_proj", "layers.0.mlp.fc1")


def open_pipeline(model: str):
    from diffusers import DiffusionPipeline

    return DiffusionPipeline.from_pretrained(MODELS / model, torch_dtype=torch.float32, local_files_only=True)


def state_of(pipe) -> dict[tuple[str, str], torch.Tensor]:
    state = {}
    for component in ("unet", "text_encoder", "text_encoder_2"):
        model = getattr(pipe, component, None)
        for name, parameter in model.named_parameters() if model is not None else ():
            if not name.endswith(".weight") or parameter.dim() < 2 or "embedding." in name:
                continue
            name = name.removesuffix(".weight").replace(".base_layer", "")
            if component != "unet" and not name.startswith(("text_model.", "text_projection")):
                name = "text_model." + name
            state[component, name] = parameter.detach().clone()
    return state


def shown_layers(changed) -> list[tuple[str, str]]:
    picked = {}
    for ending in SHOWN:
        for key in changed:
            if key[1].endswith(ending) and (key[0], ending) not in picked:
                picked[key[0], ending] = key
    return sorted(set(picked.values()))


class Writer:
    def __init__(self):
        shutil.rmtree(OUT, ignore_errors=True)
        self.cases = []

    def add(self, name: str, model: str, before, after) -> None:
        """Records which layers changed, and the new weights of some."""
        changed = [key for key in before if not torch.equal(before[key], after[key])]
        assert changed, name
        shown = shown_layers(changed)
        save_file({f"{component}/{module}": after[component, module].contiguous() for component, module in shown},
                  OUT / name / "fused.safetensors")
        self.cases.append({"name": name, "model": model, "num_layers": len(changed), "num_shown": len(shown)})

    def finish(self) -> None:
        files = sorted(p for p in OUT.rglob("*") if p.is_file())
        manifest = {
            "generator": "scripts/reference/make_lora_goldens.py",
            "seed": SEED,
            "versions": {p: importlib.metadata.version(p) for p in ("torch", "diffusers", "transformers", "peft")},
            "cases": self.cases,
            "sha256": {str(p.relative_to(OUT)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files},
        }
        (OUT / "MANIFEST.json").write_text(json.dumps(manifest, indent=1) + "\n")


def through_diffusers(writer: Writer, name: str, model: str, tensors, source: spell.Source | None) -> None:
    """Writes the file, lets diffusers load and fuse it, and checks the result against plain arithmetic."""
    folder = OUT / name
    folder.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "lora.safetensors")
    pipe = open_pipeline(model)
    before = state_of(pipe)
    pipe.load_lora_weights(folder, weight_name="lora.safetensors")
    components = [c for c in ("unet", "text_encoder", "text_encoder_2") if any(k[0] == c for k in source)]
    pipe.fuse_lora(components=components)
    after = state_of(pipe)
    for key, factors in source.items():
        expected = before[key] + factors.delta(before[key].shape)
        error = (after[key] - expected).abs().max().item()
        assert error < 1e-5, f"{name}: diffusers differs from plain arithmetic at {key} by {error}"
    writer.add(name, model, before, after)


def write_with_diffusers(writer: Writer, name: str, model: str, rslora: bool) -> None:
    """What save_lora_weights writes: PEFT factors, and the configs as lora_adapter_metadata."""
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipe, states, metadata = open_pipeline(model), {}, {}
    text = ["text_encoder"] + (["text_encoder_2"] if hasattr(pipe, "text_encoder_2") else [])
    for component in ["unet", *text]:
        targets = list(spell.LINEAR if component == "unet" else spell.TEXT)
        config = LoraConfig(r=3, lora_alpha=4, target_modules=targets, init_lora_weights=False, use_rslora=rslora,
                            rank_pattern={"to_v": 2} if component == "unet" else {},
                            alpha_pattern={"to_k": 1, "mid_block.attentions.0.proj_in": 7} if component == "unet" else {})
        part = getattr(pipe, component)
        part.add_adapter(config)
        randomise(part)
        states[f"{component}_lora_layers"] = get_peft_model_state_dict(part)
        metadata[f"{component}_lora_adapter_metadata"] = config.to_dict()
    folder = OUT / name
    folder.mkdir(parents=True)
    type(pipe).save_lora_weights(folder, weight_name="lora.safetensors", **states, **metadata)
    pipe = open_pipeline(model)
    before = state_of(pipe)
    pipe.load_lora_weights(folder, weight_name="lora.safetensors")
    pipe.fuse_lora(components=["unet", *text])
    writer.add(name, model, before, state_of(pipe))


def randomise(model) -> None:
    for name, parameter in model.named_parameters():
        if any(part in name for part in ("lora_", "hada_", "lokr_")):
            generator = spell.name_generator(SEED, name)
            with torch.no_grad():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)


def through_peft(writer: Writer, name: str, model: str, config) -> None:
    """A PEFT folder of the UNet and what merge_and_unload makes of it."""
    from peft import get_peft_model

    pipe = open_pipeline(model)
    before = state_of(pipe)
    wrapped = get_peft_model(pipe.unet, config)
    randomise(wrapped)
    wrapped.save_pretrained(str(OUT / name))
    (OUT / name / "README.md").unlink()
    pipe.unet = wrapped.merge_and_unload()
    writer.add(name, model, before, state_of(pipe))


def main() -> None:
    from peft import LoHaConfig, LoKrConfig, LoraConfig

    warnings.filterwarnings("ignore")
    writer = Writer()
    for model in ("sd15-tiny", "sd21-tiny", "sdxl-tiny"):
        family = model.removesuffix("-tiny")
        pipe = open_pipeline(model)
        everything = spell.source_lora(pipe, SEED, spell.LINEAR + spell.CONVOLUTION, spell.TEXT)
        through_diffusers(writer, f"{family}-kohya", model, spell.kohya(everything, pipe), everything)
        if family == "sdxl":
            through_diffusers(writer, "sdxl-kohya-ldm", model, spell.kohya(everything, pipe, ldm_blocks=True), everything)
        # diffusers 0.42 decides by the first key whether a file needs conversion; proj_in (as lora_A) would be it.
        linear = spell.ATTENTION + ("ff.net.0.proj", "ff.net.2")
        plain = spell.source_lora(pipe, SEED, linear, spell.TEXT, plain_alpha=True)
        through_diffusers(writer, f"{family}-diffusers", model, spell.diffusers_mixed(plain), plain)
    pipe = open_pipeline("sd15-tiny")
    old = spell.source_lora(pipe, SEED, spell.ATTENTION, spell.TEXT[:4], plain_alpha=True)
    through_diffusers(writer, "sd15-attention-processors", "sd15-tiny", spell.attention_processors(old), old)
    write_with_diffusers(writer, "sd15-metadata", "sd15-tiny", rslora=False)
    write_with_diffusers(writer, "sdxl-metadata-rslora", "sdxl-tiny", rslora=True)
    common = dict(target_modules=list(spell.ATTENTION + ("conv1",)), rank_pattern={"to_v": 2})
    through_peft(writer, "sd15-peft", "sd15-tiny",
                 LoraConfig(r=4, lora_alpha=6, alpha_pattern={"to_v": 5, "mid_block.attentions.0.transformer_blocks.0.attn1.to_q": 9},
                            init_lora_weights=False, **common))
    through_peft(writer, "sdxl-peft-rslora", "sdxl-tiny",
                 LoraConfig(r=4, lora_alpha=6, use_rslora=True, init_lora_weights=False, **common))
    through_peft(writer, "sd15-peft-loha", "sd15-tiny", LoHaConfig(r=3, alpha=4, init_weights=False, **common))
    through_peft(writer, "sd15-peft-lokr", "sd15-tiny", LoKrConfig(r=2, alpha=4, init_weights=False, **common))
    writer.finish()


if __name__ == "__main__":
    main()
