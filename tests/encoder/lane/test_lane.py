"""Batches of a lane: requests share passes, take turns, and get their embeddings in order."""

from __future__ import annotations

import asyncio

import numpy as np
from docarray import Document, DocumentArray

from finetuner.contract.wire import ARTIFACT_TAG
from finetuner.executors.encoder.lane.ticket import Entry, Ticket, Turns
from finetuner.executors.text_encoder.executor import TextEncoder
from finetuner.executors.vision_encoder.executor import VisionEncoder
from finetuner.models.clip import Clip
from finetuner.workspace.folder import Workspace
from tests.encoder.conftest import TUNED, Start
from tests.encoder.lane.gate import TEXTS, Gate, queued, send, texts


def test_concurrent_requests_share_passes_sorted_by_length(
    start: Start, workspace: Workspace, gate: Gate, clip_mini: Clip
) -> None:
    room = start(TextEncoder, workspace, batch_size=10)

    async def both() -> list[DocumentArray]:
        first = await gate.hold(room, texts(["first"]))
        tasks = [asyncio.create_task(send(room, texts([text]))) for text in TEXTS]
        await queued(room, 1 + len(TEXTS))
        gate.opened.set()
        await first
        return await asyncio.gather(*tasks)

    found = asyncio.run(both())
    lengths = [row for _, batch in gate.passes for row in batch]
    assert [len(batch) for _, batch in gate.passes] == [10, 10], "20 requests, 2 passes"
    assert lengths == sorted(lengths)
    np.testing.assert_allclose(
        np.concatenate([docs.embeddings for docs in found]), clip_mini.encode_texts(TEXTS), atol=1e-5
    )


def test_a_large_request_comes_back_in_order(start: Start, workspace: Workspace, clip_mini: Clip) -> None:
    room = start(TextEncoder, workspace, batch_size=7)
    found = asyncio.run(send(room, texts(TEXTS * 3)))
    assert found[:, "text"] == TEXTS * 3
    np.testing.assert_allclose(found.embeddings, clip_mini.encode_texts(TEXTS * 3), atol=1e-5)


def test_a_pass_never_mixes_models(start: Start, workspace: Workspace, gate: Gate, tuned: Clip) -> None:
    room = start(TextEncoder, workspace, batch_size=8)

    async def mixed() -> list[DocumentArray]:
        await send(room, texts(["loads it"]), artifact=TUNED)
        first = await gate.hold(room, texts(["first"]))
        tasks = [
            asyncio.create_task(send(room, texts([text]), artifact=TUNED if row % 2 else "clip-mini"))
            for row, text in enumerate(TEXTS)
        ]
        await queued(room, 1 + len(TEXTS))
        gate.opened.set()
        await first
        return await asyncio.gather(*tasks)

    found = asyncio.run(mixed())
    assert sorted((model, len(batch)) for model, batch in gate.passes) == [
        (TUNED, 2), (TUNED, 8), ("clip-mini", 2), ("clip-mini", 8),
    ]  # fmt: skip
    assert [docs[0].tags[ARTIFACT_TAG] for docs in found] == ["clip-mini", TUNED] * 10
    odd = np.concatenate([docs.embeddings for docs in found[1::2]])
    np.testing.assert_allclose(odd, tuned.encode_texts(TEXTS[1::2]), atol=1e-5)


def test_a_single_image_overtakes_a_request_of_many(
    start: Start, workspace: Workspace, gate: Gate, images: list[bytes]
) -> None:
    room = start(VisionEncoder, workspace, batch_size=4)

    async def both() -> int:
        many = await gate.hold(room, DocumentArray([Document(blob=images[row % 6]) for row in range(80)]))
        single = asyncio.create_task(send(room, DocumentArray([Document(blob=images[0])])))
        while room.registry.get_sample_value("finetuner_queue_documents") != 81:
            await asyncio.sleep(0.001)
        gate.opened.set()
        await single
        passes = len(gate.passes)
        await many
        return passes

    assert asyncio.run(both()) <= 7, "of 20; prepared documents go first"


def test_turns_are_round_robin() -> None:
    async def tickets_of_a_loop() -> list[Ticket]:
        return [Ticket([]) for _ in range(3)]

    turns, runner, tickets = Turns(), object(), asyncio.run(tickets_of_a_loop())
    for ticket, entries in zip(tickets, (5, 1, 2), strict=True):
        for row in range(entries):
            turns.put(Entry(ticket, row, runner, Document()))  # type: ignore[arg-type]
    taken = [(tickets.index(entry.ticket), entry.position) for entry in turns.take(4)]
    assert taken == [(0, 0), (1, 0), (2, 0), (0, 1)]
    turns.drop(tickets[0])
    assert [(tickets.index(entry.ticket), entry.position) for entry in turns.take(9)] == [(2, 1)]
    assert len(turns) == 0


def test_the_shortest_request_of_several_passes_comes_first(start: Start, workspace: Workspace, gate: Gate) -> None:
    room = start(TextEncoder, workspace, batch_size=3)
    single = "a dress with many more words than all of the others together have in any of their lines"

    async def both() -> None:
        first = await gate.hold(room, texts(["first"]))
        tasks = [asyncio.create_task(send(room, texts(each))) for each in (TEXTS[:9], [single])]
        await queued(room, 1 + 10)
        gate.opened.set()
        await asyncio.gather(first, *tasks)

    asyncio.run(both())
    lengths = [max(batch) for _, batch in gate.passes]
    assert len(lengths) == 4
    assert lengths[0] == max(lengths)


def test_a_short_request_overtakes_the_passes_of_a_long_one(start: Start, workspace: Workspace, gate: Gate) -> None:
    room = start(TextEncoder, workspace, batch_size=3)

    async def both() -> None:
        many = await gate.hold(room, texts(TEXTS[:12]))  # all four passes are sorted
        single = asyncio.create_task(send(room, texts(["single"])))
        similar = asyncio.create_task(send(room, texts(TEXTS[:6])))
        while len(room._lane._ready) < 1 + 6:
            await asyncio.sleep(0.001)
        gate.opened.set()
        await asyncio.gather(many, single, similar)

    asyncio.run(both())
    assert [len(batch) for _, batch in gate.passes] == [1, 3, 3, 3, 3, 3]
