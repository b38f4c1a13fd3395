"""A planted bad entry in every file and table of the index: it is set aside and named, and everything else serves."""

from __future__ import annotations

import errno
import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from docarray import DocumentArray

from finetuner.contract.wire import error_of, read_reply
from finetuner.exceptions import FinetunerServerError
from finetuner.executors.indexer.engines.edge import EdgeEngine
from finetuner.executors.indexer.executor import Indexer
from finetuner.executors.indexer.index import Index
from finetuner.executors.indexer.upkeep import backup, move
from finetuner.executors.indexer.upkeep.live import Live
from finetuner.executors.indexer.upkeep.reindex import Reindex
from finetuner.workspace.folder import Workspace
from tests.indexer.answers import searched
from tests.indexer.hashed_encoder import encode, encoded_text
from tests.waiting import wait_until

Plant = Callable[[Workspace], object]


@pytest.fixture(scope="module")
def undamaged(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """An index with two collections of the same three documents; `live` searches 'new'."""
    made = Workspace(tmp_path_factory.mktemp("undamaged"))
    index = Index(made.index)
    for artifact in ("old", "new"):
        index.upsert([encoded_text(f"d{i}", f"d{i}", artifact, n=i) for i in range(3)])
    index.close()
    Live(made).search_with("new")
    return made


@pytest.fixture
def workspace(undamaged: Workspace, tmp_path: Path) -> Workspace:
    """A copy of it, to be damaged. Its files consist of holes above all, which shutil would fill."""
    subprocess.run(["cp", "-a", "--sparse=always", f"{undamaged.root}/.", tmp_path], check=True)
    return Workspace(tmp_path)


def sql(statement: str, *values: object) -> Plant:
    def plant(workspace: Workspace) -> None:
        with closing(sqlite3.connect(workspace.index / "documents.sqlite")) as database, database:
            assert database.execute(statement, values).rowcount

    return plant


def file(name: str, content: bytes = b"{") -> Plant:
    return lambda workspace: (workspace.index / name).write_bytes(content)


def alias(name: str) -> Plant:
    return lambda workspace: workspace.aliases._file(name).write_bytes(b"{")


def of_old(change: Callable[[Path], object]) -> Plant:
    def plant(workspace: Workspace) -> None:
        artifacts = {
            json.loads(path.read_bytes())["artifact"]: path for path in workspace.index.glob("*/collection.json")
        }
        change(artifacts["old"])

    return plant


def described(**changed: Any) -> Plant:
    return of_old(lambda path: path.write_text(json.dumps(json.loads(path.read_bytes()) | changed)))


BACKSLASH = ("C:\\photos", 'tags."C:\\photos"', "text")
PLANTS: dict[str, tuple[Plant, str]] = {
    "field": (sql("INSERT INTO fields VALUES (?, ?, ?)", *BACKSLASH), r"tag 'C:\\\\photos' must have a path"),
    "field of no kind": (sql("INSERT INTO fields VALUES ('n', 'tags.n', 'date')"), "tag 'n' must have a path"),
    "field of bytes": (sql("INSERT INTO fields VALUES (x'ff', x'ff', x'ff')"), "must have a path"),
    "description": (of_old(lambda path: path.write_bytes(b"{")), "is set aside: it must hold collection.json"),
    "no description": (of_old(Path.unlink), "is set aside: it must hold collection.json"),
    "description of another": (described(artifact="new"), "the description of 'new'"),
    "description without dim": (described(dim=None), "is set aside: it must hold collection.json"),
    "description without engine": (described(engine=None), "the description of 'old' in None"),
    "engine's pointer": (of_old(lambda path: (path.parent / "edge.json").write_bytes(b"[]")), "is set aside"),
    "file for a collection": (file("a" * 64, b""), "is set aside"),
    "re-index": (file("reindex.json"), "reindex.json.damaged did not describe a re-index"),
    "re-index of no state": (file("reindex.json", b'{"artifact": "a", "source": "b", "promoted_at": 1, "state": "x"}'),
                             "reindex.json.damaged did not describe a re-index"),
    "restore": (file(backup.MARKER), "restore.json.damaged was damaged"),
    "restore of no step": (file(backup.MARKER, b'{"staged": "../..", "step": "move"}'), "restore.json.damaged"),
    "move": (file(move.MARKER, b"[1]"), "move.json.damaged was damaged"),
    "alias of searches": (alias("search"), "Searches now use '(new|old)', which has most vectors"),
    "alias of live": (alias("live"), "must hold the target of one alias"),
    "another alias": (alias("best"), "must hold the target of one alias"),
    "dataset's name": (lambda workspace: [(workspace.datasets / "names").mkdir(parents=True),
                                          (workspace.datasets / "names" / "x.json").write_bytes(b"{")],
                       "must hold the target of one dataset"),
    "token": (lambda workspace: (workspace.root / "tokens.json").write_text('{"tokens": [{"name": "x"}]}'),
              "entry 1 of tokens.json"),
}  # fmt: skip


@pytest.fixture
def opened() -> Iterator[list[Indexer]]:
    rooms: list[Indexer] = []
    yield rooms
    for room in rooms:
        room.close()


@pytest.mark.parametrize(("plant", "problem"), PLANTS.values(), ids=list(PLANTS))
def test_a_bad_entry_is_set_aside_and_the_rest_serves(
    workspace: Workspace, opened: list[Indexer], plant: Plant, problem: str
) -> None:
    plant(workspace)
    room = Indexer(workspace_url=str(workspace.root))
    opened.append(room)
    for endpoint in (lambda: read_reply(room.status()[0])["problems"], room.problems):
        assert any(re.search(problem, found) for found in endpoint()), endpoint()
    (query,) = searched(room, docs=DocumentArray([encoded_text("q", "d1", "new")]), parameters={"filter": {"n": 1}})
    assert error_of(query) is None
    assert query.matches[:, "id"] == ["d1"]
    more = DocumentArray([encoded_text("d3", "d3", artifact, n=3, unseen="x") for artifact in ("new", "old")])
    assert [error_of(document) for document in room.index(docs=more)] == [None, None]
    assert read_reply(room.delete(parameters={"ids": ["d3"]})[0]) == {"deleted": 1}


def test_a_collection_stays_set_aside_until_its_folder_is_removed(workspace: Workspace) -> None:
    of_old(Path.unlink)(workspace)
    for _ in range(2):
        index = Index(workspace.index)
        (problem,) = index.problems
        assert re.match(
            r"the collection in index/\.aside-[0-9a-f]{64}-.* Restore others from a backup, or remove", problem
        )
        assert index.counts() == {"new": 3}
        index.close()
    (aside,) = workspace.index.glob(".aside-*")
    assert list(aside.glob("shard-*")), "the vectors are kept"
    shutil.rmtree(aside)
    index = Index(workspace.index)
    assert index.problems == []
    index.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE, errno.EACCES])
