"""Uploads and datasets: complete uploads only, shared content, checked names."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docarray import Document, DocumentArray

from finetuner.documents import stream
from finetuner.documents.content import content_digest
from finetuner.documents.pairs import make_pair
from finetuner.exceptions import DatasetNotFound, InvalidDocument, InvalidInput
from finetuner.workspace.datasets import MAX_PARTS, Datasets
from finetuner.workspace.folder import Pointers, Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def datasets(workspace: Workspace) -> Datasets:
    return Datasets(workspace)


def part(*texts: str) -> DocumentArray:
    documents = DocumentArray()
    for text in texts:
        document = make_pair(text, text.encode(), {"z": 1, "a": text, "m": [1, {"y": 2, "b": 3}]})
        document.id = text
        documents.append(document)
    return documents


def push(datasets: Datasets, name: str, *texts: str) -> str:
    datasets.add_part(f"upload of {name}", 0, part(*texts))
    return datasets.commit(name, f"upload of {name}", len(texts)).version


def ids(datasets: Datasets, name: str) -> list[str]:
    return [document.id for document in datasets.documents(datasets.find(name).version)]


def test_a_complete_upload_is_a_dataset(datasets: Datasets) -> None:
    for number, texts in ((2, ("e",)), (0, ("a", "b")), (1, ("c", "d"))):  # in any order
        datasets.add_part("upload", number, part(*texts))
    made = datasets.commit("colours", "upload", 5)
    assert (made.name, made.documents) == ("colours", 5)
    assert datasets.find("colours") == made
    assert datasets.all() == [made]
    assert ids(datasets, "colours") == list("abcde")
    assert [list(datasets.part(made.version, number)[:, "id"]) for number in range(4)] == [
        ["a", "b"],
        ["c", "d"],
        ["e"],
        [],
    ]
    assert [dict(document.tags)["m"] for document in datasets.documents(made.version)] == [[1, {"y": 2, "b": 3}]] * 5
    assert made.size == sum(len(document.to_bytes(protocol="protobuf")) for document in part(*"abcde"))


def test_an_incomplete_upload_is_never_visible(datasets: Datasets, workspace: Workspace) -> None:
    datasets.add_part("upload", 0, part("a", "b"))
    assert datasets.all() == []
    with pytest.raises(DatasetNotFound):
        datasets.find("colours")
    with pytest.raises(InvalidInput, match="with all its documents, at least one. Got 2 of 3. Send the missing parts"):
        datasets.commit("colours", "upload", 3)
    assert datasets.all() == []
    datasets.add_part("upload", 1, part("c"))
    assert datasets.commit("colours", "upload", 3).documents == 3


@pytest.mark.parametrize("count", [0, 1])
def test_an_empty_upload_is_refused(datasets: Datasets, count: int) -> None:
    with pytest.raises(InvalidInput, match=f"Got 0 of {count}"):
        datasets.commit("colours", "never began", count)


def test_a_part_that_is_sent_again_replaces_the_first(datasets: Datasets) -> None:
    datasets.add_part("upload", 0, part("wrong", "wrong too"))
    datasets.add_part("upload", 0, part("a"))
    datasets.commit("colours", "upload", 1)
    assert ids(datasets, "colours") == ["a"]


@pytest.mark.parametrize("number", [-1, MAX_PARTS])
def test_a_part_out_of_range_is_refused(datasets: Datasets, number: int) -> None:
    with pytest.raises(InvalidInput, match="must be numbered in"):
        datasets.add_part("upload", number, part("a"))


def test_an_empty_part_and_a_broken_document_are_refused(datasets: Datasets) -> None:
    with pytest.raises(InvalidInput, match="hold documents. Got 0"):
        datasets.add_part("upload", 0, DocumentArray())
    with pytest.raises(InvalidDocument, match=r"document 8 \(x\): pair must have two chunks"):
        datasets.add_part("upload", 0, DocumentArray([*part("a"), Document(id="x", chunks=[Document(text="a")])]), 7)
    with pytest.raises(InvalidDocument, match=r"document 0 \(x\): document must have text, blob.* Got none"):
        datasets.add_part("upload", 0, DocumentArray([Document(id="x", tags={"a": 1}), *part("a")]))
    with pytest.raises(InvalidInput, match="Got 0 of 2"):
        datasets.commit("colours", "upload", 2)


def test_equal_content_has_one_version_and_one_folder(datasets: Datasets, workspace: Workspace) -> None:
    # The chunks of each push have ids of their own: ids are no content.
    uploads = (("one", "ab"), ("two", "ab"), ("three", "ba"))
    first, second, other = (push(datasets, name, *texts) for name, texts in uploads)
    assert first == second != other
    assert {path.name for path in workspace.datasets.iterdir()} == {first, other, "names", "uploads"}


def test_delete_keeps_content_with_another_name(datasets: Datasets, workspace: Workspace) -> None:
    version = push(datasets, "one", "a")
    push(datasets, "two", "a")
    datasets.delete("one")
    assert ids(datasets, "two") == ["a"]
    datasets.delete("two")
    assert not (workspace.datasets / version).exists()
    assert datasets.all() == []
    with pytest.raises(DatasetNotFound):
        datasets.delete("two")


def test_a_name_may_get_new_content(datasets: Datasets) -> None:
    push(datasets, "colours", "a")
    push(datasets, "colours", "b", "c")
    assert ids(datasets, "colours") == ["b", "c"]
    assert [dataset.documents for dataset in datasets.all()] == [2]


def test_the_parts_of_an_upload_are_listed_and_can_be_removed(datasets: Datasets) -> None:
    assert datasets.uploaded("upload") == []
    for number in (3, 0):
        datasets.add_part("upload", number, part("a"))
    assert datasets.uploaded("upload") == [0, 3]
    datasets.forget("upload")
    datasets.forget("upload")
    assert datasets.uploaded("upload") == []


def test_stored_content_needs_no_upload(datasets: Datasets) -> None:
    version = push(datasets, "one", "a", "b")
    assert datasets.holds(version)
    assert not datasets.holds("0" * 64)
    assert not datasets.holds("../names")
    again = datasets.commit("two", "nothing was sent", 2, version)
    assert replace(again, name="one", created_at=0) == replace(datasets.find("one"), created_at=0)


def test_content_that_changed_during_the_upload_is_refused_and_removed(datasets: Datasets) -> None:
    datasets.add_part("upload", 0, part("a"))
    with pytest.raises(InvalidInput, match="must have the content that its upload began with. Got another"):
        datasets.commit("colours", "upload", 1, "0" * 64)
    assert datasets.uploaded("upload") == []
    assert datasets.all() == []


def test_an_abandoned_upload_is_removed_after_days(datasets: Datasets, workspace: Workspace) -> None:
    datasets.add_part("old", 0, part("a"))
    datasets.add_part("new", 0, part("a"))
    (old,) = (path for path in (workspace.datasets / "uploads").iterdir() if path == datasets.upload_folder("old"))
    os.utime(old, (0, 0))
    push(datasets, "colours", "a")
    assert datasets.uploaded("old") == []
    assert datasets.uploaded("new") == [0]


@pytest.mark.parametrize(
    ("documents", "kind"),
    [
        ([make_pair("a", b"x")], "pairs"),
        (
            [Document(blob=b"x", tags={"finetuner_label": 1}), Document(text="a", tags={"finetuner_label": 1})],
            "labelled",
        ),
        ([Document(text="a"), make_pair("a", b"x")], "documents"),
        ([Document(chunks=[Document(text="a"), Document(text="b")], tags={"finetuner_score": 1})], "scored pairs"),
        ([Document(embedding=np.ones(3))], "documents"),
    ],
)
def test_any_documents_are_stored_and_their_kind_is_known(
    datasets: Datasets, documents: list[Document], kind: str
) -> None:
    datasets.add_part("upload", 0, DocumentArray(documents))
    made = datasets.commit("colours", "upload", len(documents))
    assert made.kind == kind
    stored = list(datasets.documents(made.version))
    assert [document.id for document in stored] == [document.id for document in documents]
    lengths = [len(document.to_bytes(protocol="protobuf")) for document in stored]
    assert made.stream_size == 9 + sum(map(stream.packed_size, lengths)) + stream.padding(made.version)


def test_a_scored_pair_with_a_missing_side_is_refused(datasets: Datasets) -> None:
    broken = Document(id="s", chunks=[Document(text="a"), Document()], tags={"finetuner_score": 1})
    with pytest.raises(
        InvalidDocument, match=r"document 0 \(s\): document with the tag 'finetuner_score' must have two"
    ):
        datasets.add_part("upload", 0, DocumentArray([broken]))


@pytest.mark.parametrize(
    "change", [{"text": "b"}, {"tags": {"a": 2}}, {"tensor": np.ones(2)}, {"uri": "x"}, {"weight": 2.0}]
)
def test_everything_but_ids_is_content(change: dict[str, Any]) -> None:
    def content(**given: Any) -> bytes:
        fields = {"text": "a", "tags": {"a": 1}} | given
        return bytes(Document(**fields, chunks=[Document(blob=b"x")]).to_bytes(protocol="protobuf"))

    assert content_digest(content()) == content_digest(content()) == content_digest(content(id="other"))
    assert content_digest(content()) != content_digest(content(**change))


def test_datasets_of_other_versions_are_read(datasets: Datasets, workspace: Workspace) -> None:
    version = push(datasets, "one", "a")
    described = {"name": "one", "version": version, "documents": 1, "size": 9, "created_at": 1.0, "invented": True}
    Pointers(workspace.datasets / "names", "dataset", dict).set("one", described)
    assert datasets.find("one").stream_size == 0


@pytest.mark.parametrize("name", ["", "../../escape", "/etc/x", "a b", "ä", "x" * 129])
def test_a_path_is_not_a_dataset_name(datasets: Datasets, workspace: Workspace, name: str) -> None:
    datasets.add_part("upload", 0, part("a"))
    with pytest.raises(InvalidInput, match="dataset name must be 1 to 128 letters"):
        datasets.commit(name, "upload", 1)
    assert datasets.all() == []


@pytest.mark.parametrize("upload", ["../../escape", "/abs", "ä ö", "x" * 10_000, ""])
def test_an_upload_may_have_any_name_and_stays_in_the_workspace(
    datasets: Datasets, tmp_path: Path, upload: str
) -> None:
    datasets.add_part(upload, 0, part("a"))
    assert [path.parents[1].name for path in tmp_path.rglob("part-*.parquet")] == ["uploads"]
    assert datasets.commit("colours", upload, 1).documents == 1


def test_the_error_for_an_unknown_name_lists_the_known_ones(datasets: Datasets) -> None:
    push(datasets, "one", "a")
    push(datasets, "two", "b")
    with pytest.raises(DatasetNotFound, match=r"Got 'three', which is neither a dataset here \(one, two\)"):
        datasets.find("three")


@pytest.mark.parametrize(("offset", "limit"), [(0, 1), (0, 9), (1, 3), (2, 2), (4, 1), (5, 5), (2**53, 1)])
def test_a_page_may_begin_in_any_part(datasets: Datasets, offset: int, limit: int) -> None:
    texts = ["a", "b", "c", "d", "e"]
    datasets.add_part("upload", 0, part(*texts[:2]))
    datasets.add_part("upload", 1, part(*texts[2:3]))
    datasets.add_part("upload", 2, part(*texts[3:]))
    version = datasets.commit("letters", "upload", 5).version
    assert datasets.page(version, offset, limit)[:, "id"] == texts[offset : offset + limit]
    with pytest.raises(DatasetNotFound, match="content hash"):
        datasets.page("0" * 64, offset, limit)
