"""The data that `fit` is given: names of datasets as they are, documents and files to be pushed under a new name."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ..contract.checks import NAME
from ..exceptions import InvalidInput
from ..sources.kinds import documents_from, is_source
from ..sources.spool import Spool
from .upload import push_documents

if TYPE_CHECKING:
    from ..sources.csv_file import CSVOptions
    from ..transport.connection import Connection


class FitData:
    """Collects what must be pushed. Files are read, and so refused, before anything is sent.

    Args:
        prefix: of the names of what is pushed.
        task: of the backbone; decides what a CSV of two columns means.
        csv_options: of CSV files.
        on_error: 'raise' names every bad entry of a file; 'skip' leaves them out with a warning.
    """

    def __init__(self, prefix: str, task: str, csv_options: CSVOptions | None, on_error: str) -> None:
        self._prefix = prefix
        self._task = task
        self._csv_options = csv_options
        self._on_error = on_error
        self._waiting: dict[str, tuple[str, Any]] = {}
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def name(self, argument: str, data: Any, suffix: str) -> str:
        """Return the dataset name for a piece of data, which is read and pushed later where it is not a name itself.

        Args:
            argument: what the user calls it, for error messages.
            data: a DocumentArray, a dataset's name, or what `sources.documents_from` reads.
            suffix: such as 'train'.

        Raises:
            InvalidInput: no document, or data of another kind.
        """
        if not is_source(data):
            if isinstance(data, str):
                return data
            _require_documents(argument, data)
        name = f"{self._prefix}-{suffix}"
        if not NAME.fullmatch(name):
            raise InvalidInput(
                f"run_name and experiment_name must be shorter where documents are given. Got {name!r} as the name "
                f"under which {argument} is kept, of more than 128 characters."
            )
        self._waiting[name] = (argument, data)
        return name

    def read(self) -> None:
        """Read all files to the end.

        Raises:
            InvalidInput: a file without any entry.
            InvalidDocument: a file with bad entries.
        """
        for name, (argument, data) in self._waiting.items():
            if is_source(data):
                documents = documents_from(
                    data, csv_options=self._csv_options, task=self._task, on_error=self._on_error
                )
                data = self._opened.enter_context(Spool(documents))
            if not len(data):
                raise InvalidInput(f"{argument} must hold at least one pair. Got none. Add pairs.")
            self._waiting[name] = (argument, data)

    def push(self, flow: Connection) -> None:
        """Push what `read` has read."""
        for name, (_, documents) in self._waiting.items():
            push_documents(flow, name, documents)


def _require_documents(argument: str, data: object) -> None:
    from docarray import DocumentArray

    if not isinstance(data, DocumentArray):
        raise InvalidInput(
            f"{argument} must be a DocumentArray, the name of a dataset, or files. Got {type(data).__name__}."
        )
    if not len(data):
        raise InvalidInput(f"{argument} must hold at least one pair. Got none. Add pairs.")
