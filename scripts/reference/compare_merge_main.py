"""scripts/compare_merge: see there. Exit status 1 where a change or a picture differs by more than allowed.

Every rule below works on whole changes (matrices out x in) from its definition; molar works on factors.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import subprocess
import sys

import families
import lora_files
import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file
from train_lora_reference import generator
from train_merge_reference import FeatureNetwork

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
FAMILIES = ("sd15", "sd21", "sdxl")
ALLOWED_CHANGE = 1e-4  # of a layer's merged change, relative
ALLOWED_GREY_LEVELS = 1
SUBJECT, STYLE = 0.75, 1.0  # strengths
RANKS = {"subject": 4, "style": 6}
PROMPT, STEPS, SEED = "a photo of a dog in the garden", 4, 5
DENSITY, MU, HIDDEN = 0.5, 0.5, 16
Name = tuple[str, str]  # component, module
Change = np.ndarray  # [out, in * kh * kw], float64


def is_predicted(name: Name, change: Change, network: dict[str, np.ndarray]) -> bool:
    return name[0] == "unet" and name[1].endswith((".to_q", ".to_out.0")) and len(change) in widths(network)


def widths(network: dict[str, np.ndarray]) -> dict[int, str]:
    return {value.shape[1] // 2: key.split(".")[0] for key, value in network.items() if key.startswith("input_")
            and key.endswith("weight")}


def coefficients(network: dict[str, np.ndarray], subject: Change, style: Change) -> np.ndarray:
    """[2, in]: rows [subject's column ; style's column] through Linear, ReLU, Linear."""
    head = widths(network)[len(subject)]
    rows = np.concatenate([subject.T, style.T], axis=1)
    hidden = np.maximum(rows @ network[f"{head}.weight"].T + network[f"{head}.bias"], 0)
    return (hidden @ network["output.1.weight"].T + network["output.1.bias"]).T


def weighed_by_features(network: dict[str, np.ndarray], module: str, subject: Change, style: Change) -> Change:
    """By a network of the layout "features", from whole changes."""
    layout = FeatureNetwork(argparse.Namespace(hidden=HIDDEN))
    tensors = {name: torch.from_numpy(value) for name, value in network.items()}
    weights, share = layout.predict(tensors, module, torch.from_numpy(subject), torch.from_numpy(style))
    weighed = subject * weights[0].numpy()
    return SUBJECT * (weighed - share.item() * weighed @ np.linalg.pinv(style, rcond=1e-6) @ style) + STYLE * style * weights[1].numpy()


def best_of_rank(change: Change, rank: int) -> Change:
    left, values, right = np.linalg.svd(change, full_matrices=False)
    return (left[:, :rank] * values[:rank]) @ right[:rank]


def merge_np(subject: Change, style: Change) -> Change:
    _, values, right = np.linalg.svd(style, full_matrices=False)
    rows = right[values > 1e-6 * values[0]]
    return STYLE * style + SUBJECT * (subject - MU / (1 + MU) * subject @ rows.T @ rows)


def merge_ties(subject: Change, style: Change) -> Change:
    kept = []
    for change in (subject, style):
        count = int(DENSITY * change.size)
        limit = np.sort(np.abs(change), axis=None)[-count]
        kept.append(np.where(np.abs(change) >= limit, change, 0))
    sign = np.where(kept[0] + kept[1] >= 0, 1, -1)
    agree = [np.sign(change) == sign for change in kept]
    total = SUBJECT * kept[0] * agree[0] + STYLE * kept[1] * agree[1]
    return best_of_rank(total / np.maximum(agree[0].astype(int) + agree[1], 1), sum(RANKS.values()))


class Dare:
    """Draws in the order of the layers' names, both changes of one at once, from a generator for each layer."""

    def __init__(self):
        self.number = 0

    def __call__(self, subject: Change, style: Change) -> Change:
        draws = generator(seed=0, stream=0, index=self.number)
        self.number += 1
        kept = torch.empty(2, *subject.shape).uniform_(0, 1, generator=draws).numpy() < DENSITY
        total = SUBJECT * subject * kept[0] / DENSITY + STYLE * style * kept[1] / DENSITY
        return best_of_rank(total, sum(RANKS.values()))


