"""What both encoder rooms share: one piece of code, two configurations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from docarray import Document, DocumentArray

from executors.lane.answer import Answerer
from executors.lane.lane import Lane
from executors.lane.measures import Measures
from executors.lane.runner import Runner
from executors.lane.served_models import ServedModels, ServedSettings
from executors.lane.settings import EngineSettings, LaneSettings
from executors.room import Room, bound
from finetuner import wire
from finetuner.checks import flag, whole
from finetuner.clip import TEXT
from finetuner.images import is_text
from finetuner.models import LIVE, Models
from finetuner.parameters import Parameters
from finetuner.uris import read_any_host, read_public

# Every room of a chain gets the same parameters, so these are no mistake of the caller's.
INDEXER_PARAMETERS = ("limit", "return_content")


class EncoderRoom(Room):
    """Documents of one kind -> embeddings, by the artifact that the request names or the `live` one.

    Args:
        backbone: the model behind `live` until an artifact is promoted.
        device: torch's name of a device.
        threads: CPU threads of a forward pass; 0 leaves it to torch.
        private_uris: whether pictures may be fetched from private addresses.
        batch_size: of `LaneSettings`, and so are max_wait_ms, queue_size, deadline, workers and fetchers.
        engine: of `EngineSettings`, and so are precision and compile.
        models: of `ServedSettings`, and so are models_mb, switch_wait and switch_limit.
        kwargs: of `Room`.

    Raises:
        InvalidInput, NoSuchModel: a setting that cannot be.
    """

    tower: ClassVar[str]

    def __init__(
        self,
        backbone: str = "clip-mini",
        device: str = "cpu",
        threads: int = 0,
        private_uris: bool = False,
        batch_size: int = LaneSettings.batch_size,
        max_wait_ms: float = LaneSettings.max_wait_ms,
        queue_size: int = LaneSettings.queue_size,
        deadline: float = LaneSettings.deadline,
        workers: int = LaneSettings.workers,
        fetchers: int = LaneSettings.fetchers,
        engine: str = EngineSettings.engine,
        precision: str = EngineSettings.precision,
        compile: bool = EngineSettings.compile,  # noqa: A002  # as everybody calls it
        models: int = ServedSettings.models,
        models_mb: int = ServedSettings.models_mb,
        switch_wait: float = ServedSettings.switch_wait,
        switch_limit: float = ServedSettings.switch_limit,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        lane = LaneSettings(batch_size, max_wait_ms, queue_size, deadline, workers, fetchers)
        engine_settings = EngineSettings(engine, precision, compile)
        served = ServedSettings(models, models_mb, switch_wait, switch_limit)
        if whole("threads", threads, 0, 1024):
            import torch

            torch.set_num_threads(threads)
        read_uri = read_any_host if flag("private_uris", private_uris) else read_public
        measures = Measures(self.registry)
        source = Models(self.place, default=backbone, device=device, towers=(self.tower,))
        load = source.load_onnx if engine == "onnx" else source.load
        self._models = ServedModels(
            source.resolve,
            lambda model_id: Runner(load(model_id), self.tower, engine_settings),
            served,
            measures,
            lambda text: self.logger.error(text),
        )
        self._lane = Lane(lane, read_uri, measures)
        self._answerer = Answerer(self, self._lane, measures)

    def close(self) -> None:
        """End the threads."""
        self._lane.close()
        self._models.close()

    @bound(wire.ENCODE)
    async def encode(self, docs: DocumentArray, parameters: dict[str, Any], **_: Any) -> None:
        """Encode every document of this room's kind; `artifact` names the model."""
        await self._answer(wire.ENCODE, docs, parameters, ("artifact",))

    @bound(wire.INDEX)
    async def encode_new(self, docs: DocumentArray, parameters: dict[str, Any], **_: Any) -> None:
        """Encode the documents that have no embedding yet, on their way to the indexer."""
        await self._answer(wire.INDEX, _without_embedding(docs), parameters, ("artifact", *INDEXER_PARAMETERS))

    @bound(wire.SEARCH)
    async def encode_queries(self, docs: DocumentArray, parameters: dict[str, Any], **_: Any) -> None:
        """Encode the queries that have no embedding yet, on their way to the indexer."""
        await self._answer(wire.SEARCH, _without_embedding(docs), parameters, ("artifact", *INDEXER_PARAMETERS))

    async def _answer(
        self, endpoint: str, docs: Sequence[Document], parameters: dict[str, Any], names: tuple[str, ...]
    ) -> None:
        async def find_runner() -> Runner:
            reference = Parameters(parameters, names).text("artifact", LIVE)
            # what is indexed is for the model that searches from now on, so it waits for that one
            return await self._models.get(reference, current=endpoint == wire.INDEX)

        mine = [document for document in docs if is_text(document) == (self.tower == TEXT)]
        if mine:
            await self._answerer.encode(endpoint, mine, find_runner)


def _without_embedding(documents: DocumentArray) -> list[Document]:
    return [document for document in documents if document.embedding is None]
