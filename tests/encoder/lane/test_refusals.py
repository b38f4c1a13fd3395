"""Documents that get no embedding: past the queue's size or the deadline, canceled, slow to fetch, not finite."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest
from docarray import Document, DocumentArray

from finetuner.contract.wire import ERROR_TAG, error_of
from finetuner.exceptions import FinetunerServerError, ResourceExhausted, UndecodableImage
from finetuner.executors.encoder.lane.runner import Runner
from finetuner.executors.text_encoder.executor import TextEncoder
from finetuner.executors.vision_encoder.executor import VisionEncoder
from finetuner.workspace.folder import Workspace
from tests.encoder.conftest import Start
from tests.encoder.lane.gate import TEXTS, Gate, queued, send, texts


def test_documents_past_the_queue_size_are_refused_at_once_and_later_ones_are_encoded(
    start: Start, workspace: Workspace, gate: Gate
) -> None:
    room = start(TextEncoder, workspace, queue_size=4)

    async def flood() -> tuple[DocumentArray, DocumentArray, DocumentArray]:
        first = await gate.hold(room, texts(["a"]))
        partly = asyncio.create_task(send(room, texts(["b", "c", "d", "e", "f"])))
        await queued(room, 4)
        refused = await send(room, texts(["g", "h"]))  # while the gate is closed
        gate.opened.set()
        await first
        return await partly, refused, await send(room, texts(["i"]))

    partly, refused, later = asyncio.run(flood())
    assert [type(error_of(document)) for document in partly] == [type(None)] * 3 + [ResourceExhausted] * 2
    assert {type(error_of(document)) for document in refused} == {ResourceExhausted}
    assert refused[0].tags[ERROR_TAG]["status"] == 429
    assert "queue must hold at most 4 documents" in refused[0].tags[ERROR_TAG]["message"]
    assert error_of(later[0]) is None
    assert room.registry.get_sample_value("finetuner_queue_documents") == 0
    assert room.registry.get_sample_value("finetuner_errors_total", {"type": "ResourceExhausted"}) == 4


def test_documents_past_the_deadline_are_refused_while_a_pass_hangs(
    start: Start, workspace: Workspace, gate: Gate
) -> None:
    room = start(TextEncoder, workspace, deadline=0.2)

    async def late() -> tuple[DocumentArray, DocumentArray, DocumentArray]:
        first = await gate.hold(room, texts(["hangs"]))
        behind = await send(room, texts(["behind"]))
        hung = await first
        gate.opened.set()
        while len(gate.passes) or not len(later := await send(room, texts(["later"]))) or later[0].embedding is None:
            gate.passes.clear()
        return hung, behind, later

    hung, behind, later = asyncio.run(late())
    for document in (hung[0], behind[0]):
        assert type(error_of(document)) is ResourceExhausted
        assert "within 0.2 s" in document.tags[ERROR_TAG]["message"]
    assert error_of(later[0]) is None


def test_a_canceled_request_is_not_computed(start: Start, workspace: Workspace, gate: Gate) -> None:
    room = start(TextEncoder, workspace)

    async def gone() -> None:
        first = await gate.hold(room, texts(["first"]))
        task = asyncio.create_task(send(room, texts(TEXTS)))
        await queued(room, 21)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await queued(room, 1)
        gate.opened.set()
        await first

    asyncio.run(gone())
    assert gate.passes == []


def test_servers_that_do_not_answer_delay_no_other_request(
    start: Start, workspace: Workspace, images: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = threading.Event()

    def read_slowly(uri: str) -> bytes:
        assert answer.wait(200)
        return images[0]

    monkeypatch.setattr("finetuner.executors.encoder.encoder_room.read_public", read_slowly)
    room = start(VisionEncoder, workspace, workers=1, fetchers=1)

    async def both() -> tuple[DocumentArray, DocumentArray]:
        remote = DocumentArray([Document(uri="http://slow/") for _ in range(3)])
        slow = asyncio.create_task(send(room, remote))
        quick = await send(room, DocumentArray([Document(blob=images[0])]))
        answer.set()
        await slow
        return remote, quick

    slow, quick = asyncio.run(both())
    np.testing.assert_allclose(slow.embeddings, np.repeat(quick.embeddings, 3, axis=0), atol=1e-6)


def test_a_vector_that_is_not_finite_is_the_error_of_its_document(
    start: Start, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, run = start(TextEncoder, workspace), Runner.run

    def spoilt(runner: Runner, items: list[Any]) -> np.ndarray:
        vectors = run(runner, items)
        vectors[np.array(runner.lengths(items)) > 6] = np.nan
        return vectors

    monkeypatch.setattr(Runner, "run", spoilt)
    found = asyncio.run(send(room, texts(["a", "a red dress with long sleeves and stripes"])))
    assert error_of(found[0]) is None
    assert type(error_of(found[1])) is FinetunerServerError


def test_errors_carry_their_http_status(start: Start, workspace: Workspace) -> None:
    found = asyncio.run(send(start(VisionEncoder, workspace), DocumentArray([Document(blob=b"<svg/>")])))
    assert type(error_of(found[0])) is UndecodableImage
    assert found[0].tags[ERROR_TAG]["status"] == 422
