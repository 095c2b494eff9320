"""Writes tests/goldens/mole: what MoLE's experts do to diffusers' pictures, by hooks that compute the published formula.

    python scripts/reference/make_mole_goldens.py [--out tests/goldens/mole]

Every Linear and 1x1 convolution of the transformers gets a forward hook that runs each expert on its own (Zhu et al. 2024,
arXiv:2410.23332; biases and the global gate as in its published code). Needs the packages of scripts/parity and the tiny
models in tests/goldens/models. sets/<family> holds the experts and gates, in MoLE's layout: SDXL's under the names of the
original blocks, as sd-scripts writes them. MANIFEST.json lists the cases: model, and the request under molar's long option
names; files in it are relative to tests/goldens. <case>.safetensors holds
    picture         uint8 [H, W, 3]
    global          [S, E], the global gates of the prompt's row in every evaluation, averaged over layers; NaN: none acted
    local           [E, h, w], the local gates of the finest maps in the last evaluation with experts, averaged over layers
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import importlib.metadata
import json
import pathlib
import shutil
import tempfile

import numpy as np
import safetensors.torch
import torch
from PIL import Image

import lora_files
import parity_models
from families import name_generator
from make_pipeline_goldens import GoldenWorkshop
from parity_cases import Case, Lora
from parity_diffusers import DiffusersSide

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXPERTS = {"face": (4, 2.0), "hand": (3, 6.0)}  # rank and alpha, in the order of the gates' rows
SEED = 21


@dataclasses.dataclass(frozen=True)
class Mole:
    """Options of the experts; a region is a box or the name of a mask."""

    strengths: dict[str, float] = dataclasses.field(default_factory=dict)
    cap: float | None = None
    start: float = 0.0
    end: float = 1.0
    regions: tuple[tuple[str, tuple[int, int, int, int] | str], ...] = ()


PAIR = (Lora("kohya-a", 0.8, "subject"), Lora("kohya-b", 0.7, "style"))
SHORT = dict(steps=4)
CASES = [
    (Case("sd15", "square", negative_prompt="ugly, blurry", **SHORT), Mole()),
    (Case("sd15", "wide with a LoRA pair", width=104, height=56, loras=PAIR, **SHORT), Mole()),
    (Case("sd15", "regions", width=72, height=96, sampler="ddim", **SHORT),
     Mole(regions=(("face", (8, 16, 31, 40)), ("face", (50, 70, 20, 25)), ("hand", "disc")))),
    (Case("sd15", "capped and weighed", **SHORT), Mole(strengths={"hand": 0.5, "face": 1.5}, cap=0.2)),
    (Case("sd15", "middle steps, no guidance", cfg_scale=1.0, sampler="euler", steps=6), Mole(start=0.2, end=0.7)),
    (Case("sd21", "square with a LoRA pair", loras=PAIR, **SHORT), Mole()),
    (Case("sd21", "tall", width=56, height=88, **SHORT), Mole()),
    (Case("sdxl", "square", **SHORT), Mole()),
    (Case("sdxl", "wide with a LoRA pair", width=88, height=56, loras=PAIR, **SHORT), Mole()),
    (Case("sdxl", "one region", width=64, height=80, **SHORT), Mole(regions=(("hand", (0, 40, 64, 40)),))),
]


def file_name(case: Case) -> str:
    return "_".join("".join(c if c.isalnum() else " " for c in f"{case.model} {case.feature}").split()).lower()


# ---- experts --------------------------------------------------------------------------------------------

def expert_layers(unet):
    """(name, module) of every Linear and 1x1 convolution inside a transformer."""
    for name, module in unet.named_modules():
        weight = getattr(module, "weight", None)
        if ".attentions." in name and weight is not None and weight.dim() >= 2:
            yield name, module


def spelled(name: str, family: str) -> str:
    module = lora_files.ldm_block_name(name, 1) if family == "sdxl" else name
    return "lora_unet_" + module.replace(".", "_")


def make_set(pipe, family: str, folder: pathlib.Path) -> None:
    """Experts of about half the layers' own size, gates between about 0.1 and 0.9."""
    folder.mkdir(parents=True)
    tensors = {name: {} for name in EXPERTS}
    gates = {}
    for name, module in expert_layers(pipe.unet):
        weight, key = module.weight, spelled(name, family)

        def draw(what, shape, std, name=name):
            return torch.randn(shape, generator=name_generator(SEED, f"{name} {what}")) * std

        rows, columns = weight.shape[0], weight[0].numel()
        kernel = (1,) * (weight.dim() - 2)
        for expert, (rank, alpha) in EXPERTS.items():
            scale = alpha / rank
            tensors[expert] |= {
                f"{key}.lora_down.weight": draw(expert + " down", (rank, columns, *kernel), columns**-0.5),
                f"{key}.lora_up.weight": draw(expert + " up", (rows, rank, *kernel), 1.2 / scale / rank**0.5),
                f"{key}.alpha": torch.tensor(alpha)}
            gates[f"moe_{key}.softmoe.{expert}_scale.weight"] = draw(expert + " w", (1, rows), 2.0 * rows**-0.5)
            gates[f"moe_{key}.softmoe.{expert}_scale.bias"] = draw(expert + " b", (1,), 0.7)
        gates[f"moe_{key}.softmoe.Phi_1.weight"] = draw("Phi", (len(EXPERTS), columns), 1.5 * columns**-0.5)
        gates[f"moe_{key}.softmoe.Phi_1.bias"] = draw("Phi b", (len(EXPERTS),), 0.7)
    for expert, of_expert in tensors.items():
        safetensors.torch.save_file(of_expert, folder / f"{expert}.safetensors")
    safetensors.torch.save_file(gates, folder / "gates.safetensors")


