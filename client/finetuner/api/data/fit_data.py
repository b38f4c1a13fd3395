"""Prepares the data arguments of `fit`: keeps dataset names, and pushes documents and files under new names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ...contract import wire
from ...contract.checks import NAME
from ...contract.wire import SCORE_TAG
from ...documents.content import KIND_OF_TASK, PAIRS, check_kind, looks_like_pair
from ...documents.scores import document_has_score, scored_alike
from ...exceptions import DatasetNotFound, InvalidDocument, InvalidInput
from ...sources.kinds import documents_from, is_source
from ...sources.spool import Spool
from .upload import push_documents, several_documents

if TYPE_CHECKING:
    from docarray import Document, DocumentArray

    from ...sources.tables.columns import Columns
    from ...sources.tables.csv_file import CSVOptions
    from ...transport.connection import Connection

TRAINABLE = ("train_data", "eval_data", "guard_data", "replay_data")
"""Arguments of `fit` whose documents must be of the model's kind; callbacks search other documents, too."""
FORESEEN = ("train_data", "eval_data")
SCORE_HINT = (
    f" Scores are for pairs of a text and an image, which train a CLIP. Else remove the tag {SCORE_TAG!r}, or pass the "
    f"columns of the file without its score."
)


@dataclass(frozen=True)
class Later:
    """Pairs that `FitData.read` asks for, once all options of the run are checked."""

    documents: Callable[[], DocumentArray]


class FitData:
    """The data arguments of one `fit` call. All files are read and checked before anything is sent.

    Args:
        prefix: start of the names of the pushed datasets.
        task: task of the backbone; decides how a CSV file of two columns is read.
        csv_options: options for CSV files; see `sources.kinds.documents_from`.
        on_error: 'raise' lists all bad entries of a file in one error; 'skip' leaves them out with a warning.
        columns: content -> name of its column, for every file with named columns; see `sources.kinds.documents_from`.
    """

    def __init__(
        self,
        prefix: str,
        task: str,
        csv_options: CSVOptions | None,
        on_error: str,
        columns: Columns | None = None,
    ) -> None:
        self._prefix = prefix
        self._task = task
        self._kind = KIND_OF_TASK[task]
        self._csv_options = csv_options
        self._on_error = on_error
        self._columns = columns
        self._pending: dict[str, tuple[str, Any]] = {}
        self._scored: dict[str, bool] = {}
        self._open_spools = ExitStack()
        from .foresight import Foresight  # it imports numpy, which other commands do without

        self.foresight = Foresight()
        """What `read` has seen of training and evaluation data."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open_spools.close()

    def name(self, argument: str, data: Any, suffix: str) -> str:
        """Return the dataset name for one argument. Documents and files are kept for `read` and `push`.

        Args:
            argument: the argument's name, for error messages.
            data: documents, a dataset's name, local data that `sources.kinds.documents_from` reads, or Later.
            suffix: end of the new dataset's name, such as 'train'.

        Raises:
            InvalidInput: `data` is empty or of another type, or the new name is too long.
        """
        if isinstance(data, Later):
            if self._kind != PAIRS:
                raise InvalidInput(
                    f"{argument}='feedback' must train a CLIP: marks make pairs. Got a model of the task "
                    f"{self._task!r}. Choose a CLIP, or pass labelled images."
                )
        elif not is_source(data):
            if isinstance(data, str):
                return data
            data = _documents(argument, data)
        name = f"{self._prefix}-{suffix}"
        if not NAME.fullmatch(name):
            raise InvalidInput(
                f"the dataset name for {argument} must have at most 128 characters. Got {name!r}. "
                f"Choose a shorter run_name or experiment_name."
            )
        self._pending[name] = (argument, data)
        return name

    def read(self) -> None:
        """Read all files to the end.

        Raises:
            InvalidInput: a file has no entries, `columns` are given without a file, or some pairs of an argument have
                a score and others do not.
            InvalidDocument: a file has bad entries, or the model cannot train on a document.
        """
        if self._columns is not None and not any(is_source(data) for _, data in self._pending.values()):
            raise InvalidInput(
                f"columns are for files with named columns. Got {self._columns!r:.80} without a file. Leave them out."
            )
        for name, (argument, data) in self._pending.items():
            if isinstance(data, Later):
                data = data.documents()
            if is_source(data):
                documents = documents_from(
                    data,
                    csv_options=self._csv_options,
                    columns=self._columns,
                    task=self._task,
                    on_error=self._on_error,
                )
                data = self._open_spools.enter_context(Spool(self._trainable(argument, documents)))
            else:
                for _ in self._trainable(argument, data):
                    pass
            if not len(data):
                raise InvalidInput(f"{argument} must hold at least one document. Got none. Add documents.")
            self._pending[name] = (argument, data)

    def _trainable(self, argument: str, documents: Iterable[Document]) -> Iterator[Document]:
        """Yield the documents. Those that the model learns from or is scored on must be of the model's kind."""
        if argument not in TRAINABLE:
            yield from documents
            return
        for position, document in enumerate(scored_alike(documents, document_has_score, argument)):
            scored = document_has_score(document)
            try:
                check_kind(document, self._kind)
            except InvalidDocument as error:
                wrong_use = scored and not (self._kind == PAIRS and looks_like_pair(document))
                hint = SCORE_HINT if wrong_use else ""
                raise InvalidDocument(f"{argument}: document {position} ({document.id}): {error}{hint}") from error
            self._scored[argument] = scored
            if argument in FORESEEN:
                self.foresight.add(argument, document)
            yield document

    def has_scores(self, argument: str) -> bool | None:
        """Return whether the pairs that `read` has collected have scores. None for the name of a dataset."""
        return self._scored.get(argument)

    def count(self, flow: Connection, name: str) -> int | None:
        """Return the number of documents of a dataset that `read` has collected or the Flow has, None if none has."""
        if name in self._pending:
            return len(self._pending[name][1])
        try:
            (dataset,) = flow.call(wire.DATASETS_LIST, name=name)
        except DatasetNotFound:  # the run is refused with the names that there are
            return None
        return int(dataset["documents"])

    def push(self, flow: Connection) -> None:
        """Push the documents that `read` has collected."""
        for name, (_, documents) in self._pending.items():
            push_documents(flow, name, documents)


def _documents(argument: str, data: object) -> DocumentArray:
    from docarray import DocumentArray

    try:
        given = several_documents(argument, data)
        documents = data if isinstance(data, DocumentArray) else DocumentArray(given)
    except InvalidInput:
        raise InvalidInput(
            f"{argument} must be documents, the name of a dataset, or files. Got {type(data).__name__}. "
            f"Pass one of them."
        ) from None
    if not len(documents):
        raise InvalidInput(f"{argument} must hold at least one document. Got none. Add documents.")
    return documents
