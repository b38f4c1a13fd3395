"""Backup, restore, verify, and moving to a server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docarray import Document, DocumentArray

from finetuner.contract import wire
from finetuner.exceptions import AlreadyExists, FinetunerServerError, InvalidInput, NotFound
from finetuner.executors.indexer.engines.engine import Point
from finetuner.executors.indexer.executor import Indexer
from finetuner.executors.indexer.index import Index
from finetuner.executors.indexer.upkeep import backup
from finetuner.executors.indexer.upkeep.backup import finish_restore, stage_restore
from finetuner.executors.indexer.upkeep.move import finish_move
from tests.indexer.engines.qdrant_stand_in import StandIn, qdrant_stand_in
from tests.indexer.hashed_encoder import encoded_text, vector_of_text

TEXTS = [f"text {number}" for number in range(60)]


def reply(answer: Any) -> Any:
    return wire.read_reply((asyncio.run(answer) if asyncio.iscoroutine(answer) else answer)[0])


def write(room: Indexer, texts: list[str] = TEXTS) -> None:
    answer = room.index(docs=DocumentArray([encoded_text(text, text, "old", length=len(text)) for text in texts]))
    assert not any(map(wire.error_of, answer))


def found(room: Indexer, text: str) -> list[str]:
    answer = room.search(docs=DocumentArray([encoded_text("q", text, "old")]), parameters={"limit": 1})
    assert wire.error_of(answer[0]) is None
    return [match.id for match in answer.to_protobuf().docs[0].matches]


@pytest.fixture
def open_room(tmp_path: Path) -> Iterator[Callable[..., Indexer]]:
    opened: list[Indexer] = []

    def open_room(**settings: Any) -> Indexer:
        for made in opened:
            made.close()
        opened.append(Indexer(workspace_url=str(tmp_path), **settings))
        return opened[-1]

    yield open_room
    for made in opened:
        made.close()


@pytest.mark.seconds
def test_a_backup_taken_while_others_write_restores_one_moment(open_room: Callable[..., Indexer]) -> None:
    room = open_room()
    write(room)
    done = threading.Event()

    def keep_writing() -> None:
        for number in range(1000):
            write(room, [f"late {number}", f"later {number}"])
            if done.is_set():
                return

    writer = threading.Thread(target=keep_writing)
    writer.start()
    made = reply(room.backup(parameters={"name": "first"}))
    done.set()
    writer.join()
    assert made["collections"] == {"old": made["documents"]}
    assert reply(room.verify(parameters={"name": "first"})) == made
    write(room, ["after"])
    reply(room.delete(parameters={"ids": TEXTS[:10]}))
    with pytest.raises(AlreadyExists, match="Got 'first', which exists"):
        reply(room.backup(parameters={"name": "first"}))

    assert reply(room.restore(parameters={"name": "first"})) == made
    assert reply(room.status())["documents"] == made["documents"]
    assert found(room, TEXTS[3]) == [TEXTS[3]]
    assert found(room, "after") != ["after"]
    assert reply(room.verify()) == {"documents": made["documents"], "vectors": {"old": made["documents"]}}
    write(room, ["after"])
    assert found(room, "after") == ["after"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), "documents.sqlite, which differs from its checksum"),
        (lambda file: file.unlink(), "documents.sqlite, which differs from the manifest's list"),
        (lambda file: file.with_name("more").touch(), "more, which differs from the manifest's list"),
    ],
    ids=["truncated", "gone", "more"],
)
def test_a_damaged_backup_is_not_restored(
    open_room: Callable[..., Indexer], tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    room = open_room()
    write(room)
    reply(room.backup(parameters={"name": "b"}))
    damage(tmp_path / "backups" / "b" / "documents.sqlite")
    for check in (room.verify, room.restore):
        with pytest.raises(FinetunerServerError, match=f"'b' must be intact. Got {message}"):
            reply(check(parameters={"name": "b"}))
    assert found(room, TEXTS[3]) == [TEXTS[3]], "the index is as it was"


def test_backups_that_are_not_there(open_room: Callable[..., Indexer]) -> None:
    room = open_room()
    with pytest.raises(NotFound, match="backup must be one of: none. Got 'b'"):
        reply(room.restore(parameters={"name": "b"}))
    with pytest.raises(InvalidInput, match="paths are not names"):
        reply(room.backup(parameters={"name": "../b"}))


@pytest.mark.parametrize("killed_at", range(6))
def test_a_killed_restore_is_finished_at_the_next_start(
    open_room: Callable[..., Indexer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    """Stopped after the n-th step on the disk."""
    room = open_room()
    write(room)
    reply(room.backup(parameters={"name": "b"}))
    write(room, ["after"])
    stage_restore(tmp_path / "backups", "b", tmp_path / "index")
    room.close()
    steps = 0

    def step(real: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any, **options: Any) -> Any:
            nonlocal steps
            if steps == killed_at:
                raise KeyboardInterrupt
            steps += 1
            return real(*given, **options)

        return counted

    with monkeypatch.context() as patch:
        for module, name in ((backup.os, "replace"), (backup.shutil, "rmtree"), (Path, "unlink")):
            patch.setattr(module, name, step(getattr(module, name)))
        try:
            finish_restore(tmp_path / "index")
        except KeyboardInterrupt:
            assert steps == killed_at
    room = open_room()
    assert reply(room.verify()) == {"documents": len(TEXTS), "vectors": {"old": len(TEXTS)}}
    assert not list((tmp_path / "index").glob(".*"))


def test_verify_finds_what_is_missing(open_room: Callable[..., Indexer]) -> None:
    room = open_room()
    write(room)
    vectors, vector = room._index.collection("old"), vector_of_text("old", TEXTS[7])
    vectors.delete([TEXTS[7]])
    with pytest.raises(FinetunerServerError, match="'old' must have a vector of length 1 for '.*'. It is lost or dam"):
        reply(room.verify())
    vectors.upsert([Point(TEXTS[7], vector), Point("stray", vector)])
    with pytest.raises(
        FinetunerServerError, match="every vector of 'old' must have its document. That of 'stray' has none"
    ):
        reply(room.verify())


@pytest.fixture
def server() -> Iterator[StandIn]:
    with qdrant_stand_in() as running:
        yield running
        assert running.faults == []


def test_moving_to_a_server(open_room: Callable[..., Indexer], tmp_path: Path, server: StandIn) -> None:
    room = open_room()
    write(room)
    assert reply(room.move(parameters={"url": server.url})) == {"index": server.url, "vectors": {"old": 60}}
    assert reply(room.status())["engine"] == server.url
    assert found(room, TEXTS[3]) == [TEXTS[3]]
    assert not list((tmp_path / "index").glob("*/shard-*"))
    write(room, ["after"])
    assert reply(room.verify()) == {"documents": 61, "vectors": {"old": 61}}
    assert [document.id for document in room.filter(parameters={"filter": {"length": 5}})] == ["after"]
    with pytest.raises(InvalidInput, match="needs the vectors on this machine. Got them on http://127"):
        reply(room.backup(parameters={"name": "b"}))
    with pytest.raises(InvalidInput, match="must move to another engine"):
        reply(room.move(parameters={"url": server.url}))
    room.close()
    with pytest.raises(
        InvalidInput, match=f"`index` must be '{server.url}', which has the vectors of 'old'. Got 'edge'"
    ):
        Indexer(workspace_url=str(tmp_path))
    room = open_room(index=server.url)
    assert found(room, "after") == ["after"]
    room._index.drop("old")
    assert server.collections() == []


def test_a_move_that_fails_changes_nothing(
    open_room: Callable[..., Indexer], server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = open_room()
    write(room)
    monkeypatch.setattr("finetuner.executors.indexer.engines.server.ServerCollection.index_field", lambda *_: None)
    monkeypatch.setattr("finetuner.executors.indexer.engines.server.ServerCollection.count", lambda *_: 59)
    with pytest.raises(FinetunerServerError, match="the copy must have 60 vectors. Got 59"):
        reply(room.move(parameters={"url": server.url}))
    assert server.collections() == []
    assert reply(room.status())["engine"] == "edge"
    assert found(room, TEXTS[3]) == [TEXTS[3]]
    for url in ("edge", "qdrant:6333", "http://user:password@host", "http://host/path", 5):
        with pytest.raises(InvalidInput, match="Qdrant server's URL like https://host:6333. Got"):
            reply(room.move(parameters={"url": url}))


def test_nothing_is_left_to_finish(tmp_path: Path) -> None:
    index = Index(tmp_path)
    index.upsert([Document(id="x", embedding=np.ones(3), tags={wire.ARTIFACT_TAG: "a"})])
    index.close()
    finish_restore(tmp_path)
    finish_move(tmp_path)
    index = Index(tmp_path)
    assert index.counts() == {"a": 1}
    index.close()
