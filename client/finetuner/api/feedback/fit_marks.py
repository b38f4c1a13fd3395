"""`fit(train_data="feedback", since=...)`: the marks of the Flow as the data of a run."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ...contract import wire
from ...contract.checks import number
from ...exceptions import DatasetNotFound, InvalidInput
from ..data.fit_data import Later
from ..session import connection
from .marks import MAX_SECONDS
from .pairs import FeedbackData, feedback_data

if TYPE_CHECKING:
    from docarray import DocumentArray

FEEDBACK = "feedback"
"""The value of `train_data` that means the marks."""


def with_marks(train_data: Any, eval_data: Any, since: float | None) -> tuple[Any, Any]:
    """Return `train_data` and `eval_data` of `fit`, with the pairs of marks in place of FEEDBACK.

    Marks are read later, once the options of the run are checked. Held-out queries are never trained on. They are the
    `eval_data`, unless there is another one.

    Raises:
        InvalidInput: `since` without FEEDBACK, or with a wrong value.
    """
    if not (isinstance(train_data, str) and train_data == FEEDBACK):
        if since is not None:
            raise InvalidInput(
                f"since is for train_data={FEEDBACK!r}, the marks of searches. Got since={since!r:.80} with other "
                f"train_data. Leave it out."
            )
        return train_data, eval_data
    if since is not None:
        number("since", since, 0, MAX_SECONDS)
    marked = _Marked(since)
    return Later(marked.train), Later(marked.held_out) if eval_data is None else eval_data


class _Marked:
    """The pairs of the marks since a time, read from the Flow once."""

    def __init__(self, since: float | None) -> None:
        self._since = since

    def train(self) -> DocumentArray:
        return self._data.train

    def held_out(self) -> DocumentArray:
        if not len(self._data.held_out):
            raise InvalidInput(
                f"held-out queries of the marks must make at least one pair, to compare before and after on. Got none "
                f"({self._data.report}). Mark the results of more queries, or pass eval_data."
            )
        return self._data.held_out

    @cached_property
    def _data(self) -> FeedbackData:
        _require_marks()
        return feedback_data(since=self._since)


def _require_marks() -> None:
    """Raise InvalidInput if FEEDBACK names something else, too: nothing of a user's is replaced in silence."""
    if os.path.exists(FEEDBACK):  # noqa: PTH110 (never raises)
        raise InvalidInput(
            f"train_data={FEEDBACK!r} must be the marks of searches. Got a file or folder of that name, too. Pass "
            f"'./{FEEDBACK}' for it, or finetuner.feedback_data().train for the marks."
        )
    try:
        connection().call(wire.DATASETS_LIST, name=FEEDBACK)
    except DatasetNotFound:
        return
    raise InvalidInput(
        f"train_data={FEEDBACK!r} must be the marks of searches. Got a dataset of that name, too. Pass "
        f"finetuner.pull_data({FEEDBACK!r}) for it, or finetuner.feedback_data().train for the marks."
    )
