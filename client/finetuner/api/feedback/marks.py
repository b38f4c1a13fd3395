"""Marks what fits among the results of searches; lists, exports and deletes marks."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ...contract import wire
from ...contract.checks import local_path, number
from ...contract.marks import MAX_PAGE, Mark, check_query
from ...contract.several import several
from ...documents.carried import carried
from ...exceptions import InvalidInput
from ..data.upload import with_images
from ..session import connection

if TYPE_CHECKING:
    from docarray import Document

    from ...transport.connection import Connection

MAX_SECONDS = 2.0**40


def feedback(
    query: str | Document,
    shown: str | Iterable[str] | None = None,
    *,
    chosen: str | Iterable[str] = (),
    refused: str | Iterable[str] = (),
    offset: int = 0,
    artifact: str = "",
    mark_id: str | None = None,
) -> str:
    """Store a mark: which of the documents that a search has shown fit the query, and which do not.

    The mark is on the Flow's disk when the call returns, with the name of the caller's token and the time.

    Args:
        query: the query's text or image; or the query as `search` returned it, with its matches.
        shown: ids of the documents that were shown, best first, at most 100; None takes the query's matches.
        chosen: ids of those that fit.
        refused: ids of those that do not fit. A mark chooses or refuses at least one document.
        offset: `offset` of the search: the first of `shown` has the rank `offset` + 1.
        artifact: the artifact that ranked the documents; '' takes the one in the query, if any.
        mark_id: of the mark; None makes a random one. A mark that is sent twice under one id is stored once.

    Returns:
        The id of the mark.

    Raises:
        InvalidInput: a marked document was not shown, or a shown one is not in the index, or the query is no text or
            image, or is too large.
        AlreadyExists: another mark has that id.
        InsufficientStorage: the Flow has too many marks.
    """
    from docarray import Document, DocumentArray

    asked = Document(text=query) if isinstance(query, str) else query
    if not isinstance(asked, Document):
        raise InvalidInput(f"query must be a text or a Document. Got {type(query).__name__}. Pass one of them.")
    if shown is None:
        shown = [match.id for match in asked.matches]
    if asked.chunks:
        raise InvalidInput("query must be one text or one image. Got several parts. Mark with one of them.")
    mark = Mark(
        uuid.uuid4().hex if mark_id is None else mark_id,
        shown=tuple(several("shown", shown, str, "ids")),
        chosen=tuple(several("chosen", chosen, str, "ids")),
        refused=tuple(several("refused", refused, str, "ids")),
        offset=offset,
        artifact=artifact or str(asked.tags.get(wire.ARTIFACT_TAG, "")),
    )
    content = with_images(carried(Document(text=asked.text) if asked.text else _image(asked)))
    check_query(content.text, content.blob)
    message = Document(id=mark.id, tags=mark.tags())
    if content.text:
        message.text = content.text
    else:
        message.blob = content.blob
    for document in connection().post(wire.FEEDBACK, DocumentArray([message])):
        if (error := wire.error_of(document)) is not None:
            raise error
    return mark.id


def _image(query: Document) -> Document:
    from docarray import Document

    return Document(blob=query.blob, uri=query.uri, tensor=query.tensor)


def list_feedback(
    *,
    since: float | None = None,
    user: str | None = None,
    document: str | None = None,
    after: int = 0,
    limit: int = 100,
    images: bool = False,
) -> dict[str, Any]:
    """Return a page of marks, oldest first.

    Args:
        since: seconds since the epoch; only marks of that time or later.
        user: only marks of the token of that name; '' for marks of a Flow without tokens.
        document: only marks that show the document of that id.
        after: `next` of the page before.
        limit: highest number of marks, 1 to 1000; a large page ends earlier.
        images: whether to return the images of queries.

    Returns:
        {'marks': [...], 'next': `after` of the next page, None at the end}. A mark has 'id', 'at' (seconds since the
        epoch), 'user', 'artifact', 'text' ('' for an image), 'image' (base64; '' for a text, None without `images`),
        'shown' (best first), 'chosen', 'refused' and 'offset'.

    Raises:
        InvalidInput: a value is not allowed.
    """
    given = {
        "since": since, "user": user, "document": document, "after": after, "limit": limit, "images": images,
    }  # fmt: skip
    page: dict[str, Any] = connection().call(
        wire.FEEDBACK_LIST, **{name: value for name, value in given.items() if value is not None}
    )
    return page


def all_feedback(flow: Connection, since: float | None = None, images: bool = True) -> Iterator[dict[str, Any]]:
    """Yield every mark since a time, oldest first, as `list_feedback` returns them."""
    after: int | None = 0
    given = {} if since is None else {"since": number("since", since, 0, MAX_SECONDS)}
    while after is not None:
        page = flow.call(wire.FEEDBACK_LIST, after=after, limit=MAX_PAGE, images=images, **given)
        yield from page["marks"]
        after = page["next"]


def export_feedback(path: str | os.PathLike[str], since: float | None = None) -> int:
    """Write all marks into a file, one JSON object a line, with the images of queries in base64.

    Args:
        path: of the file; replaced once the export is complete.
        since: seconds since the epoch; only marks of that time or later.

    Returns:
        The number of marks.
    """
    target = local_path("path", path)
    if target.is_dir() or not target.parent.is_dir():
        raise InvalidInput(f"path must be a file in an existing folder. Got {str(target)!r}. Create the folder.")
    part, written = target.with_name(f".{target.name}.{uuid.uuid4().hex}"), 0
    try:
        with part.open("w", encoding="utf-8") as file:
            for mark in all_feedback(connection(), since):
                file.write(json.dumps(mark) + "\n")
                written += 1
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return written


def delete_feedback(
    *, user: str | None = None, document: str | None = None, ids: str | Iterable[str] | None = None
) -> int:
    """Delete marks for good: those of which every given condition holds.

    Args:
        user: marks of the token of that name; '' for marks of a Flow without tokens.
        document: marks that show the document of that id.
        ids: ids of marks, at most 10,000.

    Returns:
        The number of deleted marks.

    Raises:
        InvalidInput: no condition is given.
    """
    given: dict[str, Any] = {"user": user, "document": document}
    given["ids"] = None if ids is None else list(several("ids", ids, str, "one id or several, strings"))
    chosen = {name: value for name, value in given.items() if value is not None}
    if not chosen:
        raise InvalidInput("marks to delete must be named. Got none. Pass user, document or ids.")
    return int(connection().call(wire.FEEDBACK_DELETE, **chosen)["deleted"])
