"""Datasets through the trainer's endpoints: uploads in parts, and no deletion while a run reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from docarray import Document, DocumentArray

from finetuner.documents.pairs import make_pair, read_pairs
from finetuner.exceptions import DatasetNotFound, InvalidDocument, InvalidInput
from finetuner.executors.trainer.executor import Trainer

Ask = Callable[..., Any]


def test_a_dataset_comes_back_as_it_was_pushed(trainer: Trainer, ask: Ask, pairs: list[Document]) -> None:
    pulled = DocumentArray()
    for part in range(3):
        pulled.extend(trainer.pull(parameters={"name": "pairs", "part": float(part)}))
    assert read_pairs(pulled) == read_pairs(pairs)
    assert [document.id for document in pulled] == [document.id for document in pairs]
    assert len(trainer.pull(parameters={"name": "pairs", "part": 2.0})) == 0
    (listed,) = ask(trainer.list_datasets)
    assert (listed["name"], listed["documents"]) == ("pairs", 24)
    assert listed["size"] == sum(len(document.to_bytes(protocol="protobuf")) for document in pairs)


def test_parts_may_come_in_any_order_and_twice(trainer: Trainer, ask: Ask, pairs: list[Document]) -> None:
    for part in (1, 0, 1):
        ask(trainer.push, DocumentArray(pairs[part * 12 : part * 12 + 12]), upload="again", part=part)
    dataset = ask(trainer.push, upload="again", name="again", commit=24)
    (other,) = (entry for entry in ask(trainer.list_datasets) if entry["name"] == "pairs")
    assert dataset["version"] == other["version"]


def test_half_an_upload_is_no_dataset(trainer: Trainer, ask: Ask, pairs: list[Document]) -> None:
    ask(trainer.push, DocumentArray(pairs[:5]), upload="half", part=0)
    for commit in (6, 4, 0):
        with pytest.raises(InvalidInput, match=f"committed with all its documents, at least one. Got 5 of {commit}"):
            ask(trainer.push, upload="half", name="half", commit=commit)
    with pytest.raises(InvalidInput, match="Got 0 of 3"):
        ask(trainer.push, upload="never sent", name="never", commit=3)
    assert [entry["name"] for entry in ask(trainer.list_datasets)] == ["pairs"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (Document(tags={"a": 1}), "document must have text, blob, tensor, uri, embedding or chunks. Got none"),
        (Document(chunks=[Document(text="a"), Document(uri="/a.jpg")]), "must carry its image as blob or tensor"),
        (Document(chunks=[Document(text="a", modality="text")]), "Got 1 text and 0 image"),
        (make_pair("", b"image"), "empty text"),
        (make_pair("a caption", b""), "image side with blob, tensor or uri. Got none"),
    ],
    ids=["no content", "image elsewhere", "no image", "empty text", "empty image"],
)
def test_a_document_that_cannot_be_stored_is_refused_with_its_position(
    document: Document, message: str, trainer: Trainer, ask: Ask, pairs: list[Document]
) -> None:
    with pytest.raises(InvalidDocument, match=rf"document 1 \({document.id}\): .*{message}"):
        ask(trainer.push, DocumentArray([pairs[0], document]), upload="bad", part=0)
    with pytest.raises(InvalidInput, match="Got 0 of 2"):
        ask(trainer.push, upload="bad", name="bad", commit=2)


def test_an_upload_lists_its_stored_parts_and_can_be_removed(trainer: Trainer, ask: Ask, pairs: list[Document]) -> None:
    (listed,) = ask(trainer.list_datasets, name="pairs")
    assert ask(trainer.push, upload="new", version=listed["version"]) == {"parts": [], "stored": True}
    ask(trainer.push, DocumentArray(pairs[:2]), upload="new", part=1.0)
    assert ask(trainer.push, upload="new", version="0" * 64) == {"parts": [1], "stored": False}
    ask(trainer.push, upload="new", abort=True)
    assert ask(trainer.push, upload="new") == {"parts": [], "stored": False}
    again = ask(trainer.push, upload="new", name="copy", commit=24, version=listed["version"])
    assert (again["name"], again["version"]) == ("copy", listed["version"])
    with pytest.raises(InvalidDocument, match=r"document 11 \("):
        ask(trainer.push, DocumentArray([pairs[0], Document()]), upload="new", part=1.0, first=10.0)


@pytest.mark.parametrize("version", ["0" * 64, "../names", "names"])
def test_a_version_must_be_a_stored_hash(version: str, trainer: Trainer, ask: Ask) -> None:
    with pytest.raises(DatasetNotFound, match="version must be a dataset's content hash"):
        ask(trainer.pull, version=version, part=0)


def test_an_empty_part_and_a_path_as_name_are_refused(trainer: Trainer, ask: Ask, pairs: list[Document]) -> None:
    with pytest.raises(InvalidInput, match="hold documents. Got 0"):
        ask(trainer.push, DocumentArray(), upload="empty", part=0)
    with pytest.raises(InvalidInput, match="parameter 'upload' is required"):
        ask(trainer.push, DocumentArray(pairs[:1]), part=0)
    ask(trainer.push, DocumentArray(pairs[:1]), upload="../../up", part=0)
    with pytest.raises(InvalidInput, match=r"dataset name must be 1 to 128 letters.*Got '\.\./\.\./up'"):
        ask(trainer.push, upload="../../up", name="../../up", commit=1)
    assert {path.name for path in trainer.shared_workspace.root.parent.iterdir()} == {"workspace"}


@pytest.mark.parametrize("endpoint", ["pull", "delete_dataset"])
def test_a_dataset_that_does_not_exist(endpoint: str, trainer: Trainer, ask: Ask) -> None:
    with pytest.raises(DatasetNotFound, match=r"Got 'none', .*\(pairs\)"):
        ask(getattr(trainer, endpoint), name="none")


def test_a_dataset_is_not_deleted_while_a_run_needs_it(trainer: Trainer, ask: Ask, push: Callable[..., Any]) -> None:
    config = {"model": "clip-mini", "train_data": "pairs", "eval_data": "scores", "run_name": "reader"}
    push(trainer, "scores", [make_pair("a caption", b"image"), make_pair("another", b"other image")])
    ask(trainer.fit, config=config)
    for name in ("pairs", "scores"):
        with pytest.raises(InvalidInput, match=f"Got '{name}', which run 'reader' reads. Cancel it first"):
            ask(trainer.delete_dataset, name=name)
    ask(trainer.cancel_run, name="reader")
    assert ask(trainer.delete_dataset, name="pairs")["name"] == "pairs"
    assert [entry["name"] for entry in ask(trainer.list_datasets)] == ["scores"]
    assert len(list(trainer.shared_workspace.datasets.glob("*/part-*.parquet"))) == 2


def test_a_run_reads_the_data_of_its_creation(trainer: Trainer, ask: Ask, push: Callable[..., Any]) -> None:
    (before,) = ask(trainer.list_datasets)
    ask(trainer.fit, config={"model": "clip-mini", "train_data": "pairs", "run_name": "reader"})
    after = push(trainer, "pairs", [make_pair("new", b"image")])
    assert after["version"] != before["version"]
    assert (trainer.shared_workspace.datasets / before["version"]).is_dir()


def test_a_name_may_be_used_twice_for_one_content(
    trainer: Trainer, ask: Ask, push: Callable[..., Any], pairs: list[Document]
) -> None:
    push(trainer, "copy", pairs)
    ask(trainer.delete_dataset, name="pairs")
    assert len(trainer.pull(parameters={"name": "copy", "part": 0})) == 12
