"""One tuned artifact as an executor of any Flow, with the name that it had on Jina's hub."""

from __future__ import annotations

import asyncio
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docarray import DocumentArray

from finetuner.api.hub_executor import executor_connection
from finetuner.api.library import fetch_artifact, get_model
from finetuner.contract import wire
from finetuner.contract.checks import NAME
from finetuner.contract.dimensions import DIMENSIONS
from finetuner.contract.environment import PRIVATE_URIS
from finetuner.contract.wire import mark_error
from finetuner.documents.images import is_text
from finetuner.documents.uris import read_any_host, read_public
from finetuner.exceptions import InvalidDocument, SelectModelRequired
from finetuner.executors.encoder.lane.answer import Answerer
from finetuner.executors.encoder.lane.lane import Lane
from finetuner.executors.encoder.lane.metrics import LaneMetrics
from finetuner.executors.encoder.lane.runner import Runner
from finetuner.executors.encoder.lane.settings import EngineSettings, LaneSettings
from finetuner.executors.finetuner_executor.settings import ExecutorSettings
from finetuner.executors.finetuner_executor.threads import set_threads
from finetuner.executors.room.room import MeasuredExecutor, bound
from finetuner.models.clip import TOWERS

if TYPE_CHECKING:
    from finetuner.inference.local import InferenceModel


class FinetunerExecutor(MeasuredExecutor):
    """Sets `embedding`, (dim,) float32, L2-normalised, and the artifact's id in the `finetuner_artifact` tag.

    Args:
        kwargs: the settings, and Jina's own arguments.

    Raises:
        FinetunerError: a setting that is not allowed, or an artifact that cannot be fetched or loaded.
    """

    settings: ExecutorSettings

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        settings = self.settings
        self.logger.logger.setLevel(settings.logging_level)
        if not settings.is_onnx and set_threads(settings.threads, settings.inter_op_num_threads):
            self.logger.warning("one CPU thread: this process was forked from one that uses torch")
        self._runners = [Runner(model.encoder, model.select_model, EngineSettings()) for model in _models(settings)]
        private_uris = settings.private_uris or os.environ.get(PRIVATE_URIS) == "true"
        metrics = LaneMetrics(self.registry)
        lane_settings = LaneSettings(batch_size=settings.batch_size)
        self._lane = Lane(lane_settings, read_any_host if private_uris else read_public, metrics)
        self._answerer = Answerer(self, self._lane, metrics)

    def close(self) -> None:
        """Stop the threads."""
        self._lane.close()

    @bound(wire.ENCODE)
    async def encode(self, docs: DocumentArray, parameters: dict[str, Any] | None = None, **_: Any) -> None:
        """Encode every document, to vectors of the size `dimensions` if that is given.

        A document that no tower can encode gets a `finetuner_error` tag. Parameters of other executors are not read.
        """
        dimensions = (parameters or {}).get(DIMENSIONS)
        await asyncio.gather(*(self._encode(runner, docs, dimensions) for runner in self._runners))

    async def _encode(self, runner: Runner, documents: DocumentArray, dimensions: object) -> None:
        """Encode the documents of a model's kind. A single model refuses all others."""

        async def find_runner() -> Runner:
            return runner

        mine = [document for document in documents if is_text(document) == runner.reads_texts]
        if len(self._runners) == 1 and len(mine) < len(documents):
            kind = "a text" if runner.reads_texts else "an image"
            others = [document for document in documents if is_text(document) != runner.reads_texts]
            error = InvalidDocument(f"document must hold {kind} for {runner.tower}. Got none. Leave it out.")
            for document in others:
                mark_error(document, error)
            self.count_documents(wire.ENCODE, 0, len(others))
        if mine:
            await self._answerer.encode(wire.ENCODE, mine, find_runner, dimensions=dimensions)


def _models(settings: ExecutorSettings) -> list[InferenceModel]:
    """Return the models of the artifact, fetched from the Flow unless `artifact` is a path.

    Raises:
        ArtifactNotFound, FlowUnreachable, SelectModelRequired
    """
    artifact = str(settings.artifact)
    if Path(artifact).exists() or not NAME.fullmatch(artifact) or artifact.endswith(".zip"):
        return _selected(artifact, settings)
    with tempfile.TemporaryDirectory(prefix="finetuner-") as folder:
        fetch_artifact(executor_connection(settings.host, settings.token), artifact, Path(folder))
        return _selected(folder, settings)


def _selected(artifact: str, settings: ExecutorSettings) -> list[InferenceModel]:
    """Return the selected model, the artifact's only model, or both towers of a CLIP.

    Raises:
        SelectModelRequired: a tower that the artifact does not hold.
    """
    load = partial(
        get_model,
        artifact,
        batch_size=settings.batch_size,
        device=settings.device,
        logging_level=settings.logging_level,
        is_onnx=settings.is_onnx,
    )
    try:
        return [load(select_model=settings.select_model)]
    except SelectModelRequired:
        if settings.select_model is not None:
            raise
    return [load(select_model=tower) for tower in TOWERS]
