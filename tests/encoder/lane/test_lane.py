"""The lane: requests are put together, take turns, are bounded in number and time, and answered in order."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from docarray import Document, DocumentArray
from PIL import Image

from executors.encoder.encoder_room import EncoderRoom
from executors.encoder.lane.metrics import MOST_ARTIFACTS, OTHER, LaneMetrics
from executors.encoder.lane.runner import Runner
from executors.encoder.lane.settings import EngineSettings
from executors.encoder.lane.ticket import Entry, Ticket, Turns
from executors.text_encoder.executor import TextEncoder
from executors.vision_encoder.executor import VisionEncoder
from finetuner.contract.wire import ARTIFACT_TAG, ERROR_TAG, error_of
from finetuner.documents.images import decode
from finetuner.exceptions import ArtifactNotFound, FinetunerServerError, ResourceExhausted, UndecodableImage
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import TEXT, VISION, Clip
from finetuner.models.clip_files import load_backbone
from finetuner.onnx.model import OnnxModel
from finetuner.workspace.folder import Workspace
from tests.encoder.conftest import TUNED, Start

WORDS = ["red", "dress", "with", "long", "sleeves", "and", "stripes"]
TEXTS = [" ".join(WORDS[: 1 + row % 7]) for row in range(20)]


def texts(values: list[str]) -> DocumentArray:
    return DocumentArray([Document(text=value) for value in values])


async def send(room: EncoderRoom, docs: DocumentArray, **parameters: Any) -> DocumentArray:
    await room.encode(docs=docs, parameters=parameters)
    return docs


class Gate:
    """Lets forward passes through once it is open, and notes them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.opened, self.entered, run = threading.Event(), threading.Event(), Runner.run
        self.passes: list[tuple[str, list[int]]] = []
        self.opened.set()

        def noted(runner: Runner, items: list[Any]) -> np.ndarray:
            self.passes.append((runner.model_id, [runner.length(item) for item in items]))
            self.entered.set()
            assert self.opened.wait(200)
            return run(runner, items)

        patch.setattr(Runner, "run", noted)

    async def hold(self, room: EncoderRoom, first: DocumentArray) -> asyncio.Task[DocumentArray]:
        """Close the gate, send a first request, and return once its pass waits at the gate."""
        self.opened.clear()
        self.entered.clear()
        task = asyncio.create_task(send(room, first))
        assert await asyncio.to_thread(self.entered.wait, 60)
        self.passes.clear()
        return task


async def queued(room: EncoderRoom, documents: int) -> None:
    """Wait until so many documents are in the room: one in the pass at the gate, all others prepared for the next."""
    lane = room._lane
    while lane._waiting != documents or len(lane._ready) != documents - 1:
        await asyncio.sleep(0.001)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


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


def test_a_single_image_passes_a_request_of_many(
    start: Start, workspace: Workspace, gate: Gate, images: list[bytes]
) -> None:
    room = start(VisionEncoder, workspace, batch_size=4)

    async def both() -> int:
        many = await gate.hold(room, DocumentArray([Document(blob=images[row % 6]) for row in range(80)]))
        single = asyncio.create_task(send(room, DocumentArray([Document(blob=images[0])])))
        while room._lane._waiting != 81:
            await asyncio.sleep(0.001)
        gate.opened.set()
        await single
        passes = len(gate.passes)
        await many
        return passes

    assert asyncio.run(both()) <= 7, "of 20: what was prepared already goes first"


def test_turns_are_round_robin() -> None:
    turns, runner, tickets = Turns(), object(), [Ticket([]) for _ in range(3)]
    for ticket, entries in zip(tickets, (5, 1, 2), strict=True):
        for row in range(entries):
            turns.put(Entry(ticket, row, runner, Document()))  # type: ignore[arg-type]
    taken = [(tickets.index(entry.ticket), entry.position) for entry in turns.take(4)]
    assert taken == [(0, 0), (1, 0), (2, 0), (0, 1)]
    turns.drop(tickets[0])
    assert [(tickets.index(entry.ticket), entry.position) for entry in turns.take(9)] == [(2, 1)]
    assert len(turns) == 0


