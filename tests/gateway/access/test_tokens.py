"""Tokens that change while the gateway runs, rate limits, bounded bodies, and the audit log."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import httpx
import pytest
from jina.logging.logger import JinaLogger
from jina.proto import jina_pb2, jina_pb2_grpc
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from finetuner.exceptions import Forbidden, InvalidInput, Unauthorized
from finetuner.executors.gateway.access import audit, http_check
from finetuner.executors.gateway.access.access import ANYBODY, Access, Caller
from finetuner.executors.gateway.access.audit import Audit
from finetuner.executors.gateway.access.grpc_check import GrpcCheck
from finetuner.executors.gateway.access.http_check import Bounded, HttpCheck
from finetuner.executors.gateway.access.intake import Intake
from finetuner.executors.gateway.access.metrics import GatewayMetrics
from finetuner.executors.gateway.access.rate import TokenBuckets
from finetuner.workspace.tokens import ENVIRONMENT, ROOMS, Role, TokenFile, rooms_secret

SECRET = "an-admins"


def refused(access: Access, secret: str) -> str:
    with pytest.raises(Unauthorized) as error:
        access.caller(f"token {secret}")
    return str(error.value)


def test_a_token_is_noticed_with_the_next_request(tmp_path: Path) -> None:
    access, file = Access(None, tmp_path), TokenFile(tmp_path)
    assert access.caller(None) == ANYBODY
    secret = file.create("ci", "write")
    assert access.caller(f"Bearer {secret}") == Caller("ci", Role.WRITE)
    with pytest.raises(Unauthorized, match="needs a token"):
        access.caller(None)
    file.revoke("ci")
    assert "'ci', which is revoked" in refused(access, secret)
    again = file.create("ci", "read")
    assert access.caller(f"token {again}").role == Role.READ
    assert "must belong to this Flow" in refused(access, secret)


def test_an_expired_token_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = TokenFile(tmp_path).create("ci", "admin", 1)
    access = Access(None, tmp_path)
    assert access.caller(f"token {secret}").name == "ci"
    later = time.time() + 86401
    monkeypatch.setattr(time, "time", lambda: later)
    assert "which is expired" in refused(access, secret)


@pytest.mark.parametrize("harm", ["remove", "break"])
def test_a_locked_flow_stays_locked(tmp_path: Path, harm: str) -> None:
    file = TokenFile(tmp_path)
    secret = file.create("ci", "admin")
    access = Access(None, tmp_path)
    file.revoke("ci")
    assert access.locked
    file.path.unlink()
    if harm == "break":
        file.path.write_text("nonsense")
    assert access.locked
    refused(access, secret)


def test_the_tokens_of_the_environment_and_the_rooms_stay_valid(tmp_path: Path) -> None:
    access = Access(SECRET, tmp_path)
    TokenFile(tmp_path).create("ci", "read")
    assert access.caller(f"token {SECRET}") == Caller(ENVIRONMENT, Role.ADMIN)
    assert access.caller(f"token {rooms_secret(tmp_path)}") == Caller(ROOMS, Role.READ)


def test_other_machines_need_a_token(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="host must be 127.0.0.1 in a Flow without a token.*finetuner token create"):
        Access(None, tmp_path, host="0.0.0.0")
    assert Access(SECRET, tmp_path, host="0.0.0.0").locked
    TokenFile(tmp_path).create("ci", "read")
    assert Access(None, tmp_path, host="0.0.0.0").locked


def test_a_request_beyond_the_role_is_refused(tmp_path: Path) -> None:
    secret = TokenFile(tmp_path).create("ci", "write")
    entry = Access(None, tmp_path).admit(f"token {secret}", "http", "POST /x")
    entry.require(Role.WRITE, "/fit")
    with pytest.raises(Forbidden, match=r"role must be admin for '/index/backup'\. Got write, of the token 'ci'"):
        entry.require(Role.ADMIN, "/index/backup")


def test_a_bucket_holds_two_seconds_and_fills_again() -> None:
    now = 0.0
    buckets = TokenBuckets(5, clock=lambda: now)
    assert [buckets.wait("a") for _ in range(10)] == [0.0] * 10
    assert buckets.wait("a") == pytest.approx(0.2)
    assert buckets.wait("b") == 0.0, "each name has its own bucket"
    now = 0.2
    assert [buckets.wait("a") > 0 for _ in range(2)] == [False, True]
    now = 100.0
    assert [buckets.wait("a") > 0 for _ in range(11)] == [False] * 10 + [True]


def test_no_limit_and_a_small_one() -> None:
    buckets = TokenBuckets(0)
    assert not any(buckets.wait("a") for _ in range(1000))
    now = 0.0
    slow = TokenBuckets(0.1, clock=lambda: now)
    assert [slow.wait("a"), slow.wait("a")] == [0.0, pytest.approx(10)]


async def echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


def app_of(access: Access) -> ASGIApp:
    routes = [Route("/{path:path}", echo, methods=["GET", "POST"])]
    return HttpCheck(Bounded(Starlette(routes=routes)), access, GatewayMetrics(None))


def ask(access: Access, *calls: Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]) -> list[httpx.Response]:
    async def run() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app_of(access))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:51001") as client:
            return [await call(client) for call in calls]

    return asyncio.run(run())


def test_http_reports_when_to_retry() -> None:
    headers = {"authorization": f"token {SECRET}"}
    first, second, health = ask(
        Access(SECRET, rate_limit=0.01),
        lambda client: client.post("/encode", headers=headers),
        lambda client: client.post("/encode", headers=headers),
        lambda client: client.get("/healthz"),
    )
    assert [first.status_code, second.status_code, health.status_code] == [200, 429, 200]
    assert 1 <= int(second.headers["retry-after"]) <= 100
    assert "Try again in" in second.json()["detail"]


def test_grpc_reports_when_to_retry() -> None:
    class Info(jina_pb2_grpc.JinaInfoRPCServicer):
        async def _status(self, empty: object, context: object) -> jina_pb2.JinaInfoProto:
            return jina_pb2.JinaInfoProto()

    async def run() -> grpc.aio.AioRpcError:
        server = grpc.aio.server(
            interceptors=[
                GrpcCheck(Access(SECRET, rate_limit=0.01), GatewayMetrics(None), Intake(0, JinaLogger("intake")))
            ]
        )
        jina_pb2_grpc.add_JinaInfoRPCServicer_to_server(Info(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        metadata = (("authorization", f"token {SECRET}"),)
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                stub = jina_pb2_grpc.JinaInfoRPCStub(channel)
                empty = jina_pb2.google_dot_protobuf_dot_empty__pb2.Empty()
                await stub._status(empty, metadata=metadata)
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await stub._status(empty, metadata=metadata)
                return error.value
        finally:
            await server.stop(None)

    error = asyncio.run(run())
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert 0 < float(error.trailing_metadata()["retry-after"]) <= 100


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://127.0.0.1:51001"}, 200),
        ({"host": "localhost:51001", "origin": "http://localhost:51001"}, 200),
        ({"host": "[::1]:51001"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:8000"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "evil.example:51001"}, 403),
        ({"host": "evil.example:51001", "origin": "http://evil.example:51001"}, 403),
        ({"host": "[::1"}, 403),
    ],
)
def test_without_a_token_foreign_pages_are_refused(headers: dict[str, str], status: int) -> None:
    answer, locked = ask(
        Access(None),
        lambda client: client.post("/index", headers=headers),
        lambda client: client.get("/healthz", headers=headers),
    )
    assert answer.status_code == status
    assert locked.status_code == 200
    (by_token,) = ask(
        Access(SECRET),
        lambda client: client.post("/index", headers={**headers, "authorization": f"token {SECRET}"}),
    )
    assert by_token.status_code == 200, "a request with a token may come from any page"


def test_every_body_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_check, "MAX_MESSAGE_BYTES", 1000)
    headers = {"authorization": f"token {SECRET}"}
    answers = ask(
        Access(SECRET),
        lambda client: client.post("/v1/index", headers=headers, content=bytes(1000)),
        lambda client: client.post("/v1/index", headers=headers, content=bytes(1001)),
        lambda client: client.post("/v2/rpc/artifact.upload", headers=headers, content=bytes(1001)),
    )
    assert [answer.status_code for answer in answers] == [200, 413, 200]
    assert answers[1].headers["connection"] == "close"


@pytest.mark.parametrize("pause", [60, 0.005], ids=["pauses", "drips"])
def test_a_body_that_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch, pause: float) -> None:
    monkeypatch.setattr(http_check, "BODY_SECONDS", 0.05)

    async def nothing() -> dict[str, object]:
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": b"x", "more_body": True}

    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    headers = [(b"authorization", f"token {SECRET}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/v1/index", "headers": headers, "query_string": b""}
    asyncio.run(app_of(Access(SECRET))({**scope, "http_version": "1.1"}, nothing, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 408


def test_the_audit_log_holds_writes_and_no_secrets(tmp_path: Path) -> None:
    secrets = {name: TokenFile(tmp_path).create(name, name) for name in ("read", "write")}
    headers = {name: {"authorization": f"token {secret}"} for name, secret in secrets.items()}
    ask(
        Access(None, tmp_path),
        lambda client: client.post("/v1/index?api_key=hidden", headers=headers["write"], content=b"content"),
        lambda client: client.post("/api/v1/experiments/a%22%0A{b", headers=headers["read"]),
        lambda client: client.post("/v1/search", headers=headers["write"]),
        lambda client: client.post("/v1/index"),
    )
    file = tmp_path / "audit.jsonl"
    text = file.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["token"], line["role"], line["request"], line["status"]) for line in lines] == [
        ("write", "write", "POST /v1/index", 200),
        ("read", "read", 'POST /api/v1/experiments/a"\n{b', 403),
    ]
    assert lines[0]["transport"] == "http"
    assert not any(word in text for word in (*secrets.values(), "hidden", "content"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_refused_requests_do_not_push_others_out_of_the_audit_log(tmp_path: Path) -> None:
    secrets = {name: TokenFile(tmp_path).create(name, name) for name in ("read", "write")}
    headers = {name: {"authorization": f"token {secret}"} for name, secret in secrets.items()}
    access = Access(None, tmp_path)
    refused = [lambda client: client.post("/v1/index", headers=headers["read"])] * 200
    (*_, written) = ask(access, *refused, lambda client: client.post("/v1/index", headers=headers["write"]))
    access.close()
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert written.status_code == 200
    assert len(lines) < 80
    assert sum(line.get("status") == 200 for line in lines) == 1
    own = sum(line.get("status") == 403 for line in lines)
    assert {"token": "read", "refused": 200 - own}.items() <= lines[-1].items()


def test_the_audit_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MAX_BYTES", 1000)
    log = Audit(tmp_path)
    for number in range(200):
        log.write(request="x" * 10_000, documents=number)
    files = sorted(tmp_path.iterdir())
    assert {file.name for file in files} - {"audit.jsonl"} == {f"audit.jsonl.{number}" for number in range(1, 5)}
    assert all(file.stat().st_size < 1500 for file in files)
    newest = (tmp_path / "audit.jsonl.1").read_text().splitlines()
    assert json.loads(newest[-1])["documents"] >= 190
    Audit(None).write(request="x")


def test_requests_pass_without_a_writable_audit_log(tmp_path: Path) -> None:
    access = Access(SECRET, tmp_path)
    (tmp_path / "audit.jsonl").mkdir()
    headers = {"authorization": f"token {SECRET}"}
    (answer,) = ask(access, lambda client: client.post("/v1/index", headers=headers))
    assert answer.status_code == 200


def test_an_unreadable_token_file_refuses_everybody(tmp_path: Path) -> None:
    TokenFile(tmp_path).create("ci", "admin")
    access = Access(None, tmp_path)
    os.replace(tmp_path / "tokens.json", tmp_path / "elsewhere")
    (tmp_path / "tokens.json").mkdir()  # not even root can read it
    assert access.locked
    with pytest.raises(Unauthorized):
        access.caller("token x")
