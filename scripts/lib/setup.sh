# Shared by scripts/quickstart and scripts/test: everything that a fresh clone needs. Sourced, not run.
# Each step looks first and does only what is missing, so a second run takes seconds.
#
# Environment: MOLAR_TORCH=cpu|cuda   which libtorch to install into .venv (default cpu)
#              CMAKE_PREFIX_PATH      an existing libtorch in it is used instead

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
TORCH_VERSION=2.13.0
OPEN_CLIP_VERSION=3.3.0

PACKAGES=(g++ cmake ninja-build ccache git python3 python3-venv
          libcli11-dev nlohmann-json3-dev libspdlog-dev libfmt-dev libgtest-dev libpng-dev libjpeg-dev
          libutf8proc-dev libcsv-dev libssl-dev zlib1g-dev libcurl4-openssl-dev)

say() { printf '== %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

is_installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# install_packages NAME...: the Debian packages that are missing.
install_packages() {
  if ! command -v dpkg-query >/dev/null; then
    say "no dpkg here: the equivalents of these packages must be installed: $*"
    return
  fi
  local missing=() package as_root=()
  for package in "$@"; do
    # A python3 from elsewhere serves as well as Debian's.
    case $package in python3 | python3-venv) python3 -c 'import ensurepip, venv' 2>/dev/null && continue ;; esac
    is_installed "$package" || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "as root: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing ${missing[*]}"
  "${as_root[@]}" apt-get update -q </dev/null ||
    fail "apt-get update failed; wanted, as root: apt-get install ${missing[*]}"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" \
    </dev/null || fail "apt-get failed; wanted, as root: apt-get install ${missing[*]}"
}

# The libtorch that CMAKE_PREFIX_PATH names, if any.
existing_libtorch() {
  local prefix
  local IFS=:
  for prefix in ${CMAKE_PREFIX_PATH:-}; do
    if [ -f "$prefix/include/torch/headeronly/version.h" ]; then  # as cmake/FindLibtorch.cmake
      printf '%s\n' "$prefix"
      return
    fi
  done
}

venv_has_torch() {
  "$ROOT/.venv/bin/python" - "$TORCH_VERSION" "$1" 2>/dev/null <<'PYTHON'
import importlib.metadata, sys
version, _, local = importlib.metadata.version("torch").partition("+")
# The CPU build carries "+cpu"; the one without a label is the CUDA build and computes on the CPU as well.
sys.exit(version != sys.argv[1] or (sys.argv[2] == "cuda" and local == "cpu"))
PYTHON
}

make_venv() {
  [ -x "$ROOT/.venv/bin/python" ] && return
  say "making .venv"
  python3 -m venv "$ROOT/.venv"
}

install_libtorch() {
  local wanted=${MOLAR_TORCH:-cpu} existing
  existing=$(existing_libtorch)
  if [ -n "$existing" ]; then
    say "using the libtorch in $existing"
    return
  fi
  [ "$wanted" = cpu ] || [ "$wanted" = cuda ] || fail "MOLAR_TORCH=$wanted: wanted cpu or cuda"
  make_venv
  venv_has_torch "$wanted" && return
  local pip=("$ROOT/.venv/bin/python" -m pip install -q --disable-pip-version-check)
  if [ "$wanted" = cuda ]; then
    say "installing torch $TORCH_VERSION with CUDA into .venv (about 3 GB)"
    "${pip[@]}" "torch===$TORCH_VERSION" </dev/null
  else
    say "installing torch $TORCH_VERSION into .venv"
    # Not every package index has the CPU build under its own name; the plain one runs on the CPU too.
    "${pip[@]}" "torch==$TORCH_VERSION+cpu" </dev/null 2>/dev/null || {
      say "no CPU-only build in the configured index: installing the plain one (may be about 3 GB)"
      "${pip[@]}" "torch==$TORCH_VERSION" </dev/null
    }
  fi
  venv_has_torch "$wanted" || fail "pip installed another torch than $TORCH_VERSION ($wanted) into .venv"
}

# The vocabulary that single-file checkpoints leave out; needed by nothing else, so its absence is no failure.
install_vocabulary() {
  local target=$ROOT/models/clip/bpe_simple_vocab_16e6.txt.gz folder
  [ -f "$target" ] && return
  say "fetching CLIP's vocabulary (for single-file checkpoints) from the package open_clip_torch"
  make_venv
  folder=$(mktemp -d)
  if "$ROOT/.venv/bin/python" -m pip download -q --disable-pip-version-check --no-deps -d "$folder" \
    "open_clip_torch==$OPEN_CLIP_VERSION" </dev/null; then
    mkdir -p "${target%/*}"
    python3 - "$folder" "$target" <<'PYTHON'
import os, pathlib, sys, zipfile
wheel = next(pathlib.Path(sys.argv[1]).glob("*.whl"))
part = pathlib.Path(sys.argv[2] + ".part")
part.write_bytes(zipfile.ZipFile(wheel).read("open_clip/bpe_simple_vocab_16e6.txt.gz"))
os.replace(part, sys.argv[2])
PYTHON
  else
    say "warning: not fetched; single-file checkpoints will need --tokenizer"
  fi
  rm -rf "$folder"
}

# Jobs that fit: a compiler run over libtorch's headers takes up to 2 GB.
build_jobs() {
  local cores memory_gb
  cores=$(nproc)
  memory_gb=$(awk '/MemAvailable/ {print int($2 / 2097152)}' /proc/meminfo)
  [ "$memory_gb" -ge 1 ] || memory_gb=1
  echo $((cores < memory_gb ? cores : memory_gb))
}

# build PRESET TARGET...
build() {
  local preset=$1
  shift
  say "building ($preset)"
  # ccache then finds what another clone of this commit compiled.
  (cd "$ROOT" && export CCACHE_BASEDIR=$ROOT CCACHE_NOHASHDIR=1 && cmake --preset "$preset" --log-level=WARNING &&
    cmake --build --preset "$preset" -j "$(build_jobs)" --target "$@")
}

set_up() {
  install_packages "${PACKAGES[@]}" "$@"
  install_libtorch
  install_vocabulary
}
