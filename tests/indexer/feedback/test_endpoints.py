"""The endpoints of marks, in the room itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docarray import Document, DocumentArray

from finetuner.contract.wire import OWNER, error_of, read_reply
from finetuner.exceptions import FinetunerServerError, InvalidInput
from finetuner.executors.indexer.executor import Indexer
from tests.indexer.conftest import MakeDocument


@pytest.fixture
def room(tmp_path: Path, encoded: MakeDocument) -> Iterator[Indexer]:
    made = Indexer(workspace_url=str(tmp_path), min_free_mb=0)
    made.index(docs=DocumentArray([encoded(f"d{i}", [1.0, i], text=f"text {i}") for i in range(3)]))
    yield made
    made.close()


def sent(room: Indexer, *marks: Document, user: str = "anna") -> list[Exception | None]:
    answer = asyncio.run(room.mark(docs=DocumentArray(marks), parameters={OWNER: user}))
    assert len(answer) == len(marks) or len(answer) == 1
    return [error_of(document) for document in answer]


def asked(method: Any, **parameters: Any) -> Any:
    return read_reply(asyncio.run(method(parameters=parameters))[0])


def mark(query: str = "red", **tags: Any) -> Document:
    return Document(text=query, tags={"shown": ["d0", "d1"], "chosen": ["d1"]} | tags)


def test_marks_of_unknown_documents_and_bad_queries_are_refused_beside_good_ones(room: Indexer) -> None:
    good, gone = mark(), mark(shown=["d0", "never shown"], chosen=["d0"])
    broken = Document(blob=b"no image", tags=good.tags)
    parts = Document(chunks=[Document(text="a")], tags=good.tags)
    errors = sent(room, good, gone, broken, parts, mark(chosen=["d2"]))
    assert errors[0] is None
    assert "never shown" in str(errors[1])
    assert all(error is not None for error in errors[1:])
    (found,) = asked(room.list_marks)["marks"]
    assert (found["id"], found["user"], found["text"]) == (good.id, "anna", "red")


def test_requests_are_bounded(room: Indexer) -> None:
    assert isinstance(sent(room, *(mark() for _ in range(129)))[0], InvalidInput)
    with pytest.raises(InvalidInput, match="named"):
        asked(room.delete_marks)
    for parameters in ({"limit": 1001}, {"limit": 0}, {"since": -1}, {"user": 3}, {"document": ""}, {"strange": 1}):
        with pytest.raises(InvalidInput):
            asked(room.list_marks, **parameters)
    with pytest.raises(InvalidInput):
        asked(room.delete_marks, ids="m1")
    with pytest.raises(InvalidInput):
        read_reply(room.marked_documents(parameters={"ids": []})[0])


def test_a_damaged_store_stops_marks_alone(tmp_path: Path, encoded: MakeDocument) -> None:
    (tmp_path / "feedback").mkdir()
    (tmp_path / "feedback" / "marks.sqlite").write_bytes(b"x" * 5000)
    made = Indexer(workspace_url=str(tmp_path), min_free_mb=0)
    made.index(docs=DocumentArray([encoded("d0", [1.0, 0.0], text="a")]))
    assert isinstance(sent(made, mark(shown=["d0"], chosen=["d0"]))[0], FinetunerServerError)
    found = made.search(docs=DocumentArray([encoded("q", [1.0, 0.0])]), parameters={})
    assert [match.id for match in found.found[0]] == ["d0"]
    made.close()


def test_marked_documents_come_with_their_contents(room: Indexer) -> None:
    found = room.marked_documents(parameters={"ids": ["d1", "unknown", "d0", "d1"]})
    assert [(document.id, document.text) for document in found] == [("d1", "text 1"), ("d0", "text 0")]
