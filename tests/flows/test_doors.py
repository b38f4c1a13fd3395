"""Every way into a Flow, one after the other: HTTP's routes, gRPC's methods, the Flow's endpoints. None is open.

What there is, is asked of the code, and what a reader may do stands here once more, so that a new route that nobody has
thought of is found.
"""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import httpx
import psutil
import pytest
import yaml
from docarray import Document, DocumentArray
from fastapi import FastAPI
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from jina import Client
from jina.proto import jina_pb2, jina_pb2_grpc
from jina.types.request.data import DataRequest
from starlette.routing import BaseRoute, Mount, Route

from finetuner.executors.gateway.access.access import Access
from finetuner.executors.gateway.access.metrics import GatewayMetrics
from finetuner.executors.gateway.flow.handler import Handler
from finetuner.executors.gateway.http_app import build_app
from finetuner.executors.room.secret import METADATA
from finetuner.executors.room.secret import OPEN_METHODS as PROBES
from finetuner.flow.running_flow import RunningFlow
from finetuner.flow.settings import flow_file
from finetuner.workspace.tokens import ROOMS_FILE, TokenFile

from .open_rooms import ENDPOINTS

VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
READING = {
    *("/", "/encode", "/rank", "/search", "/filter", "/status", "/problems", "/feedback"),
    *("/runs/get", "/runs/list", "/runs/status", "/runs/logs", "/runs/metrics", "/runs/examples"),
    *("/runs/page", "/runs/changes"),
    *("/experiments/list", "/datasets/list", "/datasets/pull", "/datasets/show", "/datasets/stats", "/artifacts/list"),
    *("/artifacts/pull", "/artifacts/aliases"),
}
ADMINS = {"/index/backup", "/index/restore", "/index/verify", "/index/move", "/collections/drop", "/room"}
READING_POSTS = {
    *("/v1/encode", "/v1/search", "/v1/embeddings", "/v1/index/filter", "/v1/feedback", "/v1/runs/check"),
    *(f"/v2/rpc/{name}" for name in ("user.identity.whoami", "artifact.list", "artifact.getDetail")),
    *("/v2/rpc/artifact.getDownloadUrl", "/v2/rpc/executor.getPackage", "/post"),
}
ADMIN_PAGES = {"/v1/tokens", "/v1/audit", "/v1/rooms"}
OPEN_PAGES = {"/", "/docs", "/healthz", "/dry_run", "/v2/rpc/user.identity.proxiedAuthorize"}
OPEN_FOLDERS = ("/ui/", "/v2/download/")
OPEN_METHODS = {
    *("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch", "/grpc.health.v1.Health/List"),
    "/jina.JinaGatewayDryRunRPC/dry_run",
}


