"""Puts the trained parts together as one diffusers folder in float16, with the networks for metrics beside them."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import diffusers
from transformers import CLIPModel, CLIPTokenizer, ViTModel

from models_base import PICTURE_PX, make_scheduler

MAX_MEGABYTES = 40

# All our networks read pixels in [-1, 1].
PIXELS = {
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
    "do_resize": True,
    "do_convert_rgb": True,
}
PREPROCESSORS = {
    "clip": PIXELS
    | {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": PICTURE_PX},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": PICTURE_PX, "width": PICTURE_PX},
    },
    "dino": PIXELS
    | {"image_processor_type": "ViTImageProcessor", "size": {"height": PICTURE_PX, "width": PICTURE_PX}, "resample": 2},
}


def export(parts: dict[str, Path], out: Path) -> None:
    """parts: the folders of tokenizer, clip, vae, dino and unet. What else lies in `out` (LoRAs) stays."""
    new = out.with_name(out.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    pair, dino = (
        CLIPModel.from_pretrained(parts["clip"]).half(),
        ViTModel.from_pretrained(parts["dino"], add_pooling_layer=False).half(),
    )
    pipe = diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL.from_pretrained(parts["vae"]).half(),
        text_encoder=pair.text_model,
        tokenizer=CLIPTokenizer.from_pretrained(parts["tokenizer"]),
        unet=diffusers.UNet2DConditionModel.from_pretrained(parts["unet"]).half(),
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(new)
    shutil.rmtree(
        new / "tokenizer"
    )  # transformers writes a single tokenizer.json; ours are the files of published models
    shutil.copytree(parts["tokenizer"], new / "tokenizer")
    for name, model in (("clip", pair), ("dino", dino)):
        model.save_pretrained(new / name)
        (new / name / "preprocessor_config.json").write_text(json.dumps(PREPROCESSORS[name], indent=2) + "\n")
    shutil.copytree(parts["tokenizer"], new / "clip", dirs_exist_ok=True)
    for path in new.rglob("config.json"):  # where the part lay when it was trained is of no use to anyone
        config = json.loads(path.read_text())
        config.pop("_name_or_path", None)
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

    megabytes = {
        entry.name: sum(file.stat().st_size for file in [entry, *entry.rglob("*")] if file.is_file()) / 1e6
        for entry in sorted(new.iterdir())
    }
    if sum(megabytes.values()) > MAX_MEGABYTES:
        sys.exit(f"error: the model has {sum(megabytes.values()):.1f} MB, wanted {MAX_MEGABYTES} at most")
    out.mkdir(parents=True, exist_ok=True)
    for entry in new.iterdir():
        target = out / entry.name
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(entry, target)
    new.rmdir()
    print(f"export: {out}, " + ", ".join(f"{name} {size:.2f} MB" for name, size in megabytes.items() if size > 0.005))
