"""Compares molar with diffusers, case by case. Started by scripts/parity, which finds the interpreter."""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import gc
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import time

import numpy as np
import parity_cases
from parity_cases import Case
from parity_models import Workshop
from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
ALLOWED = 1        # grey levels
MIN_EFFECT = 1.0   # mean grey levels by which a feature has to change the picture, or the case proves nothing
PACKAGES = ("torch", "diffusers", "transformers", "peft")


@dataclasses.dataclass
class Row:
    case: Case
    max_difference: int | None = None
    mean_difference: float | None = None
    effect: float | None = None   # mean difference between the reference and its contrast
    status: str = "?"             # same, DIFFERENT, NO EFFECT, FAILED
    detail: str = ""
    molar_s: float = 0.0


# ---- the two sides --------------------------------------------------------------------------------------

def read_pictures(folder: pathlib.Path, count: int) -> list[np.ndarray]:
    return [np.asarray(Image.open(folder / f"{i}.png").convert("RGB")) for i in range(count)]


class Reference:
    """diffusers' pictures, kept under root/reference as long as this program and the packages stay the same."""

    def __init__(self, args, workshop: Workshop):
        self.args, self.workshop = args, workshop
        self.side = None
        digest = hashlib.sha256()
        for path in sorted(HERE.glob("*.py")):
            if path.name.startswith(("parity_", "families", "lora_files", "make_single")) and path.name != "parity_main.py":
                digest.update(path.read_bytes())
        digest.update(json.dumps([importlib.metadata.version(p) for p in PACKAGES]).encode())
        self.program = digest.hexdigest()

    def pictures(self, case: Case) -> list[np.ndarray]:
        data = parity_cases.as_json(dataclasses.replace(case, feature=""))
        key = hashlib.sha256((self.program + json.dumps(data, sort_keys=True)).encode()).hexdigest()[:24]
        folder = self.args.out / "reference" / key
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            if case.full:
                self.draw_apart(case, folder)
            else:
                self.draw_here(case, folder)
            (folder / "complete").touch()
        return read_pictures(folder, case.count)

    def draw_here(self, case: Case, folder: pathlib.Path) -> None:
        from parity_diffusers import DiffusersSide

        self.side = self.side or DiffusersSide(self.workshop)
        for i, picture in enumerate(self.side.draw(case)):
            Image.fromarray(picture).save(folder / f"{i}.png")

    def draw_apart(self, case: Case, folder: pathlib.Path) -> None:
        """A full-size model leaves with its process: memory for the next program is free again."""
        self.side = None
        gc.collect()
        command = [sys.executable, str(HERE / "parity_diffusers.py"), json.dumps(parity_cases.as_json(case)), "--root",
                   str(self.args.out), "--full-root", str(self.args.full_models), "--out", str(folder)]
        subprocess.run(command, check=True)


def molar_command(args, workshop: Workshop, case: Case, target: pathlib.Path) -> list[str]:
    model = workshop.molar_model(case.model)
    command = [str(args.molar), "generate", "-m", str(model), "--prompt", case.prompt, "--prompt-syntax", case.syntax,
               "--device", "cpu", "--dtype", "f32", "--steps", str(case.steps), "--cfg-scale", repr(case.cfg_scale),
               "--seed", str(case.seed), "--width", str(case.width), "--height", str(case.height), "-q",
               "-o", str(target / "{seed}.png"), "--on-exist", "overwrite"]
    texts = {"--negative-prompt": case.negative_prompt, "--prompt-2": case.prompt_2,
             "--negative-prompt-2": case.negative_prompt_2, "--sampler": case.sampler}
    numbers = {"--eta": case.eta or None, "--guidance-rescale": case.guidance_rescale or None,
               "--clip-skip": case.clip_skip, "--strength": case.strength,
               "--count": case.count if case.count > 1 else None}
    for option, value in (texts | numbers).items():
        if value is not None:
            command += [option, str(value)]
    if case.init_image:
        command += ["--init-image", str(workshop.picture(case.init_image))]
    if case.mask:
        command += ["--mask", str(workshop.picture(case.mask))]
    if case.vae:
        command += ["--vae", str(workshop.model_folder(case.vae))]
    if case.model.endswith("-single") and not case.full:
        # A single file stands for CLIP's own vocabulary, which the tiny text encoders do not have.
        command += ["--tokenizer", str(workshop.model_folder(case.model))]
    if case.vae_tiling:
        command.append("--vae-tiling")
    if {"subject", "style"} <= {lora.role for lora in case.loras}:
        command += ["--merge", "direct"]
    for lora in case.loras:
        command += [f"--{lora.role}", f"{workshop.lora(case.model, lora.file)}@{lora.weight}"]
    return command


