"""The hub as DocArray and jina-hubble-sdk use it, and signed downloads."""

from __future__ import annotations

import asyncio
import os
import time
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from docarray import Document, DocumentArray
from hubble import Client as HubbleClient
from hubble.excepts import AuthenticationRequiredError
from hubble.utils import auth as hubble_auth
from hubble.utils.auth import Auth

from finetuner.api import hub
from finetuner.contract import wire
from finetuner.contract.environment import HTTP
from finetuner.executors.gateway.hub import links as hub_links
from finetuner.executors.gateway.hub.links import Download, Links
from finetuner.transport.connection import Connection
from tests import plain_http
from tests.gateway.conftest import TOKEN, ToyFlow
from tests.gateway.hub.conftest import HEADERS, RPC, Rooms, streamed, texts


@pytest.mark.seconds
def test_docarray_pushes_pulls_lists_and_deletes_with_a_token(rooms: Rooms, logged_in: None) -> None:
    documents = texts()
    made = documents.push("texts")
    assert len(made["_id"]) == 24
    assert DocumentArray.pull("texts") == documents
    assert DocumentArray.cloud_list() == ["texts"]
    client = HubbleClient(jsonify=True)
    assert [entry["type"] for entry in client.list_artifacts()["data"]] == ["documentArray", "model"]
    assert client.get_artifact_info(id="a" * 24)["data"]["name"] == "run"
    file = BytesIO()
    client.download_artifact(made["_id"], file)
    assert DocumentArray.load_binary(file.getvalue(), protocol="protobuf", compress="gzip") == documents
    client.upload_artifact(BytesIO(streamed(texts(2))), id=made["_id"])
    assert len(DocumentArray.pull("texts")) == 2
    DocumentArray.cloud_delete("texts")
    assert DocumentArray.cloud_list() == []


