"""Answers of an indexer as they come over the wire."""

from __future__ import annotations

from docarray import DocumentArray

from finetuner.executors.indexer.executor import Indexer


def searched(room: Indexer, **request: object) -> DocumentArray:
    """Search, and read the answer as it comes over the wire."""
    return DocumentArray.from_protobuf(room.search(**request).to_protobuf())
