"""Documents between JSON and messages: arrays go past DocArray's pydantic models, and come out as they went in."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from docarray import Document, DocumentArray
from jina.types.request.data import DataRequest

from finetuner.executors.gateway.flow.documents import ITEMS, read_request, write_response


def answer(*documents: Document, parameters: dict[str, Any] | None = None) -> DataRequest:
    response = DataRequest()
    response.data.docs = DocumentArray(documents)
    response.parameters = parameters or {}
    return response


def test_an_answer_holds_what_jina_would_write() -> None:
    given = (
        Document(
            id="a", text='a "red" dress', tags={"price": 1.5}, embedding=np.arange(2 * ITEMS + 3, dtype=np.float32)
        ),
        Document(id="b", tensor=np.arange(12).reshape(2, 2, 3), matches=[Document(id="c", embedding=np.ones(3))]),
        Document(id="d"),
    )
    written = json.loads(write_response(answer(*given, parameters={"limit": [1.0, {"deep": None}]})))
    expected = answer(*given, parameters={"limit": [1.0, {"deep": None}]}).to_dict()
    assert written["parameters"] == expected["parameters"]
    assert list(written) == ["header", "parameters", "routes", "data"]
    for mine, theirs in zip(written["data"], expected["data"], strict=True):
        known = {name: value for name, value in theirs.items() if value is not None and name != "matches"}
        assert {name: value for name, value in mine.items() if name != "matches"} == known
    assert written["data"][1]["matches"][0]["embedding"] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_json_cannot_hold_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_response(answer(Document(embedding=np.array([1.0, value]))))
    with pytest.raises(ValueError, match="JSON"):
        write_response(answer(Document(matches=[Document(embedding=np.array([value]))])))


@pytest.mark.parametrize("name", ["tensor", "embedding"])
@pytest.mark.parametrize("numbers", [[0.5, 2], [[1, 2], [3, 4]], [[[1.0]]]])
def test_a_request_holds_the_array_of_its_json(name: str, numbers: Any) -> None:
    body = json.dumps({"data": [{"id": "a", name: numbers}]}).encode()
    (document,) = read_request(body, "/encode").docs
    assert document.id == "a"
    np.testing.assert_array_equal(getattr(document, name), np.array(numbers))
    assert getattr(document, name).dtype == np.array(numbers).dtype
