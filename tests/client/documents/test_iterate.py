"""Lazy reading of documents."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from docarray import Document

from finetuner.documents.iterate import read_each
from finetuner.documents.labelled import iterate_labelled
from finetuner.documents.pairs import iterate_pairs, make_pair
from finetuner.exceptions import InvalidDocument


def refuse_long(document: Document) -> str:
    if len(document.text) > 3:
        raise InvalidDocument("text must be short.")
    return str(document.text)


def test_the_first_invalid_document_is_named_after_the_valid_ones() -> None:
    found = read_each([Document(text="a"), Document(text="long", id="b"), Document(text="longer")], refuse_long, 7)
    assert next(found) == "a"
    with pytest.raises(InvalidDocument, match=r"^document 8 \(b\): text must be short.$"):
        next(found)


def test_pairs_and_labelled_images_are_read_lazily() -> None:
    read: list[int] = []

    def documents(document: Document) -> Iterator[Document]:
        for position in range(3):
            read.append(position)
            yield document

    assert next(iterate_pairs(documents(make_pair("a", b"x")))).text == "a"
    assert read == [0]
    assert next(iterate_labelled(documents(Document(blob=b"x", tags={"finetuner_label": 3})))).label == "3"
    assert read == [0, 0]
