"""Checks the models of an uploaded artifact in a separate process, whose memory and time are bounded.

The trainer itself never imports torch: that would keep hundreds of MB. An ONNX file is a program, so it also has to run
once, within the same bounds.

python -m finetuner.executors.trainer.artifacts.model_check FOLDER
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

from finetuner.contract.environment import without_secrets
from finetuner.exceptions import FinetunerError, InvalidInput
from finetuner.flow import prepared

SECONDS = 300
MEMORY = 12 * 2**30  # bytes; torch and a large CLIP with its ONNX file fit
NICE = 10
REFUSED = 3  # exit code
DOCUMENTS = 4  # of the run of an ONNX file


def check_models(folder: Path) -> None:
    """Check the models of an artifact; see `finetuner.artifacts.sizes`.

    Args:
        folder: the artifact's folder, verified.

    Raises:
        InvalidInput: a size that the files do not hold; or the check takes more than SECONDS or MEMORY.
    """
    try:
        done = prepared.run(__name__, [str(folder)], without_secrets(), SECONDS)
        code, last = done.returncode, (done.stdout.strip().splitlines() or ["nothing printed"])[-1]
    except subprocess.TimeoutExpired:
        code, last = -1, "no end"
    if code == REFUSED:
        raise InvalidInput(last)
    if code != 0:
        raise InvalidInput(
            f"artifact's models must be checked within {SECONDS} s and {MEMORY} bytes of memory. "
            f"Got exit code {code}: {last[:200]}. Upload the zip that save_artifact wrote."
        )


def check_here(folder: Path) -> None:
    """Check the models of an artifact in this process.

    Raises:
        FinetunerError: a size that the files do not hold.
    """
    from PIL import Image

    from finetuner.artifacts.load import load_onnx_artifact
    from finetuner.artifacts.manifest import read_manifest
    from finetuner.artifacts.sizes import check_sizes
    from finetuner.models.clip import TEXT
    from finetuner.onnx.model import INT8_FILE, ONNX_FILE

    check_sizes(folder)
    manifest = read_manifest(folder)
    for tower in manifest.towers:
        for name in (ONNX_FILE, INT8_FILE):
            if f"models/{tower}/{name}" in manifest.files:
                model = load_onnx_artifact(folder, tower, "cpu", int8=name == INT8_FILE)
                if tower == TEXT:
                    model.encode_texts(["a"] * DOCUMENTS)
                else:
                    model.encode_images([Image.new("RGB", (8, 8))] * DOCUMENTS)


def main(folder: Path) -> int:
    """Check within the bounds and print the fault; return the exit code."""
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    try:
        check_here(folder)
    except FinetunerError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
