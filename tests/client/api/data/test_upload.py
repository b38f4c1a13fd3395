"""Pushes and pulls of datasets in bounded requests, against a real workspace."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docarray import Document, DocumentArray
from docarray.score import NamedScore

from finetuner.api.data.upload import batches, pull_documents, push_documents
from finetuner.contract import wire
from finetuner.documents.pairs import make_pair
from finetuner.exceptions import DatasetNotFound, FinetunerError, InvalidDocument, InvalidInput
from finetuner.transport.connection import Connection
from finetuner.transport.over_grpc import GrpcAnswer
from finetuner.workspace.datasets import Datasets
from finetuner.workspace.folder import Workspace

Jpeg = Callable[[int], bytes]


class Room(Connection):
    """A connection to a workspace's datasets without a network."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.datasets = Datasets(Workspace(folder))
        self.requests: list[int] = []
        self.breaks_after = -1

    def ask(self, endpoint: str, documents: DocumentArray | None, parameters: dict[str, Any]) -> GrpcAnswer:
        return GrpcAnswer(self.answer(endpoint, documents, parameters).to_protobuf().SerializeToString())

    def answer(self, endpoint: str, documents: DocumentArray | None, given: dict[str, Any]) -> DocumentArray:
        try:
            if endpoint == wire.DATASETS_PULL:
                return self.datasets.part(given["version"], given["part"])
            if endpoint == wire.DATASETS_LIST:
                return DocumentArray([wire.reply([vars(self.datasets.find(given["name"]))])])
            assert endpoint == wire.DATASETS_PUSH
            if "commit" in given:
                made = self.datasets.commit(given["name"], given["upload"], given["commit"], given["version"])
                return DocumentArray([wire.reply(vars(made))])
            if documents is None:
                parts, stored = self.datasets.uploaded(given["upload"]), self.datasets.holds(given["version"])
                return DocumentArray([wire.reply({"parts": parts, "stored": stored})])
            if len(self.requests) == self.breaks_after:
                raise ConnectionError("the cable")
            self.requests.append(len(documents))
            received = DocumentArray.from_bytes(documents.to_bytes(protocol="protobuf"), protocol="protobuf")
            self.datasets.add_part(given["upload"], given["part"], received, given["first"])
            return DocumentArray([wire.reply(None)])
        except FinetunerError as error:
            return DocumentArray([wire.mark_error(Document(), error)])


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path / "workspace")


def size(document: Document) -> int:
    return int(document.to_protobuf().ByteSize())


