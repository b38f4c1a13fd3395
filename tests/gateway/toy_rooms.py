"""Rooms without models, for tests of the gateway."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
from docarray import Document, DocumentArray
from jina import Executor, requests

from finetuner.contract.wire import ARTIFACT_TAG, mark_error
from finetuner.exceptions import InvalidDocument


class ToyRoom(Executor):  # type: ignore[misc]  # jina is not typed
    """Adds its name to the tags of each document."""

    def trace(self, docs: DocumentArray) -> None:
        for document in docs:
            document.tags["trace"] = [*document.tags.get("trace", []), type(self).__name__]

    def note(self, docs: DocumentArray, name: str) -> None:
        """Note the ids of all documents, and show them to one that asks for them."""
        self.seen = [*getattr(self, "seen", []), *docs[:, "id"]]
        for document in docs:
            if document.text == "seen":
                document.tags[name] = self.seen

    def embed(self, document: Document, parameters: dict[str, Any]) -> None:
        document.embedding = np.full(min(4, int(parameters.get("dimensions", 4))), 0.5, dtype=np.float32)
        document.tags[ARTIFACT_TAG] = "toy"


class ToyText(ToyRoom):
    @requests(on=["/encode", "/index", "/search"])
    def encode(self, docs: DocumentArray, parameters: dict[str, Any], **_: Any) -> None:
        self.trace(docs)
        self.note(docs, "text")
        for document in docs:
            if document.text == "sleep":
                time.sleep(2)
            if document.text == "raise":
                raise RuntimeError("as the test asked")
            if document.text:
                self.embed(document, parameters)


class ToyVision(ToyRoom):
    @requests(on=["/encode", "/index", "/search"])
    def encode(self, docs: DocumentArray, parameters: dict[str, Any], **_: Any) -> None:
        self.trace(docs)
        for document in docs:
            if document.blob:
                self.embed(document, parameters)


class BrokenVision(ToyRoom):
    @requests(on="/encode")
    def encode(self, docs: DocumentArray, **_: Any) -> None:
        for document in docs:
            if document.blob:
                mark_error(document, InvalidDocument("the weights are gone"))


class ToyIndexer(ToyRoom):
    @requests(on="/search")
    def search(self, docs: DocumentArray, **_: Any) -> None:
        self.trace(docs)
        self.note(docs, "indexer")
        for document in docs:
            found = Document(text="found")
            found.scores["cosine"].value = 0.25
            document.matches = DocumentArray([found])


class ToyTrainer(ToyRoom):
    @requests(on=["/fit", "/runs/list", "/experiments/create", "/datasets/push"])
    def answer(self, parameters: dict[str, Any], **_: Any) -> DocumentArray:
        return DocumentArray([Document(text=json.dumps(parameters))])
