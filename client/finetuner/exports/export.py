"""Writes an artifact as the folder that another library loads, with a model card."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ..artifacts.load import load_artifact
from ..artifacts.manifest import read_manifest
from ..contract.checks import choice, local_path
from ..exceptions import AlreadyExists, ArtifactNotFound, InvalidInput
from .card import model_card

FORMATS = ("open_clip", "transformers", "sentence-transformers", "timm", "onnx")
OTHERS = "Take to='sentence-transformers' or to='onnx'."
OF_TWO_TOWERS = (
    "VisionTextDualEncoderModel reads the text model's pooler, not the mean of its last layer, and ChineseCLIPModel "
    f"the first token of a BERT beside a plain vision transformer. {OTHERS}"
)
OF_A_FOLDER = f"open_clip looks the text model up by its name on the hub. {OTHERS}"


def export_folder(folder: Path, to: str, target: Path) -> Path:
    """Verify an artifact and write it as `target`, which appears whole or not at all.

    Libraries get the weights in float32. The int8 files of a run with `to_onnx='int8'` go along with 'onnx' alone.

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
        if to == "onnx":
            _copy_int8(folder, model.towers, temporary)
        (temporary / "README.md").write_text(model_card(manifest, model, to), encoding="utf-8")
        temporary.chmod(0o755)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def export_artifact_to(
    opened: Callable[[], AbstractContextManager[Path]],
    to: str,
    directory: str | os.PathLike[str],
    push_to_hub: str | None = None,
    artifact_id: str | None = None,
) -> str:
    """Export an artifact, and send the folder to the hub if that is asked for. What can be is checked first.

    Args:
        opened: gives the artifact's folder. Called once `to`, `directory` and `push_to_hub` are good.
        to: one of FORMATS.
        directory: the new folder.
        push_to_hub: 'OWNER/NAME', or None.
        artifact_id: the one that `opened` must give; None takes any.

    Returns:
        Path of the new folder.

    Raises:
        InvalidInput, AlreadyExists, ArtifactNotFound, CorruptedArtifact: see `export_folder`, `check_hub`.
        FinetunerError: the hub refuses. The folder stays.
    """
    from .hub import check_hub
    from .hub import push_to_hub as push_folder_to_hub

    target = local_path("directory", directory)
    check_target(to, target)  # before anything is fetched
    if push_to_hub is not None:
        check_hub(push_to_hub)
    with opened() as folder:
        if artifact_id is not None and (found := read_manifest(folder).artifact_id) != artifact_id:
            raise ArtifactNotFound(
                f"artifact must be {artifact_id}, from which the model was loaded. Got {found} at its place. Load the "
                f"model again."
            )
        export_folder(folder, to, target)
    if push_to_hub is not None:
        push_folder_to_hub(target, push_to_hub, to)
    return str(target)


def check_target(to: str, target: Path) -> None:
    """Check what can be checked without the artifact.

    Raises:
        InvalidInput: not one of FORMATS.
        AlreadyExists: `target` exists.
    """
    choice("to", to, FORMATS)
    if target.exists():
        raise AlreadyExists(f"directory must not exist yet. Got {target}. Name another, or remove it.")


def _copy_int8(artifact: Path, towers: Sequence[str], folder: Path) -> None:
    """Copy the ONNX files with int8 weights that an artifact holds: no other format has int8 weights of ours."""
    from ..onnx.model import INT8_FILE

    for tower in towers:
        if (file := artifact / "models" / tower / INT8_FILE).is_file():
            shutil.copyfile(file, folder / tower / INT8_FILE)


def _writer(model: Any, to: str) -> Callable[[Any, Path], Any]:
    from ..models.clip import Clip
    from ..models.text.text_towers import IMPORTED_TEXT
    from .chinese_clip import is_chinese_clip, write_chinese_clip

    if to == "onnx":
        from ..onnx.export import export_onnx

        return export_onnx
    if to == "sentence-transformers":
        from .sentence_transformers_folder import write_sentence_transformers

        return write_sentence_transformers
    if isinstance(model, Clip) == (to == "timm"):
        kind, others = ("a CLIP", "open_clip") if isinstance(model, Clip) else ("an image model", "timm")
        raise InvalidInput(f"to={to!r} cannot hold {kind}. Got {model.model_id}. Take to={others!r}.")
    if isinstance(model, Clip) and to == "transformers" and is_chinese_clip(model):
        return write_chinese_clip
    if isinstance(model, Clip) and model.config["text_cfg"].get("hf_model_name") == IMPORTED_TEXT:
        raise InvalidInput(
            f"to={to!r} cannot hold a CLIP whose text model came from a folder. Got {model.model_id}. "
            + (OF_TWO_TOWERS if to == "transformers" else OF_A_FOLDER)
        )
    if to == "open_clip":
        from .open_clip_folder import write_open_clip

        return write_open_clip
    if to == "transformers":
        from .clip_model import write_clip_model
        from .siglip_model import is_siglip, write_siglip_model

        return write_siglip_model if is_siglip(model) else write_clip_model
    from .timm_folder import write_timm

    return write_timm