@pytest.mark.parametrize("lengths", [[], [10], [40, 40, 40], [500, 10, 10, 10], [10] * 50, [90, 90, 300, 5]])
def test_batches_are_bounded_and_complete(lengths: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [Document(id=str(number), blob=b"x" * length) for number, length in enumerate(lengths)]
    bound = size(Document(id="0", blob=b"x" * 100))
    monkeypatch.setattr(wire, "MAX_REQUEST_BYTES", bound)
    made = list(batches(documents))
    assert [document.id for batch in made for document in batch] == [document.id for document in documents]
    assert all(len(batch) == 1 or sum(map(size, batch)) <= bound for batch in made)
    for batch, following in pairwise(made):
        assert sum(map(size, batch)) + size(following[0]) > bound  # none is cut short


def test_batches_are_bounded_by_their_documents_with_chunks_and_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_REQUEST_DOCUMENTS", 6)
    monkeypatch.setattr(wire, "MAX_MESSAGE_DOCUMENTS", 9)
    text = Document(text="a")
    deep = Document(chunks=[Document(matches=[text, text]), text])
    lengths = [len(batch) for batch in batches([text, deep, text, text, Document(chunks=[text] * 8), text])]
    assert lengths == [2, 2, 1, 1]
    with pytest.raises(InvalidDocument, match="document big must have less than 9 chunks and matches. Got 9."):
        list(batches([text, Document(id="big", chunks=[text] * 9)]))


def test_a_document_too_large_for_a_request_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_MESSAGE_BYTES", 2**20 + 100)
    with pytest.raises(InvalidDocument, match="document big must be smaller than 1048676 bytes. Got"):
        list(batches([Document(id="big", blob=b"x" * 200)]))


def test_pushed_documents_are_pulled_unchanged(room: Room, jpeg: Jpeg, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_REQUEST_BYTES", 5_000)
    pairs = DocumentArray(
        make_pair(f"text {number}", jpeg(number), {"finetuner_label": number}) for number in range(12)
    )
    made = push_documents(room, "colours", pairs)
    assert (made["name"], made["documents"]) == ("colours", 12)
    assert len(room.requests) > 1
    assert sum(room.requests) == 12
    pulled = pull_documents(room, "colours")
    assert pulled[:, "id"] == pairs[:, "id"]
    assert [document.chunks[1].blob for document in pulled] == [document.chunks[1].blob for document in pairs]
    assert [document.tags for document in pulled] == [document.tags for document in pairs]


def test_local_images_are_sent_inside_the_documents(room: Room, jpeg: Jpeg, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(0))
    pair = Document(chunks=[Document(text="a"), Document(uri=str(tmp_path / "a.jpg"))])
    push_documents(room, "colours", DocumentArray([pair]))
    assert pull_documents(room, "colours")[0].chunks[1].blob == jpeg(0)
    assert pair.chunks[1].uri.endswith("a.jpg")


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (Document(id="b", chunks=[Document(text="a")]), r"document 2 \(b\): pair must have two chunks"),
        (make_pair("a", b"no image"), r"document 2 \(.*\): image must be an image file"),
        (
            Document(id="b", chunks=[Document(text="a"), Document(uri="/no/such")]),
            r"document 2 \(b\): uri must be a readable",
        ),
    ],
    ids=["one side", "no image", "no file"],
)
def test_a_broken_pair_stops_the_push_before_anything_is_sent(
    room: Room, jpeg: Jpeg, broken: Document, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_REQUEST_BYTES", 1)
    pairs = DocumentArray([make_pair("a", jpeg(0)), make_pair("b", jpeg(1)), broken, make_pair("c", jpeg(2))])
    with pytest.raises(InvalidDocument, match=expected):
        push_documents(room, "colours", pairs)
    assert room.requests == []  # all documents are checked before the first is sent
    assert room.datasets.all() == []


def test_known_content_is_not_sent_again(room: Room, jpeg: Jpeg) -> None:
    first = push_documents(room, "colours", DocumentArray([make_pair("a", jpeg(0)), Document(text="b", tags={"n": 1})]))
    again = push_documents(room, "more", DocumentArray([make_pair("a", jpeg(0)), Document(text="b", tags={"n": 1.0})]))
    assert room.requests == [2]
    assert again["version"] == first["version"]
    assert [dataset.name for dataset in room.datasets.all()] == ["colours", "more"]


def test_an_interrupted_push_resumes(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = DocumentArray(Document(text=str(number) * 100) for number in range(10))
    monkeypatch.setattr(wire, "MAX_REQUEST_BYTES", 450)
    room.breaks_after = 2
    with pytest.raises(ConnectionError):
        push_documents(room, "colours", documents)
    assert room.datasets.all() == []
    sent, room.breaks_after = list(room.requests), -1
    push_documents(room, "colours", documents)
    assert room.requests[:2] == sent
    assert sum(room.requests) == 10
    assert pull_documents(room, "colours") == documents


def test_files_that_change_during_the_push_make_no_dataset(
    room: Room, jpeg: Jpeg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = iter([jpeg(0), jpeg(1)])
    monkeypatch.setattr("finetuner.api.data.upload.read_local", lambda uri: next(images))
    with pytest.raises(InvalidInput, match="Got another: files have changed"):
        push_documents(room, "colours", DocumentArray([Document(uri="/a.jpg")]))
    assert room.datasets.all() == []


def test_labelled_images_given_by_path_are_sent_inside_the_documents(room: Room, jpeg: Jpeg, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(0))
    given = Document(uri=str(tmp_path / "a.jpg"), tags={"finetuner_label": "a"})
    made = push_documents(room, "colours", DocumentArray([given]))
    (pulled,) = pull_documents(room, "colours")
    assert (pulled.blob, pulled.uri, pulled.tags) == (jpeg(0), given.uri, given.tags)
    assert not given.blob
    assert made["kind"] == "labelled"
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(InvalidDocument, match=r"document 0 \(.*\): image must be an image file"):
        push_documents(room, "colours", DocumentArray([given]))


@pytest.mark.parametrize(
    "document",
    [
        Document(text="a", uri="http://a/b.jpg", mime_type="x/y", weight=0.5, location=[1.0, 2.0], offset=3.0),
        Document(
            tensor=np.ones((2, 3), np.float64), embedding=np.ones(4, np.float32), tags={"n": 1, "d": {"e": [1, 2]}}
        ),
        Document(tensor=[1, 2, 3], modality="image"),
        Document(blob=b"x", chunks=[Document(text="c"), Document(chunks=[Document(text="deep")])]),
        Document(text="m", matches=[Document(id="m", text="match", scores={"cosine": NamedScore(value=0.5)})]),
        Document(uri="data:,x"),
    ],
)
def test_client_and_flow_compute_the_same_content_hash(room: Room, document: Document) -> None:
    push_documents(room, "colours", DocumentArray([document]))
    again = push_documents(room, "again", pull_documents(room, "colours"))
    assert again["version"] == room.datasets.find("colours").version
    assert room.requests == [1]


def test_an_incomplete_pull_is_an_error(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    push_documents(room, "colours", DocumentArray([Document(text="a"), Document(text="b")]))
    monkeypatch.setattr(room.datasets, "part", lambda version, part: DocumentArray())
    with pytest.raises(DatasetNotFound, match="must arrive with its 2 documents. Got 0"):
        pull_documents(room, "colours")


def test_an_empty_dataset_and_a_malformed_name_are_refused_before_anything_is_sent(room: Room, jpeg: Jpeg) -> None:
    with pytest.raises(InvalidInput, match="dataset 'colours' must hold at least one document. Got none"):
        push_documents(room, "colours", DocumentArray())
    with pytest.raises(InvalidInput, match="dataset name must be.*Got '../x'"):
        push_documents(room, "../x", DocumentArray([make_pair("a", jpeg(0))]))
    assert room.requests == []


def test_errors_of_the_server_are_raised(room: Room) -> None:
    with pytest.raises(DatasetNotFound, match="Got 'nothing'"):
        pull_documents(room, "nothing")
