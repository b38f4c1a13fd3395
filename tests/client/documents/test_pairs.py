"""Pairs as documents, complete and broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docarray import Document, DocumentArray

from finetuner.documents.content import check_document
from finetuner.documents.images import decode
from finetuner.documents.pairs import Pair, make_pair, read_pair, read_pairs, with_image_blob
from finetuner.documents.uris import read_local
from finetuner.exceptions import InvalidDocument

TEXT = Document(text="a red dress", modality="text")
IMAGE = Document(blob=b"image", modality="image")


def refuse(uri: str) -> bytes:
    raise AssertionError(f"{uri} was fetched")


def test_a_pair_comes_back(jpeg: Callable[[int], bytes]) -> None:
    document = make_pair("ein rotes Kleid", jpeg(0), {"finetuner_label": "item-7", "language": "de"})
    again = Document.from_bytes(document.to_bytes(protocol="protobuf"), protocol="protobuf")
    assert read_pair(again) == Pair("ein rotes Kleid", jpeg(0), "item-7", "de")


@pytest.mark.parametrize(("given", "read"), [(0, 0.0), (2, 2.0), (0.25, 0.25), ("0,5", 0.5), (-0.0, 0.0)])
def test_a_score_comes_back(given: Any, read: float) -> None:
    assert read_pair(make_pair("a", b"x", {"finetuner_score": given})) == Pair("a", b"x", score=read)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (-1e-9, "score of a pair must be at least 0: it becomes a weight and a gain. Got -1e-09"),
        (float("inf"), "score must be a finite number"),
        (None, "score must be a finite number"),
    ],
)
def test_a_score_that_cannot_be_a_weight_is_refused_with_its_position(given: Any, message: str) -> None:
    odd = make_pair("a", b"x", {"finetuner_score": given})
    with pytest.raises(InvalidDocument, match=rf"document 1 \({odd.id}\): {message}"):
        read_pairs([make_pair("a", b"x", {"finetuner_score": 1}), odd])


@pytest.mark.parametrize(
    "chunks",
    [
        [Document(text="a"), Document(blob=b"x")],
        [Document(blob=b"x"), Document(text="a")],
        [Document(text="a", modality="text"), Document(blob=b"x", modality="image")],
    ],
)
def test_sides_are_found_by_modality_or_content(chunks: list[Document]) -> None:
    assert read_pair(Document(chunks=chunks)) == Pair("a", b"x")


def test_tags_of_a_side_count_unless_the_parent_has_them() -> None:
    text = Document(text="a", tags={"finetuner_label": "of the text", "language": "en"})
    assert read_pair(Document(chunks=[text, IMAGE])) == Pair("a", b"image", "of the text", "en")
    parent = Document(chunks=[text, IMAGE], tags={"finetuner_label": "of the parent"})
    assert read_pair(parent).label == "of the parent"


@pytest.mark.parametrize("given", ["a blue dress", ["a blue dress", " a red skirt ", "a blue dress"]], ids=str)
def test_negatives_come_back(jpeg: Callable[[int], bytes], given: Any) -> None:
    pair = make_pair("a red dress", jpeg(0), {"finetuner_negatives": given})
    check_document(pair)
    sent = with_image_blob(pair, refuse)
    again = Document.from_bytes(sent.to_bytes(protocol="protobuf"), protocol="protobuf")
    expected = ("a blue dress",) if isinstance(given, str) else ("a blue dress", "a red skirt")
    assert read_pair(again).negatives == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["x", " a red dress "], "negative 1 must differ from the captions of its image. Got 'a red dress', which is"),
        (["x"] * 17, "negatives must be at most 16 captions. Got 17"),
        (["x", 3], "negative 1 must be a caption: images are no negatives yet. Got 3"),
        ([""], "negative 0: caption must be a nonempty text"),
    ],
    ids=str,
)
def test_negatives_that_are_none_are_refused(jpeg: Callable[[int], bytes], given: Any, message: str) -> None:
    pair = make_pair("a red dress", jpeg(0), {"finetuner_negatives": given})
    for check in (check_document, read_pair, lambda document: with_image_blob(document, refuse)):
        with pytest.raises(InvalidDocument, match=message):
            check(pair)


@pytest.mark.parametrize(("label", "key"), [(7, "label 7"), (0, "label 0"), ("x", "label x")])
def test_relevance_follows_the_label(label: Any, key: str) -> None:
    assert read_pair(make_pair("a", b"x", {"finetuner_label": label})).relevance_key == key


@pytest.mark.parametrize("tags", [{}, {"finetuner_label": ""}, {"finetuner_label": None, "language": None}])
def test_relevance_follows_the_image_without_a_label(tags: dict[str, Any]) -> None:
    pairs = [read_pair(make_pair(text, image, tags)) for text, image in (("a", b"x"), ("b", b"x"), ("a", b"y"))]
    assert pairs[0].relevance_key == pairs[1].relevance_key != pairs[2].relevance_key
    assert pairs[0].language == ""


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([], "one text and one image. Got 0 text and 0 image"),
        ([TEXT], "Got 1 text and 0 image"),
        ([IMAGE], "Got 0 text and 1 image"),
        ([TEXT, Document(text="b"), IMAGE], "Got 2 text and 1 image"),
        ([TEXT, IMAGE, Document(blob=b"y")], "Got 1 text and 2 image"),
        ([Document(text="", modality="text"), IMAGE], "caption. Got an empty text"),
        ([Document(text=" \n", modality="text"), IMAGE], "caption. Got an empty text"),
        ([TEXT, Document(modality="image")], "image side with blob, tensor or uri. Got none"),
        ([TEXT, Document(uri="/a/image.jpg")], "must carry its image as blob"),
    ],
)
def test_a_broken_pair_is_refused_with_its_position(chunks: list[Document], expected: str) -> None:
    documents = DocumentArray([make_pair("a", b"x"), Document(id="broken", chunks=chunks)])
    with pytest.raises(InvalidDocument, match=expected) as caught:
        read_pairs(documents)
    assert str(caught.value).startswith("document 1 (broken): pair must")


def test_an_image_at_a_path_becomes_a_blob(tmp_path: Path, jpeg: Callable[[int], bytes]) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(jpeg(1))
    document = Document(chunks=[TEXT, Document(uri=str(path), tags={"shop": "x"})], tags={"finetuner_label": "l"})
    done = with_image_blob(document, read_local)
    assert read_pair(done) == Pair("a red dress", jpeg(1), "l")
    assert done.id == document.id
    assert done.tags == {"shop": "x", "finetuner_label": "l"}
    assert not document.chunks[1].blob


def test_a_uri_is_read_once(jpeg: Callable[[int], bytes]) -> None:
    read: list[str] = []

    def reader(uri: str) -> bytes:
        read.append(uri)
        return jpeg(2)

    with_image_blob(Document(chunks=[TEXT, Document(uri="http://x/y.jpg")]), reader)
    assert read == ["http://x/y.jpg"]


def test_a_stored_pair_may_hold_its_image_as_tensor() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    pair = read_pair(Document(chunks=[TEXT, Document(tensor=pixels)]))
    assert np.array_equal(np.asarray(decode(pair.image)), pixels)
    with pytest.raises(InvalidDocument, match=r"document 0 \(x\): tensor must be .* Got \(2,\) float64"):
        read_pairs([Document(id="x", chunks=[TEXT, Document(tensor=np.ones(2))])])


def test_the_check_of_the_image_is_optional() -> None:
    with pytest.raises(InvalidDocument, match="image must be an image file"):
        with_image_blob(Document(chunks=[TEXT, IMAGE]), refuse)
    assert with_image_blob(Document(chunks=[TEXT, IMAGE]), refuse, check=False).chunks[1].blob == b"image"


def test_a_tensor_becomes_a_png() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    pair = read_pair(with_image_blob(Document(chunks=[TEXT, Document(tensor=pixels)]), refuse))
    assert np.array_equal(np.asarray(decode(pair.image)), pixels)


@pytest.mark.parametrize(
    "image", [Document(blob=b"no image"), Document(tensor=np.zeros((3, 3))), Document(uri="data:,x")]
)
def test_an_undecodable_image_is_refused(image: Document) -> None:
    with pytest.raises(InvalidDocument, match="must be"):
        with_image_blob(Document(chunks=[TEXT, image]), refuse)
