"""Every YAML of flows/: what it bounds and hides, and that the small ones encode and search."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from docarray import Document, DocumentArray
from jina import Client
from jina.excepts import BadServerFlow

from finetuner.artifacts.manifest import Manifest
from finetuner.artifacts.publish import publish_artifact
from finetuner.catalogue import fashion
from finetuner.contract.wire import ARTIFACT_TAG, ENCODE, INDEX, MAX_MESSAGE_BYTES, SEARCH, error_of
from finetuner.exceptions import InvalidInput
from finetuner.executors.gateway.gateway import SERVER_OPTIONS
from finetuner.flow.running_flow import RunningFlow
from finetuner.flow.settings import configured_flow, flow_file
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import TOWERS
from finetuner.models.clip_files import load_backbone
from finetuner.workspace.folder import Workspace
from tests.waiting import wait_until

IMAGES = list(fashion("test", items=3))[::2]
TEXTS = [image.captions["en"] for image in IMAGES]
TOKEN = "s3cret-t0ken"
HEADER = {"metadata": (("authorization", f"token {TOKEN}"),)}
ROOMS = {
    "finetuner": ["trainer", "evaluator", "text_encoder", "vision_encoder", "indexer"],
    "encode": ["text_encoder", "vision_encoder"],
    "search": ["text_encoder", "vision_encoder", "indexer"],
}


def test_these_are_all() -> None:
    assert {path.stem for path in flow_file().parent.glob("*.yml")} == set(ROOMS)
    with pytest.raises(InvalidInput, match="one of encode, finetuner, search. Got 'serach'"):
        flow_file("serach")


@pytest.mark.parametrize("name", ROOMS)
def test_every_flow_bounds_and_hides_its_rooms(name: str) -> None:
    content = yaml.safe_load(flow_file(name).read_text())
    gateway, rooms, settings = content["gateway"], content["executors"], content["with"]
    assert [room["name"] for room in rooms] == ROOMS[name]
    limits = {"grpc.max_receive_message_length": MAX_MESSAGE_BYTES, "grpc.max_send_message_length": MAX_MESSAGE_BYTES}
    pings = {"grpc.http2.min_recv_ping_interval_without_data_ms": 5000, "grpc.http2.max_ping_strikes": 0}
    assert settings["grpc_channel_options"] == limits
    assert settings["prefetch"] == 16
    assert 300_000 < settings["timeout_send"] <= 1_800_000, "past the lane's deadline"
    assert (gateway["port"], gateway["host"], gateway["port_monitoring"]) == ([51000, 51001], "127.0.0.1", 51100)
    assert gateway["uses_with"] == {"workspace_url": "workspace", "rate_limit": 0}
    for room in rooms:
        assert room["grpc_server_options"] == limits | pings == SERVER_OPTIONS, room["name"]
        assert room["host"] == "127.0.0.1", "who reaches a room passes the token by"
        assert room["uses_with"]["workspace_url"] == "workspace"
        assert (flow_file().parent / room["uses"]).is_file()
    assert all(room["monitoring"] is True for room in (gateway, *rooms))
    ports = [np.atleast_1d(room["port_monitoring"]).tolist() for room in rooms]
    assert [len(of_room) for of_room in ports] == [room.get("replicas", 1) for room in rooms]
    assert [*chain(*ports)] == [*range(51101, 51101 + sum(map(len, ports)))]


@pytest.mark.parametrize("name", ROOMS)
def test_every_setting_of_a_flow_is_explained(name: str) -> None:
    text = flow_file(name).read_text()
    for setting in ("prefetch", "timeout_send", "grpc_channel_options", "host"):
        assert re.search(rf"^ *#[^\n]*\n *{setting}:", text, re.MULTILINE), f"no comment above {setting}"
    if name != "finetuner":
        assert f"JINA_MP_START_METHOD=spawn jina flow --uses flows/{name}.yml" in text
        assert re.search(r"^ *#[^\n]*\n *replicas: 2", text, re.MULTILINE)


def test_only_the_indexer_of_a_flow_for_search_has_no_replicas() -> None:
    rooms = yaml.safe_load(flow_file("search").read_text())["executors"]
    assert {room["name"]: room["replicas"] for room in rooms} == {"text_encoder": 2, "vision_encoder": 2, "indexer": 1}


def test_every_replica_gets_a_port_for_its_metrics(tmp_path: Path) -> None:
    with configured_flow(flow_file("encode"), workspace=tmp_path, grpc_port=0, http_port=0) as content:
        ports = [room["port_monitoring"] for room in content["executors"]]
    assert [len(of_room) for of_room in ports] == [2, 2]
    assert len({*chain(*ports), content["gateway"]["port_monitoring"]}) == 5


@pytest.fixture(scope="module")
def encode_flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFlow]:
    """As `finetuner up --flow encode` starts it."""
    with RunningFlow(tmp_path_factory.mktemp("encode"), flow=flow_file("encode"), token=TOKEN) as running:
        yield running


def post(host: str, endpoint: str, documents: list[Document], **options: Any) -> DocumentArray:
    return Client(host=host).post(endpoint, DocumentArray(documents), **options)


def test_the_flow_for_encoding_encodes_in_every_replica(encode_flow: RunningFlow) -> None:
    first = None
    for _ in range(4):  # requests take turns among replicas
        documents = [Document(text=TEXTS[0]), Document(blob=IMAGES[0].jpeg)]
        found = post(encode_flow.host, ENCODE, documents, **HEADER)
        assert [document.tags.get(ARTIFACT_TAG) for document in found] == ["clip-mini", "clip-mini"]
        first = found.embeddings if first is None else first
        np.testing.assert_allclose(found.embeddings, first, atol=1e-6)
    rooms = [f"{room}/{number}" for room in ROOMS["encode"] for number in range(2)]
    assert set(encode_flow.metrics) == {"gateway", *rooms}
    for room in rooms:
        text = httpx.get(encode_flow.metrics[room]).text
        (answered,) = re.findall(r'finetuner_documents_total\{endpoint="/encode",outcome="ok"\} (\S+)', text)
        assert float(answered) >= 1, room


def test_clip_clients_credential_is_the_token(encode_flow: RunningFlow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_VERSION_CHECK", "1")  # otherwise the import asks PyPI
    from clip_client import Client

    for credential in (f"token {TOKEN}", TOKEN):
        allowed = Client(encode_flow.host, credential={"Authorization": credential})
        assert allowed.encode(TEXTS[:2]).shape == (2, 128)
    with pytest.raises(BadServerFlow, match="needs a token"):
        Client(encode_flow.host).encode(TEXTS[:2])
    monkeypatch.setenv("CLIP_AUTH_TOKEN", TOKEN)
    assert Client(encode_flow.host).encode(TEXTS[:2]).shape == (2, 128)


def test_every_replica_follows_a_promotion(encode_flow: RunningFlow) -> None:
    artifact_id, place = "0123456789abcdef01234567", Workspace(encode_flow.workspace)
    model = load_backbone(find_backbone("clip-mini"))
    publish_artifact(
        place, model, Manifest(artifact_id, "run", "clip-mini", model.dim, [*TOWERS], {}, {}, "2026", "0"), {}
    )
    place.aliases.set("live", {"artifact": artifact_id})

    def answering() -> set[str]:
        found = [post(encode_flow.host, ENCODE, [Document(text=TEXTS[0])], **HEADER)[0] for _ in range(4)]
        return {document.tags[ARTIFACT_TAG] for document in found}

    wait_until(lambda: answering() == {artifact_id}, "the new model alone")  # the one before answers while it loads


def test_the_flow_for_encoding_has_no_trainer(encode_flow: RunningFlow) -> None:
    header = {"authorization": f"token {TOKEN}"}
    assert httpx.post(f"{encode_flow.http}/runs/list", headers=header).status_code == 404


@pytest.fixture
def search_flow(tmp_path: Path) -> Iterator[RunningFlow]:
    """As `finetuner up --flow search` starts it."""
    with RunningFlow(tmp_path, flow=flow_file("search")) as running:
        yield running


@pytest.mark.slow
def test_the_flow_for_search_finds_what_it_indexed(search_flow: RunningFlow) -> None:
    host = search_flow.host
    images = [Document(id=image.name, blob=image.jpeg) for image in IMAGES]
    indexed = post(host, INDEX, images)
    assert [error_of(document) for document in indexed] == [None] * len(images)
    (asked,) = post(host, SEARCH, [Document(blob=IMAGES[1].jpeg)], parameters={"limit": 2})
    assert (len(asked.matches), asked.matches[0].id) == (2, IMAGES[1].name)
