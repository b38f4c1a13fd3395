"""The encoder room: base of the text encoder and the vision encoder."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from docarray import Document, DocumentArray

from finetuner.artifacts.registry import LIVE, SEARCHED, Models
from finetuner.contract import wire
from finetuner.contract.dimensions import DIMENSIONS, refuse_dimensions
from finetuner.contract.parameters import Parameters
from finetuner.contract.search_parameters import FEATURES
from finetuner.contract.wire import ARTIFACT_TAG, ERROR_TAG, TOWER_TAG
from finetuner.documents.images import is_text
from finetuner.documents.parts import has_own_content, parts_of
from finetuner.documents.uris import read_any_host, read_public
from finetuner.exceptions import InvalidInput
from finetuner.executors.encoder.lane.answer import Answerer
from finetuner.executors.encoder.lane.lane import Lane
from finetuner.executors.encoder.lane.metrics import LaneMetrics
from finetuner.executors.encoder.lane.runner import Runner
from finetuner.executors.encoder.lane.served_models import ServedModels
from finetuner.executors.encoder.message import Message, are_plain
from finetuner.executors.encoder.ranking import previous_model, rank
from finetuner.executors.encoder.settings import EncoderSettings
from finetuner.executors.room.room import ENCODER_PARAMETERS, Room, bound
from finetuner.models.clip import TEXT
from finetuner.onnx.session import SessionOptions, providers

# Every room of a chain gets the same parameters, so encoders accept those of the indexer.
INDEXER_PARAMETERS = (
    "limit", "offset", "filter", "score_threshold", "exact", "return_content", "thumbnails", *FEATURES,
)  # fmt: skip
DROP = "drop_image_content"  # leaves the images out of the answer
COUNT = "count_tokens"  # writes the number of tokens that the model reads of a text

OF_ENCODE = (COUNT, DIMENSIONS)  # further parameters of `/encode`


class EncoderRoom(Room):
    """Sets the embeddings of documents of one kind, with the requested model or the one of `live`.

    Args:
        kwargs: the settings, and Jina's own arguments.

    Raises:
        InvalidInput, NoSuchModel: a setting that is not allowed.
    """

    tower: ClassVar[str]
    """TEXT or VISION."""
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
        settings, batch_size = self.settings.engine, self.settings.lane.batch_size
        if settings.engine == "torch":
            return Runner(source.load(model_id), self.tower, settings, batch_size)
        session = SessionOptions.read(settings.options, self.settings.threads)
        onnx = source.load_onnx(model_id, int8=settings.precision == "int8", session_options=session)
        return Runner(onnx, self.tower, settings, batch_size)

    def close(self) -> None:
        """Stop the threads."""
        self._lane.close()
        self._models.close()

    def takes_messages(self, endpoint: str, messages: Sequence[Any]) -> bool:
        """Return whether a request holds nothing but texts and images to encode, as most do."""
        return endpoint in (wire.ENCODE, wire.INDEX, wire.SEARCH) and are_plain(
            messages, encoded=endpoint == wire.ENCODE
        )

    async def answer_messages(self, endpoint: str, messages: Sequence[Any], parameters: dict[str, Any]) -> None:
        """Encode texts or images, as the method of the endpoint does."""
        names = OF_ENCODE if endpoint == wire.ENCODE else INDEXER_PARAMETERS
        await self._answer(endpoint, [Message(message) for message in messages], parameters, names)

    @bound(wire.ENCODE)
    async def encode(self, docs: DocumentArray, parameters: dict[str, Any], **_: Any) -> None:
        """Encode every document of this room's kind. `artifact` names the model, `dimensions` the vectors' size."""
        await self._answer(wire.ENCODE, docs, parameters, OF_ENCODE)

    @bound(wire.ANY)
    async def encode_any(self, docs: DocumentArray, parameters: dict[str, Any], **_: Any) -> None:
        """Encode as `/encode` does. A document without content stays unchanged, as clip-client's `profile` expects."""
        full = [document for document in docs if document.uri or document.content is not None]
        await self._answer(wire.ANY, full, parameters)

    @bound(wire.INDEX)
    async def encode_new(self, docs: DocumentArray, parameters: dict[str, Any], **_: Any) -> None:
        """Encode documents without an embedding before the indexer stores them."""
        await self._answer_parts(wire.INDEX, docs, parameters)

    @bound(wire.SEARCH)
    async def encode_queries(self, docs: DocumentArray, parameters: dict[str, Any], **_: Any) -> None:
        """Encode queries without an embedding before the indexer searches with them."""
        await self._answer_parts(wire.SEARCH, docs, parameters)

    @bound(wire.RANK)
    async def rank(self, docs: DocumentArray, parameters: dict[str, Any], **_: Any) -> None:
        """Encode documents and their matches, then sort the matches of each fully encoded document."""
        parts = [part for document in docs for part in (document, *document.matches)]
        await self._answer(wire.RANK, parts, parameters, model_id=previous_model(docs))
        await asyncio.to_thread(rank, docs, self.tower == TEXT)

    async def _answer_parts(self, endpoint: str, docs: DocumentArray, parameters: dict[str, Any]) -> None:
        """Encode documents without an embedding. If a document has parts, encode its parts.

        If the previous room has encoded parts, their model is used, even after a promotion in between.
        """
        missing = [document for document in docs if document.embedding is None]
        if endpoint == wire.SEARCH and parameters.get("positives"):  # the examples' ids are the whole query
            missing = [document for document in missing if document.chunks or has_own_content(document)]
        whole = [document for document in missing if parts_of(document)[0] is document]
        parts = [part for document in missing for part in parts_of(document) if part is not document]
        models = {part.tags.get(ARTIFACT_TAG) for part in parts if part.embedding is not None}
        waiting = [part for part in parts if part.embedding is None]
        await asyncio.gather(
            self._answer(endpoint, whole, parameters, INDEXER_PARAMETERS),
            self._answer(endpoint, waiting, parameters, INDEXER_PARAMETERS, models.pop() if len(models) == 1 else None),
        )

    async def _answer(
        self,
        endpoint: str,
        docs: Sequence[Document | Message],
        parameters: dict[str, Any],
        names: tuple[str, ...] = (),
        model_id: str | None = None,
    ) -> None:
        """Encode the documents of this room's kind.

        Args:
            endpoint: name for the metrics and the log.
            docs: documents of any kind.
            parameters: parameters of the request, unchecked. A wrong parameter is the error of each document.
            names: parameters of other rooms.
            model_id: model that overrides the parameters.
        """

        async def find_runner() -> Runner:
            refuse_dimensions(endpoint, parameters)
            given = Parameters(parameters, (*ENCODER_PARAMETERS, *names))
            given.flag(DROP, False)
            given.flag(COUNT, False)
            reference = model_id or _reference(given)
            follows = reference == LIVE and endpoint in (wire.INDEX, wire.SEARCH)
            if follows and self.shared_workspace.artifact_of(SEARCHED) is not None:
                reference = SEARCHED  # the model of the index
            # new documents are for the promoted model, so they wait until it is loaded
            return await self._models.get(reference, current=endpoint == wire.INDEX)

        mine = [document for document in docs if is_text(document) == (self.tower == TEXT)]
        if mine:
            count = self.tower == TEXT and parameters.get(COUNT) is True
            dimensions = parameters.get(DIMENSIONS)
            await self._answerer.encode(endpoint, mine, find_runner, count=count, dimensions=dimensions)
        if endpoint in (wire.INDEX, wire.SEARCH):
            for document in mine:
                if ERROR_TAG not in document.tags:
                    document.tags[TOWER_TAG] = self.tower
        if parameters.get(DROP) is True and endpoint != wire.INDEX:  # the indexer stores images and returns none
            for document in mine:
                document.pop("blob", "tensor")


def _reference(given: Parameters) -> str:
    """Return the model that a request names by `artifact`, or by clip-client's `model_name`; `live` by default.

    Raises:
        InvalidInput: two different models, or a name that is not a string.
    """
    named = {given.text(name) for name in ("artifact", "model_name") if given.get(name) is not None}
    if len(named) > 1:
        raise InvalidInput(f"artifact and model_name must name one model. Got {' and '.join(sorted(named))}. Drop one.")
    return named.pop() if named else LIVE
