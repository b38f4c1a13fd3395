"""Vectors of texts and images that a lane has encoded before, by their model and their exact content."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from docarray import Document

OVERHEAD = 400  # bytes of a key and of Python's objects
Key = tuple[str, bytes]


def key_of(model_id: str, document: Document) -> Key | None:
    """Return the key of a document: its model, and the digest of its text or file. None where the content may change.

    Args:
        model_id: an artifact id names its weights for ever, and so does a backbone's name.
        document: a text or an image.
    """
    if document.text:
        return model_id, hashlib.sha256(b"t" + document.text.encode(errors="surrogatepass")).digest()
    if document.blob:
        return model_id, hashlib.sha256(b"b" + document.blob).digest()
    return None


class VectorCache:
    """The vectors that were used last. Only the event loop of the room uses it.

    Args:
        most_bytes: of all vectors.
    """

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._known: OrderedDict[Key, tuple[np.ndarray, int | None]] = OrderedDict()

    def find(self, key: Key) -> tuple[np.ndarray, int | None] | None:
        """Return a vector, (dim,) float32, and the number of tokens if it was counted; None for unknown content."""
        if key in self._known:
            self._known.move_to_end(key)
        return self._known.get(key)

    def keep(self, key: Key, vector: np.ndarray, tokens: int | None) -> None:
        """Keep a vector, in place of those that were not used for longest."""
        if (old := self._known.pop(key, None)) is not None:
            self._left += old[0].nbytes + OVERHEAD
        self._known[key] = vector.copy(), tokens  # not the whole batch that it is a row of
        self._left -= vector.nbytes + OVERHEAD
        while self._left < 0:
            _, (gone, _) = self._known.popitem(last=False)
            self._left += gone.nbytes + OVERHEAD
