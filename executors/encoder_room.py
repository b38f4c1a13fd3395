"""What both encoder rooms share: one piece of code, two configurations."""

from __future__ import annotations

from typing import Any, ClassVar

from docarray import DocumentArray
from prometheus_client import Gauge

from executors.room import Room, bound
from finetuner import wire
from finetuner.clip import TEXT
from finetuner.encoding import encode_documents
from finetuner.exceptions import FinetunerError, InvalidInput
from finetuner.images import is_text
from finetuner.models import LIVE, Models
from finetuner.parameters import Parameters
from finetuner.uris import read_any_host, read_public
from finetuner.wire import mark_error

# Every room of a chain gets the same parameters, so these are no mistake of the caller's.
INDEXER_PARAMETERS = ("limit", "return_content")


class EncoderRoom(Room):
    """Documents of one kind -> embeddings, by the artifact that the request names or the `live` one.

    Args:
        backbone: the model behind `live` until an artifact is promoted.
        device: torch's name of a device.
        batch_size: documents a forward pass.
        threads: CPU threads of a forward pass; 0 leaves it to torch.
        private_uris: whether pictures may be fetched from private addresses.
        models: how many stay loaded.
        kwargs: of `Room`.
    """

    tower: ClassVar[str]

    def __init__(
        self,
        backbone: str = "clip-mini",
        device: str = "cpu",
        batch_size: int = 32,
        threads: int = 0,
        private_uris: bool = False,
        models: int = 2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if batch_size < 1 or models < 1:
            raise InvalidInput(f"batch_size and models must be at least 1. Got {batch_size} and {models}.")
        if threads:
            import torch

            torch.set_num_threads(threads)
        self._batch_size = batch_size
        self._read_uri = read_any_host if private_uris else read_public
        self._models = Models(self.place, default=backbone, device=device, towers=(self.tower,), capacity=models)
        self._loaded = Gauge("finetuner_models_loaded", "Models in memory", registry=self.registry)
        self._loaded.set_function(lambda: len(self._models.loaded))
        try:
            self._models.get()  # the first request finds it loaded
        except FinetunerError as error:  # up all the same, so that another artifact can be promoted
            self.logger.error(f"the live model cannot be loaded: {error}")

    @bound(wire.ENCODE)
    def encode(self, docs: DocumentArray, parameters: dict[str, Any], **_: Any) -> None:
        """Encode every document of this room's kind; `artifact` names the model."""
        self._answer(wire.ENCODE, docs, parameters, ("artifact",))

    @bound(wire.INDEX)
    def encode_new(self, docs: DocumentArray, parameters: dict[str, Any], **_: Any) -> None:
        """Encode the documents that have no embedding yet, on their way to the indexer."""
        self._answer(wire.INDEX, _without_embedding(docs), parameters, ("artifact", *INDEXER_PARAMETERS))

    @bound(wire.SEARCH)
    def encode_queries(self, docs: DocumentArray, parameters: dict[str, Any], **_: Any) -> None:
        """Encode the queries that have no embedding yet, on their way to the indexer."""
        self._answer(wire.SEARCH, _without_embedding(docs), parameters, ("artifact", *INDEXER_PARAMETERS))

    def _answer(self, endpoint: str, docs: DocumentArray, parameters: dict[str, Any], names: tuple[str, ...]) -> None:
        mine = [document for document in docs if is_text(document) == (self.tower == TEXT)]
        if not mine:
            return
        try:
            with self.measured(endpoint):
                model = self._models.get(Parameters(parameters, names).text("artifact", LIVE))
                answered, refused = encode_documents(
                    model, mine, read_uri=self._read_uri, towers=(self.tower,), batch_size=self._batch_size
                )
        except Exception as error:
            reason = self.failed(endpoint, error)
            for document in mine:
                mark_error(document, reason)
            answered, refused = 0, len(mine)
        self.count_documents(endpoint, answered, refused)


def _without_embedding(documents: DocumentArray) -> DocumentArray:
    return DocumentArray([document for document in documents if document.embedding is None])
