"""Documents on disk for the time of an upload: read once from their source, then as often as needed."""

from __future__ import annotations

import tempfile
import weakref
from array import array
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from docarray import Document


class Spool(Sequence["Document"]):
    """A sequence of documents in a temporary file, with 8 bytes of memory per document.

    A push reads a dataset twice: to compute its hash, and to send it. A second reading of the user's files would double
    the time, and could find them changed. The file is removed with the object, or at the end of `with`.

    Args:
        documents: consumed completely, one at a time.

    Raises:
        OSError: a full disk. Errors of the iteration pass through.
    """

    def __init__(self, documents: Iterable[Document]) -> None:
        self._file = tempfile.TemporaryFile(prefix="finetuner-")  # noqa: SIM115
        self._close = weakref.finalize(self, self._file.close)
        self._ends = array("Q", [0])
        for document in documents:
            content = document.to_bytes(protocol="protobuf")
            self._file.write(content)
            self._ends.append(self._ends[-1] + len(content))

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, position: int) -> Document: ...

    @overload
    def __getitem__(self, position: slice) -> list[Document]: ...

    def __getitem__(self, position: int | slice) -> Document | list[Document]:
        if isinstance(position, slice):
            return [self[number] for number in range(*position.indices(len(self)))]
        from docarray import Document

        number = position + len(self) if position < 0 else position
        if not 0 <= number < len(self):
            raise IndexError(f"position must be below {len(self)}. Got {position}.")
        self._file.seek(self._ends[number])
        return Document.from_bytes(self._file.read(self._ends[number + 1] - self._ends[number]), protocol="protobuf")
