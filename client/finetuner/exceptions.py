"""Every exception that users of finetuner meet.

FinetunerError
├── InvalidInput (ValueError)          a wrong argument, name, option or document
│   └── InvalidDocument                one document of a batch; its neighbours are answered
│       ├── EmptyDocument              neither text nor image
│       ├── TextTooLong
│       ├── UndecodableImage           truncated, or no image at all
│       ├── ImageTooLarge              in bytes, pixels or one side
│       ├── InvalidTensor              another shape or dtype
│       ├── ForbiddenUri               a local file, a private address, a redirect to one
│       └── UnreachableUri             no answer, too slow, or not a 200
├── AlreadyExists                      a run name that is taken
├── NotFound (LookupError)
│   ├── RunNotFound
│   ├── ExperimentNotFound
│   ├── DatasetNotFound
│   ├── ArtifactNotFound
│   └── NoSuchModel
├── FlowUnreachable (ConnectionError)  no Flow answers at the host
├── Unauthorized                       the Flow asks for another token
├── Forbidden                          the token's role does not allow it
├── ResourceExhausted                  more is waiting than the Flow can do in time; try again later
├── FinetunerServerError               the Flow failed in a way that is not the caller's fault
├── RunInProgressError                 asked for a result before the run ended
│   └── RunPreparingError              asked for logs before the run started
├── RunFailedError                     asked for the result of a run that failed or was canceled
├── CorruptedArtifact                  files that are missing or differ from the manifest
│   ├── CorruptedMetadata
│   └── CorruptedONNXModel
├── SelectModelRequired                an artifact of several models, and none was chosen
└── KeysMismatchError                  weights that do not fit the architecture

Messages say what was expected, what came, and what to do next. `status` is what HTTP calls such an error; it stands in
the error tag of a document.
"""

from __future__ import annotations


class FinetunerError(Exception):
    """Base of everything that this package raises on purpose."""

    status = 500


class InvalidInput(FinetunerError, ValueError):
    """A wrong argument, name, option or document."""

    status = 422


class InvalidDocument(InvalidInput):
    """One document of a batch cannot be used; the others are not affected."""


class EmptyDocument(InvalidDocument):
    """Neither text, blob, tensor nor uri."""


class TextTooLong(InvalidDocument):
    """More characters than a text may have."""

    status = 413


class UndecodableImage(InvalidDocument):
    """Bytes that are no image, or only a part of one."""


class ImageTooLarge(InvalidDocument):
    """More bytes or pixels than an image may have, or a side too long for the other."""

    status = 413


class InvalidTensor(InvalidDocument):
    """An array of another shape or dtype than an image's."""


class ForbiddenUri(InvalidDocument):
    """A URI that a server does not fetch: a local file, a private address, or a redirect to one."""

    status = 403


class UnreachableUri(InvalidDocument):
    """A URI that did not answer with 200 in time."""


class AlreadyExists(FinetunerError):
    """The name is taken."""

    status = 409


class NotFound(FinetunerError, LookupError):
    """No such thing in this workspace."""

    status = 404


class RunNotFound(NotFound):
    """No run of that name in the experiment."""


class ExperimentNotFound(NotFound):
    """No experiment of that name."""


class DatasetNotFound(NotFound):
    """Neither a file nor a dataset of that name."""


class ArtifactNotFound(NotFound):
    """No artifact of that id, alias or path."""


class NoSuchModel(NotFound):
    """No backbone of that name."""


class FlowUnreachable(FinetunerError, ConnectionError):
    """No Flow answers at the host."""

    status = 503


class Unauthorized(FinetunerError):
    """The Flow asks for another token."""

    status = 401


class Forbidden(FinetunerError):
    """The token's role does not allow it."""

    status = 403


class ResourceExhausted(FinetunerError):
    """More is waiting than the Flow can do in time; the same request may pass later."""

    status = 429


class FinetunerServerError(FinetunerError):
    """The Flow failed in a way that is not the caller's fault.

    Args:
        message: what failed, one line.
        details: the server's own words.
        code: HTTP-style status, 500 by default.
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
    """The run failed or was canceled, so there is no result."""


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
    """Return the exception class called `name`, or FinetunerServerError where there is none."""
    found = globals().get(name)
    if isinstance(found, type) and issubclass(found, FinetunerError):
        return found
    return FinetunerServerError
