"""Processes of the client that a gateway starts: what they may ask of the rooms, and what they read."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from docarray import Document, DocumentArray

from finetuner.contract import wire
from finetuner.exceptions import FinetunerServerError, Forbidden, InvalidInput, ResourceExhausted
from finetuner.executors.gateway.rest.manage.tasks import Tasks

pytestmark = [pytest.mark.process, pytest.mark.seconds]
ROGUE = """
import os, sys
from finetuner.transport.over_pipe import PipeConnection, read_frame, write_frame
reader, writer = os.fdopen(0, "rb"), os.fdopen(1, "wb")
read_frame(reader)
try:
    PipeConnection(reader, writer).call("/datasets/delete", name="shop")
except Exception as error:
    write_frame(writer, {"type": type(error).__name__, "message": str(error)})
"""


class FewRooms:
    """Rooms whose index finds the documents d1 and d2 for every query."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def post(self, endpoint: str, messages: Any = (), **parameters: Any) -> list[Any]:
        self.asked.append(endpoint)
        if endpoint == wire.SEARCH:
            matches = [Document(id="d1"), Document(id="d2")]
            found = DocumentArray(Document(id=each.id, text=each.text, matches=matches) for each in messages)
            return list(found.to_protobuf().docs)
        return list(DocumentArray([Document(id="d1")]).to_protobuf().docs)


def score(rooms: FewRooms, name: str, content: str) -> Any:
    arguments = {"queries": {"name": name, "content": content}, "qrels": None, "options": {"limit": 2}}
    return asyncio.run(Tasks(rooms).run("score_queries", arguments))  # type: ignore[arg-type]


def test_queries_of_a_file_are_scored_in_a_process_of_their_own() -> None:
    rooms = FewRooms()
    found = score(rooms, "mine.csv", "query,document,relevance\n<b>red</b>,d1,1\nblue,d9,1\n")
    assert found["metrics"] == {"recall_at_2": 0.5, "ndcg_at_2": 0.5}
    assert [(each["query"], each["missed"]) for each in found["queries"]] == [("blue", ["d9"]), ("<b>red</b>", [])]
    assert (found["scored"], found["not_indexed_ids"]) == (2, ["d9"])
    assert set(rooms.asked) == {wire.SEARCH, wire.FILTER}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("../../etc/passwd", "x", "queries must end in .csv"),
        ("mine.csv", "a,b\n1,2\n", "query"),
        ("topics.txt", "q1\tred\n", "must come with qrels"),
    ],
)
def test_a_file_that_is_no_queries_is_refused(name: str, content: str, message: str) -> None:
    rooms = FewRooms()
    with pytest.raises(InvalidInput, match=message):
        score(rooms, name, content)
    assert rooms.asked == []


def test_a_process_reaches_nothing_that_its_task_does_not_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rogue_task.py").write_text(ROGUE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path.cwd() / 'client'}:{Path.cwd()}")
    rooms = FewRooms()
    with pytest.raises(Forbidden, match="needs"):
        asyncio.run(Tasks(rooms, "rogue_task").run("score_queries", {}))  # type: ignore[arg-type]
    assert rooms.asked == []
    with pytest.raises(FinetunerServerError, match="ended without"):
        asyncio.run(Tasks(rooms, "no_such_module").run("score_queries", {}))  # type: ignore[arg-type]


def test_one_task_runs_at_a_time() -> None:
    async def two() -> None:
        tasks = Tasks(FewRooms(), "no_such_module")  # type: ignore[arg-type]
        first = asyncio.create_task(tasks.run("score_queries", {}))
        await asyncio.sleep(0)
        with pytest.raises(ResourceExhausted, match="one such request"):
            await tasks.run("score_queries", {})
        with pytest.raises(FinetunerServerError):
            await first

    asyncio.run(two())
