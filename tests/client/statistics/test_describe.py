"""The statistics of made data name each fault that was planted, and find none in the catalogue."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import pytest
from docarray import Document, DocumentArray
from PIL import Image

from finetuner.catalogue import fashion
from finetuner.documents.pairs import make_pair
from finetuner.statistics.describe import Collector, overlap
from finetuner.statistics.report import Report
from finetuner.statistics.tokens import token_counter
from finetuner.statistics.trouble import troubles

ITEMS = 20


def catalogue(split: str = "train", items: int = ITEMS) -> Iterator[Document]:
    for image in fashion(split, items=items):
        for language, caption in image.captions.items():
            yield make_pair(caption, image.jpeg, {"language": language})


def saved(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def opened() -> Image.Image:
    return Image.open(io.BytesIO(next(fashion("train", items=1)).jpeg))


def collected(documents: object) -> Collector:
    return Collector(token_counter("clip-mini")).add_all(documents)  # type: ignore[arg-type]


def test_the_catalogue_has_no_trouble() -> None:
    train, evaluation = collected(catalogue()), collected(catalogue("test", 10))
    found, shared = train.statistics(), overlap(train, evaluation)
    assert (found.documents, found.kinds) == (80, {"pairs": 80})
    assert found.captions is not None
    assert found.captions.count == 80
    assert found.captions.scripts == {"Latin": 80}
    assert found.captions.tokens is not None
    assert (found.captions.tokens.limit, found.captions.tokens.cut) == (48, 0)
    assert found.images is not None
    assert (found.images.count, found.images.distinct, found.images.looked_at) == (80, 40, 40)
    assert found.images.shorter_side is not None
    assert found.images.shorter_side.median == 120
    assert troubles(found, shared) == []


def test_each_planted_fault_is_named(opened: Image.Image) -> None:
    good = list(catalogue())
    at = len(good)
    faults = [
        make_pair("word " * 60, good[0].chunks[1].blob),
        make_pair(good[4].chunks[0].text, good[4].chunks[1].blob),
        make_pair("12345", good[8].chunks[1].blob),
        make_pair("красное платье", good[12].chunks[1].blob),
        make_pair("the same again", saved(opened.resize((100, 100)))),
        make_pair("a wall", saved(Image.new("RGB", (100, 100), "white"))),
        make_pair("an icon", saved(opened.resize((30, 30)).rotate(90))),
        make_pair("a banner", saved(opened.rotate(180).resize((700, 100)))),
        make_pair("broken", b"no image"),
        *(make_pair("a garment", good[2 * number].chunks[1].blob) for number in range(ITEMS + 8)),
    ]
    evaluation = [*catalogue("test", 3), good[0], make_pair("x y", saved(opened, "JPEG"))]
    train = collected([*good, *faults])
    found, shared = train.statistics(), overlap(train, collected(evaluation))
    lines = troubles(found, shared, batch_size=16)
    expected = [
        rf"captions that are cut: 1 of {at + len(faults)}. clip-mini reads 48 tokens, .* \(document {at}\)",
        r"captions at several images: 32 of .*, such as 'a garment' at 28\.",
        r"pairs of caption and image that are repeated: 1\.",
        rf"captions without a letter: 1, the first is document {at + 2}\.",
        r"image files that cannot be decoded: 1 of .*document .*: image must be an image file",
        rf"near duplicates: 2 of .*, such as documents 0, {at + 4}\. .* in a batch of 16\.",
        rf"images of one colour: 1, the first is document {at + 5}\.",
        rf"images with a side below 64 pixels: 1, the first is document {at + 6}\.",
        rf"images more than 4 times as long as wide: 1, the first is document {at + 7}\.",
        r"images of the evaluation data in the training data: 1, and 1 near duplicates, such as document",
    ]
    assert len(lines) == len(expected)
    for line, pattern in zip(lines, expected, strict=True):
        assert re.match(pattern, line), line
    assert found.captions is not None
    assert found.images is not None
    assert found.captions.scripts["Cyrillic"] == 1
    assert {at, at + 2} <= {odd.document for odd in found.captions.oddest}
    assert {odd.document for odd in found.images.oddest} == {at + 5, at + 6, at + 7}
    report = Report(found, shared, lines, "")
    assert report.to_dict()["statistics"]["images"]["near_images"] == 2
    assert ("near duplicates", f"2, documents 0, {at + 4}") in report.lines()


def test_labelled_images_have_labels() -> None:
    images = [image.jpeg for image in fashion("train", items=3)]
    documents = DocumentArray(
        Document(blob=blob, tags={"finetuner_label": label}) for blob, label in zip(images, "aaaabb", strict=True)
    )
    documents.append(Document(blob=images[0], tags={"finetuner_label": "c"}))
    found = Collector().add_all(documents).statistics()
    assert found.labels is not None
    assert (found.labels.count, found.labels.single, found.labels.without) == (3, 1, 0)
    assert found.captions is None
    assert troubles(found) == ["labels of one image: 1 of 3. Add images, or join labels."]


def test_any_document_is_counted() -> None:
    documents = DocumentArray(
        [
            Document(text="a"),
            Document(uri="https://example.com/a.jpg"),
            Document(tensor=[[1.5]]),
            Document(uri="data:image/png;base64,!!"),
            Document(),
        ]
    )
    found = Collector().add_all(documents).statistics()
    assert (found.documents, found.elsewhere) == (5, 1)
    assert found.images is not None
    assert (found.images.count, found.images.undecodable, found.images.shorter_side) == (2, 2, None)
    assert found.captions is not None
    assert (found.captions.count, found.captions.tokens) == (1, None)
    assert Report(found, None, [], "why").lines()[0] == ("documents", "5: 5 documents")


def test_only_the_first_images_are_looked_at() -> None:
    collector = Collector(most=3).add_all(catalogue(items=4))
    found = collector.statistics().images
    assert found is not None
    assert (found.count, found.distinct, found.looked_at, len(collector.images.looks)) == (16, 8, 3, 3)


def test_no_documents_are_no_error() -> None:
    found = Collector().statistics()
    assert (found.documents, found.captions, found.images, found.labels) == (0, None, None, None)
    assert troubles(found) == []
