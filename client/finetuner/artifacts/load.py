"""Loads the model of an artifact after verifying its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .manifest import verify_artifact

if TYPE_CHECKING:
    from ..models.model_kinds import Model
    from ..onnx.model import OnnxModel
    from ..onnx.session import SessionOptions


def load_artifact(folder: Path, device: str = "cpu", towers: Sequence[str] | None = None) -> Model:
    """Verify an artifact and load its model with torch.

    Args:
        folder: the artifact's folder.
        device: a device name of torch.
        towers: names of the towers to load; None loads all.

    Raises:
        ArtifactNotFound, CorruptedArtifact, KeysMismatchError, InvalidInput
    """
    from ..models.model_kinds import load_model

    manifest = verify_artifact(folder)
    model = load_model(folder / "models", manifest.artifact_id, device, towers or manifest.towers)
    model.short_dims = manifest.short_dims
    return model


def load_onnx_artifact(
    folder: Path,
    tower: str,
    device: str | None = None,
    *,
    int8: bool = False,
    session_options: SessionOptions | None = None,
) -> OnnxModel:
    """Verify an artifact and load one tower from its ONNX file.

    Args:
        folder: the artifact's folder.
        tower: one of the manifest's towers.
        device, int8, session_options: see `onnx.model.load_onnx`.

    Raises:
        ArtifactNotFound, CorruptedArtifact, CorruptedONNXModel, InvalidInput
    """
    from ..onnx.model import load_onnx

    manifest = verify_artifact(folder)
    model = load_onnx(
        folder / "models",
        tower,
        manifest.artifact_id,
        manifest.output_dim,
        device,
        int8=int8,
        session_options=session_options,
    )
    model.short_dims = manifest.short_dims
    return model
