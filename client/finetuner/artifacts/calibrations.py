"""The calibration in an artifact: the file that turns similarities into probabilities, see `evaluation.calibration`."""

from __future__ import annotations

import hashlib

from ..evaluation.calibration import MAX_BYTES, Calibration, parse_calibration
from ..exceptions import CorruptedArtifact
from ..workspace.folder import Workspace
from .manifest import read_manifest
from .registry import ARTIFACT_ID

CALIBRATION_FILE = "calibration.json"


def load_calibration(workspace: Workspace, model_id: str) -> Calibration | None:
    """Return the calibration of an artifact. None for a backbone, and for an artifact without one.

    Args:
        workspace: with the artifacts.
        model_id: artifact id or backbone name.

    Raises:
        CorruptedArtifact: the file is damaged, too large, or of another model.
    """
    folder = workspace.artifacts / model_id
    if not ARTIFACT_ID.fullmatch(model_id) or not folder.is_dir():
        return None
    manifest = read_manifest(folder)
    entry = manifest.files.get(CALIBRATION_FILE)
    if entry is None:
        return None
    try:
        with open(folder / CALIBRATION_FILE, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise CorruptedArtifact(f"artifact {model_id} must hold {CALIBRATION_FILE}. It does not: {error}") from None
    if len(content) > MAX_BYTES or hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise CorruptedArtifact(
            f"{CALIBRATION_FILE} of artifact {model_id} must have at most {MAX_BYTES} bytes and the SHA-256 of its "
            "manifest. It has not. Fetch the artifact again."
        )
    if manifest.artifact_id != model_id:
        raise CorruptedArtifact(f"artifact {model_id} must have its own manifest. Got that of {manifest.artifact_id}.")
    return parse_calibration(content, model_id, manifest.output_dim)
