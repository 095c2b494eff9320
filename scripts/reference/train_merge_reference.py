"""The trainings of `molar train ziplora` and `molar train hypernet`, step for step, with diffusers' UNet, whole changes
of weight and torch's autograd: what molar, which never forms one, is compared with.

The formulas are those of src/training/ziplora_trainer.h and hypernet_trainer.h, the order of randomness that of
include/molar/training/training_order.h.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import train_lora_reference as lora_reference
from train_lora_reference import FACTORS, INSTANCES, PASS, EpochOrder, generator

PAIRS, VALIDATION = 4, 5
VALIDATION_DRAWS, VALIDATION_ROWS = 4, 4


@dataclasses.dataclass
class Options:
    """Names and meaning as the options of `molar train ziplora` and `hypernet`."""

    steps: int = 5
    batch_size: int = 1
    learning_rate: float = 0.01
    similarity_weight: float = 0.01
    seed: int = 0
    # hypernet
    hidden: int = 8
    constant: bool = False
    pairs_per_step: int = 1
    weight_decay: float = 1e-4
    max_grad_norm: float = 1.0
    validate_every: int = 50


class Taught:
    """A kohya file of the UNet and the pictures that it was taught."""

    def __init__(self, unet, file: pathlib.Path, pictures, seed: int):
        tensors = load_file(file)
        self.changes = {}
        for name, module in unet.named_modules():
            key = "lora_unet_" + name.replace(".", "_")
            if key + ".lora_down.weight" in tensors:
                down, up = tensors[key + ".lora_down.weight"], tensors[key + ".lora_up.weight"]
                scale = float(tensors[key + ".alpha"]) / down.shape[0]
                self.changes[name] = (scale * (up.flatten(1) @ down.flatten(1))).view(module.weight.shape)
        self.pictures, self.order = pictures, EpochOrder(seed, INSTANCES, len(pictures))

    def rows(self, index: int, size: int):
        return [self.pictures[i] for i in self.order.batch(index, size)]


class Model:
    def __init__(self, pipe):
        self.unet, self.trainer = pipe.unet, lora_reference.Trainer.__new__(lora_reference.Trainer)
        from diffusers import DDPMScheduler

        self.trainer.pipe, self.trainer.is_xl, self.trainer.encoders = pipe, False, ["text_encoder"]
        self.trainer.moments = {}
        self.schedule, self.vae = DDPMScheduler.from_config(pipe.scheduler.config), pipe.vae
        for part in (pipe.unet, pipe.vae, pipe.text_encoder):
            part.requires_grad_(False)

    def draw(self, rows, draws):
        means, stds = zip(*(self.trainer.distribution(path, False) for path, _ in rows))
        mean, std = torch.cat(means), torch.cat(stds)
        latents = (mean + std * torch.randn(mean.shape, generator=draws)) * self.vae.config.scaling_factor
        noise = torch.randn(latents.shape, generator=draws)
        timesteps = torch.randint(self.schedule.config.num_train_timesteps, (len(rows),), generator=draws)
        with torch.no_grad():
            hidden, _ = self.trainer.encode([caption for _, caption in rows])
        return self.schedule.add_noise(latents, noise, timesteps), timesteps, hidden

    def predict(self, changes: dict[str, torch.Tensor], noisy, timesteps, hidden):
        weights = dict(self.unet.named_parameters())
        for name, change in changes.items():
            weights[name + ".weight"] = weights[name + ".weight"] + change
        return torch.func.functional_call(self.unet, weights, (noisy, timesteps, hidden)).sample

    def losses(self, subject: Taught, style: Taught, merged, index: int, size: int, draws):
        """|eps_merged - eps_subject|^2 on the subject's rows, |eps_merged - eps_style|^2 on the style's."""
        rows = subject.rows(index, size) + style.rows(index, size)
        noisy, timesteps, hidden = self.draw(rows, draws)
        found = []
        for alone, part in ((subject, slice(0, size)), (style, slice(size, None))):
            with torch.no_grad():
                target = self.predict(alone.changes, noisy[part], timesteps[part], hidden[part])
            found.append(F.mse_loss(self.predict(merged, noisy[part], timesteps[part], hidden[part]), target))
        return found


def merge(subject: Taught, style: Taught, coefficients: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    merged = {}
    for name in subject.changes | style.changes:
        s, t = subject.changes.get(name), style.changes.get(name)
        if name in coefficients:
            m = coefficients[name]
            merged[name] = s * m[0] + t * m[1]  # columns
        else:
            merged[name] = s if t is None else t if s is None else s + t
    return merged


def train_ziplora(pipe, options: Options, subject: Taught, style: Taught):
    """Returns the losses [steps, 4]: whole, subject, style, similarity; and the coefficients."""
    model = Model(pipe)
    shared = [name for name, change in subject.changes.items() if name in style.changes and change.dim() == 2]
    coefficients = {name: torch.ones(2, subject.changes[name].shape[1], requires_grad=True) for name in shared}
    optimizer = torch.optim.AdamW(coefficients.values(), lr=options.learning_rate, weight_decay=0.0)
    history = []
    for step in range(options.steps):
        optimizer.zero_grad()
        a, b = model.losses(subject, style, merge(subject, style, coefficients), step, options.batch_size,
                            generator(options.seed, PASS, step))
        similarity = torch.stack([(m[0] * m[1]).abs().mean() for m in coefficients.values()]).mean()
        loss = a + b + options.similarity_weight * similarity
        loss.backward()
        optimizer.step()
        history.append([v.item() for v in (loss, a, b, similarity)])
    return history, {name: m.detach() for name, m in coefficients.items()}


def predictable(name: str) -> bool:
    return name.endswith((".to_q", ".to_out.0"))


def train_hypernet(pipe, options: Options, subjects: list[Taught], styles: list[Taught],
                   validation: tuple[list[Taught], list[Taught]] = ((), ())):
    """Returns the losses as train_ziplora, the validations [n] and the last network."""
    model = Model(pipe)
    widths = sorted({change.shape[0] for s in subjects for name, change in s.changes.items()
                     if predictable(name) and any(name in t.changes for t in styles)})
    shapes = {"output.1.weight": ((2, options.hidden), options.hidden), "output.1.bias": ((2,), options.hidden)}
    for number, width in enumerate(widths, 1):
        shapes[f"input_{number}.weight"] = ((options.hidden, 2 * width), 2 * width)
        shapes[f"input_{number}.bias"] = ((options.hidden,), 2 * width)
    draws = generator(options.seed, FACTORS, 0)
    network = {}
    for name, (shape, fan_in) in sorted(shapes.items()):
        network[name] = torch.empty(shape).uniform_(-1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in), generator=draws)
    network["output.1.bias"].fill_(1)
    for name, tensor in network.items():
        frozen = options.constant and name.startswith("input_") and name.endswith("weight")
        tensor.zero_() if frozen else tensor.requires_grad_()
    learnt = [tensor for tensor in network.values() if tensor.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=options.learning_rate, weight_decay=options.weight_decay)

    def predict(subject, style):
        found = {}
        for name, s in subject.changes.items():
            if predictable(name) and name in style.changes and s.shape[0] in widths:
                number = widths.index(s.shape[0]) + 1
                columns = torch.cat([s.T, style.changes[name].T], dim=1)
                hidden = F.linear(columns, network[f"input_{number}.weight"], network[f"input_{number}.bias"]).relu()
                found[name] = F.linear(hidden, network["output.1.weight"], network["output.1.bias"]).T
        return found

    pairs = EpochOrder(options.seed, PAIRS, len(subjects) * len(styles))
    history, validations = [], []
    for step in range(options.steps):
        optimizer.zero_grad()
        parts = torch.zeros(4)
        for k in range(options.pairs_per_step):
            index = step * options.pairs_per_step + k
            s, t = divmod(pairs.batch(index, 1)[0], len(styles))
            m = predict(subjects[s], styles[t])
            a, b = model.losses(subjects[s], styles[t], merge(subjects[s], styles[t], m), index, options.batch_size,
                                generator(options.seed, PASS, index))
            similarity = sum(F.cosine_similarity(c[0], c[1], dim=0).abs() for c in m.values())
            loss = a + b + options.similarity_weight * similarity
            (loss / options.pairs_per_step).backward()
            parts += torch.tensor([v.item() for v in (loss, a, b, similarity)]) / options.pairs_per_step
        if options.max_grad_norm > 0:
            torch.nn.utils.clip_grad_norm_(learnt, options.max_grad_norm)
        optimizer.step()
        history.append(parts.tolist())
        if validation[0] and ((step + 1) % options.validate_every == 0 or step + 1 == options.steps):
            validations.append(validate(model, options, validation, predict))
    return history, validations, {name: tensor.detach() for name, tensor in network.items()}


@torch.no_grad()
def validate(model: Model, options: Options, validation, predict) -> float:
    found = []
    for subject in validation[0]:
        for style in validation[1]:
            for _ in range(VALIDATION_DRAWS):
                draw = len(found)
                parts = model.losses(subject, style, merge(subject, style, predict(subject, style)), draw,
                                     VALIDATION_ROWS, generator(options.seed, VALIDATION, draw))
                found.append(sum(part.item() for part in parts))
    return sum(found) / len(found)
