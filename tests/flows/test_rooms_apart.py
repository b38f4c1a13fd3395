"""Rooms in processes of their own: they find one another, and a stop loses nothing that was begun."""

from __future__ import annotations

import base64
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from docarray import Document, DocumentArray
from jina.proto import jina_pb2_grpc
from jina.types.request.data import DataRequest
from typer.testing import CliRunner

import finetuner
from finetuner.catalogue import fashion
from finetuner.cli.main import app
from finetuner.contract.wire import ARTIFACT_TAG, ENCODE, INDEX, STATUS
from finetuner.exceptions import FinetunerError, FlowUnreachable, InvalidInput
from finetuner.executors.room.secret import METADATA
from finetuner.executors.trainer.run_folder import RunFolder
from finetuner.flow.settings import flow_file
from finetuner.flow.standalone import RoomOptions, named_values, standalone_flow
from finetuner.health import problem
from finetuner.transport.connection import Connection
from finetuner.workspace.folder import Workspace
from finetuner.workspace.tokens import rooms_secret
from tests.waiting import wait_until

from .rooms_apart import TOKEN, RoomsApart, documents_in, slow_image

SERVING = ("text_encoder", "vision_encoder", "indexer", "gateway")
REQUEST = 10  # documents of a request


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RoomsApart]:
    with RoomsApart(tmp_path_factory.mktemp("apart"), *SERVING, "evaluator", "trainer") as started:
        yield started


def client_of(rooms: RoomsApart) -> Connection:
    return Connection(f"grpc://{rooms.address('gateway')}", TOKEN)


def test_rooms_find_one_another_and_answer(rooms: RoomsApart) -> None:
    flow = client_of(rooms)
    flow.post(INDEX, DocumentArray(Document(id=color, text=f"a {color} dress") for color in ("red", "blue")))
    (query,) = flow.post("/search", DocumentArray([Document(text="a red dress")]), {"limit": 1})
    assert query.matches[:, "id"] == ["red"]
    health = httpx.get(f"http://127.0.0.1:{rooms.http}/healthz").json()
    assert health["status"] == "ok"
    assert set(health["rooms"]) == {*SERVING, "evaluator", "trainer"} - {"gateway"}
    assert "finetuner_collection_vectors" in httpx.get(rooms.metrics("indexer")).text
    with pytest.raises(FinetunerError, match="token"):
        Connection(flow.host).post(STATUS)


def test_a_room_whose_port_somebody_reaches_reads_no_pickle(rooms: RoomsApart) -> None:
    request = DataRequest()
    request.header.exec_endpoint = ENCODE
    request.proto_with_data.data.docs_bytes = DocumentArray([Document(text="dress")]).to_bytes()
    options = {"timeout": 100, "metadata": ((METADATA, rooms_secret(rooms.workspace)),)}
    with grpc.insecure_channel(rooms.address("text_encoder")) as channel:
        for call in (
            lambda: jina_pb2_grpc.JinaSingleDataRequestRPCStub(channel).process_single_data(request, **options),
            lambda: jina_pb2_grpc.JinaDataRequestRPCStub(channel).process_data([request], **options),
            lambda: next(jina_pb2_grpc.JinaRPCStub(channel).Call(iter([request]), **options)),
        ):
            with pytest.raises(grpc.RpcError, match="Got `docs_bytes`, which holds a pickle"):
                call()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cellar"], "room must be one of gateway, trainer"),
        (["trainer", "--address", "cellar=a:1"], "--address must name one of gateway, trainer"),
        (["gateway", "--address", "trainer=nowhere"], "the address of trainer must be HOST:PORT"),
        (["trainer", "--port", "0"], "a port must be 1 to 65535"),
        (["trainer", "--set", "threads"], "--set must be NAME=VALUE"),
        (["trainer", "--flow", "cellar"], "flow must be one of"),
        (["gateway", "--workspace", "{empty}"], "--bind must be 127.0.0.1 while there is no token"),
    ],
)
def test_what_cannot_be_is_refused(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [argument.format(empty=tmp_path) for argument in arguments]
    outcome = CliRunner().invoke(app, ["room", *given])
    assert isinstance(outcome.exception, InvalidInput)
    assert message in str(outcome.exception)


@pytest.mark.parametrize(("name", "setting"), [("trainer", "treads=2"), ("gateway", "rate_limits=2")])
@pytest.mark.slow
def test_a_setting_that_the_room_does_not_have_ends_it(name: str, setting: str, tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match=setting.split("=")[0]),
        RoomsApart(tmp_path, name, settings={name: [setting]}),
    ):
        pass


def test_settings_are_read_as_yaml_reads_them() -> None:
    given = ["device=cuda", "threads=2", "rate_limit=0.5", "quantise=true", "index=https://host:6333", "odd=[a"]
    assert named_values("--set", given) == {
        "device": "cuda", "threads": 2, "rate_limit": 0.5, "quantise": True, "index": "https://host:6333", "odd": "[a",
    }  # fmt: skip


