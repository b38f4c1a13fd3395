"""The model that a run starts from: a backbone, an artifact by its id, a model of another library, or two towers."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..artifacts.archive import zip_artifact
from ..artifacts.manifest import Manifest, parse_manifest, read_manifest
from ..artifacts.registry import ARTIFACT_ID
from ..contract import wire
from ..exceptions import ArtifactNotFound, InvalidInput
from ..models.rows import ROWS
from ..progress import waiting
from ..transport.connection import Connection
from .library import send_zip
from .session import connection

CONFIGS = ("config.json", "open_clip_config.json")
BEGINS = (".", "/", "~")  # of a path that is never a model's name
HUB = "hf-hub:"


class StartModel:
    """The model that a run starts from. A folder or two towers are read and checked at once, and sent by `push`.

    Args:
        model: `model` of `fit`: name, artifact id, folder or VISION+TEXT.
        artifact: `model_artifact` of `fit`.

    Raises:
        InvalidInput, KeysMismatchError: the folder holds no model, see `imports.clip_model.read_clip` and
            `imports.parts.read_parts`; or an artifact is named twice.
        ArtifactNotFound: no artifact has that id.
        NoSuchModel: an unknown vision tower.
    """

    def __init__(self, model: str | os.PathLike[str], artifact: str | None = None) -> None:
        self._open = ExitStack()
        self._imported: Path | None = None
        self.backbone, self.artifact = str(model), artifact or ""
        imports = _is_imported(model)
        if not imports and not ARTIFACT_ID.fullmatch(self.backbone):
            return
        if artifact:
            raise InvalidInput(
                f"model_artifact must be left out where model is a folder, VISION+TEXT or an artifact. Got "
                f"{artifact!r} and {str(model)!r}. Leave one out."
            )
        if imports:
            self._import(model)
        else:
            self.artifact = self.backbone
            self.backbone = manifest_of(connection(), self.artifact).backbone

    def _import(self, model: str | os.PathLike[str]) -> None:
        workspace = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="finetuner-")))
        try:
            made = _import_model(model, workspace)
        except BaseException:
            self._open.close()
            raise
        assert isinstance(made, Path)
        self._imported, self.artifact, self.backbone = made, made.name, read_manifest(made).backbone

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def push(self, flow: Connection) -> None:
        """Send a folder's model to the Flow, unless it has it."""
        if self._imported is not None:
            push_folder(flow, self._imported)


def import_artifact(model: str | os.PathLike[str], name: str | None = None) -> dict[str, Any]:
    """Make an artifact of a model of another library, and send it to the Flow. `fit(model=ID)` tunes it.

    Folders are read on this machine. Their weights are safetensors: no pickle is opened, and no code of theirs runs.

    Args:
        model: a folder of transformers' CLIPModel, ChineseCLIPModel or SiglipModel (config.json, model.safetensors,
            tokenizer.json), of open_clip (open_clip_config.json, open_clip_model.safetensors) or of timm (config.json,
            model.safetensors). 'hf-hub:OWNER/NAME' for such a folder on the Hugging Face hub, or the name of a row of
            `list_models()` that is fetched from there, such as 'chinese-clip-base'. Or VISION+TEXT: an image model's
            name and the folder of a text model of transformers, such as 'efficientnet_b0+./my-bert', joined by new
            projections.
        name: the artifact's, 1 to 128 letters, digits, '.', '_' or '-'; None takes the model's.

    Returns:
        The artifact's manifest. The same model has the same id: it is sent once.

    Raises:
        InvalidInput: no such model, no weights, a pickle alone, or a tokenizer that does not fit.
        KeysMismatchError: the weights do not fit the config.
        NoSuchModel: an unknown vision tower, or a model that the hub does not give.
    """
    flow = connection()
    with tempfile.TemporaryDirectory(prefix="finetuner-") as workspace:
        made = _import_model(model, Path(workspace), name, lambda artifact: _has(flow, artifact))
        if isinstance(made, Path):
            return push_folder(flow, made)
        return vars(manifest_of(flow, made))


def _import_model(model: str | os.PathLike[str], workspace: Path, *options: Any) -> str | Path:
    try:
        from ..imports.artifact import import_model

        with waiting(f"Reading {model}"):
            return import_model(model, workspace, *options)
    except ModuleNotFoundError as error:
        raise InvalidInput(
            f"a model's folder is read by torch and open_clip. Got no {error.name}. Install them: "
            f"pip install 'open-finetuner[full]'."
        ) from error


def push_folder(flow: Connection, folder: Path) -> dict[str, Any]:
    """Send the folder of an artifact to the Flow, unless it has one of that id; return the manifest."""
    manifest = read_manifest(folder)
    if _has(flow, manifest.artifact_id):
        return vars(manifest_of(flow, manifest.artifact_id))
    with tempfile.TemporaryDirectory(prefix="finetuner-") as name:
        return send_zip(flow, zip_artifact(folder, Path(name) / "artifact.zip", manifest.run_name))


def manifest_of(flow: Connection, artifact: str) -> Manifest:
    """Return the manifest of an artifact of the Flow.

    Raises:
        ArtifactNotFound: no artifact of that id or alias.
    """
    return parse_manifest(flow.call(wire.ARTIFACTS_PULL, artifact=artifact)["manifest"], flow.host)


def _has(flow: Connection, artifact: str) -> bool:
    try:
        manifest_of(flow, artifact)
    except ArtifactNotFound:
        return False
    return True


def _is_imported(model: str | os.PathLike[str]) -> bool:
    """Return whether `model` means a folder, a model of the hub, or VISION+TEXT.

    The name of a backbone never does, unless artifacts alone have its weights.
    """
    if isinstance(model, os.PathLike):
        return True
    if not isinstance(model, str):
        return False
    if (row := next((row for row in ROWS if model in (row.name, *row.aliases)), None)) is not None:
        return row.in_artifacts
    if model.startswith((*BEGINS, HUB)) or "+" in model:
        return True
    return any(os.path.isfile(os.path.join(model, config)) for config in CONFIGS)  # noqa: PTH113, PTH118 (never raises)
