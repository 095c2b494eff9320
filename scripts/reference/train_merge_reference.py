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
    layout: str = "columns"
    joint_weight: float = 1.0
    hidden: int = 8
    constant: bool = False
    pairs_per_step: int = 1
    weight_decay: float = 1e-4
    max_grad_norm: float = 1.0
    validate_every: int = 50


class Joint:
    """Pictures that show a subject in a style."""

    def __init__(self, pictures, seed: int):
        self.pictures, self.order = pictures, EpochOrder(seed, INSTANCES, len(pictures))

    def rows(self, index: int, size: int):
        return [self.pictures[i] for i in self.order.batch(index, size)]


class Taught(Joint):
    """A kohya file of the UNet and the pictures that it was taught."""

    def __init__(self, unet, file: pathlib.Path, pictures, seed: int):
        super().__init__(pictures, seed)
        tensors = load_file(file)
        self.changes = {}
        for name, module in unet.named_modules():
            key = "lora_unet_" + name.replace(".", "_")
            if key + ".lora_down.weight" in tensors:
                down, up = tensors[key + ".lora_down.weight"], tensors[key + ".lora_up.weight"]
                scale = float(tensors[key + ".alpha"]) / down.shape[0]
                self.changes[name] = (scale * (up.flatten(1) @ down.flatten(1))).view(module.weight.shape)


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
        self.noise = noise  # of the latest rows
        return self.schedule.add_noise(latents, noise, timesteps), timesteps, hidden

    def predict(self, changes: dict[str, torch.Tensor], noisy, timesteps, hidden):
        weights = dict(self.unet.named_parameters())
        for name, change in changes.items():
            weights[name + ".weight"] = weights[name + ".weight"] + change
        return torch.func.functional_call(self.unet, weights, (noisy, timesteps, hidden)).sample

    def joint_loss(self, joint: Joint, merged, index: int, size: int, draws):
        rows = joint.rows(index, size)
        noisy, timesteps, hidden = self.draw(rows, draws)
        return F.mse_loss(self.predict(merged, noisy, timesteps, hidden), self.noise)

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


def row_projector(change: torch.Tensor) -> torch.Tensor:
    """Onto the space that the rows of a whole change span."""
    return (torch.linalg.pinv(change.double(), rtol=1e-5) @ change.double()).float()