class Hooks:
    """The experts of one set on a UNet, by the literal formula; sizes of maps come from the maps themselves."""

    def __init__(self, pipe, family: str, folder: pathlib.Path, mole: Mole, masks: dict[str, torch.Tensor]):
        self.mole, self.masks, self.pipe = mole, masks, pipe
        self.gates = safetensors.torch.load_file(folder / "gates.safetensors")
        self.experts = {e: safetensors.torch.load_file(folder / f"{e}.safetensors") for e in EXPERTS}
        self.handles, self.size, self.evaluation = [], None, -1
        self.globals, self.locals, self.last_local = [], {}, None
        self.handles.append(pipe.unet.register_forward_pre_hook(self.begin))
        self.handles.append(pipe.unet.register_forward_hook(self.finish))
        for name, module in pipe.unet.named_modules():
            if type(module).__name__ == "Transformer2DModel":
                self.handles.append(module.register_forward_pre_hook(self.remember_size))
        for name, module in expert_layers(pipe.unet):
            text = name.endswith(("attn2.to_k", "attn2.to_v"))
            hook = self.make_hook(spelled(name, family), text)
            self.handles.append(module.register_forward_hook(hook))

    def begin(self, *_):
        self.evaluation += 1
        share = self.evaluation / len(self.pipe.scheduler.timesteps)
        self.acting = self.mole.start <= share < self.mole.end
        self.of_layers, self.locals = [], {}

    def finish(self, *_):
        if not self.acting:
            self.globals.append(torch.full((len(EXPERTS),), float("nan")))
            return
        self.globals.append(torch.stack(self.of_layers).mean(0))
        finest = max(self.locals, key=lambda size: size[0] * size[1])
        maps = torch.stack(self.locals[finest]).mean(0)  # [n, E]
        self.last_local = maps.T.reshape(len(EXPERTS), *finest)

    def remember_size(self, _, inputs):
        self.size = tuple(inputs[0].shape[2:])

    def mask(self, expert: str) -> torch.Tensor:
        """[n], the covered part of each position."""
        if expert not in self.masks:
            return torch.ones(self.size[0] * self.size[1])
        return torch.nn.functional.adaptive_avg_pool2d(self.masks[expert][None], self.size)[0].flatten()

    def make_hook(self, key: str, text: bool):
        def get(what):
            return self.gates[f"moe_{key}.softmoe.{what}"]

        def hook(_, inputs, output):
            if not self.acting:
                return None
            x, y = inputs[0], output
            is_map = x.dim() == 4
            if is_map:
                x = x.flatten(2).transpose(1, 2)
            local = torch.sigmoid(x @ get("Phi_1.weight").T + get("Phi_1.bias"))
            change, global_gates = 0, []
            for e, (expert, (rank, alpha)) in enumerate(EXPERTS.items()):
                down, up = (self.experts[expert][f"{key}.lora_{part}.weight"].flatten(1) for part in ("down", "up"))
                r = (x @ down.T @ up.T) * (alpha / rank)
                g = torch.sigmoid(r.mean(1) @ get(f"{expert}_scale.weight").T + get(f"{expert}_scale.bias"))  # [B, 1]
                s = local[:, :, e:e + 1]
                if not text:
                    s = s * self.mask(expert)[None, :, None]
                change = change + r * s * g[:, None] * self.mole.strengths.get(expert, 1.0)
                global_gates.append(g[-1, 0])
            self.of_layers.append(torch.stack(global_gates))
            if not text:
                self.locals.setdefault(self.size, []).append(local[-1])
            if is_map:
                change = change.transpose(1, 2).reshape(y.shape)
            if self.mole.cap is not None:
                norms = [t.flatten(1).norm(dim=1) for t in (y, change)]
                share = torch.clamp(self.mole.cap * norms[0] / norms[1], max=1.0)
                change = change * share.reshape(-1, *(1,) * (y.dim() - 1))
            return y + change

        return hook

    def remove(self):
        for handle in self.handles:
            handle.remove()


# ---- cases ----------------------------------------------------------------------------------------------