def draw_with_molar(args, workshop: Workshop, case: Case) -> list[np.ndarray]:
    """Raises RuntimeError with molar's own words."""
    target = args.out / "molar" / "".join(c if c.isalnum() else "-" for c in case.name)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    command = molar_command(args, workshop, case, target)
    (target / "command.txt").write_text(json.dumps(command) + "\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MOLAR_")}
    run = subprocess.run(command, capture_output=True, text=True, timeout=args.timeout, env=environment)
    if run.returncode:
        raise RuntimeError(f"exit {run.returncode}: {run.stderr.strip()[-400:]}")
    return [np.asarray(Image.open(target / f"{case.seed + i}.png").convert("RGB")) for i in range(case.count)]


# ---- comparison -----------------------------------------------------------------------------------------

def mean_difference(a: np.ndarray, b: np.ndarray) -> float:
    if a.shape != b.shape:
        return 255.0
    return float(np.abs(a.astype(np.int32) - b).mean())


def compare(args, workshop: Workshop, reference: Reference, case: Case) -> Row:
    row = Row(case)
    wanted = reference.pictures(case)
    contrast = None if case.full else case.contrast()
    if contrast is not None:
        row.effect = mean_difference(wanted[-1], reference.pictures(contrast)[0])
    if args.reference_only:
        row.status = "reference"
        return row
    start = time.monotonic()
    try:
        found = draw_with_molar(args, workshop, case)
    except (RuntimeError, subprocess.TimeoutExpired, OSError) as error:
        row.status, row.detail = "FAILED", str(error)
        return row
    row.molar_s = time.monotonic() - start
    shapes = [(w.shape, f.shape) for w, f in zip(wanted, found) if w.shape != f.shape]
    if shapes:
        row.status, row.detail = "FAILED", f"wanted a picture of {shapes[0][0]}, found {shapes[0][1]}"
        return row
    row.max_difference = max(int(np.abs(w.astype(np.int32) - f).max()) for w, f in zip(wanted, found))
    row.mean_difference = float(np.mean([mean_difference(w, f) for w, f in zip(wanted, found)]))
    if row.max_difference > ALLOWED:
        row.status = "DIFFERENT"
    elif row.effect is not None and row.effect < MIN_EFFECT:
        row.status = "NO EFFECT"
    else:
        row.status = "same"
    return row


# ---- report ---------------------------------------------------------------------------------------------

HEADER = f"{'family':20} {'scheduler':16} {'feature':34} {'max':>4} {'mean':>8} {'effect':>7}  status"


def line(row: Row) -> str:
    number = lambda value, form: "-" if value is None else format(value, form)
    return (f"{row.case.model:20} {row.case.sampler or 'own':16} {row.case.feature:34} "
            f"{number(row.max_difference, 'd'):>4} {number(row.mean_difference, '.4f'):>8} "
            f"{number(row.effect, '.1f'):>7}  {row.status}" + (f": {row.detail}" if row.detail else ""))


def environment(args) -> dict:
    cpu = platform.processor()
    if pathlib.Path("/proc/cpuinfo").exists():
        names = [l.split(":", 1)[1].strip() for l in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                 if l.startswith("model name")]
        cpu = names[0] if names else cpu
    commit = subprocess.run(["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"], capture_output=True,
                            text=True).stdout.strip()
    return {"commit": commit, "cpu": cpu, "python": platform.python_version(), "dtype": "float32", "device": "cpu",
            **{p: importlib.metadata.version(p) for p in PACKAGES}}


