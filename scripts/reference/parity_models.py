"""Models, LoRA files and pictures that the parity cases name; made once in the output folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import pathlib
import shutil

import families
import lora_files
import make_single_file
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

# Scheduler configurations that belong to a model: class, and what differs from the family's own configuration.
SCHEDULERS = {
    "sd21-zsnr-trailing": ("DDIMScheduler", dict(rescale_betas_zero_snr=True, timestep_spacing="trailing")),
    "sd21-euler-zsnr": ("EulerDiscreteScheduler", dict(rescale_betas_zero_snr=True, timestep_spacing="trailing")),
    "sd21-linspace": ("DDIMScheduler", dict(timestep_spacing="linspace")),
    "sdxl-trailing": ("EulerDiscreteScheduler", dict(timestep_spacing="trailing")),
    "sdxl-linspace": ("EulerDiscreteScheduler", dict(timestep_spacing="linspace", interpolation_type="log_linear")),
    "sdxl-karras": ("EulerDiscreteScheduler", dict(use_karras_sigmas=True)),
    "sdxl-exponential": ("EulerDiscreteScheduler", dict(use_exponential_sigmas=True)),
    "sd15-dpm-sde": ("DPMSolverMultistepScheduler", dict(algorithm_type="sde-dpmsolver++", use_karras_sigmas=True)),
    "sd15-dpm-order3": ("DPMSolverMultistepScheduler", dict(solver_order=3, euler_at_final=True)),
    "sd15-dpm-plain": ("DPMSolverMultistepScheduler", dict(algorithm_type="dpmsolver", final_sigmas_type="sigma_min",
                                                          solver_type="heun")),
    "sd15-unipc-bh1": ("UniPCMultistepScheduler", dict(solver_type="bh1", solver_order=3,
                                                      final_sigmas_type="sigma_min")),
    "sd15-cosine": ("DDIMScheduler", dict(beta_schedule="squaredcos_cap_v2")),
    "sd15-linear-beta": ("DDIMScheduler", dict(beta_schedule="linear", beta_start=0.0001, beta_end=0.02)),
    "sd15-ddim-clip": ("DDIMScheduler", dict(clip_sample=True, clip_sample_range=2.5, set_alpha_to_one=True)),
    "sd15-ddim-offset0": ("DDIMScheduler", dict(steps_offset=0)),
    "sd15-pndm-prk": ("PNDMScheduler", dict(skip_prk_steps=False)),
    "sd15-heun-karras": ("HeunDiscreteScheduler", dict(use_karras_sigmas=True)),
    "sd15-lms-karras": ("LMSDiscreteScheduler", dict(use_karras_sigmas=True)),
    "sd15-euler-a-trailing": ("EulerAncestralDiscreteScheduler", dict(timestep_spacing="trailing")),
    "sd15-ddpm-large": ("DDPMScheduler", dict(variance_type="fixed_large", timestep_spacing="trailing")),
}
# The file that the hub's SD 1.5 has: fields that later versions added are absent, so classes use their own defaults.
HUB_SCHEDULER = {"_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012,
                 "beta_schedule": "scaled_linear", "beta_start": 0.00085, "clip_sample": False,
                 "num_train_timesteps": 1000, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1,
                 "trained_betas": None}
STORAGE_DTYPE = {"f16": torch.float16, "bf16": torch.bfloat16}
SEED = 0

PICTURES = ("ramp", "large", "wide", "disc", "soft")


def program_digest() -> str:
    """Of what shapes the files made here."""
    digest = hashlib.sha256()
    for module in (families, lora_files, make_single_file):
        digest.update(pathlib.Path(module.__file__).read_bytes())
    digest.update(pathlib.Path(__file__).read_bytes())
    return digest.hexdigest()


@contextlib.contextmanager
def complete(folder: pathlib.Path):
    """Tells whether the folder has to be made, after removing a half-made one or one of another program."""
    stamp, program = folder / "complete", program_digest()
    missing = not stamp.exists() or stamp.read_text() != program
    if missing:
        shutil.rmtree(folder, ignore_errors=True)
    yield missing
    if missing:
        stamp.write_text(program)


class Workshop:
    """Makes what a case needs under `root`, each thing once. Full-size models come from `full_root`."""

    def __init__(self, root: pathlib.Path, full_root: pathlib.Path):
        self.root, self.full_root = root, full_root
        self.built: dict[str, object] = {}

    # ---- models ----

    def molar_model(self, key: str) -> pathlib.Path:
        """What molar is given: the folder, or one checkpoint file made of it. A tiny one carries the fields that no
        tensor shows; a full-size one has to be known by its keys and shapes."""
        folder = self.model_folder(key)
        if not key.endswith("-single"):
            return folder
        full = "-full" in key
        path = folder.with_name(f"{folder.name}-single.safetensors")
        if not path.exists() or path.stat().st_mtime < (folder / "complete").stat().st_mtime:
            part = path.with_suffix(".part")
            make_single_file.write_single_file(folder, part, with_config=not full)
            part.replace(path)
        return path

    def model_folder(self, key: str) -> pathlib.Path:
        key = key.removesuffix("-single")
        if "-full" in key:
            return self.full_model(key)
        folder = self.root / "models" / key
        with complete(folder) as missing:
            if missing:
                self.make_tiny(key, folder)
        return folder

    def make_tiny(self, key: str, folder: pathlib.Path) -> None:
        if key == "sd15-vae2":
            pipe = families.build("sd15", "tiny", SEED + 7)
            pipe.vae.save_pretrained(str(folder))
            return
        suffix = key.split("-", 1)[1] if "-" in key else ""
        pipe = families.build(key if key in families.FAMILIES else key.split("-")[0], "tiny", SEED)
        if key in SCHEDULERS:
            import diffusers
            cls, changes = SCHEDULERS[key]
            own = families.scheduler_config(key.split("-")[0])[1]
            pipe.scheduler = getattr(diffusers, cls).from_config({**own, **changes})
        shard = "200KB" if suffix == "sharded" else "10GB"
        variant = "fp16" if key == "sdxl-f16" else None
        families.save(pipe, folder, STORAGE_DTYPE.get(suffix, torch.float32), variant=variant, max_shard_size=shard)
        if suffix == "sharded" and not list((folder / "unet").glob("*.index.json")):
            raise SystemExit(f"{key}: diffusers wrote no index; the case would prove nothing")
        if suffix == "transformers4":
            families.to_transformers4(folder)
        if suffix == "hub":
            (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(HUB_SCHEDULER, indent=2))

    def full_model(self, key: str) -> pathlib.Path:
        """Gigabytes: kept until somebody deletes the folder."""
        family = key.split("-")[0]
        folder = self.full_root / family
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            dtype = torch.float16 if family == "sdxl" else torch.float32
            pipe = families.build(family, "full", SEED, dtype)
            families.save(pipe, folder, dtype)
            (folder / "complete").touch()
        return folder

    # ---- LoRA files ----

    def lora(self, model: str, file: str) -> pathlib.Path:
        """The file or folder; beside it NAME.deltas.safetensors where diffusers cannot read the spelling."""
        base = f"{model.split('-')[0]}-full" if "-full" in model else model.split("-")[0]
        if model == "sd15-inpaint":
            base = model
        folder = self.root / "loras" / base / file
        with complete(folder) as missing:
            if missing:
                folder.mkdir(parents=True)
                self.make_lora(base, file, folder)
        for path in (folder / "lora.safetensors", folder / "pytorch_lora_weights.safetensors"):
            if path.exists():
                return path
        return folder / "peft"

    def make_lora(self, base: str, file: str, folder: pathlib.Path) -> None:
        path = folder / "lora.safetensors"
        pipe = self.shapes(base)
        text = lora_files.TEXT_LAYERS[:4]
        everything = lora_files.ATTENTION + lora_files.FEED_FORWARD + lora_files.PROJECTIONS
        deltas = None
        if file == "kohya-a":
            lora_files.write_kohya(pipe, path, 101)
        elif file == "kohya-b":
            lora_files.write_kohya(pipe, path, 202, rank=6, alpha=6.0, unet=everything)
        elif file == "kohya-text":
            lora_files.write_kohya(pipe, path, 303, text=lora_files.TEXT_LAYERS, gain=0.6)
        elif file == "no-alpha":
            lora_files.write_kohya(pipe, path, 404, alpha=None)
        elif file == "half":
            lora_files.write_kohya(pipe, path, 505, dtype=torch.float16)
        elif file == "ldm":
            deltas = lora_files.write_kohya(pipe, path, 606, ldm_blocks=True, unet=everything)
        elif file == "locon":
            lora_files.write_kohya(pipe, path, 707, unet=lora_files.ATTENTION + lora_files.CONVOLUTIONS)
        elif file == "locon-mid":
            deltas = lora_files.write_locon_mid(pipe, path, 808)
        elif file == "loha":
            deltas = lora_files.write_loha(pipe, path, 909)
        elif file == "lokr":
            deltas = lora_files.write_lokr(pipe, path, 1010)
        elif file in ("old", "unet-unet"):
            deltas = lora_files.write_old_diffusers(pipe, path, 1111,
                                                    prefix="unet." if file == "old" else "unet.unet.")
        elif file in ("diffusers", "diffusers-text"):
            lora_files.write_with_diffusers(self.fresh(base), folder, 1212, gain=1.2,
                                            text=text if file == "diffusers-text" else ())
        elif file in ("peft", "peft-rs"):
            lora_files.write_peft_folder(self.fresh(base), folder / "peft", 1313, rslora=file == "peft-rs")
        else:
            raise SystemExit(f"LoRA file '{file}' is unknown")
        if base == "sdxl-full":
            deltas = None  # diffusers reads SDXL's block names itself, and whole matrices would take 9 GB
        if deltas is not None:
            save_file({f"{component}|{name}": d.contiguous() for (component, name), d in deltas.items()},
                      folder / "deltas.safetensors")

    def fresh(self, base: str):
        return families.build(base, "tiny", SEED)

    def shapes(self, base: str):
        """A pipeline whose layers have the right names and shapes; a full-size one stays without memory."""
        if base not in self.built:
            if base.endswith("-full"):
                self.built[base] = ShapesOnly(base.removesuffix("-full"))
            else:
                self.built[base] = self.fresh(base)
        return self.built[base]

    # ---- pictures ----

    def picture(self, name: str) -> pathlib.Path:
        folder = self.root / "pictures" / name
        with complete(folder) as missing:
            if missing:
                folder.mkdir(parents=True)
                self.make_picture(name, folder / "picture.png")
        return folder / "picture.png"

    @staticmethod
    def make_picture(name: str, path: pathlib.Path) -> None:
        size = {"large": (90, 120), "wide": (128, 96)}.get(name, (64, 64))
        x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
        if name in ("disc", "soft"):
            distance = np.hypot(x - 0.55, y - 0.45)
            grey = (distance < 0.3) * 1.0 if name == "disc" else np.clip(1.3 - 2.6 * distance, 0, 1)
            Image.fromarray((grey * 255).astype(np.uint8)).save(path)
            return
        noise = np.random.default_rng(5).normal(0, 0.06, (size[1], size[0], 3))
        waves = np.stack([x, 0.5 + 0.5 * np.sin(9 * x + 4 * y), 1 - y], axis=-1)
        Image.fromarray((np.clip(waves + noise, 0, 1) * 255).astype(np.uint8)).save(path)


class ShapesOnly:
    """The modules of a full-size family on the meta device."""

    def __init__(self, family: str):
        import diffusers
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

        with torch.device("meta"):
            self.unet = diffusers.UNet2DConditionModel.from_config(families.unet_config(family, "full"))
            texts = families.text_configs(family, "full", 49408)
            self.text_encoder = CLIPTextModel(CLIPTextConfig(**texts[0]))
            if len(texts) > 1:
                self.text_encoder_2 = CLIPTextModelWithProjection(CLIPTextConfig(**texts[1]))