def test_a_room_has_its_settings_and_the_others_addresses(tmp_path: Path) -> None:
    options = RoomOptions(tmp_path, addresses={"trainer": "far:1"}, settings={"rate_limit": 3})
    content = standalone_flow(flow_file(), "gateway", options)
    assert content["gateway"]["uses_with"] == {"workspace_url": str(tmp_path), "rate_limit": 3}
    found = {room["name"]: (room["host"], room["port"]) for room in content["executors"]}
    assert found == {
        "trainer": ("far", 1), "evaluator": ("evaluator", 8080), "text_encoder": ("text-encoder", 8080),
        "vision_encoder": ("vision-encoder", 8080), "indexer": ("indexer", 8080),
    }  # fmt: skip
    (indexer,) = standalone_flow(flow_file(), "indexer", RoomOptions(tmp_path))["executors"]
    assert indexer["uses_with"]["encoder"] == "grpc://gateway:51000"


@pytest.mark.slow
def test_requests_under_way_are_answered_when_the_gateway_stops(rooms: RoomsApart) -> None:
    flow, vectors, image = client_of(rooms), [], slow_image()
    body = {"data": [{"blob": base64.b64encode(image).decode()}] * REQUEST}
    url, headers = f"http://127.0.0.1:{rooms.http}{ENCODE}", {"Authorization": f"token {TOKEN}"}

    def ask_by_grpc() -> None:
        answer = flow.post(ENCODE, DocumentArray(Document(blob=image) for _ in range(REQUEST)))
        vectors.extend(document.embedding for document in answer)

    def ask_by_http() -> None:
        answer = httpx.post(url, json=body, headers=headers, timeout=60).json()
        vectors.extend(document["embedding"] for document in answer["data"])

    askers = [threading.Thread(target=ask) for ask in (ask_by_grpc, ask_by_http, ask_by_http)]
    for asker in askers:
        asker.start()
    wait_until(
        lambda: documents_in(rooms.metrics("vision_encoder")) > 2 * REQUEST,
        "documents of all three in the vision encoder",
    )
    rooms.processes["gateway"].send_signal(signal.SIGTERM)
    wait_until(lambda: bool(problem(f"grpc://{rooms.address('gateway')}")), "sign that it is not ready any more")
    assert len(vectors) < 3 * REQUEST
    code = rooms.stop("gateway")
    for asker in askers:
        asker.join()
    assert code == 0
    assert [len(vector) for vector in vectors] == [128] * 3 * REQUEST
    assert "UNAVAILABLE" in problem(f"grpc://{rooms.address('gateway')}")
    with pytest.raises(FlowUnreachable):
        flow.post(STATUS)
    rooms.restart("gateway")


@pytest.mark.slow
def test_what_the_indexer_has_acknowledged_is_there_after_a_stop(rooms: RoomsApart) -> None:
    """It is stopped in the middle of a stream of writes, with a search going on."""
    flow, acknowledged, stopped = client_of(rooms), [], threading.Event()

    def write() -> None:
        number = 0
        while not stopped.is_set():
            ids = [f"written {number + place}" for place in range(20)]
            documents = DocumentArray(
                Document(id=name, embedding=np.full(4, 1 + place, np.float32), tags={ARTIFACT_TAG: "written"})
                for place, name in enumerate(ids)
            )
            with suppress(FlowUnreachable):
                answer = flow.post(INDEX, documents, {"artifact": "written"})
                acknowledged.extend(document.id for document in answer if "finetuner_error" not in document.tags)
            number += 20

    writer = threading.Thread(target=write)
    writer.start()
    wait_until(lambda: len(acknowledged) > 100, "writes")
    code = rooms.stop("indexer")
    stopped.set()
    writer.join()
    assert code == 0
    rooms.restart("indexer")
    found = flow.post("/filter", None, {"artifact": "written", "limit": 1000, "return_content": False})
    assert set(acknowledged) <= set(found[:, "id"])


@pytest.mark.slow
def test_a_run_goes_on_with_the_next_trainer(rooms: RoomsApart) -> None:
    """The checkpoint that it wrote when the first one stopped is where it goes on; its artifact is then promoted."""
    finetuner.login(host=f"grpc://{rooms.address('gateway')}", token=TOKEN)
    finetuner.index(DocumentArray([Document(id="again", text="a green coat")]))
    pairs = DocumentArray(
        finetuner.make_pair(text, image.jpeg)
        for image in fashion("train", items=12)
        for text in image.captions.values()
    )
    run = finetuner.fit("clip-mini", train_data=pairs, loss="CLIPLoss", epochs=8, batch_size=8, run_name="moved")
    folder = RunFolder(Workspace(rooms.workspace).run(run.artifact_id))
    wait_until(lambda: len(steps_of(folder)) > 3, "training steps")
    code = rooms.stop("trainer")
    assert code == 0
    done = steps_of(folder)
    assert folder.checkpoint.exists()
    rooms.restart("trainer")
    run.wait()
    assert run.status()["status"] == "FINISHED"
    assert steps_of(folder)[: len(done)] == done
    assert sorted(set(steps_of(folder))) == steps_of(folder)  # none was done twice
    finetuner.promote(run.artifact_id)
    wait_until(lambda: finetuner.index_status()["searched"] == run.artifact_id, "the index to be encoded again")
    assert finetuner.search("a green coat", limit=1)[0].matches[0].id == "again"


def steps_of(folder: RunFolder) -> list[int]:
    """Return the steps of the run's curve, in order."""
    lines = folder.curve.read_text().splitlines() if folder.curve.exists() else []
    return [json.loads(line)["step"] for line in lines]
