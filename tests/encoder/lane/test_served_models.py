"""Models that change under load: they are loaded beside the old ones, checked and switched, or refused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from itertools import cycle, islice
from typing import Any

import numpy as np
import pytest
from docarray import Document, DocumentArray

from finetuner.artifacts.load import load_artifact
from finetuner.artifacts.manifest import MANIFEST, read_manifest, verify_artifact
from finetuner.artifacts.registry import Models
from finetuner.contract.wire import ARTIFACT_TAG, error_of
from finetuner.exceptions import CorruptedArtifact, CorruptedMetadata, FinetunerServerError
from finetuner.executors.encoder.encoder_room import EncoderRoom
from finetuner.executors.encoder.lane.runner import Runner
from finetuner.executors.text_encoder.executor import TextEncoder
from finetuner.workspace.folder import Workspace
from tests.encoder.conftest import Start
from tests.waiting import wait_until

FIRST, SECOND, THIRD = "1" * 24, "2" * 24, "3" * 24
TEXT = "a red dress with long sleeves"

Publish = Callable[[Workspace, str, int], None]


def ask(room: EncoderRoom, endpoint: str = "encode", **parameters: Any) -> Document:
    docs = DocumentArray([Document(text=TEXT)])
    asyncio.run(getattr(room, endpoint)(docs=docs, parameters=parameters))
    return docs[0]


def metric(room: EncoderRoom, name: str, **labels: str) -> float:
    value = room.registry.get_sample_value(name, labels)
    assert value is not None
    return value


def kept(room: EncoderRoom, gone: str, *others: str) -> list[str]:
    """Return those of the models that need not be loaded again. The first is asked for last: it pushes others out."""

    def loads(name: str) -> float:
        before = metric(room, "finetuner_model_loads_total", outcome="ok")
        assert ask(room, artifact=name).tags[ARTIFACT_TAG] == name
        return metric(room, "finetuner_model_loads_total", outcome="ok") - before

    found = [name for name in others if not loads(name)]
    assert loads(gone)
    return found


def promote(workspace: Workspace, artifact_id: str) -> None:
    workspace.aliases.set("live", {"artifact": artifact_id})


@pytest.fixture
def two(own_workspace: Workspace, publish_tuned: Publish) -> Workspace:
    """A workspace with two artifacts. `live` points to the first."""
    for number, artifact_id in enumerate((FIRST, SECOND)):
        publish_tuned(own_workspace, artifact_id, number)
    promote(own_workspace, FIRST)
    return own_workspace


class SlowLoad:
    """Delays the loading of one model until `go` is set."""

    def __init__(self, patch: pytest.MonkeyPatch, slow: str) -> None:
        self.go, self.begun, load = threading.Event(), threading.Event(), Models.load

        def slowly(models: Models, model_id: str) -> Any:
            if model_id == slow:
                self.begun.set()
                assert self.go.wait(200)
            return load(models, model_id)

        patch.setattr(Models, "load", slowly)


@pytest.mark.seconds
def test_fifty_promotes_under_load_fail_no_request(start: Start, two: Workspace) -> None:
    room = start(TextEncoder, two)
    expected = {name: load_artifact(two.artifacts / name).encode_texts([TEXT])[0] for name in (FIRST, SECOND)}
    found: list[Document] = []
    stop = False

    async def client() -> None:
        while not stop:
            docs = DocumentArray([Document(text=TEXT), Document(text="another")])
            await room.encode(docs=docs, parameters={})
            found.extend(docs[:1])

    async def load() -> None:
        nonlocal stop
        clients = [asyncio.create_task(client()) for _ in range(4)]
        for artifact_id in islice(cycle((SECOND, FIRST)), 50):
            seen = len(found)
            promote(two, artifact_id)
            while len(found) < seen + 4:
                await asyncio.sleep(0.001)
        stop = True
        await asyncio.gather(*clients)

    asyncio.run(load())
    assert [error_of(document) for document in found] == [None] * len(found)
    assert {document.tags[ARTIFACT_TAG] for document in found} == {FIRST, SECOND}
    for document in found:
        np.testing.assert_allclose(document.embedding, expected[document.tags[ARTIFACT_TAG]], atol=1e-5)


def test_while_a_promoted_model_loads_the_previous_one_answers(
    start: Start, two: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowLoad(monkeypatch, SECOND)
    room = start(TextEncoder, two, switch_wait=0)
    promote(two, SECOND)
    assert ask(room).tags[ARTIFACT_TAG] == FIRST
    assert ask(room, artifact=FIRST).tags[ARTIFACT_TAG] == FIRST, "nor does a load hold up others"
    assert slow.begun.wait(200)

    async def waiting() -> tuple[Document, Document]:
        named, indexed = (DocumentArray([Document(text=TEXT)]) for _ in range(2))
        tasks = [
            asyncio.create_task(room.encode(docs=named, parameters={"artifact": SECOND})),
            asyncio.create_task(room.encode_new(docs=indexed, parameters={})),
        ]
        done, _ = await asyncio.wait(tasks, timeout=0.05)
        assert not done, "an id, and what is indexed, wait for the model meant"
        slow.go.set()
        await asyncio.gather(*tasks)
        return named[0], indexed[0]

    assert [document.tags[ARTIFACT_TAG] for document in asyncio.run(waiting())] == [SECOND, SECOND]
    assert ask(room).tags[ARTIFACT_TAG] == SECOND


def test_past_the_limit_requests_wait_for_the_promoted_model(
    start: Start, two: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowLoad(monkeypatch, SECOND)
    room = start(TextEncoder, two, switch_wait=0, switch_limit=0)
    promote(two, SECOND)
    threading.Timer(0.1, slow.go.set).start()
    assert ask(room).tags[ARTIFACT_TAG] == SECOND


def test_a_promoted_model_is_loaded_before_the_first_request(start: Start, two: Workspace) -> None:
    room = start(TextEncoder, two)
    promote(two, SECOND)
    wait_until(lambda: metric(room, "finetuner_models_loaded") == 2, "the promoted model")


@pytest.mark.parametrize("name", [MANIFEST, "models/clip-text/weights.safetensors", "metrics.yml"])
def test_after_a_damaged_promotion_the_previous_model_answers(name: str, start: Start, two: Workspace) -> None:
    room = start(TextEncoder, two)
    logged: list[str] = []
    room.logger.error = lambda message, **_: logged.append(message)
    content = bytearray((two.artifacts / SECOND / name).read_bytes())
    content[len(content) // 2] ^= 1
    (two.artifacts / SECOND / name).write_bytes(content)
    promote(two, SECOND)
    for endpoint in ("encode", "encode_new", "encode_queries"):
        assert ask(room, endpoint).tags[ARTIFACT_TAG] == FIRST
    assert isinstance(error_of(ask(room, artifact=SECOND)), CorruptedArtifact), "who names it gets the reason"
    assert len(logged) == 1
    assert SECOND in logged[0]
    value = room.registry.get_sample_value
    assert value("finetuner_model_loads_total", {"outcome": "error"}) == 1


def test_a_model_that_fails_its_canary_is_not_used(
    start: Start, two: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, run = start(TextEncoder, two), Runner.run
    monkeypatch.setattr(
        Runner, "run", lambda runner, items: run(runner, items) * (np.nan if SECOND in repr(runner) else 1)
    )
    promote(two, SECOND)
    assert ask(room).tags[ARTIFACT_TAG] == FIRST
    error = error_of(ask(room, artifact=SECOND))
    assert type(error) is FinetunerServerError
    assert "must encode a canary" in str(error)


@pytest.mark.seconds
def test_the_last_used_models_stay_within_their_number_and_bytes(
    start: Start, two: Workspace, publish_tuned: Publish
) -> None:
    publish_tuned(two, THIRD, 3)
    room = start(TextEncoder, two, models=2)
    one = metric(room, "finetuner_model_bytes")
    for name in (SECOND, FIRST, THIRD):
        ask(room, artifact=name)
    assert kept(room, SECOND, FIRST, THIRD) == [FIRST, THIRD]
    small = start(TextEncoder, two, models=10, models_mb=int(2.5 * one / 2**20))
    for name in (SECOND, THIRD, SECOND):
        ask(small, artifact=name)
    assert metric(small, "finetuner_model_bytes") == 2 * one
    assert kept(small, FIRST, THIRD, SECOND) == [THIRD, SECOND]
    tiny = start(TextEncoder, two, models_mb=1)
    ask(tiny, artifact=SECOND)
    assert metric(tiny, "finetuner_model_bytes") == one
    assert kept(tiny, FIRST, SECOND) == [SECOND], "one always stays"


def test_every_changed_byte_of_a_manifest_is_detected(two: Workspace) -> None:
    path = two.artifacts / FIRST / MANIFEST
    good = path.read_bytes()
    assert verify_artifact(path.parent).artifact_id == FIRST
    for position in range(0, len(good), 7):
        for bit in (1, 32):
            damaged = bytearray(good)
            damaged[position] ^= bit
            path.write_bytes(damaged)
            with pytest.raises(CorruptedMetadata):
                read_manifest(path.parent)
