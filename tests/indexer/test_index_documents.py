"""The store of contents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from docarray import Document, DocumentArray

from executors.indexer.documents import Documents, pack, unpack
from finetuner.exceptions import InvalidDocument
from finetuner.wire import ARTIFACT_TAG

TAGS = {"price": 3.5, "nested": {"list": ["a", 1.0, True]}, ARTIFACT_TAG: "model-a"}


def test_content_comes_back_without_vector_and_artifact(tmp_path: Path) -> None:
    store = Documents(tmp_path / "documents.sqlite")
    document = Document(id="x", blob=b"\x00\xff", uri="file.jpg", mime_type="image/jpeg", tags=TAGS)
    document.embedding = np.ones(4)
    document.matches = DocumentArray([Document(id="an old match")])
    store.put([pack(document)])
    assert document.embedding is not None, "packing must not change the document"

    whole = unpack(store.get("x", content=True) or b"")
    assert (whole.id, whole.blob, whole.uri, whole.mime_type) == ("x", b"\x00\xff", "file.jpg", "image/jpeg")
    assert whole.tags == {"price": 3.5, "nested": {"list": ["a", 1.0, True]}}
    assert whole.embedding is None
    assert len(whole.matches) == 0

    light = unpack(store.get("x", content=False) or b"")
    assert light.non_empty_fields == ("id", "tags")
    assert light.tags == whole.tags
    store.close()


def test_chunks_are_content(tmp_path: Path) -> None:
    document = Document(id="pair", chunks=[Document(text="a red shirt"), Document(blob=b"jpeg")])
    packed = pack(document)
    assert unpack(packed.tags + packed.content).chunks[0].text == "a red shirt"


def test_put_replaces_and_delete_counts(tmp_path: Path) -> None:
    store = Documents(tmp_path / "documents.sqlite")
    store.put([pack(Document(id="x", text="old")), pack(Document(id="y", text="other"))])
    store.put([pack(Document(id="x", text="new"))])
    assert len(store) == 2
    assert unpack(store.get("x", content=True) or b"").text == "new"
    assert store.delete(["x", "never there"]) == 1
    assert store.delete([]) == 0
    assert store.get("x", content=True) is None
    store.close()


@pytest.mark.parametrize(
    "document",
    [
        Document(id=""),
        Document(id="\ud800"),
        Document(tags={"price": float("nan")}),
        Document(tags={"sizes": {1, 2}}),
    ],
    ids=["empty id", "half a surrogate", "NaN tag", "a set"],
)
def test_what_cannot_be_read_back_is_refused(document: Document) -> None:
    with pytest.raises(InvalidDocument, match="a document must"):
        pack(document)
