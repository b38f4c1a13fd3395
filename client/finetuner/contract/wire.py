"""The wire contract: endpoint names, tags, run states, limits and replies.

Documents travel as DocArray v1 `DocumentArray`s. A control endpoint (`/fit`, `/runs/...`, `/datasets/...`,
`/artifacts/...`, `/evaluate`, `/status`, `/problems`) answers with one document whose `text` is JSON. An endpoint that
processes documents answers with those documents. An error is written into the document's `finetuner_error` tag and
never raised through Jina: the other documents of the request are still answered, and the caller gets the server's
exception class.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, get_args

from .. import exceptions
from ..exceptions import FinetunerError, InvalidInput

if TYPE_CHECKING:
    from docarray import Document

Item = TypeVar("Item")


class Reply(NamedTuple):
    """The parts of a document that `read_reply` reads: DocArray takes most of a second to import."""

    text: str
    """JSON."""
    tags: dict[str, Any]
    """With ERROR_TAG for an error."""


# Version of this contract. Client and Flow must have the same one; raise it when one could not read the other.
CONTRACT = 1
CONTRACT_FIELD = "x-contract"  # of `info` in the gateway's /openapi.json
TITLE = "Open Finetuner"  # likewise

# Tags. Every embedding has the id of its model beside it, in ARTIFACT_TAG.
ARTIFACT_TAG = "finetuner_artifact"
# Tower that has made the embedding: the encoders tell it to the indexer alone, which takes it off.
TOWER_TAG = "finetuner_tower"
ERROR_TAG = "finetuner_error"
TOKENS_TAG = "finetuner_tokens"  # number of a text's tokens, where `/encode` was asked for it
LABEL_TAG = "finetuner_label"
SCORE_TAG = "finetuner_score"
NEGATIVES_TAG = "finetuner_negatives"  # captions that do not fit the image of a pair
LANGUAGE_TAG = "language"
EXAMPLE_TAG = "finetuner_example"  # of a query's chunk: POSITIVE or NEGATIVE
POSITIVE, NEGATIVE = "positive", "negative"
SEARCH_TAG = "finetuner_search"  # of an answered query: what its search reports beside the matches

# Key of gRPC's trailing metadata; its value is the exception's class, as `type` in the JSON body of an HTTP error.
ERROR_METADATA = "finetuner-error"

# Parameter of uploads and marks: name of the caller's token. The gateway sets it, and drops a caller's own.
OWNER = "finetuner_owner"

FIT = "/fit"
RUNS_GET = "/runs/get"
RUNS_LIST = "/runs/list"
RUNS_PAGE = "/runs/page"
RUNS_CHANGES = "/runs/changes"
RUNS_STATUS = "/runs/status"
RUNS_LOGS = "/runs/logs"
RUNS_METRICS = "/runs/metrics"
RUNS_EXAMPLES = "/runs/examples"
RUNS_CANCEL = "/runs/cancel"
RUNS_RESUME = "/runs/resume"
RUNS_DELETE = "/runs/delete"
RUNS_EDIT = "/runs/edit"
EXPERIMENTS_CREATE = "/experiments/create"
EXPERIMENTS_LIST = "/experiments/list"
EXPERIMENTS_DELETE = "/experiments/delete"
DATASETS_PUSH = "/datasets/push"
DATASETS_PULL = "/datasets/pull"
DATASETS_LIST = "/datasets/list"
DATASETS_SHOW = "/datasets/show"
DATASETS_DELETE = "/datasets/delete"
DATASETS_UPLOAD = "/datasets/upload"
DATASETS_STATS = "/datasets/stats"
ARTIFACTS_LIST = "/artifacts/list"
ARTIFACTS_PULL = "/artifacts/pull"
ARTIFACTS_PUSH = "/artifacts/push"
ARTIFACTS_PROMOTE = "/artifacts/promote"
ARTIFACTS_EXPORT = "/artifacts/export"
ALIASES_LIST = "/artifacts/aliases"
EVALUATE = "/evaluate"
ANY = "/"  # the endpoint of `clip_client.Client.profile`
ENCODE = "/encode"
RANK = "/rank"
INDEX = "/index"
SEARCH = "/search"
DELETE = "/delete"
FILTER = "/filter"
STATUS = "/status"
PROBLEMS = "/problems"
ROOM = "/room"
REINDEX_CANCEL = "/reindex/cancel"
COLLECTIONS_DROP = "/collections/drop"
INDEX_BACKUP = "/index/backup"
INDEX_RESTORE = "/index/restore"
INDEX_VERIFY = "/index/verify"
INDEX_MOVE = "/index/move"
FEEDBACK = "/feedback"
FEEDBACK_LIST = "/feedback/list"
FEEDBACK_DELETE = "/feedback/delete"
FEEDBACK_DOCUMENTS = "/feedback/documents"

# Endpoints that change nothing: a request may be sent twice.
READS = frozenset({
    RUNS_GET, RUNS_LIST, RUNS_PAGE, RUNS_CHANGES, RUNS_STATUS, RUNS_LOGS, RUNS_METRICS, RUNS_EXAMPLES,
    EXPERIMENTS_LIST, DATASETS_PULL, DATASETS_LIST, DATASETS_SHOW, DATASETS_STATS, ARTIFACTS_LIST, ARTIFACTS_PULL,
    ALIASES_LIST,
    ENCODE, RANK, SEARCH, FILTER, STATUS, PROBLEMS, ROOM, FEEDBACK_LIST, FEEDBACK_DOCUMENTS,
})  # fmt: skip
ANSWER_SECONDS = 1_860.0  # a client waits for an answer; longer than a Flow's `timeout_send`, which names the room

RunState = Literal["CREATED", "STARTED", "FINISHED", "FAILED", "CANCELED"]
"""Status of a run; a run that has not ended is CREATED or STARTED."""
RUN_STATES: tuple[RunState, ...] = get_args(RunState)
CREATED, STARTED, FINISHED, FAILED, CANCELED = RUN_STATES
ENDED = (FINISHED, FAILED, CANCELED)
RUN_SORTS = ("created", "name", "status", "model", "data", "duration", "metric")
MAX_PAGE_SIZE = 1000  # runs
AWAITS = "Run submitted and awaits execution"
"""`details` of a run that is CREATED."""

# A client splits requests at the smaller size and number. A server refuses requests above the larger.
MAX_REQUEST_BYTES = 8 * 2**20
MAX_MESSAGE_BYTES = 64 * 2**20
MAX_CONTROL_BYTES = 2**20  # of an HTTP body without documents
MAX_REQUEST_DOCUMENTS = 1024  # with all chunks and matches, as in the next line
MAX_MESSAGE_DOCUMENTS = 4096
MAX_MESSAGE_PARTS = 2**18  # protobuf's fields in the documents of a request, and the values in their tags
MAX_FILE_BYTES = 4 * 2**30  # of a file that is uploaded as a dataset
MAX_PARAMETER_PARTS = 2**15  # the same in its parameters, which each room reads several times
PIECE_BYTES = 2**20  # of an artifact; small, because each room keeps copies until its garbage collection

GUARD_PREFIX = "guard_"  # of the metrics of guard data
PROMOTE_TOLERANCE = 0.01  # allowed drop of an artifact's headline score below the score before tuning


def reply(value: Any) -> Document:
    """Return the reply of a control endpoint: a document with `value` as JSON."""
    from docarray import Document

    return Document(text=json.dumps(value), mime_type="application/json")


def mark_error(document: Document, error: Exception) -> Document:
    """Write `error` into the document's error tag, remove its embedding, and return the document.

    The tag is {'type': class name, 'message': one line, 'status': HTTP status such as 422}.
    """
    document.embedding = None
    for tag in (ARTIFACT_TAG, TOWER_TAG):
        if tag in document.tags:
            del document.tags[tag]
    status = getattr(error, "status", FinetunerError.status)
    document.tags[ERROR_TAG] = {"type": type(error).__name__, "message": str(error), "status": status}
    return document


def error_of(document: Document | Reply) -> FinetunerError | None:
    """Return the exception in the document's error tag, or None without the tag."""
    tag = document.tags.get(ERROR_TAG)
    if not tag:
        return None
    return exceptions.by_name(str(tag["type"]))(str(tag["message"]))


def read_reply(document: Document | Reply) -> Any:
    """Return the value in a control endpoint's reply.

    Raises:
        FinetunerError: the error in the reply, with its class on the server.
    """
    error = error_of(document)
    if error is not None:
        raise error
    return json.loads(document.text)


def page_of(items: list[Item], page: int, size: int) -> list[Item]:
    """Return one page of a list.

    Args:
        items: the whole list.
        page: number of the page, from 1.
        size: items per page, from 1.

    Raises:
        InvalidInput: a page or size below 1.
    """
    if page < 1 or size < 1:
        raise InvalidInput(f"page and size must be at least 1. Got {page} and {size}. Raise them.")
    return items[(page - 1) * size : page * size]
