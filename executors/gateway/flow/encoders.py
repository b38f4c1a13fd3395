"""Routing to the encoders: a request visits only those that it has documents for, two of them at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from jina.proto import jina_pb2
from jina.types.request.data import DataRequest

from finetuner.contract.wire import ANY, ENCODE, INDEX, RANK, SEARCH
from finetuner.exceptions import FinetunerServerError

from .shortcut import pattern_of

TEXT_ROOM, VISION_ROOM = "text_encoder", "vision_encoder"
"""Names of the encoders in every Flow file of ours. Encoders of other names are visited one after the other."""
ENDPOINTS = (ANY, ENCODE, INDEX, RANK, SEARCH)

Send = Callable[[DataRequest], Awaitable[DataRequest]]


async def through_encoders(request: DataRequest, rooms: Mapping[str, Sequence[str]], send: Send) -> DataRequest:
    """Send a request to the rooms that it needs, and return its answer.

    A text needs the text encoder, any other document the vision encoder. Documents that need both, such as an image
    with its caption, pass the encoders in their order: the second takes the model of the first.

    Args:
        request: one with a `target_executor` is sent as it is.
        rooms: the endpoints of each room; empty as long as they are unknown.
        send: sends a request through the rooms that its `target_executor` matches, or through all.
    """
    header, documents = request.proto_with_data.header, request.proto_with_data.data.docs.docs
    endpoint = header.exec_endpoint
    encoders = [name for name in (TEXT_ROOM, VISION_ROOM) if endpoint in rooms.get(name, ())]
    if header.target_executor or endpoint not in ENDPOINTS or not encoders or not documents:
        return await send(request)
    others = [name for name, endpoints in rooms.items() if name not in encoders and endpoint in endpoints]
    needed = [_rooms_of(document, endpoint) for document in documents]
    visited = [name for name in encoders if any(name in each for each in needed)]
    if len(visited) < 2:
        if visited or others:
            header.target_executor = pattern_of([*visited, *others])
        return await send(request)
    if max(map(len, needed)) > 1:
        return await send(request)
    answer = await _at_the_same_time(request, visited, needed, send)
    if not others or answer.header.status.code == jina_pb2.StatusProto.ERROR:
        return answer
    answer.header.target_executor = pattern_of(others)
    return await send(answer)


def _rooms_of(document: Any, endpoint: str) -> set[str]:
    """Return the encoders of a document, a protobuf; one too many where its parts leave a doubt."""
    parts = [document]
    if endpoint == RANK:
        parts += document.matches
    elif endpoint in (INDEX, SEARCH):
        if document.HasField("embedding"):
            return set()
        has_content = bool(document.uri) or document.WhichOneof("content") is not None
        parts = parts if has_content or not document.chunks else []
        parts += [chunk for chunk in document.chunks if not chunk.HasField("embedding")]
    return {TEXT_ROOM if part.text else VISION_ROOM for part in parts}


async def _at_the_same_time(
    request: DataRequest, rooms: Sequence[str], needed: Sequence[Collection[str]], send: Send
) -> DataRequest:
    """Return the answer of several rooms, each of which got its documents alone; the first error of a room ends all."""
    documents = list(request.proto_with_data.data.docs.docs)
    places = {room: [place for place, each in enumerate(needed) if room in each] for room in rooms}
    tasks = [
        asyncio.ensure_future(send(_part(request, room, [documents[place] for place in own])))
        for room, own in places.items()
    ]
    try:
        answers = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    answer = next((each for each in answers if each.header.status.code == jina_pb2.StatusProto.ERROR), answers[0])
    for (room, own), part in zip(places.items(), answers, strict=True):
        encoded = part.proto_with_data.data.docs.docs
        if len(encoded) != len(own):
            raise FinetunerServerError(f"{room} must return {len(own)} documents. Got {len(encoded)}. See its log.")
        for place, document in zip(own, encoded, strict=True):
            documents[place] = document
        if part is not answer:
            answer.routes.extend(route for route in part.routes if route.executor == room)
    whole = DataRequest()
    whole.proto_with_data.data.docs.docs.extend(documents)  # copies them
    answer.header.request_id = request.header.request_id
    answer.proto_with_data.data.CopyFrom(whole.proto_with_data.data)
    return answer


def _part(request: DataRequest, room: str, documents: Sequence[Any]) -> DataRequest:
    part = DataRequest()
    part.header.CopyFrom(request.header)
    part.header.request_id = f"{request.header.request_id}-{room}"  # Jina measures each request by its id
    part.header.target_executor = pattern_of([room])
    part.parameters = request.parameters
    part.proto_with_data.data.docs.docs.extend(documents)
    return part
