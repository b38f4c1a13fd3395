"""Values, errors and run states across the wire."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from docarray import Document

from finetuner import exceptions
from finetuner.contract import wire
from finetuner.exceptions import FinetunerError, FinetunerServerError, InvalidDocument

CLASSES = [kind for _, kind in inspect.getmembers(exceptions, inspect.isclass) if issubclass(kind, FinetunerError)]


def travelled(document: Document) -> Document:
    return Document.from_bytes(document.to_bytes(protocol="protobuf"), protocol="protobuf")


@pytest.mark.parametrize("value", [None, 3, "text ä", [], {"a": [1, 2.5, None, {"b": True}]}])
def test_a_value_comes_back(value: object) -> None:
    assert wire.read_reply(travelled(wire.reply(value))) == value


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_comes_back_with_its_class_and_message(kind: type[FinetunerError]) -> None:
    document = travelled(wire.mark_error(Document(), kind("what ä and what next")))
    error = wire.error_of(document)
    assert type(error) is kind
    assert str(error) == "what ä and what next"
    with pytest.raises(kind, match="what ä and what next"):
        wire.read_reply(document)


def test_an_error_of_another_kind_is_a_server_error() -> None:
    error = wire.error_of(travelled(wire.mark_error(Document(), KeyError("x"))))
    assert type(error) is FinetunerServerError
    assert exceptions.by_name("annotations") is exceptions.by_name("nothing") is FinetunerServerError


def test_an_error_removes_the_embedding_and_its_artifact() -> None:
    document = Document(embedding=np.ones(3), tags={wire.ARTIFACT_TAG: "old", "kept": 1})
    wire.mark_error(document, InvalidDocument("broken"))
    assert document.embedding is None
    assert wire.ARTIFACT_TAG not in document.tags
    assert document.tags["kept"] == 1


def test_a_document_without_a_tag_has_no_error() -> None:
    assert wire.error_of(Document()) is None


def test_endpoints_and_tags_are_distinct() -> None:
    names = [value for name, value in vars(wire).items() if name.isupper() and isinstance(value, str)]
    assert len(names) == len(set(names)) > 20


def test_run_states() -> None:
    assert wire.RUN_STATES == ("CREATED", "STARTED", "FINISHED", "FAILED", "CANCELED")
    assert wire.ENDED == ("FINISHED", "FAILED", "CANCELED")


def test_the_docstring_shows_the_whole_tree() -> None:
    drawn = exceptions.__doc__ or ""
    for kind in CLASSES:
        assert f" {kind.__name__}" in drawn or drawn.splitlines()[2] == kind.__name__
        assert kind.__doc__
