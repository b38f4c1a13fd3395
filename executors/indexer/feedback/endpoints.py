"""The endpoints of marks: `/feedback`, and its list, deletion and documents."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from docarray import Document, DocumentArray

from finetuner.contract.marks import MAX_MARKS, MAX_PAGE, Mark, check_query, checked_id
from finetuner.contract.parameters import Parameters
from finetuner.contract.wire import (
    ERROR_TAG,
    FEEDBACK,
    FEEDBACK_DELETE,
    FEEDBACK_DOCUMENTS,
    FEEDBACK_LIST,
    OWNER,
    mark_error,
)
from finetuner.database.shared import shared_database
from finetuner.database.url import check_database
from finetuner.documents.images import decode
from finetuner.exceptions import DatabaseUnreachable, FinetunerError, InvalidInput
from finetuner.executors.indexer.feedback.store import Chosen, Marked, Marks
from finetuner.executors.indexer.settings import IndexSettings
from finetuner.executors.room.room import Room, control

FILE = "feedback/marks.sqlite"
MAX_IDS = 10_000
MAX_SECONDS = 2.0**40
CHECKED_SIDE = 32  # pixels: an image is decoded as a check alone


class FeedbackRoom(Room):
    """An index that stores marks: in `feedback/` of the workspace, or in the Flow's database server.

    A restore of the index keeps them. The store is opened by the first request that needs it, so that a damaged one
    does not stop searches.
    """

    settings: IndexSettings

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._marks: Marks | None = None
        self._marks_lock = threading.Lock()
        with suppress(DatabaseUnreachable):  # searches need no marks; tables of another version are refused now
            check_database(self.shared_workspace.root)

    @abstractmethod
    def known(self, ids: Iterable[str]) -> set[str]:
        """Return those ids that the index has documents of."""

    @abstractmethod
    def contents(self, ids: list[str]) -> DocumentArray:
        """Return the known documents of these ids, with their contents."""

    def marks(self) -> Marks:
        """Return the store.

        Raises:
            FinetunerServerError: its file is damaged.
            DatabaseUnreachable: the server is away.
        """
        with self._marks_lock:
            if self._marks is None:
                root = self.shared_workspace.root
                database = shared_database(root) or root / FILE
                self._marks = Marks(database, int(self.settings.min_free_mb) * 2**20)
            return self._marks

    @control(FEEDBACK, OWNER, beside=True)
    def mark(self, parameters: Parameters, docs: DocumentArray) -> DocumentArray:
        """Store marks, one per document. Return their ids once they are on disk, or each one's error."""
        if not 1 <= len(docs) <= MAX_MARKS:
            raise InvalidInput(f"a request must have 1 to {MAX_MARKS} marks. Got {len(docs)}. Send fewer at once.")
        answer = DocumentArray([Document(id=document.id) for document in docs])
        read: list[tuple[int, Marked]] = []
        for position, document in enumerate(docs):
            try:
                if ERROR_TAG in document.tags:
                    raise InvalidInput("a mark must have no error. Got one. Send the query of the search.")
                read.append((position, self._read(document)))
            except FinetunerError as error:
                mark_error(answer[position], error)
        stored = self.marks().add([marked for _, marked in read], parameters.text(OWNER, ""))
        for (position, _), fault in zip(read, stored, strict=True):
            if fault is not None:
                mark_error(answer[position], fault)
        refused = sum(ERROR_TAG in each.tags for each in answer)
        self.count_documents(FEEDBACK, len(docs) - refused, refused)
        return answer

    @control(FEEDBACK_LIST, "since", "user", "document", "after", "limit", "images", beside=True)
    def list_marks(self, parameters: Parameters, _docs: DocumentArray) -> dict[str, Any]:
        """Return a page of marks, oldest first; see `Marks.page`."""
        after, limit = parameters.whole("after", 0, 0, 2**53), parameters.whole("limit", 100, 1, MAX_PAGE)
        return self.marks().page(_condition(parameters), after, limit, parameters.flag("images", False))

    @control(FEEDBACK_DELETE, "user", "document", "ids", beside=True)
    def delete_marks(self, parameters: Parameters, _docs: DocumentArray) -> dict[str, int]:
        """Delete the marks of a user, those that show a document, or those of `ids`. Return {"deleted": count}."""
        ids = parameters.get("ids")
        if ids is not None:
            if not isinstance(ids, list) or len(ids) > MAX_IDS:
                raise InvalidInput(f"parameter 'ids' must be a list of at most {MAX_IDS} ids. Got {ids!r:.80}.")
            ids = tuple(checked_id("each of parameter 'ids'", each) for each in ids)
        condition = _condition(parameters, ids)
        if condition == Chosen():
            raise InvalidInput("marks to delete must be named. Got no `user`, `document` or `ids`. Pass one of them.")
        return {"deleted": self.marks().delete(condition)}

    @control(FEEDBACK_DOCUMENTS, "ids")
    def marked_documents(self, parameters: Parameters, _docs: DocumentArray) -> DocumentArray:
        """Return the known documents of `ids` with their contents, within one message."""
        ids = parameters["ids"]
        if not isinstance(ids, list) or not 1 <= len(ids) <= MAX_PAGE:
            raise InvalidInput(f"parameter 'ids' must be a list of 1 to {MAX_PAGE} ids. Got {ids!r:.80}.")
        return self.contents(list(dict.fromkeys(checked_id("each of parameter 'ids'", each) for each in ids)))

    def close(self) -> None:
        """Close the marks."""
        with self._marks_lock:
            if self._marks is not None:
                self._marks.close()
                self._marks = None
        super().close()

    def _read(self, document: Document) -> Marked:
        mark = Mark.read(document.id, document.tags)
        if document.uri or document.tensor is not None or document.chunks:
            raise InvalidInput("query must be one text or the file of one image. Got another content. Send its blob.")
        check_query(document.text, document.blob)
        if document.blob:
            decode(document.blob, CHECKED_SIDE)
        if gone := sorted(set(mark.shown) - self.known(mark.shown)):
            raise InvalidInput(
                f"shown must name documents of the index. Got {gone[0]!r:.80}, which it has not. Search again."
            )
        return Marked(mark, document.text, document.blob)


def _condition(parameters: Parameters, ids: tuple[str, ...] | None = None) -> Chosen:
    user, document = parameters.get("user"), parameters.get("document")
    if user is not None and (not isinstance(user, str) or len(user) > MAX_PAGE):
        raise InvalidInput(f"parameter 'user' must be the name of a token. Got {user!r:.80}.")
    if document is not None:
        checked_id("parameter 'document'", document)
    since = parameters.number("since", 0, MAX_SECONDS)  # the deletion does not read it
    return Chosen(since, user, document, ids)
