"""Holds every C++ file of ours to .clang-format: check_format.py CLANG_FORMAT ROOT. Mend: clang-format -i FILE."""

import pathlib
import subprocess
import sys

FOLDERS = ("include", "src", "tests", "cmake")


def main(clang_format: str, root: pathlib.Path) -> int:
    files = sorted(p for top in FOLDERS for p in (root / top).rglob("*") if p.suffix in (".h", ".cpp"))
    run = subprocess.run([clang_format, "--dry-run", "--Werror", "--ferror-limit=1", *map(str, files)],
                         capture_output=True, text=True)
    print(run.stderr + f"{len(files)} files read")
    return run.returncode if files else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], pathlib.Path(sys.argv[2])))
