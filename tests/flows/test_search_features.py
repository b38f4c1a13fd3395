"""Searches beyond the nearest vectors through the whole Flow: the client's gRPC, and REST."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import jina
import pytest
from docarray import Document, DocumentArray

import finetuner
from finetuner.catalogue import fashion
from finetuner.contract.wire import SEARCH_TAG
from finetuner.exceptions import InvalidInput, NotFound
from finetuner.flow.running_flow import RunningFlow
from tests.sessions import own_session

IMAGES = list(fashion("test", items=12))
HERE: dict[str, Any] = {"filter": {"test": "features"}, "artifact": "clip-mini"}


def name(number: int) -> str:
    return f"features-{number}"


@pytest.fixture(scope="module", autouse=True)
def _filled(flow: RunningFlow) -> Iterator[None]:
    documents = DocumentArray(
        Document(
            id=name(number),
            blob=image.jpeg,
            tags={
                "test": "features", "product": f"p{number // 3}", "price": 10.0 * number, "sku": f"ZX-{number}/K",
                "title": image.captions["en"], "even": number % 2 == 0,
            },
        )
        for number, image in enumerate(IMAGES)
    )  # fmt: skip
    with own_session():
        finetuner.login(host=flow.host)
        finetuner.index(documents, artifact="clip-mini")
        yield
        finetuner.delete_documents(filter={"test": "features"})


def found(query: Any = None, **asked: Any) -> Document:
    return finetuner.search(query, **{"return_content": False, **HERE, **asked})[0]


def test_more_like_this_by_id_by_image_and_with_a_text(flow: RunningFlow) -> None:
    by_id = found(positives=name(3), limit=5)
    by_image = found(positives=[Document(blob=IMAGES[3].jpeg)], limit=6)
    assert by_image.matches[0].id == name(3)
    assert name(3) not in by_id.matches[:, "id"], "an indexed example is no match"
    assert by_id.matches[:, "id"] == by_image.matches[1:, "id"]
    both = found("a red dress", positives=[name(3), Document(text="red")], negatives=[Document(blob=IMAGES[5].jpeg)])
    assert len(both.matches) == 20
    with pytest.raises(NotFound, match="Got 'nowhere', which is not"):
        found(positives=["nowhere"])
    with pytest.raises(InvalidInput, match="a query or positives"):
        found(negatives=[name(1)])


def test_the_other_features_over_grpc(flow: RunningFlow) -> None:
    text = "a red dress"
    grouped = found(text, group_by="product", group_size=3, limit=8, facets={"even": 2, "price": [100]})
    assert sorted(grouped.matches[:, "id"]) == sorted(name(number) for number in range(24))
    facets = grouped.tags[SEARCH_TAG]["facets"]
    assert [entry["count"] for entry in facets["even"]["values"]] == [12, 12]
    assert [entry["count"] for entry in facets["price"]["ranges"]] == [10, 14]
    assert found(text, order_by="-price", limit=2).matches[:, "id"] == [name(23), name(22)]
    code = found("zx-17/k", hybrid={"fields": ["sku", "title"]}, explain=True, limit=3)
    assert code.matches[0].id == name(17)
    assert code.matches[0].scores["bm25_rank"].value == 1
    assert found(text, diversity=0.0, limit=5).matches[:, "id"] == found(text, limit=5).matches[:, "id"]
    seen, cursor = [], "*"
    while cursor:
        page = found(text, limit=10, cursor=cursor)
        seen += page.matches[:, "id"]
        cursor = page.tags.get(SEARCH_TAG, {}).get("cursor")
    assert len(seen) == len(set(seen)) == 24


def test_the_gateway_refuses_wrong_parameters_of_grpc(flow: RunningFlow) -> None:
    client = jina.Client(host=flow.host)
    with pytest.raises(Exception, match="order_by and diversity both set the order"):
        client.post("/search", DocumentArray([Document(text="a")]), parameters={"order_by": "n", "diversity": 1})
    with pytest.raises(InvalidInput, match="hybrid must list"):  # in the client
        found("a", hybrid={"fields": []})


def test_the_features_over_rest(flow: RunningFlow) -> None:
    with httpx.Client(base_url=flow.http, timeout=60) as api:

        def post(**body: Any) -> Any:
            return api.post("/v1/search", json={"return_content": False, **HERE, **body})

        liked = post(positives=[{"id": name(3)}], limit=5).json()["queries"][0]["matches"]
        assert [match["id"] for match in liked] == found(positives=name(3), limit=5).matches[:, "id"]
        image = base64.b64encode(IMAGES[3].jpeg).decode()
        mixed = {"queries": [{"text": "red"}], "positives": [{"blob": image}], "negatives": [{"text": "blue"}]}
        python = found("red", positives=[Document(blob=IMAGES[3].jpeg)], negatives=[Document(text="blue")], limit=5)
        assert [match["id"] for match in post(**mixed, limit=5).json()["queries"][0]["matches"]] == python.matches[
            :, "id"
        ]
        query = [{"text": "ZX-17/K"}]
        code = post(queries=query, hybrid={"fields": ["sku"]}, explain=True, facets={"even": 2}).json()["queries"][0]
        assert code["matches"][0]["id"] == name(17)
        assert code["matches"][0]["scores"]["bm25_rank"] == 1
        assert code["weight"] == 0.7
        assert code["facets"]["even"]["values"][0] == {"value": False, "count": 12}
        hidden = post(queries=query, hide_duplicates=0.5, limit=3).json()["queries"][0]
        assert hidden["hidden"] == sum(match["scores"]["hidden"] for match in hidden["matches"])
        first = post(queries=query, cursor="*", limit=20).json()["queries"][0]
        last = post(queries=query, cursor=first["cursor"], limit=20).json()["queries"][0]
        assert "cursor" not in last
        assert len({match["id"] for match in first["matches"] + last["matches"]}) == 24
        refused = post(queries=query, cursor=first["cursor"] + "x").json()
        assert refused["queries"][0]["error"]["message"].startswith("cursor must be one that this index has written")
        missing = post(positives=[{"id": "nowhere"}])
        assert (missing.status_code, missing.json()["queries"][0]["error"]["type"]) == (404, "NotFound")
        plain = post(queries=query, limit=1).json()["queries"][0]
        assert set(plain) == {"id", "artifact", "matches"}
        assert set(plain["matches"][0]) == {"score", "id", "tags"}
