"""The bytes of all bodies that are held at the same time."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from finetuner.executors.gateway.access import arriving
from finetuner.executors.gateway.access.access import Access, RateLimited
from finetuner.executors.gateway.access.arriving import SMALL, Arriving
from finetuner.executors.gateway.access.http_check import Bounded, HttpCheck
from finetuner.executors.gateway.access.metrics import GatewayMetrics

LARGE = 2 * SMALL


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arriving, "SECONDS", 0.05)


async def passes(bodies: Arriving, caller: str, size: int) -> bool:
    try:
        async with bodies.hold(caller, size):
            return True
    except RateLimited:
        return False


def test_a_caller_has_half_and_small_bodies_pass() -> None:
    async def run() -> list[bool]:
        bodies = Arriving(4 * LARGE)
        async with bodies.hold("anna", LARGE), bodies.hold("anna", LARGE):
            found = [await passes(bodies, *asked) for asked in (("anna", LARGE), ("anna", SMALL), ("ben", LARGE))]
            async with bodies.hold("ben", LARGE), bodies.hold("ben", LARGE):
                found.append(await passes(bodies, "carl", LARGE))
        return [*found, await passes(bodies, "anna", 100 * LARGE)]

    assert asyncio.run(run()) == [False, True, True, False, True]


def test_a_waiting_body_gets_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arriving, "SECONDS", 60)

    async def run() -> bool:
        bodies = Arriving(2 * LARGE)
        async with bodies.hold("anna", LARGE):
            waiting = asyncio.create_task(passes(bodies, "anna", LARGE))
            await asyncio.sleep(0)
            assert not waiting.done()
        return await waiting

    assert asyncio.run(run())


def test_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arriving.Arriving.__init__, "__defaults__", (2 * LARGE,))
    secret, reached, held = "an-admins", asyncio.Event(), asyncio.Event()

    async def echo(request: Request) -> PlainTextResponse:
        if request.url.path == "/v1/index":
            reached.set()
            await held.wait()
        return PlainTextResponse(str(len(await request.body())))

    app = HttpCheck(
        Bounded(Starlette(routes=[Route("/{path:path}", echo, methods=["POST"])])), Access(secret), GatewayMetrics(None)
    )

    async def run() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        headers = {"authorization": f"token {secret}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://flow", headers=headers) as client:
            first = asyncio.create_task(client.post("/v1/index", content=bytes(LARGE)))
            await asyncio.wait_for(reached.wait(), 60)
            found = [
                await client.post(path, content=bytes(size))
                for path, size in (("/v1/search", LARGE), ("/v1/search", SMALL), ("/v1/artifacts", LARGE))
            ]
            held.set()
            return [*found, await first, await client.post("/v1/search", content=bytes(LARGE))]

    answers = asyncio.run(run())
    assert [answer.status_code for answer in answers] == [429, 200, 200, 200, 200]
    assert answers[0].headers["retry-after"] == "1"
    assert "half of it for one token" in answers[0].json()["detail"]