def write_report(args, rows: list[Row]) -> None:
    facts = environment(args)
    data = {"environment": facts, "allowed_difference": ALLOWED,
            "rows": [{"case": parity_cases.as_json(r.case), "name": r.case.name, "max_difference": r.max_difference,
                      "mean_difference": r.mean_difference, "effect": r.effect, "status": r.status,
                      "detail": r.detail, "molar_s": round(r.molar_s, 2)} for r in rows]}
    (args.out / "report.json").write_text(json.dumps(data, indent=1) + "\n")
    text = ["# molar against diffusers", "", ", ".join(f"{k} {v}" for k, v in facts.items()), "",
            f"{len(rows)} cases; max and mean: difference of the two pictures in grey levels (at most {ALLOWED} is allowed); "
            "effect: mean difference that the feature makes in diffusers' own picture.", "",
            "| model | scheduler | feature | max | mean | effect | status |", "|---|---|---|---|---|---|---|"]
    for r in rows:
        number = lambda value, form: "-" if value is None else format(value, form)
        text.append(f"| {r.case.model} | {r.case.sampler or 'own'} | {r.case.feature} | {number(r.max_difference, 'd')} | "
                    f"{number(r.mean_difference, '.4f')} | {number(r.effect, '.1f')} | {r.status} |")
    (args.out / "report.md").write_text("\n".join(text) + "\n")


def selected(args) -> list[Case]:
    cases = parity_cases.all_cases()
    if args.tiny_only:
        cases = [c for c in cases if not c.full]
    if args.full_only:
        cases = [c for c in cases if c.full]
    if args.case:
        cases = [c for c in cases if any(fnmatch.fnmatch(c.name, f"*{p}*") for p in args.case)]
    return cases


def parse(argv: list[str] | None = None):
    parser = argparse.ArgumentParser(
        prog="scripts/parity", description="Draws the same pictures with molar and with diffusers and compares them. "
        f"Exit status 1 if any differs by more than {ALLOWED} grey level.")
    parser.add_argument("--python", help="interpreter with torch, diffusers, transformers and peft (read by scripts/parity)")
    parser.add_argument("--molar", type=pathlib.Path, default=REPOSITORY / "build" / "molar")
    parser.add_argument("--out", type=pathlib.Path, default=REPOSITORY / "parity-out", help="models, pictures and report")
    parser.add_argument("--full-models", type=pathlib.Path, help="folder of the full-size models (OUT/full)")
    parser.add_argument("--tiny-only", action="store_true")
    parser.add_argument("--full-only", action="store_true", help="needs some 14 GB of memory and 12 GB of disk")
    parser.add_argument("--case", action="append", metavar="PATTERN", help="model/sampler/feature, with * and ?; repeatable")
    parser.add_argument("--list", action="store_true", help="name the cases and stop")
    parser.add_argument("--reference-only", action="store_true", help="run diffusers alone, for the effect of each feature")
    parser.add_argument("--keep", action="store_true", help="keep molar's pictures of cases that agree")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds for one run of molar")
    args = parser.parse_args(argv)
    args.out = args.out.resolve()
    args.full_models = (args.full_models or args.out / "full").resolve()
    if args.tiny_only and args.full_only:
        parser.error("--tiny-only and --full-only leave nothing")
    return args


def main() -> int:
    args = parse()
    cases = selected(args)
    if args.list:
        print("\n".join(c.name for c in cases))
        return 0
    if not cases:
        print("parity: no case has such a name; --list shows all", file=sys.stderr)
        return 2
    if not args.reference_only and not args.molar.exists():
        print(f"parity: {args.molar} is missing; build it first (scripts/quickstart)", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    workshop = Workshop(args.out, args.full_models)
    reference = Reference(args, workshop)
    print(HEADER, flush=True)
    rows = []
    for case in cases:
        row = compare(args, workshop, reference, case)
        rows.append(row)
        print(line(row), flush=True)
        write_report(args, rows)
        if row.status == "same" and not args.keep:
            shutil.rmtree(args.out / "molar" / "".join(c if c.isalnum() else "-" for c in case.name), ignore_errors=True)
    bad = [r for r in rows if r.status not in ("same", "reference")]
    worst = max((r.max_difference for r in rows if r.max_difference is not None), default=None)
    print(f"{len(rows)} cases, {len(rows) - len(bad)} agree, largest difference {worst}; report: {args.out / 'report.md'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
