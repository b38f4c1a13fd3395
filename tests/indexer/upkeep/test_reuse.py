"""Going live on vectors of a shared tower: images keep theirs bit by bit, texts are encoded again, and none mix."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docarray import Document

from finetuner.artifacts.registry import LIVE
from finetuner.contract.wire import ARTIFACT_TAG, TOWER_TAG
from finetuner.executors.indexer.engines.edge import EdgeEngine
from finetuner.executors.indexer.engines.engine import Engine, Hit, SearchOptions
from finetuner.executors.indexer.engines.server import ServerEngine
from finetuner.executors.indexer.index import Index
from finetuner.executors.indexer.upkeep.live import Live
from finetuner.executors.indexer.upkeep.reindex import Reindex
from finetuner.models.clip import TEXT, VISION
from finetuner.workspace.folder import Workspace
from tests.indexer.engines.qdrant_stand_in import qdrant_stand_in
from tests.indexer.hashed_encoder import vector_of_text

COUNT = 40
IMAGES, TEXTS = [f"i{n}" for n in range(COUNT)], [f"t{n}" for n in range(COUNT)]
# Two artifacts with one vision tower; the third has another.
PRINTS = {"first": {TEXT: "a", VISION: "v"}, "second": {TEXT: "b", VISION: "v"}, "third": {TEXT: "c", VISION: "w"}}


def vector(artifact: str, document: Document) -> Any:
    """Return what the artifact's tower of the document's kind answers, by its fingerprint."""
    if document.text:
        return vector_of_text(PRINTS[artifact][TEXT], document.text)
    return vector_of_text(PRINTS[artifact][VISION], document.blob.decode())


def content_of(name: str) -> dict[str, Any]:
    return {"text": name} if name.startswith("t") else {"blob": name.encode()}


class Encoder:
    """Encodes as the Flow does, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self, artifact: str, documents: Sequence[Document]) -> list[Document]:
        assert self.go_on.wait(100)
        self.asked += [document.text or document.blob.decode() for document in documents]
        tags = {ARTIFACT_TAG: artifact}
        return [Document(embedding=vector(artifact, document), tags=tags) for document in documents]


class Going:
    """A workspace with 40 images and 40 texts of the artifact `first`, as the encoder rooms send them."""

    def __init__(self, root: Path, engine: Engine | None = None) -> None:
        self.workspace = Workspace(root)
        for name, prints in PRINTS.items():
            self.workspace.fingerprints.set(name, prints)
        self.engine = engine or EdgeEngine()
        self.encoder = Encoder()
        self.start()
        self.write("first", [*IMAGES, *TEXTS])

    def start(self) -> None:
        self.index = Index(self.workspace.index, self.engine)
        self.live = Live(self.workspace)
        self.reindex = Reindex(self.index, self.live, self.encoder, 1.0, 0.0, print)

    def write(self, artifact: str, names: Sequence[str], **tags: str) -> None:
        documents = []
        for name in names:
            document = Document(id=name, **content_of(name))
            document.embedding = vector(artifact, document)
            kind = {TOWER_TAG: TEXT if document.text else VISION}
            document.tags.update({"own": name, ARTIFACT_TAG: artifact, **kind, **tags})
            documents.append(document)
        self.index_documents(documents)

    def index_documents(self, documents: Sequence[Document]) -> None:
        assert not any(self.index.upsert(documents))
        assert not any(TOWER_TAG in part.tags for document in documents for part in (document, *document.chunks))
        self.reindex.written({document.tags[ARTIFACT_TAG] for document in documents})

    def promote(self, artifact: str) -> None:
        self.workspace.aliases.set(LIVE, {"artifact": artifact, "promoted_at": time.time()})
        self.reindex.look_again()

    def arrive(self, artifact: str, state: str = "FINISHED") -> None:
        deadline = time.monotonic() + 100
        while (status := self.reindex.status()) is None or (status["artifact"], status["state"]) != (artifact, state):
            assert time.monotonic() < deadline, status
            time.sleep(0.005)

    def vectors(self, artifact: str) -> dict[str, bytes]:
        found = self.index.collection(artifact).get([*IMAGES, *TEXTS, "both", "pair", "own", "new"])
        return {name: value.tobytes() for name, value in found.items()}

    def check(self, artifact: str, names: Sequence[str]) -> None:
        """Every vector of a collection must be what the artifact itself makes of the document."""
        found = self.index.collection(artifact).get(names)
        assert sorted(found) == sorted(names)
        for name in names:
            np.testing.assert_allclose(found[name], vector(artifact, Document(**content_of(name))), atol=1e-6)

    def close(self) -> None:
        self.encoder.go_on.set()
        self.reindex.close()
        self.index.close()


@pytest.fixture
def going(tmp_path: Path) -> Iterator[Callable[..., Going]]:
    opened: list[Going] = []

    def make(engine: Engine | None = None) -> Going:
        opened.append(Going(tmp_path, engine))
        return opened[-1]

    yield make
    for made in opened:
        made.close()


