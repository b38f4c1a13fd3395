"""Vectors of content that was encoded before: the same, of the same model alone, within bounds."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from docarray import Document, DocumentArray

from finetuner.contract.wire import ARTIFACT_TAG, ERROR_TAG, TOKENS_TAG
from finetuner.executors.encoder.lane.cache import OVERHEAD, VectorCache, key_of
from finetuner.executors.text_encoder.executor import TextEncoder
from finetuner.executors.vision_encoder.executor import VisionEncoder
from finetuner.workspace.folder import Workspace
from tests.encoder.conftest import TUNED, Start
from tests.encoder.lane.gate import TEXTS, Gate, send, texts


def counts(room: Any) -> dict[str, float]:
    name, outcomes = "finetuner_cache_documents_total", ("hit", "miss")
    found = {outcome: room.registry.get_sample_value(name, {"outcome": outcome}) for outcome in outcomes}
    return {outcome: count for outcome, count in found.items() if count is not None}


def test_known_texts_need_no_pass_and_models_do_not_share(start: Start, workspace: Workspace, gate: Gate) -> None:
    room = start(TextEncoder, workspace, cache_mb=1)
    first = asyncio.run(send(room, texts(TEXTS)))
    passes = len(gate.passes)
    again = asyncio.run(send(room, texts(TEXTS)))
    assert len(gate.passes) == passes
    np.testing.assert_array_equal(again.embeddings, first.embeddings)
    assert counts(room)["hit"] >= len(TEXTS)
    other = asyncio.run(send(room, texts(TEXTS), artifact=TUNED))
    assert {document.tags[ARTIFACT_TAG] for document in other} == {TUNED}
    assert not np.isclose(other.embeddings, first.embeddings, atol=1e-3).all(axis=1).any()
    missed = counts(room)["miss"]
    for artifact in ("", TUNED):
        asyncio.run(send(room, texts(TEXTS), **{"artifact": artifact} if artifact else {}))
    assert counts(room)["miss"] == missed, "both models' vectors are kept"
    asyncio.run(send(room, texts(TEXTS[:1]), count_tokens=True))
    (counted,) = asyncio.run(send(room, texts(TEXTS[:1]), count_tokens=True))
    assert counted.tags[TOKENS_TAG] > 2
    assert room.registry.get_sample_value("finetuner_queue_documents") == 0


def test_errors_and_uris_are_not_kept(start: Start, workspace: Workspace, images: list[bytes]) -> None:
    room = start(VisionEncoder, workspace, cache_mb=1)
    for _ in range(2):
        documents = DocumentArray([Document(blob=images[0]), Document(blob=b"no"), Document(uri="data:,")])
        found = asyncio.run(send(room, documents))
        assert [ERROR_TAG in document.tags for document in found] == [False, True, True]
    assert counts(room) == {"hit": 1, "miss": 5}


def test_without_the_setting_every_text_is_encoded(start: Start, workspace: Workspace, gate: Gate) -> None:
    room = start(TextEncoder, workspace)
    gate.passes.clear()
    for passes in (1, 2):
        asyncio.run(send(room, texts(["a"])))
        assert len(gate.passes) == passes
    assert not counts(room)


def test_the_vectors_that_were_used_last_stay() -> None:
    vector = np.zeros(25, np.float32)
    cache = VectorCache(2 * (vector.nbytes + OVERHEAD))
    for name in ("a", "b", "a", "c"):
        if cache.find((name, b"")) is None:
            cache.keep((name, b""), vector, None)
    assert [name for name in "abc" if cache.find((name, b""))] == ["a", "c"]
    cache.keep(("c", b""), vector, 3)
    assert cache.find(("c", b"")) is not None
    assert cache._left == 0


def test_a_text_is_no_file_of_the_same_bytes() -> None:
    assert key_of("m", Document(text="a")) != key_of("m", Document(blob=b"a"))
    assert key_of("m", Document(text="a")) != key_of("n", Document(text="a"))
    assert key_of("m", Document(uri="http://a/b.jpg")) is None
