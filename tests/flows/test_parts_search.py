"""Pictures with captions, indexed and searched through a Flow, over gRPC and as JSON."""

from __future__ import annotations

import base64
import io
import json
import urllib.request
from collections.abc import Iterator

import pytest
from docarray import Document, DocumentArray
from PIL import Image

import finetuner
from finetuner.api import session
from finetuner.catalogue import fashion
from finetuner.documents.pairs import make_pair
from finetuner.exceptions import UndecodableImage
from finetuner.flow.running_flow import RunningFlow

PICTURES = list(fashion("test", items=10))


@pytest.fixture(autouse=True)
def _connected(flow: RunningFlow, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(session, "_current", None)
    finetuner.login(host=flow.host)
    yield
    finetuner.delete_documents(filter={"test": "parts"})


def pairs() -> DocumentArray:
    made = DocumentArray()
    for picture in PICTURES:
        pair = make_pair(picture.captions["en"], picture.jpeg)
        pair.id, pair.tags = f"parts-{picture.name}", {"test": "parts"}
        made.append(pair)
    return made


def test_pairs_are_indexed_and_found_by_text_by_picture_and_by_both(flow: RunningFlow) -> None:
    finetuner.index(pairs(), artifact="clip-mini")
    picture = PICTURES[3]
    both = Document(chunks=[Document(text=picture.captions["en"], weight=0.5), Document(blob=picture.jpeg)])
    queries = DocumentArray([Document(text=picture.captions["en"]), Document(blob=picture.jpeg), both])
    found = finetuner.search(queries, 5, "clip-mini", filter={"test": "parts"}, thumbnails=True)
    for query in found[:2]:
        assert f"parts-{picture.name}" in query.matches[:, "id"]
    best = found[2].matches[0]
    assert best.id == f"parts-{picture.name}"
    with Image.open(io.BytesIO(best.chunks[1].blob)) as image:
        assert max(image.size) <= 256
    assert best.chunks[0].text == picture.captions["en"]


def test_a_pair_with_a_broken_picture_is_refused_and_its_neighbours_are_not(flow: RunningFlow) -> None:
    documents = pairs()[:3]
    documents[1].chunks[1].blob = b"rubbish"
    with pytest.raises(UndecodableImage):
        finetuner.index(documents, artifact="clip-mini")
    there = finetuner.filter_documents({"test": "parts"}, artifact="clip-mini", return_content=False)
    assert sorted(there[:, "id"]) == sorted([documents[0].id, documents[2].id])


def test_parts_as_json(flow: RunningFlow) -> None:
    finetuner.index(pairs()[:3], artifact="clip-mini")
    picture = base64.b64encode(PICTURES[0].jpeg).decode()
    query = {"chunks": [{"blob": picture, "weight": 2}, {"text": PICTURES[0].captions["en"]}]}
    body = {"data": [query], "parameters": {"artifact": "clip-mini", "filter": {"test": "parts"}}}
    request = urllib.request.Request(
        f"{flow.http}/search", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        (found,) = json.load(answer)["data"]
    assert found["matches"][0]["id"] == f"parts-{PICTURES[0].name}"
