"""Loads a published model: its files are verified first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..models.model_kinds import Model
    from ..onnx.model import OnnxModel
    from ..onnx.session import SessionOptions
from .manifest import (
    verify_artifact,
)


def load_artifact(folder: Path, device: str = "cpu", towers: Sequence[str] | None = None) -> Model:
    """Verify an artifact and load it.

    Args:
        folder: of the artifact.
        device: torch's name of a device.
        towers: which models; all by default.

    Raises:
        ArtifactNotFound, CorruptedArtifact, KeysMismatchError, InvalidInput
    """
    from ..models.model_kinds import load_model

    manifest = verify_artifact(folder)
    return load_model(folder / "models", manifest.artifact_id, device, towers or manifest.towers)


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
        folder: of the artifact.
        tower: one of the manifest's.
        device, int8, session_options: see `onnx_model.load_onnx`.

    Raises:
        ArtifactNotFound, CorruptedArtifact, CorruptedONNXModel, InvalidInput
    """
    from ..onnx import model as onnx_model

    manifest = verify_artifact(folder)
    return onnx_model.load_onnx(
        folder / "models",
        tower,
        manifest.artifact_id,
        manifest.output_dim,
        device,
        int8=int8,
        session_options=session_options,
    )
