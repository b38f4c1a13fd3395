"""Requests to a room, and a gate in front of its forward passes."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest
from docarray import Document, DocumentArray

from finetuner.executors.encoder.encoder_room import EncoderRoom
from finetuner.executors.encoder.lane.runner import Runner

WORDS = ["red", "dress", "with", "long", "sleeves", "and", "stripes"]
TEXTS = [" ".join(WORDS[: 1 + row % 7]) for row in range(20)]


def texts(values: list[str]) -> DocumentArray:
    return DocumentArray([Document(text=value) for value in values])


async def send(room: EncoderRoom, docs: DocumentArray, **parameters: Any) -> DocumentArray:
    await room.encode(docs=docs, parameters=parameters)
    return docs


class Gate:
    """Holds forward passes until it is opened, and records them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.opened, self.entered, run = threading.Event(), threading.Event(), Runner.run
        self.passes: list[tuple[str, list[int]]] = []
        self.opened.set()

        def recorded(runner: Runner, items: list[Any]) -> np.ndarray:
            self.passes.append((runner.model_id, runner.lengths(items)))
            self.entered.set()
            assert self.opened.wait(200)
            return run(runner, items)

        patch.setattr(Runner, "run", recorded)

    async def hold(self, room: EncoderRoom, first: DocumentArray) -> asyncio.Task[DocumentArray]:
        """Close the gate, send a first request, and return once its forward pass waits at the gate."""
        self.opened.clear()
        self.entered.clear()
        task = asyncio.create_task(send(room, first))
        assert await asyncio.to_thread(self.entered.wait, 60)
        self.passes.clear()
        return task


async def queued(room: EncoderRoom, documents: int) -> None:
    """Wait until the room holds that many documents: one in the pass at the gate, the others prepared."""
    lane = room._lane
    while room.registry.get_sample_value("finetuner_queue_documents") != documents or len(lane._ready) != documents - 1:
        await asyncio.sleep(0.001)
