#!/usr/bin/env bash
# Gathers in .wheels what tests/gpu/check.sh needs on a machine that has PyTorch, transformers and their needs only.
#   tests/gpu/wheels.sh [PYTHON_VERSION]   # of that machine, 3.12 by default
# Versions are those of requirements-dev.lock. Prints each wheel and their size.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=${1:-3.12}
pip=("${PYTHON:-python3}" -m pip)
packages=(docarray ecdsa ftfy importlib-metadata jina-hubble-sdk open-clip-torch platformdirs pyasn1 python-jose
  pytorch-metric-learning rsa timm wcwidth)
rm -rf .wheels
for package in "${packages[@]}"; do
  pinned=$(grep -oE "^${package}==[^ ]+" requirements-dev.lock)
  "${pip[@]}" download --quiet --no-deps --only-binary=:all: --python-version "$version" --dest .wheels \
    --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 "$pinned" 2>/dev/null ||
    "${pip[@]}" wheel --quiet --no-deps --wheel-dir .wheels "$pinned"  # has no wheel: pure Python, built here
done
ls .wheels
du -sh .wheels
