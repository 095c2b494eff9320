"""What the judges learn from: renderings, whole and broken, as they are and as the model's parts leave them.

Each picture comes in up to three versions: the rendering, the rendering through the bundled autoencoder, and what the
bundled UNet makes of its noisy latents. A network may lose a hand or an eye on the way, so nobody may say that what was
whole before is whole after it: `survival` compares each part with the rendering, and what is neither clearly kept nor
clearly lost is no lesson (label IGNORED).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import diffusers
import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPTextModel, CLIPTokenizer

import world
from hands import GESTURES
from human_faults import PARTS, Observer
from judge_networks import CROP_HALF, CROP_PX, GESTURE_NAMES, PICTURE_PX, crop
from picture import render
from sampling import KNOWN_STYLES
from scene import Scene
from judge_files import to_model_range
from train_loop import generator, mixed_precision

IGNORED, BROKEN = -1, len(GESTURES)
KINDS = ("hand", "face", "one person", "two people", "three people", "thing")
STYLES = ("plain", *KNOWN_STYLES)
VERSIONS = ("rendering", "autoencoder", "denoised", "melted", "mixed")
SHARES = {"hand": 0.34, "face": 0.27, "one person": 0.15, "two people": 0.11, "three people": 0.08, "thing": 0.05}
BROKEN_SHARE = 0.4
KEPT, LOST = (0.72, 0.5), (0.6, 0.4)  # likeness and strength of what passed: at least, at most
DENOISED_SHARES = {"hand": 0.6, "face": 0.8, "one person": 0.4, "two people": 0.15, "three people": 0.1}  # of the scenes
MELTED_SHARE, MIXED_SHARE = 0.12, 0.1  # likewise
STRENGTHS = (0.15, 0.6)  # how noisy the latents become
GUIDANCE, STRIDE = 7.5, 50
LEAST_MELTED_PX = 7.0  # half height
FINE, SHIFT_PX = 3.0, 2  # crop pixels: what counts as detail, and how far it may have moved
BATCH = 100


@dataclass
class Lessons:
    """images: uint8 [N, 64, 64, 3]; per image its kind, version and style; hands [M, 5]: image, x, y, half height in pixels,
    label; faces [K, 9]: likewise, five labels (1, 0, IGNORED)."""

    images: np.ndarray
    kinds: np.ndarray
    versions: np.ndarray
    styles: np.ndarray
    hands: np.ndarray
    faces: np.ndarray

    def save(self, path: Path) -> None:
        part = path.with_suffix(".part.npz")
        np.savez(part, **vars(self))
        part.replace(path)

    @staticmethod
    def load(paths: list[Path]) -> "Lessons":
        """All of them as one."""
        columns: dict[str, list[np.ndarray]] = {}
        first = 0
        for path in paths:
            with np.load(path) as arrays:
                for name in arrays.files:
                    columns.setdefault(name, []).append(arrays[name])
            for name in ("hands", "faces"):
                columns[name][-1][:, 0] += first
            first += len(columns["images"][-1])
        return Lessons(**{name: np.concatenate(parts) for name, parts in columns.items()})


def scene_of(kind: str, seed: int) -> Scene:
    """Every third scene in one of the styles that the base knows."""
    style = KNOWN_STYLES[seed // 3 % len(KNOWN_STYLES)] if seed % 3 == 0 else "plain"
    if kind in ("hand", "face"):
        return (world.hand_scene if kind == "hand" else world.face_scene)(seed, style)
    if kind == "thing":
        return world.class_scene(tuple(world.CLASSES)[seed % len(world.CLASSES)], seed, style)
    return world.person_scene(seed, KINDS.index(kind) - 1, style)


class BundledModel:
    """What the autoencoder and the UNet of a diffusers folder make of pictures."""

    def __init__(self, folder: Path, bfloat16: bool) -> None:
        self.vae = diffusers.AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
        self.unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
        self.text = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
        self.tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        scheduler = diffusers.DPMSolverMultistepScheduler.from_pretrained(folder / "scheduler")
        self.signal = scheduler.alphas_cumprod
        self.precision = lambda: mixed_precision(torch.device("cpu"), bfloat16)

    @torch.no_grad()
    def encode(self, pixels: np.ndarray) -> torch.Tensor:
        with self.precision():
            return self.vae.encode(to_model_range(pixels)).latent_dist.mode().float() * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        with self.precision():
            found = self.vae.decode(latents / self.vae.config.scaling_factor).sample.float()
        return ((found.clamp(-1, 1).permute(0, 2, 3, 1).numpy() + 1) * 127.5).round().astype(np.uint8)

    @torch.no_grad()
    def embed(self, captions: list[str]) -> torch.Tensor:
        ids = self.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return self.text(ids).last_hidden_state

    @torch.no_grad()
    def denoise(self, latents: torch.Tensor, captions: list[str], strength: float, draw: torch.Generator) -> torch.Tensor:
        """Noise of `strength`, then DDIM (Song et al. 2020, arXiv:2010.02502, eq. 12) back, with guidance."""
        words = torch.cat([self.embed([""] * len(captions)), self.embed(captions)])
        times = list(range(max(1, int(1000 * strength)), 0, -STRIDE))
        a = self.signal[times[0]]
        x = a.sqrt() * latents + (1 - a).sqrt() * torch.randn(latents.shape, generator=draw)
        for t, then in zip(times, times[1:] + [0]):
            with self.precision():
                without, with_words = self.unet(torch.cat([x, x]), t, words).sample.float().chunk(2)
            noise = without + GUIDANCE * (with_words - without)
            a, b = self.signal[t], self.signal[then] if then else torch.tensor(1.0)
            x = b.sqrt() * (x - (1 - a).sqrt() * noise) / a.sqrt() + (1 - b).sqrt() * noise
        return x


def blur(x: torch.Tensor, sigma: float) -> torch.Tensor:
    radius = int(3 * sigma + 0.5)
    line = torch.exp(-(torch.arange(-radius, radius + 1).float() ** 2) / (2 * sigma**2))
    line = (line / line.sum()).expand(x.shape[1], 1, -1)
    x = F.pad(x, (radius,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(x, line[:, :, None, :], groups=x.shape[1]), line[:, :, :, None], groups=x.shape[1])


def fine_detail(crop_of: torch.Tensor) -> torch.Tensor:
    """What is finer than FINE crop pixels. [3, S, S]."""
    return crop_of - blur(crop_of[None], FINE)[0]


def survival(
    before: torch.Tensor, after: torch.Tensor, centre: tuple[float, float], half: float
) -> tuple[float, float]:
    """How like the fine detail around `centre` (crop pixels) is after and before, [3, S, S] each: the cosine, and the
    strength relative to before; the best of small shifts."""
    x0, x1 = max(0, int(centre[0] - half)), min(CROP_PX, int(centre[0] + half + 1))
    y0, y1 = max(0, int(centre[1] - half)), min(CROP_PX, int(centre[1] + half + 1))
    old = before[None, :, y0:y1, x0:x1]
    new = F.pad(after[None], (SHIFT_PX,) * 4)[:, :, y0 : y1 + 2 * SHIFT_PX, x0 : x1 + 2 * SHIFT_PX]
    products = F.conv2d(new, old)  # of every shift
    lengths = F.conv2d(new.square(), torch.ones_like(old)).clamp(min=1e-9).sqrt()
    likeness = products / lengths / old.norm().clamp(min=1e-6)
    best = int(likeness.argmax())
    return float(likeness.flatten()[best]), float(products.flatten()[best] / old.square().sum().clamp(min=1e-6))


def verdict(measured: tuple[float, float]) -> int:
    """1 kept, 0 lost, IGNORED in between."""
    like, strength = measured
    if like >= KEPT[0] and strength >= KEPT[1]:
        return 1
    return 0 if like <= LOST[0] or strength <= LOST[1] else IGNORED


def cut(pixels: np.ndarray, kind: str, x: float, y: float, scale: float) -> torch.Tensor:
    values = (torch.tensor([v]) for v in (x, y, scale * CROP_HALF[kind]))
    return crop(to_model_range(pixels[None]), *values)[0]


@dataclass
class Drawn:
    kind: str
    style: str
    image: np.ndarray
    caption: str
    hands: list[tuple[float, float, float, int]]  # x, y, half height in pixels, label
    faces: list[tuple[tuple[float, float, float], tuple[int, ...], tuple[tuple[float, float], ...]]]


def draw_scene(kind: str, seed: int, broken: float, gesture: str = "") -> Drawn:
    scene = scene_of(kind, seed)
    if gesture:
        scene = replace(scene, hand=replace(scene.hand, gesture=gesture))
    observer = Observer(np.random.default_rng([seed, 31]), broken, broken)
    image = render(scene, PICTURE_PX, observer.artist).image
    px = PICTURE_PX
    return Drawn(
        kind,
        scene.style,
        image,
        world.caption(scene),
        [
            (h.frame.x * px, h.frame.y * px, h.frame.scale * px, GESTURE_NAMES.index(h.gesture or "broken"))
            for h in observer.hands
        ],
        [
            (
                (f.frame.x * px, f.frame.y * px, f.frame.scale * px),
                tuple(map(int, f.in_place)),
                tuple((x * px, y * px) for x, y in f.places),
            )
            for f in observer.faces
        ],
    )


def after_change(drawn: Drawn, image: np.ndarray) -> Drawn:
    """The labels of a picture that a network made of `drawn`."""
    hands = []
    for x, y, scale, label in drawn.hands:
        if label != BROKEN:
            before, after = (fine_detail(cut(p, "hand", x, y, scale)) for p in (drawn.image, image))
            kept = verdict(survival(before, after, (CROP_PX / 2, CROP_PX / 2), CROP_PX * 0.42))
            label = {1: label, 0: BROKEN, IGNORED: IGNORED}[kept]
        hands.append((x, y, scale, label))
    faces = []
    for (x, y, scale), labels, places in drawn.faces:
        before, after = (fine_detail(cut(p, "face", x, y, scale)) for p in (drawn.image, image))
        unit = CROP_PX / 2 / (scale * CROP_HALF["face"])  # crop pixels of a pixel
        new = []
        for label, (px, py), name in zip(labels, places, PARTS):
            if label == 1:
                centre = (CROP_PX / 2 + (px - x) * unit, CROP_PX / 2 + (py - y) * unit)
                half = (0.28 if name == "mouth" else 0.17) * scale * unit
                label = verdict(survival(before, after, centre, half))
            new.append(label)
        faces.append(((x, y, scale), tuple(new), places))
    return replace(drawn, image=image, hands=hands, faces=faces)


def melted(drawn: Drawn, rng: np.random.Generator) -> Drawn:
    """Every hand and face that is large enough is bent by a random field of the size of its fingers or eyes."""
    image = to_model_range(drawn.image[None])
    ys, xs = np.mgrid[0:PICTURE_PX, 0:PICTURE_PX] + 0.5
    hands, faces = [], []

    def melt(x: float, y: float, scale: float) -> None:
        nonlocal image
        noise = torch.from_numpy(rng.normal(size=(1, 2, PICTURE_PX, PICTURE_PX))).float()
        field = blur(noise, max(1.0, scale * rng.uniform(0.12, 0.2)))
        field = field / field.std() * scale * rng.uniform(0.08, 0.2)
        inside = torch.from_numpy(((xs - x) ** 2 + (ys - y) ** 2 < (1.1 * scale) ** 2).astype(np.float32))
        field = field * blur(inside[None, None], 1.0)
        grid = torch.stack(
            [
                (torch.from_numpy(xs).float() + field[0, 0]) * 2 / PICTURE_PX - 1,
                (torch.from_numpy(ys).float() + field[0, 1]) * 2 / PICTURE_PX - 1,
            ],
            dim=-1,
        )[None]
        image = F.grid_sample(image, grid, padding_mode="border", align_corners=False)

    for x, y, scale, label in drawn.hands:
        large = scale >= LEAST_MELTED_PX
        if large:
            melt(x, y, scale)
        hands.append((x, y, scale, BROKEN if large else IGNORED))
    for (x, y, scale), labels, places in drawn.faces:
        if scale >= LEAST_MELTED_PX:
            melt(x, y, scale)
            labels = (IGNORED,) * len(PARTS)  # judged below: some parts pass
        faces.append(((x, y, scale), labels, places))
    pixels = ((image[0].permute(1, 2, 0).numpy() + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    result = after_change(drawn, pixels)
    result.hands = hands
    return result


def make_lessons(kind: str, count: int, first_seed: int, model: BundledModel) -> Lessons:
    """`count` scenes of a kind in all their versions. The seeds of scenes go up from `first_seed`."""
    rng = np.random.default_rng(first_seed)
    drawn = [draw_scene(kind, first_seed + k, BROKEN_SHARE) for k in range(count)]
    versions = [("rendering", one) for one in drawn] + _through_autoencoder(drawn, model, rng)
    if kind == "thing":
        return _collect(versions)
    whole = [one for one in drawn if all(h[3] != BROKEN for h in one.hands) and all(all(f[1]) for f in one.faces)]
    fresh = [draw_scene(kind, first_seed + 500_000 + k, 0.0) for k in range(int(count * DENOISED_SHARES[kind]))]
    versions += _denoised(fresh, first_seed, model, rng)
    if kind in ("hand", "face", "one person"):
        versions += [("melted", melted(one, rng)) for one in whole[: int(count * MELTED_SHARE)]]
    if kind == "hand":
        versions += _mixed(int(count * MIXED_SHARE), first_seed + count, model, rng)
    return _collect(versions)


def _parts(items: list, size: int) -> list[list]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _through_autoencoder(drawn: list[Drawn], model: BundledModel, rng: np.random.Generator) -> list[tuple[str, Drawn]]:
    """Half of them with a little noise in their latents."""
    versions = []
    for part in _parts(drawn, BATCH):
        latents = model.encode(np.stack([one.image for one in part]))
        noise = torch.from_numpy(rng.normal(size=tuple(latents.shape))).float()
        sizes = torch.from_numpy(rng.choice([0, 0, 0.05, 0.1], size=len(part))).float()
        images = model.decode(latents + sizes[:, None, None, None] * noise)
        versions += [("autoencoder", after_change(one, image)) for one, image in zip(part, images)]
    return versions


def _denoised(drawn: list[Drawn], seed: int, model: BundledModel, rng: np.random.Generator) -> list[tuple[str, Drawn]]:
    versions = []
    for number, part in enumerate(_parts(drawn, BATCH // 4)):
        strength = float(rng.uniform(*STRENGTHS))
        latents = model.encode(np.stack([one.image for one in part]))
        images = model.decode(
            model.denoise(latents, [one.caption for one in part], strength, generator(seed, number))
        )
        versions += [("denoised", after_change(one, image)) for one, image in zip(part, images)]
    return versions


def _mixed(count: int, first_seed: int, model: BundledModel, rng: np.random.Generator) -> list[tuple[str, Drawn]]:
    """Half one gesture and half another, as by a model that cannot decide."""
    pairs = []
    for k in range(count):
        gestures = rng.choice(list(GESTURES), 2, replace=False)
        pairs.append([draw_scene("hand", first_seed + k, 0.0, str(gesture)) for gesture in gestures])
    versions = []
    for part in _parts(pairs, BATCH):
        a, b = (model.encode(np.stack([pair[k].image for pair in part])) for k in (0, 1))
        share = torch.from_numpy(rng.uniform(0.42, 0.58, len(part))).float()[:, None, None, None]
        for (one, _), image in zip(part, model.decode(share * a + (1 - share) * b)):
            versions.append(("mixed", replace(one, image=image, hands=[(*hand[:3], BROKEN) for hand in one.hands])))
    return versions


def _collect(versions: list[tuple[str, Drawn]]) -> Lessons:
    hands = [(k, *hand) for k, (_, one) in enumerate(versions) for hand in one.hands]
    faces = [(k, *frame, *labels) for k, (_, one) in enumerate(versions) for frame, labels, _ in one.faces]
    return Lessons(
        np.stack([one.image for _, one in versions]),
        np.array([KINDS.index(one.kind) for _, one in versions], dtype=np.int8),
        np.array([VERSIONS.index(version) for version, _ in versions], dtype=np.int8),
        np.array([STYLES.index(one.style) for _, one in versions], dtype=np.int8),
        np.array(hands, dtype=np.float32).reshape(-1, 5),
        np.array(faces, dtype=np.float32).reshape(-1, 4 + len(PARTS)),
    )
