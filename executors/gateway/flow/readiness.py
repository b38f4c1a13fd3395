"""Readiness: a gateway says that it serves once its rooms are up and have answered their first requests.

The rooms load and warm their models before they are up. The first request of each kind makes connections and threads.
"""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2
from jina.logging.logger import JinaLogger

from finetuner.contract.wire import ENCODE, SEARCH
from finetuner.exceptions import FinetunerError, FlowUnreachable

from .documents import read_request, write_response
from .health import image
from .rooms import Rooms

PAUSE_SECONDS = 0.2
BATCH = 32
ANSWERING = ("text_encoder", "vision_encoder", "indexer")

State = health_pb2.HealthCheckResponse


class Readiness:
    """Waits for the encoders and the indexer, and sends the first requests.

    Args:
        rooms: the Flow's rooms; any error of theirs but an outage counts as an answer.
        seconds: after them the gateway serves what there is: somebody may have to promote another model through it.
    """

    def __init__(self, rooms: Rooms, seconds: float) -> None:
        self._rooms = rooms
        self._seconds = seconds
        self._log = JinaLogger("readiness")
        self.reached = asyncio.Event()

    async def reach(self) -> None:
        """Return once the gateway is ready."""
        try:
            async with asyncio.timeout(self._seconds):
                for endpoint, document in _first_requests():
                    for times in (1, BATCH, 1):
                        await self._answered(endpoint, [document] * times)
                while not await self._all_up():
                    await asyncio.sleep(PAUSE_SECONDS)
        except TimeoutError:
            self._log.warning(f"encoders and indexer must be up within {self._seconds:g} s. One is not; see /healthz.")
        self.reached.set()

    async def _all_up(self) -> bool:
        states = await self._rooms.states()
        return all(state["up"] == state["replicas"] for name, state in states.items() if name in ANSWERING)

    async def _answered(self, endpoint: str, documents: list[dict[str, Any]]) -> None:
        body = json.dumps({"data": documents}).encode()
        while True:
            try:
                write_response(await self._rooms.ask(read_request(body, endpoint)))
            except FlowUnreachable:
                await asyncio.sleep(PAUSE_SECONDS)
            except FinetunerError:  # of a room without its model, or without this endpoint; /healthz tells
                return
            else:
                return


def _first_requests() -> list[tuple[str, dict[str, Any]]]:
    text, blob = {"text": "a canary"}, {"blob": base64.b64encode(image()).decode()}
    return [(ENCODE, text), (ENCODE, blob), (SEARCH, text)]


class StartingHealth(health.aio.HealthServicer):  # type: ignore[misc]  # grpc is not typed
    """gRPC's health service, NOT_SERVING until the gateway is ready.

    Args:
        reached: set when the gateway is ready.
    """

    def __init__(self, reached: asyncio.Event) -> None:
        super().__init__()
        self._reached = reached

    async def Check(  # noqa: N802  # gRPC's name
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """Return the state of a service."""
        answer = await super().Check(request, context)
        return answer if self._reached.is_set() else State(status=State.NOT_SERVING)

    async def Watch(  # noqa: N802  # gRPC's name
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> None:
        """Send the state of a service whenever it changes."""
        if not self._reached.is_set():
            await context.write(State(status=State.NOT_SERVING))
            await self._reached.wait()
        await super().Watch(request, context)
