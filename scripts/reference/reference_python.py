"""Finds or makes the Python environment of scripts/parity and its relatives; as a program, prints its interpreter.

Standard library only.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import venv

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent.parent
FOLDER = REPOSITORY / ".venv-parity"
# The versions that the figures in docs/parity.md were measured with.
TORCH = "2.13.0"
PACKAGES = ("diffusers==0.42.1", "transformers==5.23.0", "peft==0.21.2", "accelerate", "safetensors", "pillow", "numpy",
            "regex")
# Only its vocabulary file is used; its own dependencies are large.
WITHOUT_DEPENDENCIES = ("open_clip_torch==3.3.0",)
PROBE = ("import importlib.util as u, sys; "
         "sys.exit(any(u.find_spec(m) is None for m in "
         "('torch', 'diffusers', 'transformers', 'peft', 'accelerate', 'PIL', 'regex', 'open_clip')))")


def usable(python: str | os.PathLike) -> bool:
    try:
        return subprocess.run([str(python), "-c", PROBE], capture_output=True).returncode == 0
    except OSError:
        return False


def make_environment() -> pathlib.Path:
    python = FOLDER / "bin" / "python"
    if usable(python):
        return python
    print(f"making {FOLDER} (once)", file=sys.stderr)
    venv.create(FOLDER, with_pip=True)
    torch_site = sorted((REPOSITORY / ".venv").glob("lib/python3*/site-packages/torch"))
    own_site = next(FOLDER.glob("lib/python3*/site-packages"))
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if torch_site and torch_site[0].parent.parent.name == own_site.parent.name:
        (own_site / "quickstart-torch.pth").write_text(str(torch_site[0].parent) + "\n")
    # The CPU build where the package index has it under its own name, else the plain one.
    elif subprocess.run([*pip, f"torch=={TORCH}+cpu"], capture_output=True).returncode:
        subprocess.run([*pip, f"torch=={TORCH}"], check=True, stdout=sys.stderr)
    subprocess.run([*pip, *PACKAGES], check=True, stdout=sys.stderr)
    subprocess.run([*pip, "--no-deps", *WITHOUT_DEPENDENCIES], check=True, stdout=sys.stderr)
    return python


def asked_for(arguments: list[str]) -> str | None:
    for i, word in enumerate(arguments):
        if word == "--python" and i + 1 < len(arguments):
            return arguments[i + 1]
        if word.startswith("--python="):
            return word.split("=", 1)[1]
    return None


def find() -> str | pathlib.Path:
    return sys.executable if usable(sys.executable) else make_environment()


def run(program: str, arguments: list[str]) -> int:
    """Runs scripts/reference/<program> with an interpreter that has the packages."""
    python = asked_for(arguments)
    if python is not None and not usable(python):
        print(f"{python} lacks one of torch, diffusers, transformers, peft, accelerate, pillow, regex, open_clip_torch",
              file=sys.stderr)
        return 2
    path = pathlib.Path(__file__).resolve().parent / program
    return subprocess.run([str(python or find()), str(path), *arguments]).returncode


if __name__ == "__main__":
    print(find())
