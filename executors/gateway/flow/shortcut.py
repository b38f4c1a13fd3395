"""Routing: the one room that a caller names, and past the encoders for documents that already have embeddings."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache

from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]
from jina.types.request.data import DataRequest

from finetuner.contract.parameters import JINA_KEY
from finetuner.contract.search_parameters import FEATURES, SearchParameters
from finetuner.contract.wire import (
    ANY,
    ARTIFACTS_PUSH,
    DATASETS_PUSH,
    DATASETS_UPLOAD,
    ENCODE,
    FEEDBACK,
    INDEX,
    MAX_REQUEST_BYTES,
    OWNER,
    RANK,
    SEARCH,
)
from finetuner.documents.iterate import with_parts
from finetuner.exceptions import InvalidInput
from finetuner.inference.encoding import MAX_TEXT

ENCODED = (ANY, ENCODE, INDEX, RANK, SEARCH)
"""Endpoints whose documents are encoded, where they have no embedding."""


def choose_room(request: DataRequest, rooms: Collection[str]) -> None:
    """Send a request to the room that its header's `target_executor` names, exactly; without one, to all rooms.

    Jina takes `target_executor` for a regular expression. One that a caller writes could run for hours.

    Args:
        request: afterwards, `target_executor` is Jina's pattern of that room.
        rooms: names of the rooms.

    Raises:
        InvalidInput: another name.
    """
    header = request.proto_with_data.header
    named = header.target_executor
    if named and named not in rooms:
        raise InvalidInput(
            f"target_executor must be the exact name of a room: {', '.join(rooms)}. Got {named!r:.80}. "
            "Name one, or leave it out."
        )
    if named:
        header.target_executor = pattern_of([named])


def check_rooms_parameters(request: DataRequest, rooms: Iterable[str]) -> None:
    """Check the parameters that Jina reads itself: those under the name of a room go to that room alone.

    Raises:
        InvalidInput: one of them is no object.
    """
    given = request.proto_wo_data.parameters.fields
    for name in (*rooms, JINA_KEY):
        if name in given and given[name].WhichOneof("kind") not in ("struct_value", "null_value"):
            raise InvalidInput(f"parameters.{name} must be an object of parameters. Got another value. Leave it out.")


def check_search(request: DataRequest) -> None:
    """Check the parameters of a search beyond the plain ones, before a room encodes its queries.

    Raises:
        InvalidInput: see `SearchParameters`.
    """
    message = request.proto_wo_data
    fields = message.parameters.fields
    if message.header.exec_endpoint == SEARCH and any(name in fields for name in FEATURES):
        given = MessageToDict(message.parameters)
        # the indexer checks these two; what is no number in their ranges counts as the default here
        plain = {name: int(given[name]) for name in ("limit", "offset") if given.get(name) in range(100_001)}
        SearchParameters.read(given, **plain)


def name_owner(request: DataRequest, owner: str) -> None:
    """Set the owner of an upload or of marks. A caller's own is dropped, also among the parameters for one room."""
    message = request.proto_with_data
    if message.header.exec_endpoint not in (DATASETS_PUSH, DATASETS_UPLOAD, ARTIFACTS_PUSH, FEEDBACK):
        return
    parameters = message.parameters
    for value in parameters.fields.values():
        if value.WhichOneof("kind") == "struct_value":
            value.struct_value.fields.pop(OWNER, None)
    parameters[OWNER] = owner


def bound_texts(request: DataRequest) -> None:
    """Bound the texts that are to be encoded, of which the rooms would read and return every character.

    Args:
        request: texts that an encoder would refuse for their length are cut to a length that it refuses.

    Raises:
        InvalidInput: more than MAX_REQUEST_BYTES characters in all, where our client splits.
    """
    message = request.proto_with_data
    if message.header.exec_endpoint not in ENCODED or message.ByteSize() <= MAX_TEXT:
        return
    total = 0
    for document in message.data.docs.docs:
        for part in with_parts(document):
            if part.HasField("embedding"):
                continue
            if len(text := part.text) > MAX_TEXT:
                part.text = text = text[: MAX_TEXT + 1]
            total += len(text)
    if total > MAX_REQUEST_BYTES:
        raise InvalidInput(
            f"The texts of a message may have {MAX_REQUEST_BYTES} characters in all. Got {total}. Send fewer at once."
        )


def pass_encoders(request: DataRequest, rooms: Mapping[str, Sequence[str]]) -> None:
    """Send a request to `/index` or `/search` past the encoders if all its documents have embeddings.

    The encoders would read and write every document without a change. An encoder is a room that binds `/encode`. The
    request stays as it is if the caller has named a room, or if only encoders bind the endpoint.

    Args:
        request: its header's `target_executor` is set to Jina's pattern of the rooms to visit.
        rooms: the endpoints of each room.
    """
    message = request.proto_with_data
    endpoint = message.header.exec_endpoint
    if endpoint not in (INDEX, SEARCH) or message.header.target_executor:
        return
    others = [name for name, endpoints in rooms.items() if ENCODE not in endpoints]
    if not any(endpoint in rooms[name] for name in others):
        return
    if all(document.HasField("embedding") for document in message.data.docs.docs):
        message.header.target_executor = pattern_of(others)


def pattern_of(names: Iterable[str]) -> str:
    """Return Jina's pattern of the rooms to visit."""
    return _pattern_of(tuple(names))


@lru_cache(256)
def _pattern_of(names: tuple[str, ...]) -> str:
    return rf"(?:{'|'.join(map(re.escape, names))})\Z"
