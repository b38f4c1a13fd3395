"""The indexer's deletes and status, and writes to a disk that is nearly full, in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from docarray import Document, DocumentArray

from finetuner.contract import wire
from finetuner.exceptions import FinetunerServerError, InvalidInput, ResourceExhausted
from finetuner.executors.indexer.executor import Indexer

from .answers import searched

MakeDocument = Callable[..., Document]


def test_a_disk_that_is_nearly_full(room: Indexer, encoded: MakeDocument, monkeypatch: pytest.MonkeyPatch) -> None:
    room.index(docs=DocumentArray([encoded("kept", [1, 0])]))
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=5 * 2**20))
    answer = room.index(docs=DocumentArray([encoded("new", [1, 0]), encoded("newer", [1, 0])]))
    with pytest.raises(ResourceExhausted, match="256 MiB free for a write. Got 5. The request changed nothing"):
        wire.read_reply(answer[0])
    assert room.filter()[:, "id"] == ["kept"]
    assert wire.read_reply(room.delete(parameters={"ids": ["kept"]})[0]) == {"deleted": 1}, "to make room"
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=3 * 2**20))
    with pytest.raises(ResourceExhausted, match="4 MiB free for a write. Got 3."):
        wire.read_reply(room.delete(parameters={"ids": ["kept"]})[0])


def test_a_disk_that_fills_in_the_middle(room: Indexer, encoded: MakeDocument, monkeypatch: pytest.MonkeyPatch) -> None:
    room.index(docs=DocumentArray([encoded("kept", [1, 0])]))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(room._index.collections["model-a"], "upsert", full)
        answer = room.index(docs=DocumentArray([encoded("new", [0, 1])]))
        with pytest.raises(FinetunerServerError, match="able to write to .* No space left .* is not acknowledged"):
            wire.read_reply(answer[0])
    found = searched(room, docs=DocumentArray([encoded("q", [1, 0])]))[0].matches
    assert [match.id for match in found] == ["kept"]
    again = room.index(docs=DocumentArray([encoded("new", [0, 1])]))
    assert wire.error_of(again[0]) is None


def test_delete_by_ids_and_by_documents(room: Indexer, encoded: MakeDocument) -> None:
    room.index(docs=DocumentArray([encoded(f"d{i}", [i, 1]) for i in range(5)]))
    named = DocumentArray([Document(id="d2"), Document(id="d1")])
    answer = room.delete(docs=named, parameters={"ids": ["d1", "never there"]})
    assert wire.read_reply(answer[0]) == {"deleted": 2}
    assert wire.read_reply(room.delete(parameters={"ids": ["d1", "d2"]})[0]) == {"deleted": 0}
    assert wire.read_reply(room.delete(parameters={"ids": []})[0]) == {"deleted": 0}
    assert wire.read_reply(room.status()[0])["documents"] == 3
    left = searched(room, docs=DocumentArray([encoded("q", [1, 0])]))[0].matches
    assert {match.id for match in left} == {"d0", "d3", "d4"}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "Got no `ids`, no documents and no `filter`"),
        ({"ids": "d1"}, "'ids' must be a list of strings. Got 'd1'"),
        ({"ids": [1.0]}, r"'ids' must be a list of strings. Got \[1.0\]"),
        ({"filter": {}}, "and no `filter` with a condition"),
    ],
)
def test_delete_of_nothing_named(filled: Indexer, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        wire.read_reply(filled.delete(parameters=parameters)[0])
    assert wire.read_reply(filled.status()[0])["documents"] == 30


def test_status_and_metrics(room: Indexer, encoded: MakeDocument) -> None:
    room.index(docs=DocumentArray([encoded(f"d{i}", [i, 1]) for i in range(5)]))
    searched(room, docs=DocumentArray([encoded("q", [1, 1]), encoded("q", [1, 1], "b")]))
    room.delete(parameters={"ids": ["d1"]})
    status = wire.read_reply(room.status()[0])
    assert status["collections"] == [{"artifact": "model-a", "dim": 2, "count": 4, "indexed": 0}]
    assert status["documents"] == 4
    assert status["bytes"] > 0
    value = room.registry.get_sample_value
    assert value("finetuner_indexed_documents_total") == 5
    assert value("finetuner_searches_total") == 1
    assert value("finetuner_collection_vectors", {"artifact": "model-a"}) == 4
    assert value("finetuner_documents_total", {"endpoint": "/search", "outcome": "error"}) == 1


def test_a_second_room_on_the_workspace_is_refused(room: Indexer, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="in one process only"):
        Indexer(workspace_url=str(tmp_path))
    assert wire.read_reply(room.status()[0])["documents"] == 0
