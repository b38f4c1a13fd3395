"""Requests visit the encoders that they have documents for."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from docarray import Document, DocumentArray
from jina import Client
from jina.types.request.data import DataRequest

from finetuner.executors.gateway.flow.encoders import TEXT_ROOM, VISION_ROOM, through_encoders
from tests.gateway.conftest import ToyFlow

ROOMS = {
    "trainer": ["/fit"],
    TEXT_ROOM: ["/", "/encode", "/index", "/rank", "/search"],
    VISION_ROOM: ["/", "/encode", "/index", "/rank", "/search"],
    "indexer": ["/index", "/search"],
}
BOTH = [TEXT_ROOM, VISION_ROOM]
TEXT, IMAGE, NOTHING = Document(text="dress"), Document(blob=b"\0"), Document()
URI, EMBEDDED = Document(uri="http://x/y.jpg"), Document(text="dress", embedding=[1.0])
OF_TEXTS, OF_BOTH = Document(chunks=[TEXT, TEXT]), Document(chunks=[IMAGE, TEXT])
HALF = Document(chunks=[TEXT, Document(blob=b"\0", embedding=[1.0])])
RANKED = Document(blob=b"\0", matches=[TEXT, TEXT])


class Chain:
    """The chain of ROOMS; each adds its name to the tags of the documents."""

    def __init__(self, down: str = "") -> None:
        self.down = down
        self.calls: list[list[str]] = []
        self.together = asyncio.Event()
        self.waiting = 0
        self.open: set[str] = set()

    async def send(self, request: DataRequest) -> DataRequest:
        endpoint, pattern = request.header.exec_endpoint, request.header.target_executor
        rooms = [name for name in ROOMS if endpoint in ROOMS[name] and (not pattern or re.match(pattern, name))]
        self.calls.append(rooms)
        assert request.header.request_id not in self.open
        self.open.add(request.header.request_id)
        if rooms in ([TEXT_ROOM], [VISION_ROOM]) and self.waiting:
            self.waiting -= 1
            self.together.set() if not self.waiting else await self.together.wait()
        if self.down in rooms:
            raise ConnectionError(self.down)
        for document in request.proto_with_data.data.docs.docs:
            for room in rooms:
                document.tags[room] = len(document.tags.fields)
        self.open.remove(request.header.request_id)
        return request


def asked(endpoint: str, documents: list[Document], room: str = "") -> DataRequest:
    request = DataRequest()
    request.header.exec_endpoint, request.header.target_executor = endpoint, room
    request.parameters = {"limit": 3}
    request.data.docs = DocumentArray([Document(document, copy=True) for document in documents])
    return DataRequest(request.proto_with_data.SerializeToString())


@pytest.mark.parametrize(
    ("endpoint", "documents", "visited"),
    [
        ("/encode", [TEXT, TEXT], [TEXT_ROOM]),
        ("/encode", [IMAGE, URI, NOTHING], [VISION_ROOM]),
        ("/encode", [EMBEDDED], [TEXT_ROOM]),
        ("/", [TEXT], [TEXT_ROOM]),
        ("/encode", [], BOTH),
        ("/search", [TEXT, EMBEDDED], [TEXT_ROOM, "indexer"]),
        ("/search", [EMBEDDED], ["indexer"]),
        ("/index", [IMAGE], [VISION_ROOM, "indexer"]),
        ("/index", [OF_TEXTS], [TEXT_ROOM, "indexer"]),
        ("/index", [OF_BOTH], [*BOTH, "indexer"]),
        ("/index", [TEXT, OF_BOTH, IMAGE], [*BOTH, "indexer"]),
        ("/index", [HALF], [TEXT_ROOM, "indexer"]),
        ("/rank", [RANKED], BOTH),
        ("/rank", [Document(text="a", matches=[TEXT])], [TEXT_ROOM]),
        ("/fit", [TEXT], ["trainer"]),
    ],
)
def test_a_request_visits_the_rooms_that_it_needs(endpoint: str, documents: list[Document], visited: list[str]) -> None:
    chain = Chain()
    asyncio.run(through_encoders(asked(endpoint, documents), ROOMS, chain.send))
    assert chain.calls == [visited]


def test_texts_and_images_are_encoded_at_the_same_time_and_keep_their_order() -> None:
    async def ask() -> tuple[Chain, DataRequest]:
        chain = Chain()
        chain.waiting = 2  # the first of the two calls ends after the second has begun
        documents = [Document(id=str(number), text="a" if number % 3 else "", uri="u") for number in range(7)]
        request = asked("/search", [*documents, Document(EMBEDDED, id="7", copy=True)])
        return chain, await asyncio.wait_for(through_encoders(request, ROOMS, chain.send), 30)

    chain, answer = asyncio.run(ask())
    assert chain.calls == [[TEXT_ROOM], [VISION_ROOM], ["indexer"]]
    assert answer.parameters == {"limit": 3}
    assert [document.id for document in answer.docs] == [str(number) for number in range(8)]
    for number, document in enumerate(answer.docs):
        rooms = [] if number == 7 else [TEXT_ROOM if number % 3 else VISION_ROOM]
        assert sorted(document.tags) == sorted([*rooms, "indexer"])


def test_a_dead_encoder_stops_its_own_documents_alone() -> None:
    for documents, fails in (([TEXT], False), ([IMAGE], True), ([TEXT, IMAGE], True)):
        asking = through_encoders(asked("/encode", documents), ROOMS, Chain(down=VISION_ROOM).send)
        if fails:
            with pytest.raises(ConnectionError):
                asyncio.run(asking)
        else:
            asyncio.run(asking)


@pytest.mark.parametrize("rooms", [{}, {"mine": ["/encode"], "yours": ["/encode"]}])
def test_unknown_rooms_and_named_rooms_are_left_to_jina(rooms: dict[str, Any]) -> None:
    for room in ("", "mine"):
        request = asked("/encode", [TEXT, IMAGE], room)
        sent: list[str] = []

        async def send(request: DataRequest, sent: list[str] = sent) -> DataRequest:
            sent.append(request.header.target_executor)
            return request

        asyncio.run(through_encoders(request, rooms, send))
        assert sent == [room]


def test_the_flow_answers_texts_and_images_in_their_order(open_flow: ToyFlow) -> None:
    documents = DocumentArray(
        Document(id=str(each), **({"blob": b"\0"} if each % 2 else {"text": "a"})) for each in range(9)
    )
    answer = Client(host=open_flow.grpc).post("/search", documents, request_size=4)
    assert sorted(document.id for document in answer) == [str(each) for each in range(9)]
    for document in answer:
        assert document.tags["trace"] == ["ToyVision" if int(document.id) % 2 else "ToyText", "ToyIndexer"]
        assert document.matches[0].text == "found"
