"""Writes tests/goldens/pipeline: what diffusers' pipelines compute, stage by stage, for some cases of scripts/parity.

    python scripts/reference/make_pipeline_goldens.py [--out tests/goldens/pipeline]

Needs the packages of scripts/parity and the tiny models of families.py in tests/goldens/models. MANIFEST.json lists
the cases: model, and the request under molar's long option names; files in it are relative to tests/goldens. The C++
tests run every case. <case>.safetensors holds, for pictures i = 0, 1, ...
    encoder_hidden_states, text_embeds, time_ids    what the UNet is conditioned on; negative prompt first. text_embeds
                                                    and time_ids: SDXL alone
    latents/i       [S + 1, C, h, w]: where sampling starts, then the latents after every evaluation
    picture/i       uint8 [H, W, 3]
    mask, and image_latents with noise (4 channels) or masked_image_latents (9)     inpainting alone
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import pathlib
import shutil
import tempfile

import numpy as np
import safetensors.torch
import torch

import parity_models
from parity_cases import LONG_PROMPT, Case, Lora, comma_chunks
from parity_diffusers import DiffusersSide

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHORT = dict(steps=4)
WEIGHTED = ((("a photo of a ", 1.0), ("dog", 1.4), (" and a ", 1.0), ("cat", 0.6), (" in ", 1.0),
             ("the garden", 1 / 1.1)),)
BROKEN = ((("a dog", 1.0),), (("a castle at night", 1.0),))
CASES = [
    Case("sd15", "negative prompt", negative_prompt="ugly, blurry, bad hands", steps=5),
    Case("sd21", "negative prompt", negative_prompt="ugly, blurry, bad hands", **SHORT),
    Case("sdxl", "negative prompts and prompt 2", negative_prompt="ugly", negative_prompt_2="bad hands, blurry",
         prompt_2="an old horse in the rain", width=72, **SHORT),
    Case("sdxl", "absent negative prompt", sampler="dpmpp_2m_karras", **SHORT),
    Case("sdxl", "no guidance", cfg_scale=1.0, **SHORT),
    Case("sd21", "guidance rescale", guidance_rescale=0.7, sampler="euler", **SHORT),
    Case("sd15", "weights", prompt="a photo of a (dog:1.4) and a (cat:0.6) in [the garden]", syntax="a1111",
         chunked=True, chunks=WEIGHTED, **SHORT),
    Case("sdxl", "weights", prompt="a photo of a (dog:1.4) and a (cat:0.6) in [the garden]", syntax="a1111",
         negative_prompt="rain", chunked=True, chunks=WEIGHTED, **SHORT),
    Case("sd15", "commas in a long prompt", prompt=f"({LONG_PROMPT}:1.2)", negative_prompt="rain", syntax="a1111",
         clip_skip=1, chunked=True, chunks=comma_chunks(), **SHORT),
    Case("sdxl", "long prompt and negative", prompt=LONG_PROMPT, negative_prompt=LONG_PROMPT[90:] + " rain",
         chunked=True, **SHORT),
    Case("sd15", "BREAK", prompt="a dog BREAK a castle at night", syntax="a1111", chunked=True, chunks=BROKEN, **SHORT),
    Case("sd15", "clip skip 2", clip_skip=2, chunked=True, **SHORT),
    Case("sdxl", "clip skip 1", clip_skip=1, **SHORT),
    Case("sd15", "img2img", init_image="large", strength=0.6, sampler="heun", steps=5),
    Case("sd15", "inpaint by blending", init_image="ramp", mask="disc", strength=1.0, sampler="ddim", **SHORT),
    Case("sdxl", "inpaint 0.6 by blending", init_image="ramp", mask="soft", strength=0.6, sampler="dpmpp_2m", steps=6),
    Case("sd15-inpaint", "9 channels", init_image="ramp", mask="disc", strength=1.0, **SHORT),
    Case("sd15-inpaint", "9 channels 0.7", init_image="ramp", mask="disc", strength=0.7, sampler="ddim", steps=6),
    Case("sd15", "LoRA pair", loras=(Lora("kohya-text", 0.8, "subject"), Lora("kohya-b", 0.7, "style")), **SHORT),
    Case("sd15", "two pictures by chance", count=2, seed=11, sampler="euler_a", **SHORT),
    Case("sd15", "VAE tiling", vae_tiling=True, width=128, height=96, prompt="a river", **SHORT),
    Case("sd15", "img2img, VAE tiling", init_image="wide", strength=0.6, width=128, height=96, vae_tiling=True,
         sampler="ddim", **SHORT),
]


def file_name(case: Case) -> str:
    words = "".join(c if c.isalnum() else " " for c in f"{case.model} {case.feature}").split()
    return "_".join(words).lower()


class GoldenWorkshop(parity_models.Workshop):
    """Takes the models that are committed; LoRA files and pictures are made as for scripts/parity."""

    def model_folder(self, key: str) -> pathlib.Path:
        return ROOT / f"tests/goldens/models/{key}-tiny"


class Watched:
    """A pipeline whose stages are written down while it is called."""

    def __init__(self, pipe, stages: dict[str, torch.Tensor], count: int):
        self.pipe, self.stages, self.count = pipe, stages, count

    def __getattr__(self, name: str):
        return getattr(self.pipe, name)

    def __call__(self, **arguments):
        steps: list[torch.Tensor] = []
        handle = self.pipe.unet.register_forward_pre_hook(self.keep_conditioning, with_kwargs=True)
        self.watch("prepare_latents", lambda result: self.keep_start(result, steps))
        if hasattr(self.pipe, "prepare_mask_latents"):
            self.watch("prepare_mask_latents", self.keep_mask)

        def keep_step(_pipe, _index, _timestep, tensors):
            steps.append(tensors["latents"].clone())
            return {}

        output = self.pipe(**arguments, callback_on_step_end=keep_step, callback_on_step_end_tensor_inputs=["latents"])
        handle.remove()
        for i in range(self.count):
            self.stages[f"latents/{i}"] = torch.stack([latents[i] for latents in steps])
        return output

    def watch(self, method: str, keep) -> None:
        """Replaces the pipeline's method for its next call."""
        original = getattr(self.pipe, method)

        def watched(*args, **kwargs):
            result = original(*args, **kwargs)
            keep(result)
            delattr(self.pipe, method)
            return result

        setattr(self.pipe, method, watched)

    def keep_conditioning(self, _unet, _args, kwargs) -> None:
        added = kwargs.get("added_cond_kwargs") or {}
        for name in ("encoder_hidden_states", "text_embeds", "time_ids"):
            value = added.get(name, kwargs.get(name))
            if value is not None:
                self.stages[name] = value[::self.count].clone()

    def keep_start(self, result, steps: list[torch.Tensor]) -> None:
        if isinstance(result, torch.Tensor):
            steps.append(result.clone())
            return
        steps.append(result[0].clone())
        if self.pipe.unet.config.in_channels == 4:
            self.stages["noise"], self.stages["image_latents"] = result[1].clone(), result[2].clone()

    def keep_mask(self, result) -> None:
        self.stages["mask"] = result[0][:1].clone()
        if self.pipe.unet.config.in_channels == 9:
            self.stages["masked_image_latents"] = result[1][:1].clone()