def merge(subject: Taught, style: Taught, coefficients: dict[str, torch.Tensor],
          shares: dict[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    merged = {}
    for name in subject.changes | style.changes:
        s, t = subject.changes.get(name), style.changes.get(name)
        if name in coefficients:
            m = coefficients[name]
            weighed = s.flatten(1) * m[0]  # columns
            if shares:
                weighed = weighed - shares[name] * (weighed @ row_projector(t.flatten(1)))
            merged[name] = (weighed + t.flatten(1) * m[1]).view(s.shape)
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


class ColumnNetwork:
    """LoRA.rar's: rows of (subject's change^T | style's change^T), a head for each width."""

    first = "input_"  # what the ablation takes away

    def __init__(self, options: Options, subjects: list[Taught], styles: list[Taught]):
        self.widths = sorted({change.shape[0] for s in subjects for name, change in s.changes.items()
                              if self.covers(name) and any(name in t.changes for t in styles)})
        hidden = options.hidden
        self.shapes = {"output.1.weight": ((2, hidden), hidden), "output.1.bias": ((2,), hidden)}
        for number, width in enumerate(self.widths, 1):
            self.shapes[f"input_{number}.weight"] = ((hidden, 2 * width), 2 * width)
            self.shapes[f"input_{number}.bias"] = ((hidden,), 2 * width)
        self.starts = {"output.1.bias": torch.ones(2)}

    def covers(self, name: str) -> bool:
        return name.endswith((".to_q", ".to_out.0"))

    def predict(self, network, name: str, s: torch.Tensor, t: torch.Tensor):
        number = self.widths.index(s.shape[0]) + 1
        hidden = F.linear(torch.cat([s.T, t.T], dim=1), network[f"input_{number}.weight"], network[f"input_{number}.bias"])
        return F.linear(hidden.relu(), network["output.1.weight"], network["output.1.bias"]).T, None


KINDS = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "attn2.to_q", "attn2.to_k", "attn2.to_v",
         "attn2.to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "conv1", "conv2")


def column_features(name: str, s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """include/molar/adapters/column_features.h on whole changes [out, in]: [F, in]."""
    s, t = s.double(), t.double()
    log = lambda x: x.log().clamp(-4, 4)  # noqa: E731
    rows = {id(x): torch.linalg.pinv(x, rtol=1e-5) @ x for x in (s, t)}
    columns = {id(x): x @ torch.linalg.pinv(x, rtol=1e-5) for x in (s, t)}
    rank = min(torch.linalg.matrix_rank(s, rtol=1e-5), torch.linalg.matrix_rank(t, rtol=1e-5))
    norm = lambda x: log(x.norm(dim=0) ** 2 / (x.norm(dim=0) ** 2).mean()) / 2  # noqa: E731
    share = lambda of, within: (columns[id(within)] @ of).norm(dim=0) ** 2 / of.norm(dim=0) ** 2  # noqa: E731
    leverage = lambda x: log(rows[id(x)].diag() / rows[id(x)].diag().mean())  # noqa: E731
    of_columns = [norm(s), norm(t), F.cosine_similarity(s, t, dim=0), share(s, t), share(t, s), leverage(t), leverage(s)]
    of_layer = [log(s.norm() ** 2 / t.norm() ** 2) / 2, F.cosine_similarity(s.flatten(), t.flatten(), dim=0),
                (rows[id(s)] @ rows[id(t)]).trace() / rank, (columns[id(s)] @ columns[id(t)]).trace() / rank]
    kinds = [float(name.endswith(kind)) for kind in KINDS]
    flags = [*kinds, 1 - max(kinds), *(float(name.startswith(place)) for place in ("down_", "mid_", "up_"))]
    wide = torch.tensor([*of_layer, *flags]).unsqueeze(1).expand(-1, s.shape[1])
    return torch.cat([torch.stack(of_columns), wide]).float()


class FeatureNetwork:
    """Three linear layers on column_features; a third output, its mean over the columns, for the projection."""

    first = "features.0"

    def __init__(self, options: Options, *_):
        sizes = [29, options.hidden, options.hidden, 3]
        self.shapes = {}
        for k in range(3):
            self.shapes[f"features.{2 * k}.weight"] = ((sizes[k + 1], sizes[k]), sizes[k])
            self.shapes[f"features.{2 * k}.bias"] = ((sizes[k + 1],), sizes[k])
        self.starts = {"features.4.weight": torch.zeros(3, options.hidden),
                       "features.4.bias": torch.tensor([1, 1, math.log(0.5)])}

    def covers(self, name: str) -> bool:
        return True

    def predict(self, network, name: str, s: torch.Tensor, t: torch.Tensor):
        x = column_features(name, s.flatten(1), t.flatten(1)).T
        for k in range(3):
            x = F.linear(x if k == 0 else x.relu(), network[f"features.{2 * k}.weight"], network[f"features.{2 * k}.bias"])
        return x[:, :2].T, x[:, 2].mean().sigmoid()


def train_hypernet(pipe, options: Options, subjects: list[Taught], styles: list[Taught],
                   validation: tuple[list[Taught], list[Taught]] = ((), ()), joint: dict[int, Joint] | None = None):
    """`joint`: of some pairs, by number. Returns the losses as train_ziplora, with a fifth for joint pictures if there are
    some; the validations [n], which see none; and the last network."""
    model = Model(pipe)
    layout = {"columns": ColumnNetwork, "features": FeatureNetwork}[options.layout](options, subjects, styles)
    draws = generator(options.seed, FACTORS, 0)
    network = {}
    for name, (shape, fan_in) in sorted(layout.shapes.items()):
        network[name] = torch.empty(shape).uniform_(-1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in), generator=draws)
        if name in layout.starts:
            network[name] = layout.starts[name]
    for name, tensor in network.items():
        frozen = options.constant and name.startswith(layout.first) and name.endswith("weight")
        tensor.zero_() if frozen else tensor.requires_grad_()
    learnt = [tensor for tensor in network.values() if tensor.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=options.learning_rate, weight_decay=options.weight_decay)

    def predict(subject, style):
        """Coefficients and shares, by layer."""
        found = {name: layout.predict(network, name, s, style.changes[name]) for name, s in subject.changes.items()
                 if layout.covers(name) and name in style.changes}
        return ({name: m for name, (m, _) in found.items()},
                {name: share for name, (_, share) in found.items() if share is not None})

    pairs = EpochOrder(options.seed, PAIRS, len(subjects) * len(styles))
    history, validations = [], []
    for step in range(options.steps):
        optimizer.zero_grad()
        parts = torch.zeros(5 if joint else 4)
        for k in range(options.pairs_per_step):
            index = step * options.pairs_per_step + k
            pair = pairs.batch(index, 1)[0]
            subject, style = subjects[pair // len(styles)], styles[pair % len(styles)]
            m, shares = predict(subject, style)
            merged, draws = merge(subject, style, m, shares), generator(options.seed, PASS, index)
            a, b = model.losses(subject, style, merged, index, options.batch_size, draws)
            similarity = sum(F.cosine_similarity(c[0], c[1], dim=0).abs() for c in m.values())
            terms = [a, b, similarity]
            loss = a + b + options.similarity_weight * similarity
            if joint:
                terms.append(model.joint_loss(joint[pair], merged, index, options.batch_size, draws)
                             if pair in joint else torch.zeros(()))
                loss = loss + options.joint_weight * terms[-1]
            (loss / options.pairs_per_step).backward()
            parts += torch.tensor([v.item() for v in (loss, *terms)]) / options.pairs_per_step
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
                parts = model.losses(subject, style, merge(subject, style, *predict(subject, style)), draw,
                                     VALIDATION_ROWS, generator(options.seed, VALIDATION, draw))
                found.append(sum(part.item() for part in parts))
    return sum(found) / len(found)