def merged_changes(method: str, subject: dict[Name, Change], style: dict[Name, Change],
                   network: dict[str, np.ndarray]) -> dict[Name, Change]:
    def by_features(name: Name) -> Change:
        if name[0] != "unet":
            return SUBJECT * subject[name] + STYLE * style[name]
        return weighed_by_features(network, name[1], subject[name], style[name])

    def predicted(name: Name) -> Change:
        if not is_predicted(name, subject[name], network):
            return SUBJECT * subject[name] + STYLE * style[name]
        weights = coefficients(network, subject[name], style[name])
        return SUBJECT * subject[name] * weights[0] + STYLE * style[name] * weights[1]

    dare = Dare()
    rules = {
        "direct": lambda name: SUBJECT * subject[name] + STYLE * style[name],
        "svd": lambda name: best_of_rank(SUBJECT * subject[name] + STYLE * style[name], max(RANKS.values())),
        "np": lambda name: merge_np(subject[name], style[name]),
        "ties": lambda name: merge_ties(subject[name], style[name]),
        "dare": lambda name: dare(subject[name], style[name]),
        "lorarar": predicted,
        "lorarar, features": by_features,
    }
    rules["concat"] = rules["direct"]
    merged = {}
    for name in sorted(subject.keys() | style.keys()):
        if name in subject and name in style:
            merged[name] = rules[method](name)
        else:
            merged[name] = SUBJECT * subject[name] if name in subject else STYLE * style[name]
    return merged


METHODS = ("direct", "concat", "svd", "np", "ties", "dare", "lorarar", "lorarar, features")


def switch_shares(subject: dict[Name, Change], style: dict[Name, Change]) -> dict[Name, float]:
    """K-LoRA: the share of the steps from which on the style acts, of each attention layer."""
    both = [name for name in subject if name in style and name[0] == "unet" and ".attn" in name[1]]
    top = RANKS["subject"] * RANKS["style"]
    gamma = sum(abs(subject[n]).sum() for n in both) / sum(abs(style[n]).sum() for n in both)
    largest = {n: [np.sort(abs(change[n]), axis=None)[-top:].sum() for change in (subject, style)] for n in both}
    return {n: (largest[n][0] / (gamma * largest[n][1]) - 0.5) / 1.5 for n in both}


def draw_klora(pair: Pair) -> np.ndarray:
    shares = switch_shares(pair.subject, pair.style)
    assert any(0 < share < 1 for share in shares.values()), "nothing switches"
    start = merged_changes("direct", pair.subject, pair.style, {})
    start |= {n: STYLE * pair.style[n] if share <= 0 else SUBJECT * pair.subject[n] for n, share in shares.items()}
    pipe = with_changes(pair, start)
    waiting = {n: share for n, share in shares.items() if share > 0}

    def exchange(pipe, step: int, _timestep, inputs):
        done = (step + 1) / len(pipe.scheduler.timesteps)
        for component, module in [n for n, share in waiting.items() if done >= share]:
            del waiting[component, module]
            weight = getattr(pipe, component).get_submodule(module).weight
            change = STYLE * pair.style[component, module] - SUBJECT * pair.subject[component, module]
            weight.data += torch.from_numpy(change).float().view_as(weight)
        return inputs

    return draw_with_diffusers(pipe, callback_on_step_end=exchange)


def flat(deltas) -> dict[Name, Change]:
    return {name: delta.double().numpy().reshape(len(delta), -1) for name, delta in deltas.items()}


