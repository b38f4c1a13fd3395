"""The evaluator room: scores an artifact or backbone on a dataset of pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from docarray import DocumentArray

from finetuner.artifacts.registry import LIVE, Models
from finetuner.contract import wire
from finetuner.contract.checks import text
from finetuner.contract.parameters import Parameters
from finetuner.documents.pairs import read_pairs
from finetuner.evaluation.pairs import LIMIT, evaluate_pairs
from finetuner.exceptions import InvalidInput
from finetuner.executors.room.room import Room, control
from finetuner.executors.room.settings import RoomSettings
from finetuner.models.acceleration import prefer_onednn
from finetuner.models.clip import Clip
from finetuner.workspace.datasets import Datasets


@dataclass(frozen=True)
class EvaluatorSettings(RoomSettings):
    """Settings of the evaluator.

    Raises:
        InvalidInput: a value that is not allowed.
    """

    device: str = "cpu"
    """Device by torch's name."""

    def __post_init__(self) -> None:
        super().__post_init__()
        text("device", self.device)


class Evaluator(Room):
    """Scores models on datasets of pairs.

    Args:
        kwargs: the settings, and Jina's own arguments.
    """

    settings: EvaluatorSettings

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._models = Models(self.shared_workspace, device=self.settings.device, capacity=1)
        self._datasets = Datasets(self.shared_workspace)

    @control(wire.EVALUATE, "model", "data", "limit")
    def evaluate(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Return {'model', 'data', 'documents', 'metrics'} of `model`, an artifact id, alias or backbone, on `data`.

        `limit` is the k of the nine metrics, 1 to 1000. Short vectors that the model was trained for are scored too.
        """
        dataset = self._datasets.find(parameters.text("data"))
        limit = parameters.whole("limit", LIMIT, 1, 1000)
        model = self._models.get(parameters.text("model", LIVE))
        prefer_onednn(model.network)
        if not isinstance(model, Clip):
            raise InvalidInput(f"model must be a CLIP to be scored on pairs. Got {model.model_id}, a model of images.")
        pairs = read_pairs(self._datasets.documents(dataset.version))
        metrics = evaluate_pairs(model, pairs, limit=limit, dims=model.short_dims)
        return {"model": model.model_id, "data": dataset.name, "documents": dataset.documents, "metrics": metrics}
