"""Writes an artifact as the folder that another library loads, with a model card."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..artifacts.load import load_artifact
from ..artifacts.manifest import read_manifest
from ..contract.checks import choice
from ..exceptions import AlreadyExists, InvalidInput
from .card import model_card

FORMATS = ("open_clip", "transformers", "sentence-transformers", "timm", "onnx")


def export_folder(folder: Path, to: str, target: Path) -> Path:
    """Verify an artifact and write it as `target`, which appears whole or not at all.

    Args:
        folder: the artifact's folder.
        to: one of FORMATS.
        target: must not exist.

    Returns:
        `target`

    Raises:
        AlreadyExists: `target` exists.
        InvalidInput: another format, or one that cannot hold the model.
        ArtifactNotFound, CorruptedArtifact
    """
    check_target(to, target)
    manifest = read_manifest(folder)
    model = load_artifact(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        _writer(model, to)(model, temporary)
        (temporary / "README.md").write_text(model_card(manifest, model, to), encoding="utf-8")
        temporary.chmod(0o755)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def check_target(to: str, target: Path) -> None:
    """Check what can be checked without the artifact.

    Raises:
        InvalidInput: not one of FORMATS.
        AlreadyExists: `target` exists.
    """
    choice("to", to, FORMATS)
    if target.exists():
        raise AlreadyExists(f"directory must not exist yet. Got {target}. Name another, or remove it.")


def _writer(model: Any, to: str) -> Callable[[Any, Path], Any]:
    from ..models.clip import Clip
    from ..models.text_towers import IMPORTED_TEXT

    if to == "onnx":
        from ..onnx.export import export_onnx

        return export_onnx
    if isinstance(model, Clip) == (to == "timm"):
        kind, others = ("a CLIP", "open_clip") if isinstance(model, Clip) else ("an image model", "timm")
        raise InvalidInput(f"to={to!r} cannot hold {kind}. Got {model.model_id}. Take to={others!r}.")
    if isinstance(model, Clip) and model.config["text_cfg"].get("hf_model_name") == IMPORTED_TEXT:
        raise InvalidInput(
            f"to={to!r} cannot hold a CLIP from two towers. Got {model.model_id}. Of transformers, "
            f"VisionTextDualEncoderModel reads the text model's pooler, not the mean of its last layer; open_clip "
            f"looks the text model up by its name on the hub. Take to='onnx'."
        )
    if to == "open_clip":
        from .open_clip_folder import write_open_clip

        return write_open_clip
    if to == "transformers":
        from .clip_model import write_clip_model
        from .siglip_model import is_siglip, write_siglip_model

        return write_siglip_model if is_siglip(model) else write_clip_model
    if to == "sentence-transformers":
        from .sentence_transformers_folder import write_sentence_transformers

        return write_sentence_transformers
    from .timm_folder import write_timm

    return write_timm