def read_kohya(path: pathlib.Path, names: list[Name], is_xl: bool) -> dict[Name, Change]:
    prefixes = {"unet": "lora_unet_", "text_encoder": "lora_te1_" if is_xl else "lora_te_", "text_encoder_2": "lora_te2_"}
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key).double().numpy() for key in file.keys()}
    found = {}
    for component, module in names:
        key = prefixes[component] + module.replace(".", "_")
        up, down = tensors.pop(key + ".lora_up.weight"), tensors.pop(key + ".lora_down.weight")
        scale = float(tensors.pop(key + ".alpha")) / len(down)
        found[component, module] = scale * up.reshape(len(up), -1) @ down.reshape(len(down), -1)
    assert not tensors, f"layers that no parent has: {sorted(tensors)[:3]}"
    return found


def make_feature_network() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(4)
    layout = FeatureNetwork(argparse.Namespace(hidden=HIDDEN))
    return {name: draw.normal(0, 0.3, shape).astype(np.float32) for name, (shape, _) in layout.shapes.items()}


class Pair:
    """A tiny model, two LoRA files of unequal rank, alpha and layers, and a hypernetwork of each layout."""

    def __init__(self, family: str, out: pathlib.Path):
        self.is_xl, self.folder, self.model = family == "sdxl", out / f"merge-{family}", out / f"{family}-tiny"
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.model / "complete").exists():
            shutil.rmtree(self.model, ignore_errors=True)
            families.save(families.build(family, "tiny", 0, torch.float32), self.model, torch.float32)
            (self.model / "complete").touch()
        pipe = self.pipeline()
        self.files = {role: self.folder / f"{role}.safetensors" for role in RANKS}
        self.subject = flat(lora_files.write_kohya(pipe, self.files["subject"], 1, rank=RANKS["subject"], alpha=2.0, gain=0.5,
                                                   text=("q_proj", "k_proj", "v_proj", "out_proj")))
        self.style = flat(lora_files.write_kohya(pipe, self.files["style"], 2, rank=RANKS["style"], alpha=None, gain=0.5,
                                                 unet=lora_files.ATTENTION))
        self.networks = {"lorarar": self.make_network(), "lorarar, features": make_feature_network()}
        for method, network in self.networks.items():
            save_file(network, self.hypernet(method))

    def hypernet(self, method: str) -> pathlib.Path:
        return self.folder / f"{method.replace(', ', '-')}-network.safetensors"

    def pipeline(self):
        from diffusers import DiffusionPipeline

        pipe = DiffusionPipeline.from_pretrained(self.model, torch_dtype=torch.float32, local_files_only=True)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def make_network(self) -> dict[str, np.ndarray]:
        draw = np.random.default_rng(3)
        found = sorted({len(change) for (component, module), change in self.subject.items() if module.endswith("to_q")})
        network = {"output.1.weight": draw.normal(0, 0.3, (2, HIDDEN)), "output.1.bias": np.array([0.7, 0.8])}
        for number, width in enumerate(found, 1):
            network[f"input_{number}.weight"] = draw.normal(0, 1, (HIDDEN, 2 * width))
            network[f"input_{number}.bias"] = draw.normal(0, 1, HIDDEN)
        return {name: value.astype(np.float32) for name, value in network.items()}

    def roles(self) -> list[str]:
        return ["--subject", f"{self.files['subject']}@{SUBJECT}", "--style", f"{self.files['style']}@{STYLE}"]


def draw_with_diffusers(pipe, **settings) -> np.ndarray:
    picture = pipe(PROMPT, num_inference_steps=STEPS, guidance_scale=7.5, generator=torch.Generator().manual_seed(SEED),
                   output_type="pil", **settings).images[0]
    return np.asarray(picture).astype(int)


def with_changes(pair: Pair, changes: dict[Name, Change]):
    pipe = pair.pipeline()
    for (component, module), change in changes.items():
        model = getattr(pipe, component)
        try:
            layer = model.get_submodule(module)
        except AttributeError:
            layer = model.get_submodule(module.removeprefix("text_model."))
        layer.weight.data += torch.from_numpy(change).float().view_as(layer.weight)
    return pipe


