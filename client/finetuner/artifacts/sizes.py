"""Compares the sizes that an artifact's files state with what they hold, before any of it is loaded."""

from __future__ import annotations

from pathlib import Path

from ..exceptions import CorruptedMetadata
from .manifest import read_manifest

TUNED = "ends/tuned"  # WiSE-FT's; see `manifest`


def check_sizes(folder: Path) -> None:
    """Check the models of an artifact: networks, tokenizer, ONNX files, embedding size.

    Args:
        folder: the artifact's folder, verified.

    Raises:
        CorruptedArtifact, KeysMismatchError: see `check_model` and `check_onnx`.
        CorruptedMetadata: the manifest states another embedding size.
    """
    from ..models.model_kinds import check_model
    from ..onnx.file_check import check_onnx

    manifest = read_manifest(folder)
    for models in filter(Path.is_dir, (folder / "models", folder / TUNED)):
        if (dim := check_model(models)) != manifest.output_dim:
            raise CorruptedMetadata(f"output_dim must be {dim}, as in {models}. Got {manifest.output_dim}.")
    for name in manifest.files:
        if name.endswith(".onnx"):
            check_onnx(folder / name)