def test_past_the_queue_size_documents_are_refused_at_once_and_later_ones_are_answered(
    start: Start, workspace: Workspace, gate: Gate
) -> None:
    room = start(TextEncoder, workspace, queue_size=4)

    async def flood() -> tuple[DocumentArray, DocumentArray, DocumentArray]:
        first = await gate.hold(room, texts(["a"]))
        partly = asyncio.create_task(send(room, texts(["b", "c", "d", "e", "f"])))
        await queued(room, 4)
        refused = await send(room, texts(["g", "h"]))  # while nothing moves
        gate.opened.set()
        await first
        return await partly, refused, await send(room, texts(["i"]))

    partly, refused, later = asyncio.run(flood())
    assert [type(error_of(document)) for document in partly] == [type(None)] * 3 + [ResourceExhausted] * 2
    assert {type(error_of(document)) for document in refused} == {ResourceExhausted}
    assert refused[0].tags[ERROR_TAG]["status"] == 429
    assert "queue must hold at most 4 documents" in refused[0].tags[ERROR_TAG]["message"]
    assert error_of(later[0]) is None
    assert room._lane._waiting == 0
    assert room.registry.get_sample_value("finetuner_errors_total", {"type": "ResourceExhausted"}) == 4


def test_past_the_deadline_documents_are_refused_whatever_hangs(start: Start, workspace: Workspace, gate: Gate) -> None:
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


def test_a_caller_who_goes_away_leaves_nothing_behind(start: Start, workspace: Workspace, gate: Gate) -> None:
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


