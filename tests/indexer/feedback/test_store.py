"""The store of marks: bounds, retries, pages, deletion, and kills."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from finetuner.contract.marks import Mark
from finetuner.database.engine import Database
from finetuner.exceptions import AlreadyExists, FinetunerServerError, InsufficientStorage
from finetuner.executors.indexer.feedback import store as store_module
from finetuner.executors.indexer.feedback.store import Chosen, Marked, Marks
from tests.postgres import Postgres

from .mark_writer import marked

NewStore = Callable[..., Marks]


@pytest.fixture(params=["file", pytest.param("server", marks=pytest.mark.seconds)])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> NewStore:
    """Open the store of a test, again if it is called again; in either database."""
    if request.param == "file":
        return lambda **bounds: Marks(tmp_path / "marks.sqlite", **bounds)
    postgres: Postgres = request.getfixturevalue("postgres")
    return lambda **bounds: Marks(Database.server(postgres.url), **bounds)


def ids(store: Marks, chosen: Chosen | None = None) -> list[str]:
    return [mark["id"] for mark in store.page(chosen or Chosen(), limit=1000)["marks"]]


def test_a_mark_comes_back_as_it_was(new_store: NewStore) -> None:
    store, before = new_store(), time.time()
    shown = ("ä", "b'\"", "c\0d", ", ", "e\\", "f\n")
    one = Marked(Mark("1", shown, (shown[2],), (shown[0],), 40, "model-a"), "", b"image")
    assert store.add([one], "anna") == [None]
    store.close()
    store = new_store()
    page = store.page(Chosen(), images=True)
    (found,) = page["marks"]
    assert page["next"] is None
    assert before <= found.pop("at") <= time.time()
    assert found == {
        "id": "1", "user": "anna", "artifact": "model-a", "text": "", "image": "aW1hZ2U=", "shown": list(shown),
        "chosen": [shown[2]], "refused": [shown[0]], "offset": 40,
    }  # fmt: skip
    assert store.page(Chosen())["marks"][0]["image"] is None
    for document in shown:
        assert ids(store, Chosen(document=document)) == ["1"]
    for other in ("c", "b'", "e", 'e\\"', "f", "[", "\n", ","):
        assert ids(store, Chosen(document=other)) == []
    store.close()


def test_a_mark_that_is_sent_again_is_stored_once(new_store: NewStore) -> None:
    store = new_store()
    assert store.add([marked(1), marked(1), marked(2)], "anna") == [None, None, None]
    other = Marked(marked(1).mark, "another query")
    assert [type(error) for error in store.add([other, marked(3)], "anna")] == [AlreadyExists, type(None)]
    assert isinstance(store.add([marked(1)], "bob")[0], AlreadyExists)
    assert ids(store) == ["m1", "m2", "m3"]
    store.close()


def test_a_full_store_refuses_and_one_user_does_not_fill_it(new_store: NewStore, tmp_path: Path) -> None:
    store = new_store(most=5, most_of_one=3)
    assert [error is None for error in store.add([*map(marked, range(4))], "anna")] == [True, True, True, False]
    answers = store.add([*map(marked, range(10, 13))], "bob")
    assert [error is None for error in answers] == [True, True, False]
    assert isinstance(answers[2], InsufficientStorage)
    assert store.delete(Chosen(user="anna")) == 3
    assert store.add([marked(20)], "bob") == [None]
    store.close()
    small = Marks(tmp_path / "small.sqlite", most_bytes=1000)
    (error,) = small.add([Marked(marked(1).mark, "x" * 1000)], "")
    assert isinstance(error, InsufficientStorage)
    small.close()
    full = Marks(tmp_path / "full.sqlite", min_free=2**60)
    with pytest.raises(InsufficientStorage, match="Make room"):
        full.add([marked(1)], "")
    full.close()


def test_pages_end_by_number_and_by_bytes(new_store: NewStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store = new_store()
    store.add([*map(marked, range(25))], "anna")
    for most in (store_module.PAGE_BYTES, 300):
        monkeypatch.setattr(store_module, "PAGE_BYTES", most)
        found, after, pages = [], 0, 0
        while after is not None:
            page = store.page(Chosen(), after, limit=10)
            found += [mark["id"] for mark in page["marks"]]
            after, pages = page["next"], pages + 1
        assert found == [f"m{number}" for number in range(25)]
        assert pages == 3 if most > 300 else pages > 3
    store.close()


def test_deleted_marks_leave_the_disk(new_store: NewStore, tmp_path: Path) -> None:
    store = new_store()
    secret = "a very private query"
    store.add([Marked(Mark("1", ("d1", "d2"), ("d1",)), secret), Marked(Mark("2", ("d3",), ("d3",)), "x")], "anna")
    store.add([Marked(Mark("3", ("d3", "d2"), ("d3",)), "y")], "bob")
    assert store.delete(Chosen(user="bob", document="d1")) == 0, "all conditions must hold"
    assert store.delete(Chosen(document="d2")) == 2
    assert ids(store) == ["2"]
    for file in tmp_path.iterdir():
        assert secret.encode() not in file.read_bytes(), file
    assert store.delete(Chosen(ids=("2", "unknown"))) == 1
    store.close()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "marks.sqlite").write_bytes(b"x" * 5000)
    with pytest.raises(FinetunerServerError, match=r"marks\.sqlite"):
        Marks(tmp_path / "marks.sqlite")
    with sqlite3.connect(tmp_path / "later.sqlite") as later:
        later.execute("PRAGMA user_version = 9")
    with pytest.raises(FinetunerServerError, match="layout 1. Got 9"):
        Marks(tmp_path / "later.sqlite")


@pytest.mark.process
@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_sigkill_loses_and_doubles_no_acknowledged_mark(tmp_path: Path, kills: int) -> None:
    file, moments, acknowledged = tmp_path / "marks.sqlite", random.Random(kills), list[int]()
    for _ in range(kills):
        first = acknowledged[-1] + 1 if acknowledged else 0  # one that was under way is sent again, as by a client
        command = [sys.executable, "-m", "tests.indexer.feedback.mark_writer", str(file), str(first)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        printed = process.stdout.readline()
        wanted = moments.randrange(1, 60)
        while printed.count("\n") < wanted:
            printed += process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        printed += process.stdout.read()
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        acknowledged += [int(line) for line in printed.split("\n")[:-1]]
        store = Marks(file)
        found = Counter(ids_of_all(store))
        store.close()
        assert set(found.values()) == {1}
        assert found.keys() >= {f"m{number}" for number in acknowledged}
        assert len(found) <= len(acknowledged) + 1


def ids_of_all(store: Marks) -> list[str]:
    found, after = list[str](), 0
    while after is not None:
        page = store.page(Chosen(), after, limit=1000)
        found += [mark["id"] for mark in page["marks"]]
        after = page["next"]
    return found
