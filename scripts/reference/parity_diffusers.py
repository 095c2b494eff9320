"""Draws a parity case with diffusers, float32 on the CPU. As a program: one full-size case in its own process."""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import warnings

import numpy as np
import parity_cases
import parity_text
import torch
from parity_models import Workshop
from PIL import Image

SCHEDULERS = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "pndm": ("PNDMScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "dpmpp_sde": ("DPMSolverSinglestepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "lcm": ("LCMScheduler", {}),
}


def quiet() -> None:
    import diffusers
    import transformers

    warnings.filterwarnings("ignore")
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


class DiffusersSide:
    def __init__(self, workshop: Workshop):
        quiet()
        self.workshop = workshop
        self.kept: tuple[str, object] | None = None  # the pipeline last used, while nothing was fused into it

    def draw(self, case: parity_cases.Case) -> list[np.ndarray]:
        """One uint8 [H, W, 3] per picture."""
        pipe = self.pipeline(case)
        self.attach(pipe, case)
        vae = pipe.vae
        if case.vae:
            import diffusers
            pipe.vae = diffusers.AutoencoderKL.from_pretrained(str(self.workshop.model_folder(case.vae)))
        if case.vae_tiling:
            pipe.vae.enable_tiling()
        else:
            pipe.vae.disable_tiling()
        pictures = self.call(pipe, case)
        pipe.vae = vae
        if case.loras:
            self.kept = None
        return [np.asarray(picture.convert("RGB")) for picture in pictures]

    def pipeline(self, case: parity_cases.Case):
        import diffusers

        task = "Inpaint" if case.mask else "Img2Img" if case.init_image else ""
        key = f"{case.model}:{task}"
        if self.kept and self.kept[0] == key:
            pipe = self.kept[1]
            pipe.scheduler = self.own_scheduler
        else:
            self.kept = None
            base = "StableDiffusionXL" if case.family == "sdxl" else "StableDiffusion"
            extra = {} if case.family == "sdxl" else {"safety_checker": None}
            variant = "fp16" if case.model == "sdxl-f16" else None
            cls = getattr(diffusers, f"{base}{task}Pipeline")
            pipe = cls.from_pretrained(str(self.workshop.model_folder(case.model)), torch_dtype=torch.float32,
                                       variant=variant, **extra)
            pipe.set_progress_bar_config(disable=True)
            self.kept, self.own_scheduler = (key, pipe), pipe.scheduler
        if case.sampler:
            cls, changes = SCHEDULERS[case.sampler]
            pipe.scheduler = getattr(diffusers, cls).from_config(self.own_scheduler.config, **changes)
        else:
            pipe.scheduler = type(self.own_scheduler).from_config(self.own_scheduler.config)
        return pipe

    def attach(self, pipe, case: parity_cases.Case) -> None:
        names, weights = [], []
        for k, lora in enumerate(case.loras):
            path = self.workshop.lora(case.model, lora.file)
            deltas = path.parent / "deltas.safetensors"
            if path.name == "peft":
                self.attach_peft(pipe, path, lora.weight)
            elif deltas.exists():
                add_deltas(pipe, deltas, lora.weight)
            else:
                pipe.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=f"lora{k}")
                names.append(f"lora{k}")
                weights.append(lora.weight)
        if names:
            pipe.set_adapters(names, adapter_weights=weights)

    @staticmethod
    def attach_peft(pipe, folder: pathlib.Path, weight: float) -> None:
        from peft import PeftModel

        if weight != 1.0:
            raise SystemExit("PEFT folders are compared at strength 1")
        pipe.unet = PeftModel.from_pretrained(pipe.unet, str(folder)).merge_and_unload()

    def call(self, pipe, case: parity_cases.Case):
        guided = case.cfg_scale > 1 and pipe.unet.config.time_cond_proj_dim is None
        arguments: dict = dict(num_inference_steps=case.steps, guidance_scale=case.cfg_scale, eta=case.eta,
                               num_images_per_prompt=case.count,
                               generator=[torch.Generator("cpu").manual_seed(case.seed + i) for i in range(case.count)])
        if case.guidance_rescale:
            arguments["guidance_rescale"] = case.guidance_rescale
        if case.chunked:
            arguments |= parity_text.embeddings(pipe, case, guided)
        else:
            arguments |= dict(prompt=case.prompt, negative_prompt=case.negative_prompt)
            if case.family == "sdxl":
                arguments |= dict(prompt_2=case.prompt_2, negative_prompt_2=case.negative_prompt_2)
            if case.clip_skip is not None:
                arguments["clip_skip"] = case.clip_skip
        if case.init_image:
            image = Image.open(self.workshop.picture(case.init_image)).convert("RGB")
            if image.size != (case.width, case.height):
                image = image.resize((case.width, case.height), Image.LANCZOS)
            arguments |= dict(image=image, strength=case.strength)
        if case.mask:
            arguments["mask_image"] = Image.open(self.workshop.picture(case.mask)).convert("L")
        if case.mask or not case.init_image:
            arguments |= dict(width=case.width, height=case.height)
        return pipe(**arguments).images


@torch.no_grad()
def add_deltas(pipe, path: pathlib.Path, weight: float) -> None:
    from safetensors.torch import load_file

    for key, delta in load_file(path).items():
        component, name = key.split("|")
        model = getattr(pipe, component)
        if component != "unet" and not hasattr(model, "text_model"):
            name = name.removeprefix("text_model.")
        model.get_submodule(name).weight.add_(delta * weight)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", help="a case as JSON")
    parser.add_argument("--root", type=pathlib.Path, required=True)
    parser.add_argument("--full-root", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for 0.png, 1.png, ...")
    args = parser.parse_args()
    case = parity_cases.from_json(json.loads(args.case))
    args.out.mkdir(parents=True, exist_ok=True)
    for i, picture in enumerate(DiffusersSide(Workshop(args.root, args.full_root)).draw(case)):
        Image.fromarray(picture).save(args.out / f"{i}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
