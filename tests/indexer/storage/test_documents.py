"""The store of contents."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from docarray import Document, DocumentArray

from finetuner.contract.wire import ARTIFACT_TAG
from finetuner.exceptions import FinetunerServerError, InvalidDocument
from finetuner.executors.indexer.storage.documents import Documents
from finetuner.executors.indexer.storage.packing import pack, unpack

TAGS = {"price": 3.5, "nested": {"list": ["a", 1.0, True]}, ARTIFACT_TAG: "model-a"}


def test_content_comes_back_without_vector_and_artifact(tmp_path: Path) -> None:
    store = Documents(tmp_path / "documents.sqlite")
    document = Document(id="x", blob=b"\x00\xff", uri="file.jpg", mime_type="image/jpeg", tags=TAGS)
    document.embedding = np.ones(4)
    document.matches = DocumentArray([Document(id="an old match")])
    store.put([pack(document)], live=True)
    assert document.embedding is not None, "packing must not change the document"

    whole = unpack(store.get(["x"], content=True)["x"])
    assert (whole.id, whole.blob, whole.uri, whole.mime_type) == ("x", b"\x00\xff", "file.jpg", "image/jpeg")
    assert whole.tags == {"price": 3.5, "nested": {"list": ["a", 1.0, True]}}
    assert whole.embedding is None
    assert len(whole.matches) == 0

    light = unpack(store.get(["x"], content=False)["x"])
    assert light.non_empty_fields == ("id", "tags")
    assert light.tags == whole.tags
    store.close()


def test_chunks_are_content(tmp_path: Path) -> None:
    document = Document(id="pair", chunks=[Document(text="a red shirt"), Document(blob=b"jpeg")])
    packed = pack(document)
    assert unpack(packed.tags + packed.content).chunks[0].text == "a red shirt"


def test_put_replaces_and_delete_counts(tmp_path: Path) -> None:
    store = Documents(tmp_path / "documents.sqlite")
    store.put([pack(Document(id="x", text="old")), pack(Document(id="y", text="other"))], live=True)
    store.put([pack(Document(id="x", text="new"))], live=True)
    assert len(store) == 2
    assert unpack(store.get(["x"], content=True)["x"]).text == "new"
    assert store.delete(["x", "never there"]) == 1
    assert store.delete([]) == 0
    assert store.get(["x"], content=True) == {}
    store.close()


def test_get_reads_what_is_there_and_not_much_past_the_bound(tmp_path: Path) -> None:
    documents = Documents(tmp_path / "documents.sqlite")
    documents.put([pack(Document(id=f"d{i}", text="x" * 1000)) for i in range(10)], live=True)
    ids = ["d7", "gone", "d2"]
    assert documents.get([], content=True) == {}
    assert documents.get(ids, content=True).keys() == {"d2", "d7"}
    assert all(len(packed) < 20 for packed in documents.get(ids, content=False).values())
    assert len(documents.get([f"d{i}" for i in range(10)], content=True, most_bytes=2500)) == 3
    documents.close()


def test_equal_contents_are_kept_once(tmp_path: Path) -> None:
    store = Documents(tmp_path / "documents.sqlite")
    image = bytes(range(256)) * 400
    store.put([pack(Document(id=f"d{i}", blob=image, tags={"n": i})) for i in range(20)], live=True)
    count = "SELECT count(*) FROM contents"
    assert store._one(count) == 1
    store.put([pack(Document(id="d0", blob=b"another"))], live=True)
    assert store._one(count) == 2
    store.delete([f"d{i}" for i in range(1, 19)])
    assert unpack(store.get(["d19"], content=True)["d19"]).blob == image
    store.delete(["d19"])
    assert store._one(count) == 1
    store.close()


def test_each_write_is_a_version_and_waits_for_each_artifact(tmp_path: Path) -> None:
    store = Documents(tmp_path / "documents.sqlite")
    first = store.put([pack(Document(id=name, text=name)) for name in "abc"], live=True)
    store.put([pack(Document(id="apart"))], live=False)
    store.mark("old", first)
    assert store.pending("old", 0, 10, 10**6) == []
    assert [stored.id for stored in store.pending("new", 0, 10, 10**6)] == ["a", "b", "c"]
    assert [stored.id for stored in store.pending("new", first["a"], 1, 10**6)] == ["b"]
    assert [stored.id for stored in store.pending("new", 0, 10, 1)] == ["a"], "one may be larger than all may"

    second = store.put([pack(Document(id="a", text="changed"))], live=False)
    assert [stored.id for stored in store.pending("old", 0, 10, 10**6)] == ["a"], "what was live stays live"
    store.mark("old", {"a": second["a"]}, {"a": "cannot be read"})
    progress = store.progress("old")
    assert (progress.documents, progress.done, progress.left_out) == (3, 2, 1)
    assert store.first_error("old") == "a: cannot be read"
    store.delete(["a"])
    assert store.progress("old").documents == 2
    assert store.versions("abc") == {"b": first["b"], "c": first["c"]}
    store.close()


@pytest.mark.parametrize("layout", [b"not SQLite at all" * 100, None], ids=["damaged", "of another layout"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, layout: bytes | None) -> None:
    file = tmp_path / "documents.sqlite"
    if layout is None:
        with closing(sqlite3.connect(file)) as database:
            database.execute("CREATE TABLE documents (id TEXT)")
    else:
        file.write_bytes(layout)
    with pytest.raises(FinetunerServerError, match=r"documents.sqlite' must .* Got"):
        Documents(file)


@pytest.mark.parametrize(
    "document",
    [
        Document(id=""),
        Document(id="\ud800"),
        Document(tags={"price": float("nan")}),
        Document(tags={"sizes": {1, 2}}),
        Document(tags={f"tag {number}": number for number in range(10_000)}),
    ],
    ids=["empty id", "half a surrogate", "NaN tag", "a set", "10,000 tags"],
)
def test_what_cannot_be_read_back_is_refused(document: Document) -> None:
    with pytest.raises(
        InvalidDocument, match="a document must|protobuf must be able to hold|a document's tags must take 65536 bytes"
    ):
        pack(document)
