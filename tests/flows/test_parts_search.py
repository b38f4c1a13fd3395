"""Images with captions, indexed and searched through a Flow, over gRPC and as JSON."""

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
from finetuner.catalogue import fashion
from finetuner.documents.pairs import make_pair
from finetuner.exceptions import UndecodableImage
from finetuner.flow.running_flow import RunningFlow

IMAGES = list(fashion("test", items=10))


@pytest.fixture(autouse=True)
def _connected(flow: RunningFlow, own_session: None) -> Iterator[None]:
    finetuner.login(host=flow.host)
    yield
    finetuner.delete_documents(filter={"test": "parts"})


def pairs() -> DocumentArray:
    made = DocumentArray()
    for image in IMAGES:
        pair = make_pair(image.captions["en"], image.jpeg)
        pair.id, pair.tags = f"parts-{image.name}", {"test": "parts"}
        made.append(pair)
    return made


def test_pairs_are_indexed_and_found_by_text_by_image_and_by_both(flow: RunningFlow) -> None:
    finetuner.index(pairs(), artifact="clip-mini")
    image = IMAGES[3]
    both = Document(chunks=[Document(text=image.captions["en"], weight=0.5), Document(blob=image.jpeg)])
    queries = DocumentArray([Document(text=image.captions["en"]), Document(blob=image.jpeg), both])
    found = finetuner.search(queries, 5, "clip-mini", filter={"test": "parts"}, thumbnails=True)
    for query in found[:2]:
        assert f"parts-{image.name}" in query.matches[:, "id"]
    best = found[2].matches[0]
    assert best.id == f"parts-{image.name}"
    with Image.open(io.BytesIO(best.chunks[1].blob)) as thumbnail:
        assert max(thumbnail.size) <= 256
    assert best.chunks[0].text == image.captions["en"]


def test_a_pair_with_a_broken_image_is_refused_and_its_neighbours_are_not(flow: RunningFlow) -> None:
    documents = pairs()[:3]
    documents[1].chunks[1].blob = b"rubbish"
    with pytest.raises(UndecodableImage):
        finetuner.index(documents, artifact="clip-mini")
    there = finetuner.filter_documents({"test": "parts"}, artifact="clip-mini", return_content=False)
    assert sorted(there[:, "id"]) == sorted([documents[0].id, documents[2].id])


def test_parts_as_json(flow: RunningFlow) -> None:
    finetuner.index(pairs()[:3], artifact="clip-mini")
    image = base64.b64encode(IMAGES[0].jpeg).decode()
    query = {"chunks": [{"blob": image, "weight": 2}, {"text": IMAGES[0].captions["en"]}]}
    body = {"data": [query], "parameters": {"artifact": "clip-mini", "filter": {"test": "parts"}}}
    request = urllib.request.Request(
        f"{flow.http}/search", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        (found,) = json.load(answer)["data"]
    assert found["matches"][0]["id"] == f"parts-{IMAGES[0].name}"
