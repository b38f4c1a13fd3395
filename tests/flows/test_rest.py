"""The REST API against the real Flow: runs from beginning to end, documents, and what a Flow keeps."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from docarray import DocumentArray

from finetuner.api.data.upload import pull_documents, push_documents
from finetuner.catalogue import fashion
from finetuner.documents.pairs import make_pair
from finetuner.flow.running_flow import RunningFlow
from finetuner.transport.connection import Connection

LONG = 5000  # epochs, more than any test waits for


@pytest.fixture(scope="module")
def api(flow: RunningFlow) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=flow.http, timeout=60) as client:
        yield client


@pytest.fixture
def name() -> str:
    return f"rest-{secrets.token_hex(4)}"


def push(flow: RunningFlow) -> str:
    """Push a few pairs, and return the name of their dataset."""
    name = f"pairs-{secrets.token_hex(4)}"
    documents = DocumentArray(make_pair(one.captions["en"], one.jpeg) for one in fashion("train", items=2))
    push_documents(Connection(flow.host), name, documents)
    return name


@pytest.fixture
def dataset(flow: RunningFlow) -> str:
    return push(flow)


@pytest.fixture(scope="module")
def finished(flow: RunningFlow, api: httpx.Client) -> tuple[str, dict[str, Any], list[str]]:
    """A run's experiment, what was said of it when it was made, and its log as it was followed."""
    experiment = f"spring-{secrets.token_hex(4)}"
    here = f"/api/v1/experiments/{experiment}/runs"
    made = api.post(here, json=body(push(flow), "first"))
    assert made.status_code == 201
    with api.stream("GET", f"{here}/first/logstream") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        return experiment, made.json(), list(lines_of(stream))


def jpeg(number: int = 0) -> str:
    return base64.b64encode(list(fashion("test", items=number + 1))[number].jpeg).decode()


def body(dataset: str, name: str, epochs: int = 1) -> dict[str, Any]:
    config = {
        "model": {"name": "clip-mini"},
        "data": {"train_data": dataset, "eval_data": dataset},
        "hyper_parameters": {"loss": "CLIPLoss", "epochs": epochs},
    }
    return {"name": name, "config": config, "device": "cpu", "description": "by REST"}


