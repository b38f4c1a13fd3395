"""The published client's requests, from login to the artifact, replayed against the real Flow."""

from __future__ import annotations

import io
import secrets
import zipfile
from pathlib import Path

import httpx
import pytest
from docarray import Document

from finetuner.artifacts.manifest import verify_artifact
from finetuner.catalogue import fashion
from finetuner.flow.running_flow import RunningFlow

from .published_client import PublishedClient, ServerError, config_of


def pairs(split: str, items: int) -> list[bytes]:
    """Return pairs as that client's users make them."""
    made = []
    for one in fashion(split, items=items):
        text, image = Document(text=one.captions["en"], modality="text"), Document(blob=one.jpeg, modality="image")
        made.append(Document(chunks=[text, image]).to_bytes(protocol="protobuf"))
    return made


def test_from_login_to_the_artifact(flow: RunningFlow, tmp_path: Path) -> None:
    client = PublishedClient(flow.http, flow.http, "any")
    assert client.user_id()
    assert client.experiment("default")["status"] == "ACTIVE"
    page = {"page": 1, "size": 50}
    assert "default" in [each["name"] for each in client.request("GET", "experiments/", params=page)["items"]]
    experiment, run = f"shop-{secrets.token_hex(4)}", "brave-dijkstra"
    assert client.experiment(experiment)["name"] == experiment
    assert client.experiment(experiment)["description"] == ""
    names = {use: f"finetuner-dastorage-{experiment}-{run}-{use}" for use in ("train", "eval", "query")}
    for use, name in names.items():
        pushed = client.push(pairs("train" if use == "train" else "test", 2), name)
        assert pushed["name"] == name
        assert len(pushed["_id"]) == 24
    config = config_of(experiment, run, names["train"], names["eval"], names["query"])
    created = client.create_run(experiment, run, config)
    assert {"name", "config", "created_at", "description"} <= set(created)
    here = ("experiments", experiment, "runs", run)
    artifact_id = client.request("GET", *here)["artifact_id"]
    assert client.request("GET", *here, "status")["status"] in ("CREATED", "STARTED")
    entries = list(client.log_entries(experiment, run))
    assert client.request("GET", *here, "status")["status"] == "FINISHED"
    assert client.request("GET", *here, "logs").splitlines() == entries
    metrics = client.request("GET", *here, "metrics")
    assert "precision_at_k" in "".join(metrics["before"])
    assert set(metrics["before"]) == set(metrics["after"])
    examples = client.request("GET", *here, "examples")
    assert len(examples["after"]) == 2
    shown = [match for matches in examples["after"].values() for match in matches]  # its display_examples prints each
    assert shown
    assert all(isinstance(match, str) and len(match) < 200 for match in shown)
    rich = httpx.get(f"{flow.http}/v1/{'/'.join(here)}/examples").json()
    assert {"match", "relevant", "image"} == set(next(iter(rich["after"].values()))[0])
    with zipfile.ZipFile(io.BytesIO(client.download(artifact_id))) as content:
        assert content.testzip() is None
        assert {name.partition("/")[0] for name in content.namelist()} == {run}
        content.extractall(tmp_path)
    verify_artifact(tmp_path / run)
    listed = client.request("GET", "experiments", experiment, "runs", params=page)
    assert [each["name"] for each in listed["items"]] == [run]
    assert client.request("GET", "runs", "runs", params=page)["total"] >= 1
    assert client.request("DELETE", *here)["name"] == run
    assert client.request("DELETE", "experiments", experiment, "runs") == []
    assert client.request("DELETE", "experiments", experiment)["name"] == experiment


def test_what_is_not_there_is_an_error_with_details(flow: RunningFlow) -> None:
    client = PublishedClient(flow.http, flow.http, "any")
    with pytest.raises(ServerError, match="experiment must be one of"):
        client.request("GET", "experiments", "nothing")
    with pytest.raises(ServerError, match="404, 'Not Found', \"run must exist"):
        client.request("GET", "experiments", "nothing", "runs", "none", "status")
    with pytest.raises(ServerError, match="40403"):
        client.download("0" * 24)