class Molar:
    def __init__(self, program: pathlib.Path):
        self.program = program

    def run(self, *words: object) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MOLAR_")}
        subprocess.run([str(self.program), *map(str, words)], check=True, stdout=subprocess.DEVNULL, env=environment)

    def draw(self, pair: Pair, path: pathlib.Path, *words: object) -> np.ndarray:
        self.run("generate", "-m", pair.model, "-p", PROMPT, "--prompt-syntax", "plain", "--steps", STEPS, "-s", SEED, "--dtype",
                 "f32", "--device", "cpu", "-q", "--on-exist", "overwrite", "-o", path, *words)
        return np.asarray(Image.open(path)).astype(int)


def compare(pair: Pair, method: str, molar: Molar) -> tuple[float, int, int]:
    """Largest relative difference of a layer's change; grey levels to the formula's picture and to the file's."""
    network = ("--hypernet", pair.hypernet(method)) if method in pair.networks else ()
    wanted = merged_changes(method, pair.subject, pair.style, pair.networks.get(method, {}))
    told = method.split(",")[0]
    file = pair.folder / f"{method}.safetensors"
    molar.run("merge", "-m", pair.model, *pair.roles(), "--method", told, *network, "-o", file, "--on-exist", "overwrite", "-q")
    found = read_kohya(file, list(wanted), pair.is_xl)
    worst = max(np.linalg.norm(found[n] - wanted[n]) / np.linalg.norm(wanted[n]) for n in wanted)
    picture = molar.draw(pair, pair.folder / f"{method}.png", *pair.roles(), "--merge", told, *network)
    by_formula = draw_with_diffusers(with_changes(pair, wanted))
    pipe = pair.pipeline()
    pipe.load_lora_weights(file)
    by_file = draw_with_diffusers(pipe)
    return worst, int(abs(picture - by_formula).max()), int(abs(picture - by_file).max())


def compare_klora(pair: Pair, molar: Molar) -> int:
    picture = molar.draw(pair, pair.folder / "klora.png", *pair.roles(), "--merge", "klora")
    return int(abs(picture - draw_klora(pair)).max())


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/compare_merge", description=__doc__)
    parser.add_argument("--python", help="interpreter with torch, diffusers, transformers and peft")
    parser.add_argument("--molar", type=pathlib.Path, default=REPOSITORY / "build" / "molar")
    parser.add_argument("--out", type=pathlib.Path, default=REPOSITORY / "compare-out")
    parser.add_argument("--family", choices=FAMILIES, action="append", help="repeatable (all)")
    args = parser.parse_args()
    if not args.molar.exists():
        print(f"compare_merge: {args.molar} is missing; build it first (scripts/quickstart)", file=sys.stderr)
        return 2
    failed = False
    print("| model | method | change, relative | formula's picture, grey levels | file in diffusers, grey levels |\n"
          "|---|---|---|---|---|")
    for family in args.family or FAMILIES:
        pair = Pair(family, args.out.resolve())
        plain = draw_with_diffusers(pair.pipeline())
        for method in METHODS:
            worst, to_formula, to_file = compare(pair, method, Molar(args.molar))
            merged = np.asarray(Image.open(pair.folder / f"{method}.png")).astype(int)
            shows = abs(merged - plain).max() > 8  # or the comparison would prove nothing
            right = worst <= ALLOWED_CHANGE and max(to_formula, to_file) <= ALLOWED_GREY_LEVELS and shows
            failed |= not right
            print(f"| {family} | {method} | {worst:.1e} | {to_formula} | {to_file} |{'' if right else ' WRONG'}", flush=True)
        levels = compare_klora(pair, Molar(args.molar))
        failed |= levels > ALLOWED_GREY_LEVELS
        print(f"| {family} | klora | no file | {levels} | |{' WRONG' if levels > ALLOWED_GREY_LEVELS else ''}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