def masks_of(case: Case, mole: Mole, out: pathlib.Path) -> tuple[dict[str, torch.Tensor], list[dict]]:
    """Each expert's mask in the picture's size, and the regions as a request has them."""
    masks, listed = {}, []
    for expert, where in mole.regions:
        mask = torch.zeros(case.height, case.width)
        if isinstance(where, str):
            x, y = np.meshgrid(np.linspace(0, 1, case.width), np.linspace(0, 1, case.height))
            grey = (np.clip(1.3 - 2.6 * np.hypot(x - 0.55, y - 0.45), 0, 1) * 255).astype(np.uint8)
            (out / "masks").mkdir(exist_ok=True)
            path = out / "masks" / f"{file_name(case)}-{where}.png"
            Image.fromarray(grey).save(path)
            mask = torch.from_numpy(grey).float() / 255
            listed.append({"expert": expert, "mask": f"{out.name}/masks/{path.name}"})
        else:
            left, top, width, height = where
            mask[top:top + height, left:left + width] = 1
            listed.append({"expert": expert, "box": list(where)})
        masks[expert] = torch.maximum(masks[expert], mask) if expert in masks else mask
    return masks, listed


def request(case: Case, mole: Mole, regions: list[dict], loras: dict[str, str], folder: str) -> dict:
    wanted = {"prompt": case.prompt, "prompt-syntax": case.syntax, "steps": case.steps, "cfg-scale": case.cfg_scale,
              "seed": case.seed, "width": case.width, "height": case.height, "mole": folder}
    optional = {"negative-prompt": case.negative_prompt, "sampler": case.sampler, "mole-cap": mole.cap,
                "mole-start": mole.start or None, "mole-end": mole.end if mole.end != 1 else None,
                "region": regions or None,
                "expert": [{"name": n, "weight": w} for n, w in mole.strengths.items()] or None}
    wanted |= {option: value for option, value in optional.items() if value is not None}
    for lora in case.loras:
        wanted[lora.role] = {"file": loras[lora.file], "weight": lora.weight}
    if case.loras:
        wanted["merge"] = "direct"
    return wanted


def draw(side: DiffusersSide, case: Case, attach=None) -> np.ndarray:
    """One picture; LoRA files in the weights, as the hooks stand on plain layers."""
    pipe = side.pipeline(case)
    side.attach(pipe, case)
    if case.loras:
        pipe.fuse_lora()
        pipe.unload_lora_weights()
        side.kept = None
    hooks = attach(pipe) if attach else None
    with torch.no_grad():
        picture = np.asarray(side.call(pipe, case)[0].convert("RGB"))
    if hooks:
        hooks.remove()
        return picture, hooks
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "tests/goldens/mole")
    out = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    torch.set_num_threads(1)

    listed = []
    with tempfile.TemporaryDirectory() as scratch:
        workshop = GoldenWorkshop(pathlib.Path(scratch), pathlib.Path(scratch))
        side = DiffusersSide(workshop)
        for case, mole in CASES:
            folder = out / "sets" / case.family
            if not folder.exists():
                make_set(side.pipeline(case), case.family, folder)
            masks, regions = masks_of(case, mole, out)
            loras = {}
            for lora in case.loras:
                target = out / "loras" / f"{case.family}-{lora.file}.safetensors"
                target.parent.mkdir(exist_ok=True)
                shutil.copy(workshop.lora(case.model, lora.file), target)
                loras[lora.file] = f"{out.name}/loras/{target.name}"
            base = draw(side, case)
            picture, hooks = draw(side, case, lambda pipe: Hooks(pipe, case.family, folder, mole, masks))
            difference = np.abs(picture.astype(int) - base).mean()
            print(f"{file_name(case)}: {difference:.1f} grey levels from the picture without experts, global gates "
                  f"{torch.stack(hooks.globals).nan_to_num().tolist()[-1]}", flush=True)
            if not 2 < difference < 100:
                raise SystemExit("the experts change too little or too much: the case would prove nothing")
            safetensors.torch.save_file({"picture": torch.from_numpy(picture.copy()), "global": torch.stack(hooks.globals),
                                         "local": hooks.last_local.contiguous()}, out / f"{file_name(case)}.safetensors")
            listed.append({"name": file_name(case), "model": f"models/{case.model}-tiny",
                           "request": request(case, mole, regions, loras, f"{out.name}/sets/{case.family}")})

    manifest = {
        "generator": "scripts/reference/make_mole_goldens.py",
        "seed": {"experts": SEED, "loras": parity_models.SEED},
        "versions": {p: importlib.metadata.version(p)
                     for p in ("torch", "diffusers", "transformers", "peft", "safetensors", "pillow", "numpy")},
        "cases": listed,
        "sha256": {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest()
                   for p in sorted(out.rglob("*")) if p.is_file() and p.name != "MANIFEST.json"},
    }
    (out / "MANIFEST.json").write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main()