def test_servers_that_do_not_answer_hold_up_nobody_else(
    start: Start, workspace: Workspace, images: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = threading.Event()

    def read_slowly(uri: str) -> bytes:
        assert answer.wait(200)
        return images[0]

    monkeypatch.setattr("executors.encoder.encoder_room.read_public", read_slowly)
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
        vectors[[runner.length(item) > 6 for item in items]] = np.nan
        return vectors

    monkeypatch.setattr(Runner, "run", spoilt)
    found = asyncio.run(send(room, texts(["a", "a red dress with long sleeves and stripes"])))
    assert error_of(found[0]) is None
    assert type(error_of(found[1])) is FinetunerServerError


def test_errors_carry_what_http_calls_them(start: Start, workspace: Workspace) -> None:
    found = asyncio.run(send(start(VisionEncoder, workspace), DocumentArray([Document(blob=b"<svg/>")])))
    assert type(error_of(found[0])) is UndecodableImage
    assert found[0].tags[ERROR_TAG]["status"] == 422


@pytest.mark.parametrize(
    "engine",
    [
        {"precision": "auto"},
        {"precision": "bf16"},
        {"engine": "onnx", "session_options": {"allow_spinning": False}},
        {"engine": "onnx", "precision": "int8"},
    ],
    ids=str,
)
def test_every_engine_gives_nearly_the_same_vectors(
    engine: dict[str, str], start: Start, workspace: Workspace, clip_mini: Clip
) -> None:
    found = asyncio.run(send(start(TextEncoder, workspace, **engine), texts(TEXTS)))
    assert (found.embeddings * clip_mini.encode_texts(TEXTS)).sum(axis=1).min() > 0.999


def test_bf16_images_are_nearly_the_same(
    start: Start, workspace: Workspace, clip_mini: Clip, images: list[bytes]
) -> None:
    docs = DocumentArray([Document(blob=blob) for blob in images])
    asyncio.run(send(start(VisionEncoder, workspace, precision="bf16"), docs))
    expected = clip_mini.encode_images([decode(blob) for blob in images])
    assert (docs.embeddings * expected).sum(axis=1).min() > 0.999


def test_threads_and_options_reach_onnx_runtime(
    start: Start, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions: list[Any] = []
    made = OnnxModel.__init__

    def remember(model: OnnxModel, session: Any, *rest: Any) -> None:
        sessions.append(session)
        made(model, session, *rest)

    monkeypatch.setattr(OnnxModel, "__init__", remember)
    start(TextEncoder, workspace, engine="onnx", threads=1, session_options={"graph_optimization_level": "extended"})
    found = sessions[-1].get_session_options()
    assert found.intra_op_num_threads == 1
    assert found.graph_optimization_level.name == "ORT_ENABLE_EXTENDED"


def test_an_artifact_without_int8_is_refused_by_its_name(start: Start, workspace: Workspace) -> None:
    room = start(TextEncoder, workspace, engine="onnx", precision="int8")
    documents = texts(["a red dress"])
    asyncio.run(room.encode(documents, {"artifact": TUNED}))
    error = error_of(documents[0])
    assert type(error) is ArtifactNotFound
    assert "model-int8.onnx for precision int8" in str(error)


def test_draft_decodes_large_jpegs_coarsely_and_small_ones_as_they_are(
    start: Start, workspace: Workspace, clip_mini: Clip, images: list[bytes]
) -> None:
    enlarged = [decode(blob).resize((1000, 750), Image.Resampling.BICUBIC) for blob in images]
    blobs = [*images]
    for image in enlarged:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=90)
        blobs.append(file.getvalue())
    docs = DocumentArray([Document(blob=blob) for blob in blobs])
    asyncio.run(send(start(VisionEncoder, workspace, draft=4), docs))
    differences = np.abs(docs.embeddings - clip_mini.encode_images([decode(blob) for blob in blobs])).max(axis=1)
    assert differences[:6].max() < 1e-5
    assert 1e-4 < differences[6:].min() < differences[6:].max() < 0.01


def test_bf16_is_not_fp32(clip_mini: Clip) -> None:
    runners = [Runner(clip_mini, TEXT, EngineSettings(precision=precision)) for precision in ("fp32", "bf16")]
    items = [runners[0].prepare(Document(text=text), bytes) for text in TEXTS]
    difference = np.abs(runners[0].run(items) - runners[1].run(items)).max()
    assert 1e-5 < difference < 0.05


def test_bf16_of_a_vision_transformer_on_a_cpu_halves_its_weights(clip_mini: Clip, images: list[bytes]) -> None:
    runners = [
        Runner(load_backbone(find_backbone("clip-mini")), VISION, EngineSettings(precision=precision))
        for precision in ("fp32", "bf16")
    ]
    items = [runners[0].prepare(Document(blob=blob), bytes) for blob in images]
    difference = np.abs(runners[0].run(items) - runners[1].run(items)).max()
    assert 1e-5 < difference < 0.05
    text = sum(value.nbytes for name, value in clip_mini.network.state_dict().items() if "visual." not in name)
    assert runners[1].bytes - text < 0.55 * (runners[0].bytes - text)


def test_compile_reaches_the_tower(clip_mini: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **_: compiled.append(module))
    Runner(clip_mini, TEXT, EngineSettings(compile=True))
    assert compiled == [clip_mini.network.transformer]


def test_waits_batches_and_passes_are_measured(start: Start, workspace: Workspace) -> None:
    room = start(TextEncoder, workspace, batch_size=8)
    asyncio.run(send(room, texts(TEXTS)))
    value: Callable[..., float | None] = room.registry.get_sample_value
    assert value("finetuner_wait_seconds_count") == 20
    assert value("finetuner_decode_seconds_count") == 20
    assert value("finetuner_batch_size_sum") == 20
    assert value("finetuner_inference_seconds_count") == value("finetuner_batch_size_count") >= 3
    assert value("finetuner_queue_documents") == 0
    assert value("finetuner_model_loads_total", {"outcome": "ok"}) == 1
    assert value("finetuner_model_bytes") > 1e6
    assert value("finetuner_artifact_documents_total", {"artifact": "clip-mini"}) == 20


def test_the_number_of_artifacts_in_the_metrics_is_bounded(workspace: Workspace) -> None:
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry()
    metrics = LaneMetrics(registry)
    for number in range(MOST_ARTIFACTS + 5):
        metrics.answered(f"{number:024x}", 1)
    assert registry.get_sample_value("finetuner_artifact_documents_total", {"artifact": OTHER}) == 5
