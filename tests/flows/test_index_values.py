"""What a user gives to the index by hand or from a table: one or several values, numbers of any kind, wrong values."""

from __future__ import annotations

import datetime
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from docarray import Document, DocumentArray
from jina import Client

import finetuner
from finetuner.exceptions import DatasetNotFound, InvalidDocument, InvalidInput
from finetuner.flow.running_flow import RunningFlow
from finetuner.transport.connection import Connection

from .conftest import empty_index


@pytest.fixture
def client(flow: RunningFlow, own_session: None) -> Iterator[Any]:
    empty_index(flow)
    finetuner.login(host=flow.host)
    yield finetuner
    finetuner.delete_documents([document.id for document in finetuner.filter_documents(limit=1000)] or ["none"])


def ids() -> set[str]:
    return set(finetuner.filter_documents(limit=1000)[:, "id"])


def texts(*names: str) -> DocumentArray:
    return DocumentArray(Document(id=name, text=f"a {name} dress") for name in names)


def test_one_id_is_not_a_list_of_letters(client: Any) -> None:
    client.index(texts("k", "l", "m", "klm", "x", "y"))
    assert client.delete_documents("klm") == 1
    assert ids() == {"k", "l", "m", "x", "y"}
    assert client.delete_documents(np.array(["k"])) == 1
    assert client.delete_documents(name for name in ("l", "unknown")) == 1
    assert client.delete_documents({"m"}) == 1
    assert client.delete_documents(("x",)) == 1
    assert client.delete_documents([]) == 0
    for wrong in (b"y", {"y": 1}, 5, [b"y"], ["y", 5], texts("y")):
        with pytest.raises(InvalidInput, match="ids must be one id or several, strings. Got"):
            client.delete_documents(wrong)
    assert ids() == {"y"}


@pytest.mark.parametrize(
    "several", [list, tuple, iter, lambda given: (each for each in given), lambda given: np.array([*given], object)]
)
def test_documents_and_queries_come_in_any_iterable(client: Any, several: Callable[[Any], Any]) -> None:
    client.index(several(texts("red", "blue")))
    assert ids() == {"red", "blue"}
    found = client.search(several(["a red dress", "a blue dress"]), limit=1)
    assert [query.matches[0].id for query in found] == ["red", "blue"]
    assert client.push_data("any-iterable", several(texts("red", "blue")))["documents"] == 2
    assert client.pull_data("any-iterable")[:, "text"] == ["a red dress", "a blue dress"]
    client.delete_data("any-iterable")


def test_one_document_is_enough(client: Any) -> None:
    client.index(texts("red")[0])
    assert client.search(Document(text="a red dress"))[0].matches[:, "id"] == ["red"]
    assert client.push_data("one", texts("red")[0])["documents"] == 1
    client.delete_data("one")


@pytest.mark.parametrize("wrong", ["a red dress", "file.csv", {"text": "x"}, 5, None, b"x", ["x"], [texts("x")]])
def test_what_is_no_document_is_refused_by_name(client: Any, wrong: Any) -> None:
    several = "documents must be a DocumentArray, a Document, or several Documents. Got"
    with pytest.raises(InvalidInput, match=several):
        client.index(wrong)
    is_file = wrong in ("file.csv", ["x"])  # `push_data` takes files, too
    with pytest.raises(DatasetNotFound if is_file else InvalidInput, match="neither a file" if is_file else several):
        client.push_data("wrong", wrong)
    if not isinstance(wrong, str) and wrong != ["x"]:
        of_search = "query must be a text, a Document, or several of them. Got"
        with pytest.raises(InvalidInput, match=of_search if wrong is not None else "must have a query or positives"):
            client.search(wrong)
    assert "wrong" not in [dataset["name"] for dataset in client.list_data()]


def test_two_forms_of_one_field_are_one_field(client: Any) -> None:
    tags = {"nested": {"size": {"eu": 42}}, "flat": {"size.eu": 42}, "other": {"size.eu": 40}, "none": {"sale": True}}
    for order in (1, -1):
        names = [*tags][::order]
        client.index(DocumentArray(Document(id=name, text="shoe", tags=tags[name]) for name in names))
        for given, expected in (
            ({"size.eu": 42}, {"nested", "flat"}),
            ({"size__eu": {"$lt": 42}}, {"other"}),
            ({"size.eu": {"$exists": False}}, {"none"}),
            ({"size.eu": {"$ne": 42}}, {"other", "none"}),
            ({"must": [{"key": "size.eu", "range": {"gte": 40}}]}, {"nested", "flat", "other"}),
            ({"size.eu": {"$in": {40, 42}}}, {"nested", "flat", "other"}),
        ):
            assert set(client.filter_documents(given)[:, "id"]) == expected, given
        assert client.delete_documents(filter={"size.eu": np.int64(42)}) == 2


