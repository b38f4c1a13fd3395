"""Health checks say that a gateway serves once it has answered its first requests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import grpc
import httpx
import numpy as np
import pytest
from docarray import DocumentArray
from grpc_health.v1 import health_pb2, health_pb2_grpc
from jina.logging.logger import JinaLogger
from jina.types.request.data import DataRequest

from finetuner.exceptions import FlowUnreachable, InvalidInput, NotFound
from finetuner.executors.gateway.access import grpc_check
from finetuner.executors.gateway.access.access import Access
from finetuner.executors.gateway.access.grpc_check import GrpcCheck
from finetuner.executors.gateway.access.intake import Intake
from finetuner.executors.gateway.access.metrics import GatewayMetrics
from finetuner.executors.gateway.flow import readiness
from finetuner.executors.gateway.flow.readiness import Readiness, StartingHealth
from tests.gateway.conftest import ToyFlow

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def test_a_flow_that_says_it_serves_encodes_at_once(open_flow: ToyFlow, locked_flow: ToyFlow) -> None:
    for flow in (open_flow, locked_flow):
        assert flow.first_answers == (200, 200, 200), "the first requests after the first SERVING"
    assert httpx.get(f"{open_flow.http}/healthz").status_code == 200


class SlowRooms:
    """Rooms that come up one after the other."""

    def __init__(self, up: int, error: Exception | None = None) -> None:
        self.asked: list[tuple[str, int]] = []
        self.down = 3
        self.error = error
        self.up = up

    async def ask(self, request: DataRequest) -> DataRequest:
        self.down -= 1
        if self.down >= 0:
            raise FlowUnreachable("text_encoder is down")
        self.asked.append((request.header.exec_endpoint, len(request.docs)))
        if self.error is not None:
            raise self.error
        for document in request.docs:
            document.embedding = np.zeros(2, np.float32)
        request.data.docs = DocumentArray(list(request.docs))
        return request

    async def states(self) -> dict[str, dict[str, int]]:
        self.up += 1
        return {"vision_encoder": {"up": min(self.up, 2), "replicas": 2}, "trainer": {"up": 0, "replicas": 1}}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "PAUSE_SECONDS", 0.01)


@pytest.mark.parametrize("error", [None, InvalidInput("the weights are gone"), NotFound("no /search")])
def test_it_waits_for_the_encoders_and_not_for_the_trainer(error: Exception | None) -> None:
    async def run() -> SlowRooms:
        rooms = SlowRooms(up=-2, error=error)
        state = Readiness(rooms, 60)  # type: ignore[arg-type]
        await state.reach()
        assert state.reached.is_set()
        return rooms

    rooms = asyncio.run(run())
    assert rooms.up == 2
    assert rooms.asked == [(endpoint, count) for endpoint in ("/encode", "/encode", "/search") for count in (1, 32, 1)]


def test_a_room_that_stays_down_does_not_stop_the_others_for_ever() -> None:
    async def run() -> None:
        state = Readiness(SlowRooms(up=-(10**9)), seconds=0.1)  # type: ignore[arg-type]
        await state.reach()
        assert state.reached.is_set()

    asyncio.run(run())


@asynccontextmanager
async def served(reached: asyncio.Event) -> AsyncIterator[str]:
    server = grpc.aio.server(
        interceptors=[GrpcCheck(Access("an-admins"), GatewayMetrics(None), Intake(0, JinaLogger("intake")))]
    )
    health_pb2_grpc.add_HealthServicer_to_server(StartingHealth(reached), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def test_grpc_health_follows() -> None:
    async def run() -> list[int]:
        reached, request = asyncio.Event(), health_pb2.HealthCheckRequest()
        async with served(reached) as address, grpc.aio.insecure_channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            watching = stub.Watch(request)
            found = [(await stub.Check(request)).status, (await watching.read()).status]
            reached.set()
            found += [(await stub.Check(request)).status, (await watching.read()).status]
            with pytest.raises(grpc.aio.AioRpcError) as unknown:
                await stub.Check(health_pb2.HealthCheckRequest(service="unknown"))
            assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
            return found

    assert asyncio.run(run()) == [NOT_SERVING, NOT_SERVING, SERVING, SERVING]


def test_a_message_without_a_token_comes_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_check, "OPEN_SECONDS", 0.1)
    over = threading.Event()

    def nothing() -> Iterator[bytes]:
        over.wait(60)
        yield b""

    def ask(address: str) -> grpc.StatusCode:
        with grpc.insecure_channel(address) as channel:
            try:
                channel.stream_unary("/grpc.health.v1.Health/Check")(nothing(), timeout=30)
            except grpc.RpcError as error:
                return error.code()
            finally:
                over.set()
        raise AssertionError

    async def run() -> grpc.StatusCode:
        async with served(asyncio.Event()) as address:
            return await asyncio.to_thread(ask, address)

    assert asyncio.run(run()) == grpc.StatusCode.INVALID_ARGUMENT
