"""Going live: everything is encoded again, searches have one artifact at a time, and the pointer moves once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docarray import Document, DocumentArray

from finetuner.artifacts.registry import LIVE, SEARCHED
from finetuner.contract import wire
from finetuner.exceptions import ArtifactNotFound, FinetunerError, FlowUnreachable, InvalidInput
from finetuner.executors.indexer.engines.engine import SearchOptions
from finetuner.executors.indexer.executor import Indexer
from finetuner.executors.indexer.index import Index
from finetuner.executors.indexer.upkeep import reindex
from finetuner.executors.indexer.upkeep.live import Live
from finetuner.executors.indexer.upkeep.reindex import Encode, Reindex
from finetuner.workspace.folder import Workspace
from tests.indexer.hashed_encoder import encode, encoded_text, vector_of_text
from tests.waiting import wait_until

COUNT = 100


class Going:
    """A workspace whose index follows promotions."""

    def __init__(self, root: Path, encode: Encode = encode, tolerance: float = 0.01) -> None:
        self.shared_workspace = Workspace(root)
        self.index = Index(self.shared_workspace.index)
        self.live = Live(self.shared_workspace)
        self.said: list[str] = []
        self.reindex = Reindex(self.index, self.live, encode, 1.0, tolerance, self.said.append)

    def write(self, documents: Sequence[Document]) -> None:
        """As `/index` with artifact 'live' does."""
        assert not any(self.index.upsert(documents))
        self.reindex.written({document.tags[wire.ARTIFACT_TAG] for document in documents})

    def promote(self, artifact: str) -> None:
        """As the trainer does."""
        self.shared_workspace.aliases.set(LIVE, {"artifact": artifact, "promoted_at": time.time()})
        self.reindex._look.set()

    def wait_for(self, state: str) -> dict[str, Any]:
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline:
            status = self.reindex.status()
            if status is not None and status["state"] == state:
                return status
            time.sleep(0.01)
        raise AssertionError(f"no {state} in {self.reindex.status()}, {self.said}")

    def close(self) -> None:
        self.reindex.close()
        self.index.close()


@pytest.fixture
def going(tmp_path: Path) -> Iterator[Callable[..., Going]]:
    """Open a workspace with 100 documents of the artifact 'old'; closed at the end."""
    opened: list[Going] = []

    def going(**options: Any) -> Going:
        made = Going(tmp_path, **options)
        opened.append(made)
        made.write([encoded_text(f"d{i}", f"text {i}", "old", number=i) for i in range(COUNT)])
        return made

    yield going
    for made in opened:
        made.close()


def test_a_promotion_encodes_everything_again_and_then_flips(going: Callable[..., Going]) -> None:
    flow = going()
    assert flow.live.searched == "old"
    flow.promote("new")
    status = flow.wait_for("FINISHED")
    assert status == {
        "artifact": "new", "source": "old", "state": "FINISHED", "documents": COUNT, "done": COUNT, "left_out": 0,
        "eta_seconds": None, "error": "",
    }  # fmt: skip
    assert flow.live.searched == "new"
    assert flow.index.counts() == {"new": COUNT, "old": COUNT}
    vectors = flow.index.collection("new").get([f"d{i}" for i in range(COUNT)])
    for i in range(COUNT):
        np.testing.assert_allclose(vectors[f"d{i}"], vector_of_text("new", f"text {i}"), atol=1e-6)
    condition = flow.index.filter({"number": {"$lt": 5}})
    assert flow.index.collection("new").count(condition) == 5, "tags go along"

    flow.promote("old")  # rollback: nothing is left to encode
    flow.reindex._encode = not_to_be_called
    flow.wait_for("FINISHED")
    assert flow.live.searched == "old"


def test_documents_of_parts_are_encoded_again_by_their_parts(going: Callable[..., Going]) -> None:
    flow = going()
    parts = [encoded_text("", "one", "old"), encoded_text("", "broken", "old")]
    pair = Document(id="pair", chunks=[parts[0], encoded_text("", "two", "old")], tags={"number": 1})
    pair.chunks[1].weight = 3
    flow.write([Document(id="lost", chunks=parts), pair])
    flow.promote("new")
    assert flow.wait_for("FINISHED")["left_out"] == 1
    vector = flow.index.collection("new").get(["pair", "lost"])["pair"]
    expected = vector_of_text("new", "one") + 3 * vector_of_text("new", "two")
    np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-6)
    assert flow.index.collection("new").count(flow.index.filter({"number": 1})) == 2, "tags go along"


def not_to_be_called(artifact: str, documents: Sequence[Document]) -> list[Document]:
    raise AssertionError("nothing is to be encoded")


def test_an_acknowledged_write_that_a_flip_overtook_is_found(going: Callable[..., Going]) -> None:
    flow = going()
    flow.promote("new")
    flow.wait_for("FINISHED")
    flow.write([encoded_text("late", "text of late", "old")])  # left the encoders before the flip
    assert set(flow.index.collection("new").get(["late"])) == {"late"}


def test_what_is_written_and_deleted_meanwhile(going: Callable[..., Going]) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def slow(artifact: str, documents: Sequence[Document]) -> list[Document]:
        asked.set()
        assert go_on.wait(200)
        return encode(artifact, documents)

    flow = going(encode=slow)
    flow.promote("new")
    assert asked.wait(200)  # the first batch is being encoded
    flow.write([encoded_text("d0", "changed", "old"), encoded_text("late", "late", "old")])
    flow.index.delete(["d1", "d99"])
    assert flow.live.searched == "old"
    running = flow.reindex.status()
    assert running is not None
    assert (running["state"], running["documents"]) == ("RUNNING", 99)
    go_on.set()
    flow.wait_for("FINISHED")
    assert flow.index.counts() == {"new": 99, "old": 99}
    new = flow.index.collection("new").get(["d0", "d1", "d99", "late"])
    assert new.keys() == {"d0", "late"}
    np.testing.assert_allclose(new["d0"], vector_of_text("new", "changed"), atol=1e-6)


def test_a_document_that_comes_late_with_an_old_vector_is_encoded_too(going: Callable[..., Going]) -> None:
    flow = going()
    flow.promote("new")
    flow.wait_for("FINISHED")
    flow.write([encoded_text("late", "late", "old")])  # encoded before the flip, stored after it
    wait_until(lambda: "late" in flow.index.collection("new").get(["late"]), "the late document's vector")
    assert flow.live.searched == "new"


def test_documents_of_another_artifact_stay_with_it(going: Callable[..., Going]) -> None:
    flow = going()
    flow.index.upsert([encoded_text("apart", "apart", "tried")], live=False)
    flow.promote("new")
    flow.wait_for("FINISHED")
    assert flow.index.counts() == {"new": COUNT, "old": COUNT, "tried": 1}
    flow.promote("tried")
    flow.wait_for("FINISHED")
    assert flow.index.counts()["tried"] == COUNT + 1
    flow.promote("old")
    flow.wait_for("FINISHED")
    assert flow.index.counts()["old"] == COUNT + 1, "what `live` has found, it goes on finding"


def test_cancel_leaves_live_where_it_is(going: Callable[..., Going]) -> None:
    asked = threading.Event()

    def busy(artifact: str, documents: Sequence[Document]) -> list[Document]:
        asked.set()
        raise FlowUnreachable("the Flow must be up. Got nothing.")

    flow = going(encode=busy)
    with pytest.raises(InvalidInput, match="must be running to be canceled"):
        flow.reindex.cancel()
    flow.promote("new")
    assert asked.wait(200)
    assert flow.reindex.cancel()["state"] == "CANCELED"
    assert flow.live.searched == "old"
    assert flow.live.wanted() is None
    flow.reindex._encode = encode
    flow.promote("new")  # once more is another job
    flow.wait_for("FINISHED")
    assert flow.live.searched == "new"


def test_it_waits_for_the_encoders(going: Callable[..., Going], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reindex, "RETRY_SECONDS", 0.01)
    refusals = iter([FlowUnreachable("not up"), FinetunerError("busy")])

    def late(artifact: str, documents: Sequence[Document]) -> list[Document]:
        for refusal in refusals:
            raise refusal
        return encode(artifact, documents)

    flow = going(encode=late)
    flow.promote("new")
    flow.wait_for("FINISHED")
    assert flow.said == ["the re-index waits: not up", "the re-index waits: busy"]


def test_what_cannot_be_encoded_is_left_out_up_to_a_share(going: Callable[..., Going]) -> None:
    flow = going(tolerance=0.02)
    flow.write([encoded_text("d7", "broken", "old")])
    vector = Document(id="bare", embedding=vector_of_text("old", "bare"), tags={wire.ARTIFACT_TAG: "old"})
    flow.write([vector])
    flow.promote("new")
    status = flow.wait_for("FINISHED")
    assert (status["done"], status["left_out"]) == (COUNT - 1, 2)

    flow.write([encoded_text("d8", "broken", "new")])
    flow.promote("newer")
    status = flow.wait_for("FAILED")
    assert "3 of 101 documents cannot be encoded by 'newer'; the first is bare: it has no content" in status["error"]
    assert flow.live.searched == "new"
    flow.index.delete(["d8"])
    flow.promote("newer")
    flow.wait_for("FINISHED")


def test_an_artifact_that_nobody_can_serve(going: Callable[..., Going]) -> None:
    def refused(artifact: str, documents: Sequence[Document]) -> list[Document]:
        raise ArtifactNotFound("artifact must be published.")

    flow = going(encode=refused)
    flow.promote("new")
    assert flow.wait_for("FAILED")["error"] == "artifact must be published."
    assert flow.live.searched == "old"
    assert flow.index.counts() == {"old": COUNT}


def test_a_later_promotion_takes_over(going: Callable[..., Going]) -> None:
    asked = threading.Event()

    def slow(artifact: str, documents: Sequence[Document]) -> list[Document]:
        if artifact == "new":
            asked.set()
            time.sleep(0.05)
        return encode(artifact, documents)

    flow = going(encode=slow)
    flow.promote("new")
    assert asked.wait(200)
    flow.promote("newest")
    assert flow.wait_for("FINISHED")["artifact"] == "newest"
    assert flow.live.searched == "newest"


def test_searches_meet_one_artifact_all_the_while(going: Callable[..., Going]) -> None:
    flow = going()
    flow.promote("new")
    seen: list[str] = []
    while not seen or seen[-1] != "new":
        artifact = flow.live.searched  # as the encoders read it
        queries = [encoded_text("q", f"text {i}", artifact) for i in (3, 90)]
        found = flow.index.search(queries, SearchOptions(1))
        assert [hits[0].id for hits in found if isinstance(hits, list)] == ["d3", "d90"]
        seen.append(artifact)
    assert seen == sorted(seen, reverse=True), "old, then new, and never back"


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Indexer]:
    made = Indexer(workspace_url=str(tmp_path))
    yield made
    made.close()


def test_the_room_says_where_live_is_and_drops_what_is_not_in_use(room: Indexer) -> None:
    def reply(answer: DocumentArray) -> Any:
        return wire.read_reply(answer[0])

    room.index(docs=DocumentArray([encoded_text("a", "a", "old")]))
    room.index(docs=DocumentArray([encoded_text("b", "b", "tried")]), parameters={"artifact": "tried"})
    assert room.shared_workspace.aliases.get(SEARCHED) is not None
    assert [document.id for document in room.filter()] == ["a"]
    room.shared_workspace.aliases.set(LIVE, {"artifact": "new", "promoted_at": time.time()})
    status = reply(room.status())
    assert (status["searched"], status["promoted"], status["reindex"]["state"]) == ("old", "new", "RUNNING")
    for used in ("old", "new", "live"):
        with pytest.raises(InvalidInput, match="a dropped collection must not be in use. Got"):
            reply(room.drop_collection(parameters={"artifact": used}))
    assert reply(room.drop_collection(parameters={"artifact": "tried"})) == {"artifact": "tried"}
    assert [entry["artifact"] for entry in reply(room.status())["collections"]] == ["old"]
    assert reply(room.cancel_reindex())["state"] == "CANCELED"
    with pytest.raises(InvalidInput, match="Got none. See /status"):
        reply(room.cancel_reindex())