def test_images_keep_their_vectors_and_texts_are_encoded_again(going: Callable[..., Going]) -> None:
    flow = going()
    before = flow.vectors("first")
    flow.promote("second")
    flow.arrive("second")
    assert sorted(flow.encoder.asked) == sorted(TEXTS), "no image is encoded"
    assert flow.live.searched == "second"
    after = flow.vectors("second")
    assert {name: after[name] for name in IMAGES} == {name: before[name] for name in IMAGES}, "bit by bit"
    flow.check("second", [*IMAGES, *TEXTS])
    assert flow.vectors("first") == before
    assert flow.index.find("second", flow.index.filter({"own": "i3"}), 9) == ["i3"], "tags go along"

    flow.encoder.asked.clear()
    flow.promote("third")  # another vision tower: all anew
    flow.arrive("third")
    assert sorted(flow.encoder.asked) == sorted([*IMAGES, *TEXTS])
    flow.check("third", [*IMAGES, *TEXTS])
    flow.encoder.asked.clear()
    flow.promote("first")  # rollback
    flow.arrive("first")
    assert flow.encoder.asked == []


def test_vectors_of_a_re_index_are_taken_over_as_well(going: Callable[..., Going]) -> None:
    flow = going()
    flow.promote("third")
    flow.arrive("third")
    flow.workspace.fingerprints.set("second", PRINTS["third"] | {TEXT: "b"})
    flow.encoder.asked.clear()
    flow.index.drop("first")
    flow.promote("second")
    flow.arrive("second")
    assert sorted(flow.encoder.asked) == sorted(TEXTS)


def test_a_server_keeps_them_too(going: Callable[..., Going]) -> None:
    with qdrant_stand_in() as server:
        flow = going(ServerEngine(server.url))
        flow.promote("second")
        flow.arrive("second")
        assert sorted(flow.encoder.asked) == sorted(TEXTS)
        flow.check("second", [*IMAGES, *TEXTS])
        assert server.faults == []


@pytest.mark.parametrize("unknown", ["first", "second"])
def test_without_a_fingerprint_all_is_encoded_again(going: Callable[..., Going], unknown: str) -> None:
    flow = going()
    flow.workspace.fingerprints.delete(unknown)
    flow.promote("second")
    flow.arrive("second")
    assert sorted(flow.encoder.asked) == sorted([*IMAGES, *TEXTS])


def test_only_vectors_that_the_shared_tower_made_are_taken_over(going: Callable[..., Going]) -> None:
    flow = going()
    own = Document(id="own", blob=b"i5", embedding=vector_of_text("a", "a caption"), tags={ARTIFACT_TAG: "first"})
    both = Document(id="both", chunks=[Document(text="t1"), Document(blob=b"i1")])
    pair = Document(id="pair", chunks=[Document(blob=b"i1"), Document(blob=b"i2")])
    for part in (*both.chunks, *pair.chunks):
        part.embedding = vector("first", part)
        part.tags = {ARTIFACT_TAG: "first", TOWER_TAG: TEXT if part.text else VISION}
    flow.index_documents([own, both, pair])
    flow.write("first", ["i0"])  # a new version counts
    flow.index_documents([Document(id="i1", blob=b"i1", embedding=np.ones(16), tags={ARTIFACT_TAG: "first"})])
    before = flow.vectors("first")
    flow.promote("second")
    flow.arrive("second")
    # a vector from outside may be of any tower, and one of an image and a text is of both
    assert sorted(flow.encoder.asked) == sorted([*TEXTS, "i1", "i5", "t1", "i1"])
    after = flow.vectors("second")
    assert after["pair"] == before["pair"]
    flow.check("second", [*IMAGES, *TEXTS])
    for name in ("own", "both", "i1"):
        assert after[name] != before[name]


def test_an_interrupted_job_goes_on_and_writes_meanwhile_count(going: Callable[..., Going]) -> None:
    flow = going()
    flow.encoder.go_on.clear()
    flow.promote("second")
    deadline = time.monotonic() + 100
    while "second" not in flow.index.counts():  # images are there; texts wait for the encoder
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert set(flow.vectors("second")) == set(IMAGES), "a search by the artifact meets no text of another tower"
    flow.close()
    flow.start()
    flow.encoder.go_on.clear()
    flow.index.delete(["i7", "t7"])
    flow.encoder.go_on.set()
    flow.arrive("second")
    assert not {"i7", "t7"} & flow.vectors("second").keys()
    assert not set(flow.encoder.asked) & set(IMAGES)


def test_no_search_mixes_towers_under_load(going: Callable[..., Going]) -> None:
    flow = going()
    seen: list[str] = []
    wrong: list[object] = []
    done = threading.Event()

    def search() -> None:
        while not done.is_set():
            artifact = flow.live.searched  # as the encoders read it
            for name in ("t3", "t39"):
                query = Document(text=name, tags={ARTIFACT_TAG: artifact})
                query.embedding = vector(artifact, query)
                (hits,) = flow.index.search([query], SearchOptions(2 * COUNT))
                expected = {
                    each: float(query.embedding @ vector(artifact, Document(**content_of(each))))
                    for each in (*IMAGES, *TEXTS)
                }
                scores = {hit.id: hit.score for hit in hits if isinstance(hit, Hit)} if isinstance(hits, list) else {}
                if scores.keys() != expected.keys() or any(abs(scores[k] - expected[k]) > 1e-5 for k in expected):
                    wrong.append((artifact, hits))
            seen.append(artifact)

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for artifact in ("second", "third", "first"):
        flow.promote(artifact)
        flow.arrive(artifact)
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert {"second", "third", "first"} >= set(seen)
    assert "second" in seen
