"""Callers take turns in the gateway's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from jina.logging.logger import JinaLogger
from starlette.responses import PlainTextResponse

from finetuner.executors.gateway.access import turns
from finetuner.executors.gateway.access.access import Access, who
from finetuner.executors.gateway.access.grpc_check import GrpcCheck
from finetuner.executors.gateway.access.http_check import HttpCheck
from finetuner.executors.gateway.access.intake import Intake
from finetuner.executors.gateway.access.metrics import GatewayMetrics
from finetuner.executors.gateway.access.turns import FEW, Turns
from finetuner.workspace.tokens import TokenFile


@pytest.fixture
def shared() -> Turns:
    """Turns of several callers."""
    mine = Turns()
    mine.asked("many", 100)
    mine.asked("one", 1)
    return mine


def test_work_that_comes_alone_waits_for_nothing(shared: Turns) -> None:
    async def check() -> list[str]:
        done = list[str]()
        shared.call("many", lambda: done.append("a"))
        assert done == ["a"]
        await asyncio.sleep(0)
        shared.call("many", lambda: done.append("b"))
        return done

    assert asyncio.run(check()) == ["a", "b"]


def test_work_of_one_caller_waits_for_nothing() -> None:
    async def check() -> list[str]:
        mine, done = Turns(), list[str]()
        mine.asked("many", 1)
        for name in "abc":
            mine.call("many", partial(done.append, name))
        await mine.take("many")
        return done

    assert asyncio.run(check()) == ["a", "b", "c"]


def test_each_caller_of_many_does_one_piece_of_work_each_time_round(shared: Turns) -> None:
    async def check() -> list[list[str]]:
        done, rounds = list[str](), list[list[str]]()
        for name in ("many 1", "many 2", "many 3", "many 4", "more 1", "most 1", "more 2"):
            shared.call(name.split()[0], partial(done.append, name))
        while done:
            rounds.append(done.copy())
            done.clear()
            await asyncio.sleep(0)
        return rounds

    assert asyncio.run(check()) == [["many 1"], ["many 2", "more 1", "most 1"], ["many 3", "more 2"], ["many 4"]]


def test_a_caller_of_few_waits_for_no_turn(shared: Turns) -> None:
    async def check() -> list[str]:
        done = list[str]()
        for name in ("many", "many", "one", "one"):
            shared.call(name, partial(done.append, name))
        await shared.take("one")
        return done.copy()

    assert asyncio.run(check()) == ["many", "one", "one"]


def test_a_caller_that_leaves_gives_its_turn_up(shared: Turns) -> None:
    async def check() -> None:
        first, leaves, stays = (asyncio.ensure_future(shared.take("many")) for _ in range(3))
        await asyncio.sleep(0)
        assert [each.done() for each in (first, leaves, stays)] == [True, False, False]
        leaves.cancel()
        await stays
        assert leaves.cancelled()

    asyncio.run(check())


def test_callers_are_mixed_while_one_of_few_texts_asks_beside_another(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Turns()
    mine.asked("a", 1)
    mine.asked("a", FEW)
    assert not mine.mixed, "there is one"
    mine.asked("b", FEW + 1)
    assert mine.mixed
    mine.asked("a", FEW + 1)
    assert not mine.mixed, "both have many"
    mine.asked("b", 1)
    assert mine.mixed
    monkeypatch.setattr(turns, "LATELY", -1.0)
    assert not mine.mixed
    assert not mine._asked


def test_http_requests_begin_in_turn(tmp_path: Path, shared: Turns) -> None:
    secrets = {name: TokenFile(tmp_path).create(name, "admin") for name in ("many", "one")}
    begun = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.append(who())
        await PlainTextResponse(who())(scope, receive, send)

    async def check() -> None:
        access = Access(None, tmp_path)
        access.turns = shared
        transport = httpx.ASGITransport(HttpCheck(app, access, GatewayMetrics(None)))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            names = ["many"] * 20 + ["one"]
            asking = [client.post("/encode", headers={"authorization": f"token {secrets[name]}"}) for name in names]
            answers = await asyncio.gather(*asking)
            assert [answer.text for answer in answers] == names

    asyncio.run(check())
    assert begun.index("one") <= 1, "the first of many has begun before"


def test_grpc_names_its_callers(tmp_path: Path) -> None:
    class Methods(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc is not typed
        def service(self, details: Any) -> Any:
            async def each(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
                yield who().encode()

            return grpc.stream_stream_rpc_method_handler(each)

    async def names(access: Access, *metadata: tuple[str, str]) -> list[str]:
        check = GrpcCheck(access, GatewayMetrics(None), Intake(0, JinaLogger("intake")))
        server = grpc.aio.server(interceptors=[check])
        server.add_generic_rpc_handlers([Methods()])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                call = channel.stream_stream("/jina.JinaRPC/Call")
                return [answer.decode() async for answer in call(iter([b""]), metadata=metadata)]
        finally:
            await server.stop(None)

    secret = TokenFile(tmp_path).create("one", "admin")
    assert asyncio.run(names(Access(None, tmp_path), ("authorization", f"token {secret}"))) == ["one"]
    (peer,) = asyncio.run(names(Access(None)))
    assert peer.startswith("ipv4:127.0.0.1:"), "the connection, in a Flow without tokens"
