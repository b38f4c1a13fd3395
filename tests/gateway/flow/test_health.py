"""/healthz runs the models and reports the state of all rooms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from docarray import Document, DocumentArray
from jina.types.request.data import DataRequest

from finetuner.contract.wire import ARTIFACT_TAG, mark_error
from finetuner.exceptions import FinetunerServerError, InvalidDocument
from finetuner.executors.gateway.flow.health import Ask, Health, image
from finetuner.executors.gateway.flow.rooms import _answering
from tests import plain_http
from tests.gateway.conftest import ToyFlow


def test_healthy_encoders_are_described(open_flow: ToyFlow) -> None:
    answer = plain_http.get(f"{open_flow.http}/healthz")
    assert answer.status_code == 200
    state = answer.json()
    assert state["status"] == "ok"
    assert set(state["rooms"]) == {"trainer", "text_encoder", "vision_encoder", "indexer"}
    assert all(room == {"up": 1, "replicas": 1} for room in state["rooms"].values())
    for name in ("text", "vision"):
        assert state["encoders"][name]["artifact"] == "toy"
        assert state["encoders"][name]["dim"] == 4
        assert state["encoders"][name]["seconds"] > 0


def test_a_broken_encoder_is_named_with_its_reason_and_the_other_is_not(locked_flow: ToyFlow) -> None:
    answer = plain_http.get(f"{locked_flow.http}/healthz")
    assert answer.status_code == 503
    state = answer.json()
    assert state["detail"] == "vision encoder: the weights are gone"
    assert state["encoders"]["text"]["dim"] == 4


def test_the_canary_image_is_a_small_png() -> None:
    assert image().startswith(b"\x89PNG")
    assert len(image()) < 2000


def answering(change: Callable[[Document], Any]) -> Ask:
    async def ask(request: DataRequest) -> DataRequest:
        document = request.docs[0]
        change(document)
        request.data.docs = DocumentArray([document])
        return request

    return ask


def embedding(document: Document, value: float = 0.5) -> None:
    document.embedding = np.full(4, value, dtype=np.float32)
    document.tags[ARTIFACT_TAG] = "toy"


async def all_up() -> dict[str, dict[str, int]]:
    return {"text_encoder": {"up": 2, "replicas": 2}, "indexer": {"up": 1, "replicas": 1}}


async def never(_: DataRequest) -> DataRequest:
    await asyncio.sleep(60)
    raise AssertionError


async def down(_: DataRequest) -> DataRequest:
    raise FinetunerServerError("a room of the Flow did not answer", "connection refused", 503)


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (answering(lambda document: None), "without an embedding"),
        (answering(lambda document: embedding(document, np.nan)), "NaN or infinity"),
        (answering(lambda document: mark_error(document, InvalidDocument("broken"))), "broken"),
        (never, "no answer within 0.2 s"),
        (down, "connection refused"),
    ],
)
def test_a_broken_encoder_is_unavailable(ask: Ask, expected: str) -> None:
    state = asyncio.run(Health(ask, all_up, timeout=0.2).check())
    assert state["status"] == "unavailable"
    assert f"text encoder: {expected}" in state["detail"] or expected in state["encoders"]["text"]["error"]
    assert "vision encoder" in state["detail"]


def test_probes_at_the_same_time_share_one_answer() -> None:
    asked = 0

    async def ask(request: DataRequest) -> DataRequest:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)  # the other probes ask
        return await answering(embedding)(request)

    async def many() -> list[dict[str, Any]]:
        health = Health(ask, all_up)
        return list(await asyncio.gather(*(health.check() for _ in range(50))))

    assert [state["status"] for state in asyncio.run(many())] == ["ok"] * 50
    assert asked == 2, "one for each encoder"


def test_a_replica_that_is_down_only_degrades() -> None:
    async def one_down() -> dict[str, dict[str, int]]:
        return await all_up() | {"text_encoder": {"up": 1, "replicas": 2}}

    state = asyncio.run(Health(answering(embedding), one_down).check())
    assert state["status"] == "degraded"
    assert state["detail"] == "text_encoder: 1 of 2 down"
    assert state["rooms"]["text_encoder"] == {"up": 1, "replicas": 2}


class Replicas:
    """Jina's connections to a room. Each of them answers, fails until it is reset, or fails for good."""

    def __init__(self, *kinds: str) -> None:
        self.connections = [Replica(str(number), kind) for number, kind in enumerate(kinds)]

    def get_all_connections(self) -> list[Replica]:
        return self.connections

    async def reset_connection(self, address: str, _: str) -> None:
        kind = self.connections[int(address)].kind
        self.connections[int(address)] = Replica(address, "up" if kind == "stale" else kind)


class Replica:
    def __init__(self, address: str, kind: str) -> None:
        self.address, self.kind = address, kind

    async def send_discover_endpoint(self) -> None:
        if self.kind != "up":
            raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata())


def test_a_closed_connection_is_reopened_before_its_replica_counts_as_down() -> None:
    assert asyncio.run(_answering("room", Replicas("up", "stale", "dead"))) == [True, True, False]