def test_a_fault_of_the_machine_sets_nothing_aside(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def failing(*_: object) -> object:
        raise Exception(f"Service runtime error: IO Error (os error {number})")  # as the engine does

    with monkeypatch.context() as patch:
        patch.setattr(EdgeEngine, "open", failing)
        with pytest.raises(FinetunerServerError, match="Repair the machine and start again. Nothing is lost"):
            Index(workspace.index)
    index = Index(workspace.index)
    assert (index.counts(), index.problems) == ({"new": 3, "old": 3}, [])
    index.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE documents SET tags = x'ff' WHERE id = 'd1'",
        "UPDATE documents SET tags = x'' WHERE id = 'd1'",
        "UPDATE contents SET content = x'ff' WHERE hash = (SELECT hash FROM documents WHERE id = 'd1')",
        "DELETE FROM contents WHERE hash = (SELECT hash FROM documents WHERE id = 'd1')",
    ],
)
def test_a_damaged_document_costs_itself_alone(workspace: Workspace, opened: list[Indexer], damage: str) -> None:
    sql(damage)(workspace)
    room = Indexer(workspace_url=str(workspace.root))
    opened.append(room)
    for _ in range(2):
        for parameters in ({}, {"thumbnails": True}):
            (query,) = searched(room, docs=DocumentArray([encoded_text("q", "d1", "new")]), parameters=parameters)
            assert error_of(query) is None
            assert set(query.matches[:, "id"]) == {"d0", "d2"}
        assert set(room.filter(parameters={"artifact": "new"})[:, "id"]) == {"d0", "d2"}
    if "DELETE" not in damage:
        (problem,) = room.problems()
        assert "Got 1 that are not, such as 'd1'; answers leave them out. Index them again" in problem
    room.index(docs=DocumentArray([encoded_text("d1", "d1", "new")]))
    (query,) = searched(room, docs=DocumentArray([encoded_text("q", "d1", "new")]))
    assert len(query.matches) == 3
    assert room.problems() == []


@pytest.mark.parametrize("damage", ["UPDATE documents SET tags = x'ff'", "DELETE FROM contents"])
def test_a_reindex_goes_past_a_damaged_document(workspace: Workspace, damage: str) -> None:
    where = " WHERE hash = (SELECT hash FROM documents WHERE id = 'd1')"
    sql(damage + where)(workspace)
    sql("UPDATE documents SET live = 1")(workspace)
    workspace.aliases.set("live", {"artifact": "third", "promoted_at": 1.0})
    index, live = Index(workspace.index), Live(workspace)
    reindex = Reindex(index, live, encode, 1.0, 0.5, print)
    wait_until(lambda: live.searched == "third", "the re-index")
    assert index.counts()["third"] == 2
    assert (reindex.status() or {})["left_out"] == 1
    assert "d1: a stored document must be readable" in index.documents.first_error("third")
    reindex.close()
    index.close()


def test_an_index_of_layout_2_gets_the_forms_that_it_lost(tmp_path: Path) -> None:
    index = Index(tmp_path)
    tags = {"size": {"eu": 42}}, {"size.eu": 42}, {"C:\\photos": "x"}
    index.upsert([encoded_text(f"d{i}", f"d{i}", "new", **each) for i, each in enumerate(tags)])
    index.close()
    with closing(sqlite3.connect(tmp_path / "documents.sqlite")) as database, database:
        database.execute("DROP TABLE fields")
        database.execute(
            "CREATE TABLE fields (name TEXT, path TEXT, kind TEXT, PRIMARY KEY (name, kind)) WITHOUT ROWID"
        )
        database.execute("INSERT INTO fields VALUES ('size.eu', 'tags.size.eu', 'number')")
        database.execute("INSERT INTO fields VALUES (?, ?, ?)", BACKSLASH)
        database.execute("PRAGMA user_version = 2")
    index = Index(tmp_path)
    assert sorted(index.find("new", index.filter({"size.eu": 42}), 9)) == ["d0", "d1"]
    assert "'C:" in index.problems[0]
    index.close()
    index = Index(tmp_path)
    assert index.problems == []
    index.close()
