"""Holds the layers of DESIGN to their order by reading every #include "molar/<layer>/...".

A layer includes itself and what stands to its right:
    cli -> pipeline, training, evaluation -> adapters -> models, schedulers -> io -> core
An edge that is not in ALLOWED fails the test `layers`; adding one is a decision, say why in its commit.
"""

import pathlib
import re
import sys

ALLOWED = {
    "core": set(),
    "io": {"core"},
    "schedulers": {"io", "core"},
    "models": {"io", "core"},
    "adapters": {"models", "schedulers", "io", "core"},
    "pipeline": {"adapters", "models", "schedulers", "io", "core"},
    "training": {"adapters", "models", "schedulers", "io", "core"},
    "evaluation": {"adapters", "models", "schedulers", "io", "core"},
    "cli": {"pipeline", "training", "evaluation", "adapters", "models", "schedulers", "io", "core"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]molar/([a-z_]+)/', re.MULTILINE)
TORCH = re.compile(r'^\s*#\s*include\s*<torch/', re.MULTILINE)


def main(root: pathlib.Path) -> int:
    problems, files = [], 0
    for top in ("include/molar", "src"):
        for path in sorted((root / top).rglob("*")):
            if path.suffix not in (".h", ".cpp"):
                continue
            files += 1
            relative = path.relative_to(root / top)
            layer = relative.parts[0]
            text = path.read_text()
            if layer not in ALLOWED:
                problems.append(f"{path}: '{layer}' is no layer")
                continue
            for used in INCLUDE.findall(text):
                if used != layer and used not in ALLOWED[layer]:
                    problems.append(f"{path}: {layer} may not include {used}")
            if layer == "cli" and TORCH.search(text):
                problems.append(f"{path}: cli includes no torch")
    print("\n".join(problems) or f"{files} files keep the layers")
    if files == 0:
        print("no source files found: the test would pass without reading anything")
        return 1
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