def test_a_wrong_token_raises_hubbles_authentication_error(
    rooms: Rooms, logged_in: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = plain_http.post(f"{rooms.http}{RPC}user.identity.whoami", headers={"authorization": "token wrong"})
    assert answer.status_code == 401
    assert answer.json()["status"] == 40103
    assert "token" in answer.json()["detail"]
    monkeypatch.setenv(hub.TOKEN, "wrong")
    for call in (lambda: texts().push("texts"), lambda: DocumentArray.pull("texts"), DocumentArray.cloud_list):
        with pytest.raises(AuthenticationRequiredError):
            call()
    for method in ("artifact.upload", "artifact.getDownloadUrl", "artifact.delete", "artifact.list"):
        assert plain_http.post(f"{rooms.http}{RPC}{method}").status_code == 401
    assert rooms.left == []


@pytest.mark.parametrize(
    ("flow", "token", "message"),
    [
        ("locked_flow", "wrong", "must hold a token of this Flow. It does not."),
        ("locked_flow", "", "must hold a token of this Flow. It does not."),
        ("open_flow", "", "must hold any text: this Flow needs no token"),
    ],
)
@pytest.mark.flow
def test_login_of_the_published_client_says_what_to_log_in_with(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flow: str,
    token: str,
    message: str,
) -> None:
    """`finetuner.login` 0.8.1 calls Hubble's; its `post_success` makes the client."""
    monkeypatch.setattr(hubble_auth, "config", SimpleNamespace(get=lambda _: None))
    monkeypatch.setenv(hub.ADDRESS, request.getfixturevalue(flow).http)
    monkeypatch.setenv(hub.TOKEN, token)
    asyncio.run(Auth.login())
    Auth.login_sync(post_success=lambda: pytest.fail("must not log in"))
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count(f"Authentication failed: JINA_AUTH_TOKEN {message}") == 2


def test_an_artifact_is_private_whatever_push_asks_for(rooms: Rooms, logged_in: None) -> None:
    assert texts().push("mine", public=False)["visibility"] == "private"
    assert texts().push("mine", public=True)["visibility"] == "private"
    listed = HubbleClient(jsonify=True).list_artifacts()["data"]
    assert {entry["visibility"] for entry in listed} == {"private"}


def test_the_grpc_side_reports_the_address_of_the_http_side(
    locked_flow: ToyFlow, open_flow: ToyFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (hub.ADDRESS, hub.TOKEN, hub.HINT):
        monkeypatch.setenv(name, "")
    monkeypatch.delenv(HTTP, raising=False)
    for connection, http in (
        (Connection(open_flow.grpc), open_flow.http),
        (Connection(locked_flow.grpc, TOKEN), locked_flow.http),
    ):
        hub.point_hub(connection)
        assert os.environ[hub.ADDRESS] == http
        hub.point_hub(Connection(locked_flow.grpc, "wrong"))
        hub.point_hub(Connection("grpc://127.0.0.1:1"))
        assert os.environ[hub.ADDRESS] == http  # unchanged: neither reports an address


def test_parts_are_bounded_whatever_is_sent(rooms: Rooms, logged_in: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_REQUEST_BYTES", 1000)
    documents = DocumentArray(Document(blob=os.urandom(300)) for _ in range(20))
    documents.push("many")
    assert rooms.parts == [2] * 10
    assert DocumentArray.pull("many") == documents


def test_downloads_need_a_valid_signature_and_expire(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    rooms.upload(streamed(texts()), name="texts")
    asked = plain_http.get(f"{rooms.http}{RPC}artifact.getDownloadUrl?name=texts", headers=HEADERS).json()["data"]
    url = httpx.URL(asked["download"])
    assert (url.host, f"http://{url.host}:{url.port}") == ("127.0.0.1", rooms.http)
    answer = plain_http.get(url)
    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) == len(answer.content)
    forged = [
        url.copy_set_param("signature", "0" * 64),
        url.copy_set_param("signature", "ä"),
        url.copy_remove_param("signature"),
        url.copy_set_param("expires", int(url.params["expires"]) + 60),
        url.copy_set_param("documents", 2),
        url.copy_set_param("size", "x"),
        url.copy_with(path="/v2/download/" + "0" * 64),
        url.copy_with(path="/v2/download/../rpc/artifact.list"),
    ]
    for address in forged:
        assert plain_http.get(address).status_code in (401, 403)
    assert plain_http.post(url).status_code == 401  # a signature is for reading
    late = SimpleNamespace(time=lambda: time.time() + hub_links.SECONDS + 1)
    monkeypatch.setattr(hub_links, "time", late)
    assert plain_http.get(url).status_code == 403
    assert "Got a wrong or expired one" in plain_http.get(url).json()["detail"]


def test_a_new_process_has_a_new_secret() -> None:
    url = httpx.URL(Links().sign("http://x", Download("a" * 64, 1, 10)))
    assert Links().verify("a" * 64, dict(url.params)) is None


def test_a_deleted_dataset_ends_the_download_early(rooms: Rooms) -> None:
    rooms.upload(streamed(texts()), name="texts")
    asked = plain_http.get(f"{rooms.http}{RPC}artifact.getDownloadUrl?name=texts", headers=HEADERS).json()["data"]
    rooms.datasets.delete("texts")
    with pytest.raises(httpx.RemoteProtocolError):
        plain_http.get(asked["download"])


@pytest.mark.parametrize(
    ("method", "body", "code"),
    [
        ("artifact.getDownloadUrl", {}, 422),
        ("artifact.getDownloadUrl", {"name": "none"}, 404),
        ("artifact.getDetail", {"id": "0" * 24}, 404),
        ("artifact.delete", {"id": "a" * 24}, 404),
        ("artifact.update", {"id": "x", "public": True}, 422),
        ("artifact.list", {"pageSize": "many"}, 422),
        ("artifact.list", [], 422),
        ("executor.getPackage", {"id": "jina-ai/CLIPTextEncoder"}, 404),
        ("artifact.invented", {}, 404),
    ],
)
def test_wrong_questions_are_answered_in_json(
    rooms: Rooms, method: str, body: Any, code: int, open_flow: ToyFlow
) -> None:
    where = f"{rooms.http}{RPC}{method}" if method != "artifact.invented" else f"{open_flow.http}{RPC}{method}"
    answer = plain_http.post(where, json=body, headers=HEADERS)
    assert answer.status_code == code
    assert "detail" in answer.json()
    assert (
        plain_http.post(where, content=b"{", headers={**HEADERS, "content-type": "application/json"}).status_code >= 400
    )


def test_a_dataset_is_renamed_only_to_a_new_name(rooms: Rooms, logged_in: None) -> None:
    first = texts().push("one")
    texts(2).push("two")
    client = HubbleClient(jsonify=True)
    with pytest.raises(Exception, match="name must be new. Got 'two'"):
        client.update_artifact(first["_id"], name="two")
    assert client.update_artifact(first["_id"], name="three")["data"]["name"] == "three"
    assert [dataset.name for dataset in rooms.datasets.all()] == ["three", "two"]