def test_two_conditions_under_one_key_are_refused(client: Any) -> None:
    client.index(Document(id="a", text="a", tags={"price": 5}))
    with pytest.raises(InvalidInput, match="comes twice"):
        client.filter_documents('{"price": {"$lt": 3}, "price": {"$gt": 4}}')


ROW = {
    "price": np.float32(9.5),
    "count": np.int64(3),
    "sale": np.bool_(True),
    "name": np.str_("x"),
    "at": np.array([1, 2]),
}


def test_a_row_of_a_table_is_taken(client: Any) -> None:
    client.index(Document(id="row", text="a", tags=ROW))
    found = client.search("a", limit=np.int64(5), filter={"price": {"$lt": np.float64(10)}, "count": np.int8(3)})
    assert found[0].matches[0].tags | {"at": 0} == {
        "price": 9.5, "count": 3, "sale": True, "name": "x", "at": 0, "finetuner_artifact": "clip-mini",
    }  # fmt: skip
    assert client.pull_data(client.push_data("row", Document(text="a", tags=ROW))["name"])[0].tags["at"] == [1, 2]
    client.delete_data("row")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tags": {"price": float("nan")}}, r"document 1 \(bad\): tags\['price'\] must be finite"),
        ({"tags": {"sku": 2**53 + 1}}, r"document 1 \(bad\): tags\['sku'\] must be a number below 2\*\*53"),
        ({"tags": {"at": datetime.datetime(2026, 1, 1)}}, r"document 1 \(bad\): tags\['at'\] .* of type datetime"),
        ({"tags": {"raw": b"x"}}, r"document 1 \(bad\): tags\['raw'\]"),
        ({"text": "\ud83d"}, r"document 1 \(bad\): text must be whole characters"),
        ({"id": 5}, r"document 1 \(5\): id must be a string"),
        ({"id": "\ud83d"}, r"document 1 \(\\ud83d\): id must be whole characters"),
        ({"blob": bytearray(b"x")}, r"document 1 \(bad\): blob must be bytes"),
        ({"uri": "no/such.jpg"}, r"document 1 \(bad\): "),
    ],
)
def test_what_the_wire_cannot_carry_is_that_documents_error(client: Any, fields: dict[str, Any], message: str) -> None:
    documents = texts("left", "right")
    bad = {"id": "bad"} | ({} if fields.keys() & {"blob", "uri"} else {"text": "x"}) | fields
    mixed = [documents[0], Document(**bad), documents[1]]
    with pytest.raises(InvalidDocument, match=message):
        client.index(mixed)
    assert ids() == {"left", "right"}
    with pytest.raises(InvalidDocument, match=message):
        client.push_data("wrong", mixed)
    with pytest.raises(InvalidDocument, match=message):
        client.search(mixed)
    assert "wrong" not in [dataset["name"] for dataset in client.list_data()]


@pytest.mark.parametrize("value", [2**53 + 1, float("nan"), float("inf"), -(2**63)])
def test_other_clients_get_the_documents_name_too(client: Any, flow: RunningFlow, value: float) -> None:
    documents = DocumentArray([Document(id="good", text="a"), Document(id="bad", text="a", tags={"n": {"m": value}})])
    with pytest.raises(Exception, match=r"document 1 \(bad\): tags\['n'\]\['m'\] must be"):
        Connection(flow.host).post("/index", documents)
    assert ids() == set()
    with pytest.raises(InvalidInput, match="filter"):
        client.filter_documents({"n": value})


def test_jinas_own_client_gets_it_in_its_error(client: Any, flow: RunningFlow) -> None:
    bad = DocumentArray([Document(id="bad", text="a", tags={"n": float("nan")})])
    with pytest.raises(Exception) as caught:  # noqa: PT011  # Jina keeps the error of gRPC within its own
        Client(host=flow.host).post("/index", bad)
    assert "document 0 (bad): tags['n'] must be finite" in "".join(traceback.format_exception(caught.value))
