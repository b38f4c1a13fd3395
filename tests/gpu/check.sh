#!/usr/bin/env bash
# Measures training and serving on a machine with a CUDA GPU, in eight minutes: prints one JSON object last.
#   tests/gpu/check.sh --out FOLDER [--seconds 480] [PART...]
# A machine without a package index gets what it lacks from .wheels, which tests/gpu/wheels.sh fills elsewhere.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
if compgen -G '.wheels/*.whl' >/dev/null; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --target "$site" .wheels/*.whl
fi
export PYTHONPATH=$PWD/client:$PWD${site:+:$site}
"$python" -W ignore -m tests.gpu.check "$@"