class Recorder(DiffusersSide):
    def record(self, case: Case) -> dict[str, torch.Tensor]:
        self.stages: dict[str, torch.Tensor] = {}
        for i, picture in enumerate(self.draw(case)):
            self.stages[f"picture/{i}"] = torch.from_numpy(np.array(picture))
        return {name: tensor.contiguous() for name, tensor in self.stages.items()}

    def call(self, pipe, case: Case):
        return super().call(Watched(pipe, self.stages, case.count), case)


def request(case: Case, files: dict[str, str]) -> dict:
    """What molar is asked for. `files` gives each file's place in the goldens."""
    wanted = {"prompt": case.prompt, "prompt-syntax": case.syntax, "steps": case.steps, "cfg-scale": case.cfg_scale,
              "seed": case.seed, "width": case.width, "height": case.height, "count": case.count}
    texts = {"negative-prompt": case.negative_prompt, "prompt-2": case.prompt_2,
             "negative-prompt-2": case.negative_prompt_2, "sampler": case.sampler, "clip-skip": case.clip_skip,
             "strength": case.strength, "guidance-rescale": case.guidance_rescale or None,
             "vae-tiling": case.vae_tiling or None, "init-image": files.get(case.init_image),
             "mask": files.get(case.mask)}
    wanted |= {option: value for option, value in texts.items() if value is not None}
    for lora in case.loras:  # subject and style
        wanted[lora.role] = {"file": files[lora.file], "weight": lora.weight}
    if case.loras:
        wanted["merge"] = "direct"
    return wanted


def copied(case: Case, workshop: GoldenWorkshop, out: pathlib.Path) -> dict[str, str]:
    """Puts the files that a case names beside its golden: name -> path relative to tests/goldens."""
    sources = {name: ("pictures", workshop.picture(name)) for name in (case.init_image, case.mask) if name}
    sources |= {lora.file: ("loras", workshop.lora(case.model, lora.file)) for lora in case.loras}
    files = {}
    for name, (folder, path) in sources.items():
        target = out / folder / f"{name}{path.suffix}"
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
        files[name] = f"{out.name}/{folder}/{target.name}"
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "tests/goldens/pipeline")
    out = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    torch.set_num_threads(1)

    cases = []
    with tempfile.TemporaryDirectory() as scratch:
        workshop = GoldenWorkshop(pathlib.Path(scratch), pathlib.Path(scratch))
        recorder = Recorder(workshop)
        for case in CASES:
            safetensors.torch.save_file(recorder.record(case), out / f"{file_name(case)}.safetensors")
            cases.append({"name": file_name(case), "model": f"models/{case.model}-tiny",
                          "request": request(case, copied(case, workshop, out))})

    manifest = {
        "generator": "scripts/reference/make_pipeline_goldens.py",
        "seed": parity_models.SEED,
        "versions": {p: importlib.metadata.version(p)
                     for p in ("torch", "diffusers", "transformers", "peft", "safetensors", "pillow", "numpy")},
        "cases": cases,
        "sha256": {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest()
                   for p in sorted(out.rglob("*")) if p.is_file() and p.name != "MANIFEST.json"},
    }
    (out / "MANIFEST.json").write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main()
