"""What both encoder rooms share: one piece of code, two configurations."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from docarray import Document, DocumentArray

from executors.encoder.lane.answer import Answerer
from executors.encoder.lane.lane import Lane
from executors.encoder.lane.metrics import LaneMetrics
from executors.encoder.lane.runner import Runner
from executors.encoder.lane.served_models import ServedModels
from executors.encoder.ranking import model_before, rank
from executors.encoder.settings import EncoderSettings
from executors.room.room import ENCODER_PARAMETERS, Room, bound
from finetuner.artifacts.registry import LIVE, SEARCHED, Models
from finetuner.contract import wire
from finetuner.contract.parameters import Parameters
from finetuner.contract.wire import ARTIFACT_TAG
from finetuner.documents.images import is_text
from finetuner.documents.parts import parts_of
from finetuner.documents.uris import read_any_host, read_public
from finetuner.exceptions import InvalidInput
from finetuner.models.clip import TEXT
from finetuner.onnx.session import SessionOptions, providers

# Every room of a chain gets the same parameters, so these are no mistake of the caller's.
INDEXER_PARAMETERS = ("limit", "offset", "filter", "score_threshold", "exact", "return_content", "thumbnails")
DROP = "drop_image_content"  # an answer without the images that came


class EncoderRoom(Room):
    """Documents of one kind -> embeddings, by the artifact that the request names or by the `live` one.

    Args:
        kwargs: the settings, and Jina's own arguments.

    Raises:
        InvalidInput, NoSuchModel: a setting that is not allowed.
    """

    tower: ClassVar[str]
    settings: EncoderSettings

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        settings = self.settings
        if settings.threads:
            import torch

            torch.set_num_threads(settings.threads)
        if settings.engine.engine == "onnx":
            providers(settings.device)
        metrics = LaneMetrics(self.registry)
        source = Models(self.shared_workspace, default=settings.backbone, device=settings.device, towers=(self.tower,))
        self._models = ServedModels(
            source.resolve,
            partial(self._load, source),
            settings.served,
            metrics,
            lambda text: self.logger.error(text),
        )
        self._lane = Lane(settings.lane, read_any_host if settings.private_uris else read_public, metrics)
        self._answerer = Answerer(self, self._lane, metrics)

    def _load(self, source: Models, model_id: str) -> Runner:
        settings = self.settings.engine
        if settings.engine == "torch":
            return Runner(source.load(model_id), self.tower, settings)
        session = SessionOptions.read(settings.options, self.settings.threads)
        onnx = source.load_onnx(model_id, int8=settings.precision == "int8", session_options=session)
        return Runner(onnx, self.tower, settings)

    def close(self) -> None:
        """End the threads."""
        self._lane.close()
        self._models.close()

    @bound(wire.ENCODE)
    async def encode(self, docs: DocumentArray, parameters: dict[str, Any], **_: Any) -> None:
        """Encode every document of this room's kind; `artifact` names the model."""
        await self._answer(wire.ENCODE, docs, parameters)

    @bound(wire.ANY)
    async def encode_any(self, docs: DocumentArray, parameters: dict[str, Any], **_: Any) -> None:
        """Encode as `/encode` does; a document without content passes through, as clip-client's `profile` has it."""
        full = [document for document in docs if document.uri or document.content is not None]
        await self._answer(wire.ANY, full, parameters)

    @bound(wire.INDEX)
    async def encode_new(self, docs: DocumentArray, parameters: dict[str, Any], **_: Any) -> None:
        """Encode the documents that have no embedding yet, on their way to the indexer."""
        await self._answer_parts(wire.INDEX, docs, parameters)

    @bound(wire.SEARCH)
    async def encode_queries(self, docs: DocumentArray, parameters: dict[str, Any], **_: Any) -> None:
        """Encode the queries that have no embedding yet, on their way to the indexer."""
        await self._answer_parts(wire.SEARCH, docs, parameters)

    @bound(wire.RANK)
    async def rank(self, docs: DocumentArray, parameters: dict[str, Any], **_: Any) -> None:
        """Encode documents and their matches; sort the matches of those that have all their embeddings now."""
        parts = [part for document in docs for part in (document, *document.matches)]
        await self._answer(wire.RANK, parts, parameters, model_id=model_before(docs))
        await asyncio.to_thread(rank, docs, self.tower == TEXT)

    async def _answer_parts(self, endpoint: str, docs: DocumentArray, parameters: dict[str, Any]) -> None:
        """Encode what has no embedding yet; of documents of several parts, the parts.

        Where the room before has encoded a part, its model is used, whatever has been promoted since.
        """
        missing = [document for document in docs if document.embedding is None]
        whole = [document for document in missing if parts_of(document)[0] is document]
        parts = [part for document in missing for part in parts_of(document) if part is not document]
        before = {part.tags.get(ARTIFACT_TAG) for part in parts if part.embedding is not None}
        waiting = [part for part in parts if part.embedding is None]
        await asyncio.gather(
            self._answer(endpoint, whole, parameters, INDEXER_PARAMETERS),
            self._answer(endpoint, waiting, parameters, INDEXER_PARAMETERS, before.pop() if len(before) == 1 else None),
        )

    async def _answer(
        self,
        endpoint: str,
        docs: Sequence[Document],
        parameters: dict[str, Any],
        names: tuple[str, ...] = (),
        model_id: str | None = None,
    ) -> None:
        """Encode the documents of this room's kind.

        Args:
            endpoint: for metrics and log.
            docs: of any kind.
            parameters: as they came; what is wrong with them is the error of each document.
            names: parameters that another room reads.
            model_id: the model to use, whatever the parameters name.
        """

        async def find_runner() -> Runner:
            given = Parameters(parameters, (*ENCODER_PARAMETERS, *names))
            given.flag(DROP, False)
            reference = model_id or _reference(given)
            follows = reference == LIVE and endpoint in (wire.INDEX, wire.SEARCH)
            if follows and await asyncio.to_thread(self.shared_workspace.artifact_of, SEARCHED) is not None:
                reference = SEARCHED  # what the index has vectors of
            # what is indexed is for the model that searches from now on, so it waits for that one
            return await self._models.get(reference, current=endpoint == wire.INDEX)

        mine = [document for document in docs if is_text(document) == (self.tower == TEXT)]
        if mine:
            await self._answerer.encode(endpoint, mine, find_runner)
        if parameters.get(DROP) is True and endpoint != wire.INDEX:  # the indexer keeps images, and sends none back
            for document in mine:
                document.pop("blob", "tensor")


def _reference(given: Parameters) -> str:
    """Return the model that a request names, by our word for it or by clip-client's.

    Raises:
        InvalidInput: two models, or one that is no string.
    """
    named = {given.text(name) for name in ("artifact", "model_name") if given.get(name) is not None}
    if len(named) > 1:
        raise InvalidInput(f"artifact and model_name must name one model. Got {' and '.join(sorted(named))}. Drop one.")
    return named.pop() if named else LIVE
