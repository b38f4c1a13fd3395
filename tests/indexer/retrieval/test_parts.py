"""Documents and queries of several parts: one vector, the direction of the weighted sum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docarray import Document, DocumentArray

from finetuner.contract import wire
from finetuner.exceptions import EmptyDocument, FinetunerError, InvalidDocument, ResourceExhausted
from finetuner.executors.indexer.executor import Indexer
from finetuner.executors.indexer.retrieval.vectors import join_parts
from finetuner.executors.indexer.storage.packing import pack, unpack

MakeDocument = Callable[..., Document]
X, Y = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Indexer]:
    made = Indexer(workspace_url=str(tmp_path))
    yield made
    made.close()


@pytest.fixture
def pair(encoded: MakeDocument) -> MakeDocument:
    """An image and its caption, as the encoders answer them."""

    def make(document_id: str, image: Any, caption: Any, weights: tuple[float, float] = (1, 1)) -> Document:
        parts = [
            encoded(f"{document_id}-image", image, blob=b"jpeg", weight=weights[0]),
            encoded(f"{document_id}-caption", caption, text="a red dress", weight=weights[1]),
        ]
        return Document(id=document_id, chunks=parts, tags={"price": 5})

    return make


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (0.5, -0.25)])
def test_the_vector_is_the_weighted_sum(pair: MakeDocument, weights: tuple[float, float]) -> None:
    document = pair("d", [2.0, 0.0, 0.0], [3.0, 4.0, 0.0], weights)
    join_parts(document)
    expected = weights[0] * np.array([1, 0, 0]) + weights[1] * np.array([0.6, 0.8, 0])
    assert np.allclose(document.embedding, expected)
    assert document.tags[wire.ARTIFACT_TAG] == "model-a"


def test_a_weight_of_zero_is_none(pair: MakeDocument) -> None:
    document = pair("d", X, Y, (0, 1))
    join_parts(document)
    assert np.allclose(document.embedding, [1, 1, 0]), "DocArray does not tell 0 from a weight that was never set"


def test_what_has_content_or_a_vector_of_its_own_keeps_it(encoded: MakeDocument) -> None:
    part = encoded("part", X)
    whole, vector, bare = Document(text="x", chunks=[part]), encoded("v", Y, chunks=[part]), Document()
    for document in (whole, vector, bare):
        join_parts(document)
    assert whole.embedding is None
    assert list(vector.embedding) == Y
    assert bare.embedding is None


@pytest.mark.parametrize(
    ("spoil", "error", "said"),
    [
        (lambda d: wire.mark_error(d.chunks[1], EmptyDocument("no content")), EmptyDocument, "no content"),
        (lambda d: wire.mark_error(d.chunks[0], ResourceExhausted("full")), ResourceExhausted, "full"),
        (lambda d: setattr(d.chunks[0], "embedding", None), InvalidDocument, "must have content"),
        (lambda d: d.chunks[0].tags.clear(), InvalidDocument, "no such tag"),
        (lambda d: d.chunks[0].tags.update({wire.ARTIFACT_TAG: "b"}), InvalidDocument, "Got b and model-a"),
        (lambda d: setattr(d.chunks[1], "weight", float("inf")), InvalidDocument, "weight of chunk 1"),
        (lambda d: setattr(d.chunks[1], "embedding", np.array([-1.0, 0, 0])), InvalidDocument, "cancel each other"),
    ],
)
def test_bad_parts(
    pair: MakeDocument, spoil: Callable[[Document], None], error: type[FinetunerError], said: str
) -> None:
    document = pair("d", X, Y)
    spoil(document)
    with pytest.raises(error, match=said):
        join_parts(document)


def test_pairs_are_found_by_both_parts_and_come_back_whole(room: Indexer, pair: MakeDocument) -> None:
    broken = pair("broken", X, Y)
    wire.mark_error(broken.chunks[0], EmptyDocument("no content"))
    documents = [pair("both", X, Y), pair("image", X, Y, (9, 1)), pair("caption", X, Y, (1, 9)), broken]
    answer = room.index(docs=DocumentArray(documents))
    assert [type(wire.error_of(document)).__name__ for document in answer] == ["NoneType"] * 3 + ["EmptyDocument"]
    assert not any(document.chunks for document in answer[:3]), "the sender has the content"

    query = DocumentArray([Document(id="q", embedding=np.array(X), tags={wire.ARTIFACT_TAG: "model-a"})])
    (found,) = DocumentArray.from_protobuf(room.search(docs=query).to_protobuf())
    cosines = {match.id: match.scores["cosine"].value for match in found.matches}
    assert cosines == pytest.approx({"image": 9 / 82**0.5, "both": 0.5**0.5, "caption": 1 / 82**0.5}, abs=1e-6)
    image, caption = found.matches["both"].chunks
    assert (image.blob, caption.text, image.embedding) == (b"jpeg", "a red dress", None)
    assert wire.ARTIFACT_TAG not in image.tags
    assert found.matches["image"].chunks[0].weight == 9
    assert found.matches["both"].tags["price"] == 5


def test_a_query_of_parts(room: Indexer, encoded: MakeDocument, pair: MakeDocument) -> None:
    room.index(docs=DocumentArray([encoded("x", X, text="x"), encoded("y", Y, text="y")]))
    (found,) = DocumentArray.from_protobuf(room.search(docs=DocumentArray([pair("q", X, Y, (1, -1))])).to_protobuf())
    assert [(match.id, round(match.scores["cosine"].value, 3)) for match in found.matches] == [
        ("x", 0.707),
        ("y", -0.707),
    ]


def test_stored_chunks_carry_no_vectors(pair: MakeDocument) -> None:
    packed = pack(pair("d", X, Y))
    document = unpack(packed.tags + packed.content)
    assert [part.embedding for part in document.chunks] == [None, None]
    assert len(packed.content) < 120
