"""A document's protobuf message as the lane and its answers know a Document, without a conversion."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


class Message:
    """A document with a text, a blob or a URI, and without a tensor; changes go to the message.

    Args:
        proto: a DocumentProto, see `is_plain`.
    """

    __slots__ = ("_proto", "tags")

    tensor = None

    def __init__(self, proto: Any) -> None:
        self._proto = proto
        self.tags = proto.tags

    @property
    def text(self) -> str:
        """The text, '' without one."""
        return str(self._proto.text)

    @property
    def blob(self) -> bytes:
        """The content of a file, b'' without one."""
        return bytes(self._proto.blob)

    @property
    def uri(self) -> str:
        """The URI, '' without one."""
        return str(self._proto.uri)

    @property
    def embedding(self) -> None:
        """An embedding is written, and never read."""
        return None

    @embedding.setter
    def embedding(self, vector: np.ndarray | None) -> None:
        self._proto.ClearField("embedding")
        if vector is not None:  # as DocArray writes one
            array = self._proto.embedding
            array.cls_name = "numpy"
            array.dense.buffer, array.dense.dtype = vector.tobytes(), vector.dtype.str
            array.dense.shape.extend(vector.shape)

    def pop(self, *fields: str) -> None:
        """Remove fields."""
        for field in fields:
            self._proto.ClearField(field)


def are_plain(protos: Iterable[Any], *, encoded: bool) -> bool:
    """Return whether each document is its own content alone: a text, a blob or a URI.

    Args:
        protos: DocumentProtos.
        encoded: whether they may have embeddings.
    """
    return all(
        (bool(proto.uri) or proto.WhichOneof("content") in ("text", "blob"))
        and not (proto.HasField("tensor") or proto.chunks or proto.matches)
        and (encoded or not proto.HasField("embedding"))
        for proto in protos
    )
