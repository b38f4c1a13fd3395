"""Loads models by reference: an artifact id, an alias such as `live`, or a backbone name. The last few stay loaded."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from ..exceptions import ArtifactNotFound, FinetunerServerError, NoSuchModel
from ..models.backbones import find_backbone, list_models, row_of
from ..models.clip import TOWERS, VISION
from ..models.model_kinds import Model, load_row, select_tower, towers_of
from ..models.weights import shared_folder
from ..workspace.folder import Workspace
from .load import load_artifact, load_onnx_artifact
from .manifest import read_manifest

if TYPE_CHECKING:
    from ..onnx.model import OnnxModel
    from ..onnx.session import SessionOptions

LIVE = "live"
# The alias of the model that searches use. It follows `live` once every document has been encoded again; only the
# indexer sets it.
SEARCHED = "search"
ARTIFACT_ID = re.compile(r"[0-9a-f]{24}")


class Models:
    """Loads models from a workspace and keeps the most recently used ones.

    Args:
        workspace: the folder with artifacts and aliases.
        default: the backbone that `live` means until an artifact is promoted.
        device: a device name of torch.
        towers: the towers of a CLIP to load. 'clip-vision' also means the only tower of an image model.
        capacity: number of models that stay loaded.
    """

    def __init__(
        self,
        workspace: Workspace,
        *,
        default: str = "clip-mini",
        device: str = "cpu",
        towers: Sequence[str] = TOWERS,
        capacity: int = 2,
    ) -> None:
        self._workspace = workspace
        self._default = find_backbone(default).name
        self._device = device
        self._towers = tuple(towers)
        self._capacity = max(capacity, 1)
        self._loaded: OrderedDict[str, Model] = OrderedDict()
        self._lock = Lock()

    def resolve(self, reference: str = LIVE) -> str:
        """Return the artifact id or backbone name that a reference currently means.

        Raises:
            ArtifactNotFound: the reference is no artifact id, alias or backbone with weights of its own.
            FinetunerServerError: the file of another alias than `live` is damaged.
        """
        artifact_id = self._target(reference)
        if artifact_id is not None:
            return artifact_id
        if reference == SEARCHED:  # the indexer has not set the alias yet
            return self.resolve(LIVE)
        if reference == LIVE:
            return self._default
        if ARTIFACT_ID.fullmatch(reference):
            if not (self._workspace.artifacts / reference).is_dir():
                raise ArtifactNotFound(f"artifact must be published. Got {reference}. See /artifacts/list.")
            return reference
        row = None
        with suppress(NoSuchModel):
            row = row_of(reference)
        if row is not None and row.in_artifacts:
            source = f"hf-hub:{row.source}" if row.source else "its folder"
            raise ArtifactNotFound(
                f"model must have weights of its own. Got {row.name!r}, of which only artifacts have weights. Import "
                f"{source} and take the artifact's id."
            )
        if row is not None:
            return row.name
        aliases = ", ".join(name for name, _ in self._workspace.aliases.all()) or "none"
        raise ArtifactNotFound(
            f"model must be an artifact id (24 hex characters), an alias ({aliases}) or a backbone "
            f"({', '.join(list_models())}, ARCH::TAG). Got {reference!r}."
        )

    def _target(self, reference: str) -> str | None:
        """Return the artifact of an alias, or None without one.

        A damaged `live` means what searches use. Without searches it counts as not set, as a damaged `search` does.
        """
        try:
            return self._workspace.artifact_of(reference)
        except FinetunerServerError:
            if reference == LIVE:
                return self._target(SEARCHED)
            if reference == SEARCHED:
                return None
            raise

    def get(self, reference: str = LIVE) -> Model:
        """Return the model that a reference currently means; load it if it is not in memory.

        Raises:
            ArtifactNotFound, CorruptedArtifact, KeysMismatchError, NoSuchModel
        """
        model_id = self.resolve(reference)
        with self._lock:
            if model_id not in self._loaded:
                self._loaded[model_id] = self.load(model_id)
                while len(self._loaded) > self._capacity:
                    self._loaded.popitem(last=False)
            self._loaded.move_to_end(model_id)
            return self._loaded[model_id]

    def load(self, model_id: str) -> Model:
        """Load the model of an artifact id or backbone name anew.

        Raises:
            CorruptedArtifact, KeysMismatchError, NoSuchModel
        """
        if ARTIFACT_ID.fullmatch(model_id):
            return load_artifact(self._workspace.artifacts / model_id, self._device, self._towers)
        return load_row(find_backbone(model_id), self._device, weights_folder(self._workspace))

    def load_onnx(
        self, model_id: str, *, int8: bool = False, session_options: SessionOptions | None = None
    ) -> OnnxModel:
        """Load a model's tower for ONNX Runtime: from the artifact's ONNX file, or exported from the backbone.

        Args:
            model_id: an artifact id or backbone name.
            int8: use int8 weights.
            session_options: see `onnx.session.open_session`.

        Raises:
            ArtifactNotFound: the artifact does not exist or has no such ONNX file.
            CorruptedArtifact, KeysMismatchError, NoSuchModel
        """
        if ARTIFACT_ID.fullmatch(model_id):
            folder = self._workspace.artifacts / model_id
            tower = self._tower(read_manifest(folder).towers)
            return load_onnx_artifact(folder, tower, self._device, int8=int8, session_options=session_options)
        from ..onnx.export import as_onnx

        row = find_backbone(model_id)
        model = load_row(row, "cpu", weights_folder(self._workspace))
        tower = self._tower(towers_of(row))
        return as_onnx(model, tower, self._device, int8=int8, session_options=session_options)

    def _tower(self, towers: Sequence[str]) -> str:
        """Return the model's tower that this registry serves; an image model has one, its vision tower."""
        if len(towers) == 1 and self._towers[0] == VISION:
            return towers[0]
        return select_tower(self._towers[0], towers, "this room")

    @property
    def loaded(self) -> list[str]:
        """Ids of the models in memory, least recently used first."""
        return list(self._loaded)


def weights_folder(workspace: Workspace) -> Path:
    """Return the only folder from which a server reads weights: $FINETUNER_WEIGHTS, or the workspace's `weights`."""
    return shared_folder() or workspace.root / "weights"
