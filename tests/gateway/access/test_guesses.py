"""Wrong tokens: their limit over both protocols, and their lines in the audit log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import httpx
import pytest
from jina.logging.logger import JinaLogger
from jina.proto import jina_pb2, jina_pb2_grpc
from starlette.applications import Starlette

from finetuner.executors.gateway.access import tally
from finetuner.executors.gateway.access.access import Access
from finetuner.executors.gateway.access.grpc_check import GrpcCheck
from finetuner.executors.gateway.access.guesses import Guesses
from finetuner.executors.gateway.access.http_check import HttpCheck
from finetuner.executors.gateway.access.intake import Intake
from finetuner.executors.gateway.access.metrics import GatewayMetrics
from finetuner.executors.gateway.access.peers import address_of
from finetuner.executors.gateway.access.tally import MAX_LINES, OTHERS

SECRET = "an-admins"


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("ipv4:203.0.113.7:5000", "203.0.113.7"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:5000", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2::9]:5000", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("ipv6:%5Bfe80::1%25eth0%5D:5000", "fe80::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("unix:", "unix:"),
        ("", ""),
    ],
)
def test_an_address_is_one_holder(peer: str, address: str) -> None:
    assert address_of(peer) == address


def count(limit: float, addresses: list[str]) -> tuple[list[float], dict[str, int]]:
    """Return the seconds to wait after each wrong token, and what is recorded."""
    recorded: dict[str, int] = {}

    async def run() -> list[float]:
        found = Guesses(limit, recorded.__setitem__, clock=lambda: 0.0)
        waits = [found.wait(address) for address in addresses]
        found.tally.flush()
        found.tally.flush()
        return waits

    return asyncio.run(run()), recorded


def test_an_address_has_a_minute_of_wrong_tokens() -> None:
    waits, recorded = count(30, ["a"] * 31 + ["b"])
    assert waits == [0.0] * 30 + [pytest.approx(2.0), 0.0]
    assert recorded == {"a": 31, "b": 1}
    assert count(0, ["a"] * 1000) == ([0.0] * 1000, {"a": 1000})


def test_many_addresses_cost_bounded_memory_and_lines() -> None:
    addresses = [f"10.0.{number // 256}.{number % 256}" for number in range(5000)]
    waits, recorded = count(1, [*addresses, addresses[0], addresses[-1]])
    assert waits[-2:] == [0.0, 60.0], "the oldest bucket made room for others"
    assert len(recorded) == MAX_LINES + 1
    assert recorded[OTHERS] == 5000 - MAX_LINES + 1


def lines_of(folder: Path) -> list[dict[str, object]]:
    file = folder / "audit.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_over_http_with_one_audit_line_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "MINUTE", 0.5)
    access = Access(SECRET, tmp_path, wrong_tokens=2)

    async def run() -> list[httpx.Response]:
        app = HttpCheck(Starlette(), access, GatewayMetrics(None))
        transport = httpx.ASGITransport(app, client=("203.0.113.7", 5000))
        tokens = ["guess-1", "guess-2", "guess-3", "", SECRET]
        async with httpx.AsyncClient(transport=transport, base_url="http://flow") as client:
            found = [await client.get("/v1/runs", headers={"authorization": f"token {each}"}) for each in tokens]
        while not lines_of(tmp_path):
            await asyncio.sleep(0.01)
        return found

    answers = asyncio.run(run())
    assert [answer.status_code for answer in answers] == [401, 401, 429, 401, 404], "no token is no guess"
    assert int(answers[2].headers["retry-after"]) >= 1
    assert answers[2].json()["type"] == "ResourceExhausted"
    assert "wrong tokens per minute" in answers[2].json()["detail"]
    (line,) = lines_of(tmp_path)
    assert {"address": "203.0.113.7", "wrong_tokens": 3}.items() <= line.items()
    assert "guess" not in (tmp_path / "audit.jsonl").read_text()


def test_over_grpc(tmp_path: Path) -> None:
    access = Access(SECRET, tmp_path, wrong_tokens=2)

    class Info(jina_pb2_grpc.JinaInfoRPCServicer):
        async def _status(self, empty: object, context: object) -> jina_pb2.JinaInfoProto:
            return jina_pb2.JinaInfoProto()

    async def nothing() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    async def run() -> list[grpc.aio.AioRpcError]:
        server = grpc.aio.server(
            interceptors=[GrpcCheck(access, GatewayMetrics(None), Intake(0, JinaLogger("intake")))]
        )
        jina_pb2_grpc.add_JinaInfoRPCServicer_to_server(Info(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        found = []
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                stub = jina_pb2_grpc.JinaInfoRPCStub(channel)
                empty = jina_pb2.google_dot_protobuf_dot_empty__pb2.Empty()
                for number in range(3):
                    with pytest.raises(grpc.aio.AioRpcError) as error:
                        await stub._status(empty, metadata=(("authorization", f"token guess-{number}"),))
                    found.append(error.value)
                await stub._status(empty, metadata=(("authorization", f"token {SECRET}"),))
                endless = channel.stream_unary("/jina.JinaInfoRPC/_status")(nothing())
                assert await endless.code() == grpc.StatusCode.UNAUTHENTICATED, "before its message has arrived"
        finally:
            await server.stop(None)
        access.close()
        return found

    errors = asyncio.run(run())
    refused, limited = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED
    assert [error.code() for error in errors] == [refused, refused, limited]
    assert 0 < float(errors[2].trailing_metadata()["retry-after"]) <= 30
    (line,) = lines_of(tmp_path)
    assert {"address": "127.0.0.1", "wrong_tokens": 3}.items() <= line.items()