def lines_of(response: httpx.Response) -> Iterator[str]:
    return (line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: "))


def test_a_run_by_rest_from_beginning_to_end(
    api: httpx.Client, dataset: str, finished: tuple[str, dict[str, Any], list[str]]
) -> None:
    experiment, run, followed = finished
    here = f"/api/v1/experiments/{experiment}"
    assert api.post(f"{here}/runs", json=body(dataset, "first")).status_code == 409
    assert set(run) == {"name", "config", "created_at", "description", "task", "artifact_id"}
    assert (run["description"], run["config"]["hyper_parameters"]["epochs"]) == ("by REST", 1)
    assert api.get(f"{here}/runs/first/status").json()["status"] == "FINISHED"
    log = api.get(f"{here}/runs/first/logs")
    assert log.headers["content-type"].startswith("text/plain")
    assert log.text.splitlines() == followed
    assert api.get(f"{here}/runs/first").json() == run
    assert api.get(f"{here}/runs").json() == {"items": [run], "total": 1, "page": 1, "size": 50}
    assert api.get(f"{here}/runs?page=2").json()["items"] == []
    scores = api.get(f"{here}/runs/first/metrics").json()
    assert set(scores) == {"before", "after"}
    assert api.get(f"{here}/runs/first/examples").json() == {}
    curve = api.get(f"/v1/experiments/{experiment}/runs/first/metrics").json()
    assert curve["scores"] == scores
    assert {"step", "loss", "pairs_per_second"} <= set(curve["steps"][-1])
    (listed,) = (each for each in api.get("/v1/runs").json()["items"] if each["experiment"] == experiment)
    assert listed == api.get(f"/v1/experiments/{experiment}/runs/first").json()
    assert listed["metrics"] == scores
    assert api.delete(f"{here}/runs").json() == [run]
    assert api.delete(here).json()["name"] == experiment
    assert api.get(here).status_code == api.get(f"{here}/runs").status_code == 404
    manifest = api.get(f"/v1/artifacts/{run['artifact_id']}").json()
    assert (manifest["run_name"], manifest["metrics"]) == ("first", scores), "artifacts stay"


def test_a_second_run_goes_on_from_its_artifact_while_its_log_is_followed(
    api: httpx.Client, dataset: str, name: str, finished: tuple[str, dict[str, Any], list[str]]
) -> None:
    asked, here = body(dataset, "long", LONG), f"/experiments/{name}/runs"
    for model, status in (({"name": None, "artifact": "0" * 24}, 404), ({}, 422)):
        asked["config"]["model"] = model
        assert api.post(f"/api/v1{here}", json=asked).status_code == status
    asked["config"]["model"] = {"artifact": finished[1]["artifact_id"]}
    model = api.post(f"/api/v1{here}", json=asked).json()["config"]["model"]
    assert (model["name"], model["artifact"]) == ("clip-mini", finished[1]["artifact_id"])
    here += "/long"
    assert api.delete(f"/api/v1{here}").status_code == 422, "it has not ended"
    with api.stream("GET", f"/api/v1{here}/logstream") as stream:
        assert next(line for line in lines_of(stream) if "step 1/" in line)
    assert api.get(f"/api/v1{here}/status").json()["status"] == "STARTED", "who hangs up ends nothing"
    assert api.post(f"/v1{here}/cancel").status_code == 200
    with api.stream("GET", f"/api/v1{here}/logstream") as stream:
        assert list(lines_of(stream)), "ends with the run"
    end = len(api.get(f"/api/v1{here}/logs").content)
    assert api.get(f"/api/v1{here}/logstream", headers={"Last-Event-ID": str(end)}).status_code == 204
    assert api.get(f"/api/v1{here}/status").json()["status"] == "CANCELED"
    assert api.get("/v1/runs?size=1").json()["items"][0]["status"] == "CANCELED", "newest first"


def test_documents_are_encoded_one_by_one(api: httpx.Client) -> None:
    asked = [{"id": "text", "text": "a red dress"}, {"blob": jpeg()}, {"blob": "AAAA"}, {"uri": "http://10.0.0.1/x"}]
    response = api.post("/v1/encode", json={"documents": asked})
    assert response.status_code == 200
    text, image, broken, private = response.json()["documents"]
    assert text["id"] == "text"
    assert text["artifact"] == image["artifact"]
    assert np.linalg.norm([text["embedding"], image["embedding"]], axis=1) == pytest.approx([1, 1], abs=1e-4)
    assert (broken["error"]["type"], private["error"]["type"]) == ("UndecodableImage", "ForbiddenUri")
    failed = api.post("/v1/encode", json={"documents": asked[2:]})
    assert failed.status_code == 422
    first = failed.json()["documents"][0]["error"]
    assert (failed.json()["detail"], failed.json()["type"]) == (first["message"], first["type"]), (
        "an error as any other"
    )
    assert failed.json()["error"]["message"] == first["message"]
    assert api.post("/v1/encode", json={"documents": asked, "artifact": "nobody"}).status_code == 404


def test_embeddings_in_openais_form(api: httpx.Client) -> None:
    response = api.post("/v1/embeddings", json={"input": ["a red dress", {"image": jpeg()}], "model": "clip-mini"})
    answer = response.json()
    assert (answer["object"], answer["model"]) == ("list", "clip-mini")
    assert [each["index"] for each in answer["data"]] == [0, 1]
    one = {"input": "a red dress", "model": "clip-mini", "encoding_format": "base64"}
    packed = api.post("/v1/embeddings", json=one).json()["data"][0]["embedding"]
    vector = np.frombuffer(base64.b64decode(packed), "<f4")
    assert vector == pytest.approx(np.asarray(answer["data"][0]["embedding"]), abs=1e-4)
    address = {"input": {"image": f"data:image/jpeg;base64,{jpeg()}"}, "model": "clip-mini"}
    embedding = api.post("/v1/embeddings", json=address).json()["data"][0]["embedding"]
    assert embedding == pytest.approx(answer["data"][1]["embedding"], abs=1e-4)
    broken = api.post("/v1/embeddings", json={"input": ["a", {"image": "AAAA"}]})
    assert broken.status_code == 422
    assert broken.json()["detail"].startswith("input[1]: image must be")


def test_what_is_indexed_is_found_filtered_and_deleted(api: httpx.Client, name: str) -> None:
    mine = {"made_by": name}
    documents = [{"id": f"{name}-{number}", "blob": jpeg(number), "tags": mine} for number in range(3)]
    documents.append({"id": f"{name}-pair", "tags": mine, "chunks": [{"text": "a red dress"}, {"blob": jpeg(3)}]})
    made = api.post("/v1/index", json={"documents": [*documents, {"id": "broken", "blob": "AAAA"}]}).json()
    assert made["indexed"] == 4
    assert [each["id"] for each in made["documents"] if "error" in each] == ["broken"]
    query = {"queries": [{"blob": jpeg(1)}, {"blob": "AAAA"}], "filter": mine, "limit": 2}
    found, broken = api.post("/v1/search", json=query).json()["queries"]
    assert (len(found["matches"]), found["matches"][0]["id"]) == (2, f"{name}-1")
    assert found["matches"][0]["score"] == pytest.approx(1, abs=1e-3)
    assert found["matches"][0]["tags"] == mine
    assert base64.b64decode(found["matches"][0]["blob"]) == base64.b64decode(jpeg(1))
    assert broken["error"]["type"] == "UndecodableImage"
    pair = api.post("/v1/search", json={"queries": documents[3:], "filter": mine, "limit": 1}).json()["queries"][0]
    assert [part.get("text") for part in pair["matches"][0]["chunks"]] == ["a red dress", None]
    listed = api.post("/v1/index/filter", json={"filter": mine, "thumbnails": True}).json()["documents"]
    assert {each["id"] for each in listed} == {each["id"] for each in documents}
    light = api.post("/v1/index/filter", json={"filter": mine, "return_content": False, "limit": 1}).json()
    assert set(light["documents"][0]) == {"id", "tags"}
    assert api.post("/v1/index/filter", json={"return_content": False, "thumbnails": True}).status_code == 422
    status = api.get("/v1/index").json()
    assert status["documents"] >= 4
    assert api.post("/v1/index/delete", json={"ids": [f"{name}-0"]}).json() == {"deleted": 1}
    assert api.post("/v1/index/delete", json={"filter": mine}).json() == {"deleted": 3}
    assert api.post("/v1/index/delete", json={}).status_code == 422


def test_a_dataset_is_shown_page_by_page(flow: RunningFlow, api: httpx.Client, dataset: str) -> None:
    described = api.get(f"/v1/datasets/{dataset}").json()
    assert (described["name"], described["kind"]) == (dataset, "pairs")
    assert described in api.get("/v1/datasets").json()["items"]
    pushed = pull_documents(Connection(flow.host), dataset)
    shown = []
    for offset in range(described["documents"] + 1):
        page = api.get(f"/v1/datasets/{dataset}/documents?offset={offset}&limit=1").json()
        assert page["total"] == len(pushed)
        shown += page["documents"]
    assert [each["id"] for each in shown] == pushed[:, "id"]
    text, image = shown[0]["chunks"]
    assert text["text"] == pushed[0].chunks[0].text
    assert base64.b64decode(image["blob"]).startswith(b"\xff\xd8"), "a JPEG"
    score = api.post("/v1/evaluate", json={"model": "clip-mini", "data": dataset, "limit": 5}).json()
    assert (score["model"], score["documents"]) == ("clip-mini", len(pushed))
    assert api.delete(f"/v1/datasets/{dataset}").json() == described
    for path in (f"/v1/datasets/{dataset}", f"/v1/datasets/{dataset}/documents"):
        assert api.get(path).status_code == 404


def test_an_alias_is_promoted_and_shown(api: httpx.Client, name: str) -> None:
    answer = api.post("/v1/artifacts/clip-mini/promote", json={"alias": name})
    assert answer.json() == {"alias": name, "artifact": "clip-mini"}
    assert api.post(f"/v1/artifacts/{name}x/promote", json={"alias": name}).status_code == 404
    assert api.get("/v1/artifacts/clip-mini").status_code == 404, "a backbone is none"
    artifacts = api.get("/v1/artifacts").json()
    assert {"items", "live", "searched"} == set(artifacts)


def test_old_clients_find_experiments_under_either_address(api: httpx.Client, name: str) -> None:
    made = api.post("/api/v1/experiments", json={"name": name, "description": ""}).json()
    assert api.post("/api/v1/experiments/", json={"name": name}).json() == made
    assert time.strptime(made["created_at"][:19], "%Y-%m-%dT%H:%M:%S")
    pages = [api.get(f"/api/v1/experiments{slash}?size=100").json() for slash in ("", "/")]
    assert pages[0] == pages[1]
    assert made in pages[0]["items"]
    assert api.post("/api/v1/experiments/", json={"name": name, "description": "x"}).status_code == 422
    assert api.delete(f"/api/v1/experiments/{name}").json() == made
