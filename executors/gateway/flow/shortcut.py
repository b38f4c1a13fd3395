"""Routing past the encoders, for requests whose documents already have embeddings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from jina.types.request.data import DataRequest

from finetuner.contract.wire import ENCODE, INDEX, SEARCH


def pass_encoders(request: DataRequest, rooms: Mapping[str, Sequence[str]]) -> None:
    """Send a request to `/index` or `/search` past the encoders if all its documents have embeddings.

    The encoders would read and write every document without a change. An encoder is a room that binds `/encode`. The
    request stays as it is if the caller has named rooms, or if only encoders bind the endpoint.

    Args:
        request: its header's `target_executor` is set to Jina's pattern of the rooms to visit.
        rooms: the endpoints of each room.
    """
    endpoint = request.header.exec_endpoint
    if endpoint not in (INDEX, SEARCH) or request.header.target_executor:
        return
    others = [name for name, endpoints in rooms.items() if ENCODE not in endpoints]
    if not any(endpoint in rooms[name] for name in others):
        return
    if all(document.HasField("embedding") for document in request.proto_with_data.data.docs.docs):
        request.header.target_executor = f"(?:{'|'.join(map(re.escape, others))})$"