@dataclass(frozen=True)
class Locked:
    """A Flow with tokens, and what opens it or does not."""

    flow: RunningFlow
    admin: str
    writer: str
    reader: str
    wrong: dict[str, str | None]
    """Headers by what is wrong with them; None for no header."""

    def audit(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in (self.flow.workspace / "audit.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    folder = tmp_path_factory.mktemp("doors")
    content = yaml.safe_load(flow_file("encode").read_text())
    rooms = Path(__file__).with_name("open_rooms.py")
    content["gateway"]["uses"] = str(flow_file().parent / content["gateway"]["uses"])
    for room in content["executors"]:
        room |= {"uses": "OpenRoom", "py_modules": str(rooms), "uses_with": {"workspace_url": "workspace"}}
        room |= {"replicas": 1, "port_monitoring": room["port_monitoring"][0]}
    (folder / "doors.yml").write_text(yaml.safe_dump(content, sort_keys=False))
    file = TokenFile(folder / "workspace")
    made = {role: file.create(role, role) for role in ("admin", "write", "read")}
    revoked = file.create("revoked", "admin")
    file.revoke("revoked")
    with pytest.MonkeyPatch.context() as patch:
        past = time.time() - 3 * 86400
        patch.setattr(time, "time", lambda: past)
        expired = file.create("expired", "admin", 1)
    wrong = {"none": None, "wrong": "token nonsense", "revoked": f"token {revoked}", "expired": f"Bearer {expired}"}
    with RunningFlow(folder / "workspace", flow=folder / "doors.yml") as running:
        yield Locked(running, made["admin"], made["write"], made["read"], wrong)


def app() -> FastAPI:
    handler = Handler.__new__(Handler)  # as far as the routes need it
    handler.metrics = GatewayMetrics(None)
    return build_app(handler, Access(None))


def paths(routes: list[BaseRoute], before: str = "") -> Iterator[str]:
    """Yield an address for every route, with values in the place of its parameters."""
    for route in routes:
        if isinstance(route, Mount):
            yield from paths(route.routes, before + route.path)
            yield f"{before}{route.path}/x"
        else:
            assert isinstance(route, Route), f"{route} must be HTTP: WebSockets are refused"
            yield before + re.sub(r"\{\w+(:\w+)?\}", "x", route.path)


def pages() -> list[str]:
    found = set(paths(app().routes))
    assert len(found) > 20
    return sorted({*found, *ENDPOINTS, *OPEN_PAGES, "/nowhere", "/v1/nowhere", "/api/v1/nowhere", "/v2/rpc/nowhere"})


def is_open(verb: str, path: str) -> bool:
    return verb in ("GET", "HEAD") and (path in OPEN_PAGES or path.startswith(OPEN_FOLDERS))


def test_no_page_is_open(locked: Locked) -> None:
    with httpx.Client(base_url=locked.flow.http, timeout=60) as client:
        for path, verb, (why, header) in product(pages(), VERBS, locked.wrong.items()):
            if is_open(verb, path) or (why != "none" and verb not in ("GET", "POST")):
                continue
            answer = client.request(verb, path, headers={} if header is None else {"authorization": header})
            if why == "wrong" and answer.status_code == 429:  # past 60 a minute
                continue
            assert answer.status_code == 401, (verb, path, why)
            assert answer.headers["www-authenticate"] == "Bearer"
            if verb != "HEAD":
                assert "token" in answer.json()["detail"].lower(), (verb, path, why)
            if path.startswith("/v2/rpc/") and verb == "POST":
                assert answer.json()["status"] == 40103


def test_a_reader_changes_nothing_by_http(locked: Locked) -> None:
    headers = {"authorization": f"token {locked.reader}"}
    with httpx.Client(base_url=locked.flow.http, timeout=60, headers=headers) as client:
        for path, verb in product(pages(), VERBS):
            may = (verb in ("GET", "HEAD") and path not in ADMIN_PAGES) or (
                verb == "POST" and path in READING | READING_POSTS
            )
            with client.stream(verb, path) as answer:  # of an answer without end the beginning is enough
                if may:
                    assert answer.status_code not in (401, 403) or path.startswith("/v2/download/"), (verb, path)
                    continue
                assert answer.status_code == 403, (verb, path)
                assert "Got read, of the token 'read'" in answer.read().decode() or verb == "HEAD"


def test_post_asks_for_what_its_body_names(locked: Locked) -> None:
    secrets = {"read": locked.reader, "write": locked.writer, "admin": locked.admin}
    targets = ("", "text_encoder")
    with httpx.Client(base_url=locked.flow.http, timeout=60) as client:
        for role, endpoint, target in product(secrets, [*ENDPOINTS, "/nowhere"], targets):
            body = {"exec_endpoint": endpoint, "target_executor": target, "parameters": {"exec_endpoint": "/encode"}}
            answer = client.post("/post", json=body, headers={"authorization": f"Bearer {secrets[role]}"})
            if role in needed_roles(endpoint):
                assert answer.status_code == (404 if endpoint == "/nowhere" else 200), (role, endpoint, answer.text)
            else:
                assert answer.status_code == 403, (role, endpoint)


def needed_roles(endpoint: str) -> set[str]:
    """Return the roles that may ask an endpoint."""
    if endpoint in READING:
        return {"read", "write", "admin"}
    return {"admin"} if endpoint in ADMINS or endpoint not in ENDPOINTS else {"write", "admin"}


def methods() -> list[tuple[str, bool, bool]]:
    """Return every method of Jina's services and of what stands beside them: its path, and which sides stream."""
    files = (jina_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR)
    services = [service for file in files for service in file.services_by_name.values()]
    return [
        (f"/{service.full_name}/{method.name}", method.client_streaming, method.server_streaming)
        for service in services
        for method in service.methods
    ]


def call(flow: RunningFlow, path: str, asks: bool, answers: bool, header: str | None, body: bytes = b"") -> str:
    """Call a method of the gateway; return its status."""
    metadata = () if header is None else (("authorization", header),)
    return call_at(flow.host.removeprefix("grpc://"), path, asks, answers, metadata, body)


def call_at(
    address: str, path: str, asks: bool, answers: bool, metadata: tuple[tuple[str, str], ...], body: bytes
) -> str:
    with grpc.insecure_channel(address) as channel:
        kind = f"{'stream' if asks else 'unary'}_{'stream' if answers else 'unary'}"
        method = getattr(channel, kind)(path)
        try:
            answer = method(iter([body]) if asks else body, metadata=metadata, timeout=30)
            next(iter(answer), None) if answers else answer
        except grpc.RpcError as error:
            return str(error.code().name)
        return "OK"


def test_no_method_of_grpc_is_open(locked: Locked) -> None:
    assert len(methods()) >= 10
    for (path, asks, answers), (why, header) in product(methods(), locked.wrong.items()):
        if path in OPEN_METHODS:
            continue
        status = call(locked.flow, path, asks, answers, header)
        past = why == "wrong" and status == "RESOURCE_EXHAUSTED"  # 60 a minute
        assert past or status in ("UNAUTHENTICATED", "UNIMPLEMENTED"), (path, why, status)
    served = [path for path, asks, answers in methods() if call(locked.flow, path, asks, answers, None) == "OK"]
    assert set(served) <= OPEN_METHODS


def message(endpoint: str, target: str = "", text: str = "") -> DataRequest:
    asked = DataRequest()
    asked.header.request_id, asked.header.exec_endpoint, asked.header.target_executor = endpoint, endpoint, target
    asked.parameters = {"exec_endpoint": "/encode"}
    asked.data.docs = DocumentArray([Document(text=text or "dress")])
    return asked


def test_every_message_of_grpc_asks_for_its_role(locked: Locked) -> None:
    ways = {path: kinds for path, *kinds in methods() if path.endswith(("/Call", "/process_single_data"))}
    tokens = {"read": locked.reader, "write": locked.writer, "admin": locked.admin}
    for (path, (asks, answers)), (role, secret) in product(ways.items(), tokens.items()):
        for endpoint, target in product([*ENDPOINTS, "", "/nowhere", "_jina_dry_run_"], ("", "text_encoder")):
            body = message(endpoint, target).proto.SerializeToString()
            status = call(locked.flow, path, asks, answers, f"token {secret}", body)
            allowed = "NOT_FOUND" if endpoint in ("", "/nowhere") else "OK"
            expected = allowed if role in needed_roles(endpoint) else "PERMISSION_DENIED"
            assert status == expected, (path, role, endpoint)


def rooms_ports(flow: RunningFlow) -> set[int]:
    """Return the ports on which the Flow's processes listen, but those that it announces."""
    listening = {
        at.laddr.port
        for process in flow._remaining()
        for at in process.net_connections("tcp")
        if at.status == psutil.CONN_LISTEN
    }
    return listening - {urlsplit(url).port for url in (flow.host, flow.http, *flow.metrics.values())}


def test_a_rooms_own_port_answers_only_the_gateway(locked: Locked) -> None:
    ports = rooms_ports(locked.flow)
    assert len(ports) == 2, "text and vision"
    secret = (locked.flow.workspace / ROOMS_FILE).read_text()
    running = {path: kinds for path, *kinds in methods()}
    with_secret = set()
    for port, (path, (asks, answers)), endpoint in product(ports, running.items(), ["/encode", "/fit"]):
        body = message(endpoint).proto.SerializeToString()
        for wrong in ((), ((METADATA, ""),), ((METADATA, locked.admin),), (("authorization", f"token {secret}"),)):
            status = call_at(f"127.0.0.1:{port}", path, asks, answers, wrong, body)
            assert status in ("UNAUTHENTICATED", "UNIMPLEMENTED") or path in PROBES, (path, wrong, status)
        if call_at(f"127.0.0.1:{port}", path, asks, answers, ((METADATA, secret),), body) == "OK":
            with_secret.add(path)
    assert "/jina.JinaSingleDataRequestRPC/process_single_data" in with_secret


def test_only_the_flows_user_reads_its_files(locked: Locked) -> None:
    httpx.post(f"{locked.flow.http}/runs/list", headers={"authorization": f"token {locked.reader}"})
    files = [path for path in locked.flow.workspace.rglob("*") if path.name != locked.flow.log.name]
    assert (locked.flow.workspace / "audit.jsonl") in files
    assert [path.name for path in files if path.stat().st_mode & 0o077] == []


def test_one_stream_is_asked_again_with_each_message(locked: Locked) -> None:
    file = TokenFile(locked.flow.workspace)
    secret = file.create("leaver", "write")

    def requests() -> Iterator[DataRequest]:
        yield message("/index")
        while answered < 1:  # so that the token is revoked between two messages
            time.sleep(0.01)
        file.revoke("leaver")
        yield message("/index")

    answered = 0
    with grpc.insecure_channel(locked.flow.host.removeprefix("grpc://")) as channel:
        calls = jina_pb2_grpc.JinaRPCStub(channel).Call(
            requests(), metadata=(("authorization", f"token {secret}"),), timeout=60
        )
        next(calls)
        answered = 1
        with pytest.raises(grpc.RpcError) as refused:
            next(calls)
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert "is revoked" in refused.value.details()


def test_the_audit_log_says_who_wrote(locked: Locked) -> None:
    metadata = (("authorization", f"token {locked.writer}"),)
    documents = DocumentArray([Document(text="a secret caption") for _ in range(3)])
    before = len(locked.audit())
    Client(host=locked.flow.host).post("/index", documents, metadata=metadata)
    Client(host=locked.flow.host).post("/search", documents, metadata=metadata)
    httpx.post(f"{locked.flow.http}/delete", headers={"authorization": f"token {locked.writer}"})
    with pytest.raises(Exception, match="PERMISSION_DENIED"):
        Client(host=locked.flow.host).post("/index/backup", metadata=metadata)
    lines = locked.audit()[before:]
    assert [(line["token"], line["endpoint"], line["documents"], line["status"]) for line in lines] == [
        ("write", "/index", 3, 200),
        ("write", "/delete", 0, 200),
        ("write", "/index/backup", 0, 403),
    ]
    text = (locked.flow.workspace / "audit.jsonl").read_text()
    assert not any(word in text for word in ("secret caption", locked.writer, locked.reader, locked.admin))
    assert {line["token"] for line in locked.audit()} <= {"admin", "write", "read", "leaver"}, "no caller without name"


def test_a_websocket_is_refused(locked: Locked) -> None:
    connection = http.client.HTTPConnection(urlsplit(locked.flow.http).netloc, timeout=100)
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    connection.request("GET", "/", headers={**headers, "Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw=="})
    assert connection.getresponse().status in (401, 403)
    connection.close()


def test_the_real_flow_has_no_endpoint_without_a_role(flow: RunningFlow) -> None:
    with grpc.insecure_channel(flow.host.removeprefix("grpc://")) as channel:
        empty = jina_pb2.google_dot_protobuf_dot_empty__pb2.Empty()
        found = jina_pb2_grpc.JinaDiscoverEndpointsRPCStub(channel).endpoint_discovery(empty).endpoints
    own = {endpoint for endpoint in found if endpoint.startswith("/")}
    assert own >= READING
    assert own <= set(ENDPOINTS)


def test_the_open_flow_says_that_it_is(flow: RunningFlow) -> None:
    assert "There is no token: everyone on this machine has access" in flow.log.read_text()
    refused = httpx.post(f"{flow.http}/runs/list", headers={"origin": "https://evil.example"})
    assert refused.status_code == 403
