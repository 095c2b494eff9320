"""Writes tests/goldens/judges: what the judges of hands and faces compute in PyTorch, with random weights.

    python scripts/reference/make_judge_goldens.py [--out tests/goldens/judges]

Needs torch and safetensors. The networks are those of scripts/toyland/judge_networks.py, narrow, folded, in files as
train_judges.py writes them. The detector's bias is raised so that it finds something; its scales are plausible.
goldens.safetensors holds pictures [N, 64, 64, 3] uint8, maps [N, 8, 32, 32], crops [N, 3, 40, 40] around points [N, 3]
(x, y, half side in pixels), hand and face (logits of the crops). MANIFEST.json lists what `read` finds in each picture.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import importlib.metadata
import json
import pathlib
import shutil
import sys

import numpy
import safetensors.torch
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts/toyland"))
import judge_files  # noqa: E402
import judge_networks as networks  # noqa: E402

SEED = 5
WIDTHS, MERGED = (4, 6, 8, 8), 8  # of the classifiers; the detector has three stages


def pictures() -> numpy.ndarray:
    random = numpy.random.default_rng(SEED)
    y, x = numpy.mgrid[0:64, 0:64] / 64.0
    found = []
    for _ in range(3):
        a, b, c = random.uniform(-9, 9, (3, 3, 1, 1))
        waves = 127 + 110 * numpy.sin(a * x + b * y + c)
        found.append(numpy.moveaxis(waves, 0, -1) + random.integers(-15, 16, (64, 64, 3)))
    return numpy.clip(numpy.stack(found), 0, 255).astype(numpy.uint8)


def randomised(network: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(SEED)
    network = networks.fold(network)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 4
            parameter.copy_((torch.randn(parameter.shape, generator=generator) * (1.6 / fan_in) ** 0.5).half())
    return network.eval()


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "tests/goldens/judges")
    out = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    torch.set_num_threads(1)
    judges = {
        "detector": randomised(networks.Detector(WIDTHS[:3], MERGED)),
        "hand": randomised(networks.Classifier(len(networks.GESTURE_NAMES), WIDTHS)),
        "face": randomised(networks.Classifier(len(networks.PARTS), WIDTHS)),
    }
    judges["detector"].head.bias[4] = judges["detector"].head.bias[7] = 2.0  # half heights of about 7 pixels
    for name, network in judges.items():
        judge_files.write(out, name, network, {})
    pixels = pictures()
    images = judge_files.to_model_range(pixels)
    points = torch.tensor([[31.0, 33.5, 12.0], [5.25, 60.0, 9.0], [40.0, 20.0, 30.0]])
    crops = networks.crop(images, *points.T)
    tensors = {
        "pictures": torch.from_numpy(pixels),
        "maps": judges["detector"](images),
        "points": points,
        "crops": crops,
        "hand": judges["hand"](crops),
        "face": judges["face"](crops),
    }
    found = [[dataclasses.asdict(one) for one in judged] for judged in networks.read(judges, images)]
    assert all(len({one["found"]["kind"] for one in judged}) == 2 for judged in found), "change SEED: nothing is found"
    safetensors.torch.save_file({key: value.contiguous() for key, value in tensors.items()}, out / "goldens.safetensors")
    manifest = {
        "generator": "scripts/reference/make_judge_goldens.py",
        "seed": SEED,
        "versions": {p: importlib.metadata.version(p) for p in ("torch", "safetensors")},
        "found": found,
        "sha256": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(out.iterdir())},
    }
    (out / "MANIFEST.json").write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main()
