"""One tuned artifact as an executor of any Flow; under this name it stood on Jina's hub."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docarray import DocumentArray

from executors.encoder.lane.answer import Answerer
from executors.encoder.lane.lane import Lane
from executors.encoder.lane.metrics import LaneMetrics
from executors.encoder.lane.runner import Runner
from executors.encoder.lane.settings import EngineSettings, LaneSettings
from executors.finetuner_executor.threads import set_threads
from executors.room.room import MeasuredExecutor, bound
from finetuner.api.hub_executor import flow_of
from finetuner.api.library import get_model
from finetuner.api.run import fetch_artifact
from finetuner.contract import wire
from finetuner.contract.checks import NAME
from finetuner.contract.environment import PRIVATE_URIS
from finetuner.contract.wire import mark_error
from finetuner.documents.images import is_text
from finetuner.documents.uris import read_any_host, read_public
from finetuner.exceptions import InvalidDocument, InvalidInput, SelectModelRequired
from finetuner.models.clip import TOWERS

if TYPE_CHECKING:
    from finetuner.inference.local import InferenceModel

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class FinetunerExecutor(MeasuredExecutor):
    """Documents -> embeddings, (dim,) float32, L2-normalised, and the artifact's id in the `finetuner_artifact` tag.

    Args:
        artifact: an artifact id or alias of the Flow at `host`, or a folder or zip on this machine.
        token: of the Flow; None takes $FINETUNER_TOKEN or $JINA_AUTH_TOKEN.
        host: of the Flow; None takes the one that `finetuner.login` connected the starting process to, else
            $FINETUNER_HOST.
        batch_size: documents a forward pass.
        select_model: 'clip-text' or 'clip-vision'. None takes both towers of a CLIP: texts go to the one, images to
            the other.
        device: torch's name of a device.
        is_onnx: run the artifact's ONNX models.
        omp_num_threads: CPU threads of one operation; None leaves it to torch.
        intra_op_num_threads: the same, by torch's own name.
        inter_op_num_threads: operations at a time; None leaves it to torch.
        logging_level: of this executor's log, one of `LEVELS`.
        private_uris: whether images may be fetched from private addresses, too;
            $FINETUNER_PRIVATE_URIS=true allows it as well.
        kwargs: of `MeasuredExecutor`.

    Raises:
        FinetunerError: what cannot be had or used, when the Flow starts.
    """

    def __init__(
        self,
        artifact: str | None = None,
        token: str | None = None,
        host: str | None = None,
        batch_size: int = 32,
        select_model: str | None = None,
        device: str = "cpu",
        is_onnx: bool = False,
        omp_num_threads: int | None = None,
        intra_op_num_threads: int | None = None,
        inter_op_num_threads: int | None = None,
        logging_level: str = "WARNING",
        private_uris: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not artifact:
            raise InvalidInput("artifact must be an artifact id, an alias, a folder or a zip. Got none. Set uses_with.")
        lane_settings = LaneSettings(batch_size=batch_size)
        if logging_level not in LEVELS:
            raise InvalidInput(f"logging_level must be one of {', '.join(LEVELS)}. Got {logging_level!r}.")
        self.logger.logger.setLevel(logging_level)
        threads = {"omp": omp_num_threads, "intra_op": intra_op_num_threads, "inter_op": inter_op_num_threads}
        if note := set_threads(**threads, is_onnx=is_onnx):
            self.logger.warning(note)
        private_uris = private_uris or os.environ.get(PRIVATE_URIS) == "true"
        read_uri = read_any_host if private_uris else read_public
        options = {"batch_size": batch_size, "device": device, "logging_level": logging_level, "is_onnx": is_onnx}
        with tempfile.TemporaryDirectory(prefix="finetuner-") as folder:
            if not Path(artifact).exists() and NAME.fullmatch(artifact) and not artifact.endswith(".zip"):
                fetch_artifact(flow_of(host, token), artifact, Path(folder))
                artifact = folder
            models = _models(artifact, select_model, options)
        self._runners = [_runner(model) for model in models]
        metrics = LaneMetrics(self.registry)
        lane = Lane(lane_settings, read_uri, metrics)
        self._lane, self._answerer = lane, Answerer(self, lane, metrics)

    def close(self) -> None:
        """End the threads."""
        self._lane.close()

    @bound(wire.ENCODE)
    async def encode(self, docs: DocumentArray, **_: Any) -> None:
        """Encode every document; one that no tower can encode gets a `finetuner_error` tag instead."""
        await asyncio.gather(*(self._encode(runner, docs) for runner in self._runners))

    async def _encode(self, runner: Runner, documents: DocumentArray) -> None:
        """Encode the documents of a model's kind; the only model refuses the others."""

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
            await self._answerer.encode(wire.ENCODE, mine, find_runner)


def _runner(model: InferenceModel) -> Runner:
    return Runner(model.clip, model.select_model, EngineSettings())


def _models(artifact: str, select_model: str | None, options: dict[str, Any]) -> list[InferenceModel]:
    """Return the model that is selected, the artifact's only one, or both of a CLIP.

    Raises:
        SelectModelRequired: a tower that the artifact does not hold.
    """
    try:
        return [get_model(artifact, select_model=select_model, **options)]
    except SelectModelRequired:
        if select_model is not None:
            raise
    return [get_model(artifact, select_model=tower, **options) for tower in TOWERS]
