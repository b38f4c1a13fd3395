"""The real Flow on a workspace with a bad entry in every file and table: it starts, names them, and serves the rest."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from docarray import Document, DocumentArray
from jina import Client

import finetuner
from finetuner.catalogue import fashion
from finetuner.contract.wire import ARTIFACT_TAG, error_of, read_reply
from finetuner.documents.images import decode
from finetuner.documents.pairs import make_pair
from finetuner.executors.indexer.executor import Indexer
from finetuner.executors.trainer import supervisor
from finetuner.executors.trainer.executor import Trainer
from finetuner.flow.running_flow import RunningFlow
from finetuner.models.backbones import find_backbone
from finetuner.models.clip_files import load_backbone
from finetuner.workspace.folder import Workspace
from tests.sessions import own_session

TOKEN = "for-the-test"


@pytest.fixture
def logged_in(flow: RunningFlow, own_session: None) -> Any:
    finetuner.login(host=flow.host)
    return finetuner


@pytest.mark.parametrize(
    "name", ["C:\\photos", 'say "cheese"', "a\\", "\\", '"', "", " ", ".", "a[]", "$eq", "a.b", "é\0"]
)
def test_a_tag_may_have_any_name(logged_in: Any, flow: RunningFlow, name: str) -> None:
    logged_in.index(DocumentArray([Document(id="any", text="blue", tags={name: "x", "deep": {name: [1, "x"]}})]))
    logged_in.index(DocumentArray([Document(id="other", text="red", tags={f"new {name!r}": 1})]))
    for host in (flow.host, flow.http):
        (answer,) = Client(host=host).post("/index", DocumentArray([Document(id="third", text="blue", tags={"t": 1})]))
        assert "finetuner_error" not in answer.tags
    assert logged_in.search("blue", filter={"t": 1})[0].matches[:, "id"] == ["third"]
    found = logged_in.filter_documents({"$or": [{"id": "any"}]})
    assert found[0].tags[name] == "x"
    assert logged_in.index_status()["problems"] == []
    assert logged_in.delete_documents(["any", "other", "third"]) == 3


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningFlow, list[str]]]:
    """A Flow on a workspace that was filled by its rooms and damaged afterwards, and the expected problems."""
    root = tmp_path_factory.mktemp("damaged")
    fill(root)
    problems = plant(Workspace(root))
    with own_session(), RunningFlow(root, token=TOKEN) as flow:
        finetuner.login(host=flow.host, token=TOKEN)
        yield flow, problems


def fill(root: Path) -> None:
    """Let rooms in this process write documents, datasets, runs and aliases."""
    images = list(fashion("train", items=3))
    vectors = load_backbone(find_backbone("clip-mini")).encode_images([decode(image.jpeg) for image in images])
    documents = [
        Document(id=image.name, blob=image.jpeg, embedding=vector, tags={ARTIFACT_TAG: "clip-mini"})
        for image, vector in zip(images, vectors, strict=True)
    ]
    with closing(Indexer(workspace_url=str(root))) as indexer:
        assert [error_of(document) for document in indexer.index(docs=DocumentArray(documents))] == [None] * len(images)
    pairs = DocumentArray([make_pair(image.captions["en"], image.jpeg) for image in images])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "POLL_SECONDS", 3600)  # no run starts
        with closing(Trainer(workspace_url=str(root))) as trainer:

            def ask(endpoint: Callable[..., DocumentArray], **parameters: Any) -> None:
                read_reply(endpoint(docs=parameters.pop("docs", None), parameters=parameters)[0])

            for name in ("bad", "good"):
                ask(trainer.push, docs=pairs, upload=name, part=0.0)
                ask(trainer.push, upload=name, name=name, commit=float(len(pairs)))
                config = {"model": "clip-mini", "train_data": name, "run_name": name, "device": "cpu"}
                ask(trainer.fit, config=config)
                ask(trainer.cancel_run, name=name)
                ask(trainer.promote, artifact="clip-mini", alias=name)


def plant(workspace: Workspace) -> list[str]:
    """Plant bad entries; return the start of each expected problem."""
    for name in ("bad", "live", "search"):
        workspace.aliases._file(name).write_bytes(b"{")
    bad_dataset = next(path for path in (workspace.datasets / "names").glob("*.json") if b'"bad"' in path.read_bytes())
    bad_dataset.write_bytes(b"[]")
    (workspace.root / "tokens.json").write_text(json.dumps({"tokens": [{"name": "ci", "role": "root"}]}))
    (workspace.root / "rooms.token").write_bytes(b"\xff")
    (workspace.index / "reindex.json").write_bytes(b"{")
    (workspace.index / "restore.json").write_bytes(b"{")
    collection = workspace.index / ("a" * 64)
    collection.mkdir()
    (collection / "collection.json").write_bytes(b"{")
    artifact = workspace.artifacts / ("a" * 24)
    artifact.mkdir(parents=True)
    (artifact / "manifest.json").write_bytes(b"{")
    with closing(sqlite3.connect(workspace.index / "documents.sqlite")) as database, database:
        database.execute("INSERT INTO fields VALUES (?, ?, ?)", ("C:\\photos", 'tags."C:\\photos"', "text"))
        database.execute("INSERT INTO documents (id, live, tags, hash) VALUES ('damaged', 1, x'ff', x'00')")
    with closing(sqlite3.connect(workspace.root / "runs.sqlite")) as database, database:
        assert database.execute("UPDATE runs SET config = '{' WHERE name = 'bad'").rowcount == 1
    return [
        *(f"aliases/{workspace.aliases._file(name).name}" for name in ("bad", "live")),
        *(f"index/{name}.json.damaged" for name in ("reindex", "restore")),
        f"names/{bad_dataset.name}", "entry 1 of tokens.json", f"the collection in index/.aside-{'a' * 64}",
        f"artifact {'a' * 24} is left out", "tag 'C:", "the row of run 'bad' in runs.sqlite",
    ]  # fmt: skip


@pytest.mark.slow
def test_health_and_status_name_every_bad_entry(damaged: tuple[RunningFlow, list[str]]) -> None:
    flow, expected = damaged
    health = httpx.get(f"{flow.http}/healthz", timeout=60)
    assert health.status_code == 200
    state = health.json()
    assert state["status"] == "degraded"
    for problem in expected:
        assert any(f": {problem}" in found for found in state["problems"]), (problem, state["problems"])
        assert problem in state["detail"]
    status = finetuner.index_status()["problems"]
    for problem in expected:
        if not problem.startswith(("artifact", "the row")):  # the trainer's
            assert any(found.startswith(problem) for found in status), (problem, status)


@pytest.mark.slow
def test_everything_else_serves(damaged: tuple[RunningFlow, list[str]]) -> None:
    images = list(fashion("train", items=3))
    assert finetuner.search(Document(blob=images[0].jpeg))[0].matches[0].id == images[0].name
    finetuner.index(DocumentArray([Document(id="new", text="a red dress", tags={"another": 1})]))
    assert finetuner.search("a red dress", filter={"another": 1})[0].matches[:, "id"] == ["new"]
    assert [dataset["name"] for dataset in finetuner.list_data() if not dataset["name"].startswith("fine")] == ["good"]
    assert len(finetuner.pull_data("good")) == len(images)
    assert [run.name for run in finetuner.list_runs()] == ["good"]
    finetuner.delete_run("bad")
    for name in ("bad", "live"):
        finetuner.promote("clip-mini", alias=name)
    left = " ".join(httpx.get(f"{damaged[0].http}/healthz", timeout=60).json()["problems"])
    assert "the row of run" not in left
    assert left.count("must hold the target of one alias") == 1, "that of searches, which was set again at the start"
