"""Exceptions of finetuner.

FinetunerError
├── InvalidInput (ValueError)          a wrong argument, name, option or document
│   └── InvalidDocument                one document of a batch; the others are answered
│       ├── EmptyDocument              no text and no image
│       ├── TextTooLong
│       ├── UndecodableImage           truncated, or not an image
│       ├── ImageTooLarge              in bytes, pixels or aspect ratio
│       ├── InvalidTensor              another shape or dtype
│       ├── ForbiddenUri               a local file, a private address, a redirect to one
│       └── UnreachableUri             no answer, too slow, or a status other than 200
├── AlreadyExists                      a name that is taken
├── NotFound (LookupError)
│   ├── RunNotFound
│   ├── ExperimentNotFound
│   ├── DatasetNotFound
│   ├── ArtifactNotFound
│   └── NoSuchModel
├── FlowUnreachable (ConnectionError)  no Flow answers at the host
├── DatabaseUnreachable (ConnectionError)  the Flow's database does not answer; try again later
├── Unauthorized                       no token, or an invalid one
├── Forbidden                          the token's role does not allow it
├── ResourceExhausted                  the Flow's queue is full; try again later
│   └── InsufficientStorage            the Flow's disk, or a token's share of it, is full
├── FinetunerServerError               the Flow failed; the request was valid
├── RunInProgressError                 the run has not ended
│   └── RunPreparingError              the run has not started
├── RunFailedError                     the run failed or was canceled
├── CorruptedArtifact                  files are missing or differ from the manifest
│   ├── CorruptedMetadata
│   └── CorruptedONNXModel
├── SelectModelRequired                the artifact holds several models; choose one
└── KeysMismatchError                  the weights do not fit the architecture

A message states the expected value, the actual one and the next step. `status` is the HTTP status of the error; it is
part of a document's error tag.
"""

from __future__ import annotations


class FinetunerError(Exception):
    """Base class of the exceptions of this package."""

    status = 500


class InvalidInput(FinetunerError, ValueError):
    """A wrong argument, name, option or document."""

    status = 422


class InvalidDocument(InvalidInput):
    """An unusable document of a batch; the other documents are not affected."""


class EmptyDocument(InvalidDocument):
    """A document without text, blob, tensor and uri."""


class TextTooLong(InvalidDocument):
    """A text of more characters than the limit."""

    status = 413


class UndecodableImage(InvalidDocument):
    """Bytes that are not an image, or a truncated image."""


class ImageTooLarge(InvalidDocument):
    """An image above the limit of bytes, pixels or aspect ratio."""

    status = 413


class InvalidTensor(InvalidDocument):
    """An array whose shape or dtype is not that of an image."""


class ForbiddenUri(InvalidDocument):
    """A URI that a server refuses to fetch: a local file, a private address, or a redirect to one."""

    status = 403


class UnreachableUri(InvalidDocument):
    """A URI that did not answer with status 200 in time."""

    answer = 0
    """Its HTTP status; 0 for no answer."""
    wait = 0.0
    """Seconds after which it wants to be asked again; 0 if it does not say."""


class AlreadyExists(FinetunerError):
    """A name that is taken."""

    status = 409


class NotFound(FinetunerError, LookupError):
    """A name that does not exist in this workspace."""

    status = 404


class RunNotFound(NotFound):
    """No run of that name in the experiment."""


class ExperimentNotFound(NotFound):
    """No experiment of that name."""


class DatasetNotFound(NotFound):
    """No file and no dataset of that name."""


class ArtifactNotFound(NotFound):
    """No artifact of that id, alias or path."""


class NoSuchModel(NotFound):
    """No backbone of that name."""


class FlowUnreachable(FinetunerError, ConnectionError):
    """No Flow answers at the host."""

    status = 503


class DatabaseUnreachable(FinetunerError, ConnectionError):
    """The Flow's database does not answer; nothing of the request is acknowledged, and it may succeed later."""

    status = 503


class Unauthorized(FinetunerError):
    """No token, or a token that the Flow does not accept."""

    status = 401


class Forbidden(FinetunerError):
    """The token's role does not allow it."""

    status = 403


class ResourceExhausted(FinetunerError):
    """The Flow's queue is full, or the caller sends too fast; the same request may succeed later."""

    status = 429


class InsufficientStorage(ResourceExhausted):
    """The Flow's disk is nearly full, or a token's share of it is used up; nothing of the request is stored."""

    status = 507


class FinetunerServerError(FinetunerError):
    """The Flow failed; the request was valid.

    Args:
        message: one line about the failure.
        details: the server's message.
        code: HTTP status.
    """

    def __init__(self, message: str = "", details: str = "", code: int = 500) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.code = code

    def __str__(self) -> str:
        return f"{self.message} ({self.code}): {self.details}" if self.details else self.message


class RunInProgressError(FinetunerError):
    """The run has not ended yet."""


class RunPreparingError(RunInProgressError):
    """The run has not started yet."""


class RunFailedError(FinetunerError):
    """The run failed or was canceled, so it has no result."""


class CorruptedArtifact(FinetunerError):
    """An artifact whose files are missing or differ from its manifest."""


class CorruptedMetadata(CorruptedArtifact):
    """An artifact whose manifest cannot be read."""


class CorruptedONNXModel(CorruptedArtifact):
    """An artifact whose ONNX file cannot be loaded."""


class SelectModelRequired(FinetunerError):
    """An artifact holds several models, and `select_model` names none of them."""


class KeysMismatchError(FinetunerError):
    """Weights that do not fit the architecture."""


def by_name(name: str) -> type[FinetunerError]:
    """Return the exception class of a name, or FinetunerServerError for an unknown name."""
    found = globals().get(name)
    if isinstance(found, type) and issubclass(found, FinetunerError):
        return found
    return FinetunerServerError
