"""The filters and the order of a page of runs, as a request has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from finetuner.contract.checks import choice
from finetuner.contract.parameters import Parameters
from finetuner.contract.wire import MAX_PAGE_SIZE, RUN_SORTS, RUN_STATES
from finetuner.exceptions import InvalidInput

METRIC, CREATED_AT = "metric", "created"
MOST_TEXT = 256  # characters of a filter
FILTERS = (
    "page", "size", "text", "status", "model", "data", "experiment", "tag", "since", "until", "metric", "least",
    "sort", "descending",
)  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """The filters of a page. '' and None filter nothing."""

    text: str = ""
    """Part of the name, the experiment or the note, or a whole artifact id."""
    status: tuple[str, ...] = ()
    model: str = ""
    """The backbone, or the artifact that the run started from."""
    data: str = ""
    """Name of the training or evaluation data."""
    experiment: str = ""
    tag: str = ""
    since: float | None = None
    """Seconds since the epoch: created then or later."""
    until: float | None = None
    metric: str = ""
    """Name of the metric after training that `least` and the sort 'metric' take."""
    least: float | None = None
    """The metric must be at least this."""
    sort: str = CREATED_AT
    """One of RUN_SORTS."""
    descending: bool = True
    page: int = 1
    """From 1."""
    size: int = 100
    """Runs on a page, 1 to MAX_PAGE_SIZE."""

    @classmethod
    def read(cls, parameters: Parameters) -> Wanted:
        """Return the filters of a request.

        Raises:
            InvalidInput: an unknown status or sort, a text that is too long, a metric that is missing.
        """
        given: dict[str, Any] = {
            name: _text(parameters, name) for name in ("text", "model", "data", "experiment", "tag", "metric")
        }
        statuses = tuple(filter(None, _text(parameters, "status").split(",")))
        for status in statuses:
            choice("status", status, RUN_STATES)
        choice("sort", sort := parameters.text("sort", CREATED_AT), RUN_SORTS)
        least = parameters.number("least", -1e12, 1e12)
        if (sort == METRIC or least is not None) and not given["metric"]:
            raise InvalidInput(f"metric must be named for sort={METRIC!r} and for least. Got none. Name one.")
        given |= {name: parameters.number(name, 0, 1e11) for name in ("since", "until")}
        descending = parameters.flag("descending", True)
        given["page"] = parameters.whole("page", 1, 1, 10**9)
        given["size"] = parameters.whole("size", 100, 1, MAX_PAGE_SIZE)
        return cls(**given, status=statuses, least=least, sort=sort, descending=descending)

    @property
    def needs_scores(self) -> bool:
        """Whether the database alone cannot answer."""
        return self.sort == METRIC or self.least is not None


def _text(parameters: Parameters, name: str) -> str:
    given = parameters.text(name, "")
    if len(given) > MOST_TEXT:
        raise InvalidInput(f"{name} must have at most {MOST_TEXT} characters. Got {len(given)}. Shorten it.")
    return given
