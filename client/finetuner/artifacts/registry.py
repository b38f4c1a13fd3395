"""Models by reference: an artifact's id, an alias such as `live`, or a backbone's name; the last few stay loaded."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from ..exceptions import ArtifactNotFound, NoSuchModel
from ..models.backbones import find_backbone, list_models
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
# What `live` means for searches: it follows once every document has been encoded again. Only the indexer sets it.
SEARCHED = "search"
ARTIFACT_ID = re.compile(r"[0-9a-f]{24}")


class Models:
    """Loads models from a workspace and keeps the most recently used ones.

    Args:
        workspace: with artifacts and aliases.
        default: the backbone behind `live` until something is promoted.
        device: torch's name of a device.
        towers: which of a CLIP's models are loaded; 'clip-vision' means the only one of a model of images, too.
        capacity: how many stay loaded.
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
        """Return the artifact id or backbone name that a reference means now.

        Raises:
            ArtifactNotFound: none of the three.
        """
        artifact_id = self._workspace.artifact_of(reference)
        if artifact_id is not None:
            return artifact_id
        if reference == SEARCHED:  # nothing has been indexed for `live`
            return self.resolve(LIVE)
        if reference == LIVE:
            return self._default
        if ARTIFACT_ID.fullmatch(reference):
            if not (self._workspace.artifacts / reference).is_dir():
                raise ArtifactNotFound(f"artifact must be published. Got {reference}. See /artifacts/list.")
            return reference
        try:
            return find_backbone(reference).name
        except NoSuchModel as error:
            aliases = ", ".join(name for name, _ in self._workspace.aliases.all()) or "none"
            raise ArtifactNotFound(
                f"model must be an artifact id (24 hex characters), an alias ({aliases}) or a backbone "
                f"({', '.join(list_models())}, ARCH::TAG). Got {reference!r}."
            ) from error

    def get(self, reference: str = LIVE) -> Model:
        """Return the model that a reference means now, loaded.

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
        """Return the model of an artifact id or backbone name, loaded afresh.

        Raises:
            CorruptedArtifact, KeysMismatchError, NoSuchModel
        """
        if ARTIFACT_ID.fullmatch(model_id):
            return load_artifact(self._workspace.artifacts / model_id, self._device, self._towers)
        return load_row(find_backbone(model_id), self._device, weights_folder(self._workspace))

    def load_onnx(
        self, model_id: str, *, int8: bool = False, session_options: SessionOptions | None = None
    ) -> OnnxModel:
        """Return its first tower, run by ONNX Runtime: an artifact's own file, or a backbone exported on the way.

        Args:
            model_id: as above.
            int8: with int8 weights.
            session_options: see `onnx_session.open_session`.

        Raises:
            ArtifactNotFound: an artifact without such ONNX files.
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
        """Return which of a model's towers is meant; the only one of a model of images is its vision tower."""
        if len(towers) == 1 and self._towers[0] == VISION:
            return towers[0]
        return select_tower(self._towers[0], towers, "this room")

    @property
    def loaded(self) -> list[str]:
        """Ids of the models in memory, least recently used first."""
        return list(self._loaded)


def weights_folder(workspace: Workspace) -> Path:
    """The only folder from which a server reads weights: $FINETUNER_WEIGHTS, or the workspace's own."""
    return shared_folder() or workspace.root / "weights"
