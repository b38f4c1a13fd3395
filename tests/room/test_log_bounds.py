"""Bounds of the log."""

from __future__ import annotations

import logging

import pytest

from finetuner.executors.room.log_bounds import LINES, SECONDS, LogBounds


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def record(text: str = "bad %s", line: int = 1, error: type[Exception] | None = None) -> logging.LogRecord:
    raised = None if error is None else (error, error(), None)
    return logging.LogRecord("room", logging.ERROR, "room.py", line, text, ("thing",), raised)


def test_a_kind_has_some_lines_in_a_minute_and_the_next_one_counts() -> None:
    clock = Clock()
    bounds = LogBounds(clock)
    lines = [record() for _ in range(1000)]
    assert [bounds.admit(line) for line in lines] == [True] * LINES + [False] * (1000 - LINES)
    assert lines[0].getMessage() == "bad thing"
    assert "further ones are left out" in lines[LINES - 1].getMessage()
    clock.now = SECONDS
    late, next_one = record(), record()
    assert bounds.admit(late)
    assert late.getMessage() == f"bad thing (after {1000 - LINES} others that were left out)"
    assert bounds.admit(next_one)
    assert next_one.getMessage() == "bad thing"


@pytest.mark.parametrize("other", [record(line=2), record(error=ValueError)], ids=["place", "exception"])
def test_another_kind_is_not_hidden(other: logging.LogRecord) -> None:
    bounds = LogBounds(lambda: 0.0)
    for number in range(1000):
        bounds.admit(record(text=f"bad {number} %s"))
    assert bounds.admit(other)


def test_what_no_request_causes_is_not_bounded() -> None:
    bounds, line = LogBounds(lambda: 0.0), record()
    line.levelno = logging.INFO
    assert all(bounds.admit(line) for _ in range(1000))
