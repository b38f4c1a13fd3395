"""A room that answers every endpoint of the contract, so that a door that is open shows."""

from __future__ import annotations

from typing import Any

import numpy as np
from docarray import Document, DocumentArray

from finetuner.contract import wire
from finetuner.executors.room.room import Room, bound

ENDPOINTS = sorted(value for name, value in vars(wire).items() if name.isupper() and str(value).startswith("/"))


class OpenRoom(Room):
    @bound(*ENDPOINTS)
    def answer(self, docs: DocumentArray, **_: Any) -> DocumentArray:
        for document in docs:
            document.embedding = np.ones(2, dtype=np.float32)
        return docs if len(docs) else DocumentArray([Document(text="null", mime_type="application/json")])
