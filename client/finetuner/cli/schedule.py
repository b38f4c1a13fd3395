"""Repeats a command at the times of a cron expression."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime

from cronsim import CronSim, CronSimError

from ..exceptions import FinetunerError, InvalidInput

LONGEST_SLEEP = 60.0
"""Seconds: a clock that is set, or a machine that sleeps, moves the time by no more."""


def times(expression: str, after: datetime) -> Iterator[datetime]:
    """Return the times of a cron expression.

    Args:
        expression: minute, hour, day of the month, month, day of the week, such as '0 3 * * 1': Mondays at 3.
        after: local time, without a zone.

    Raises:
        InvalidInput: no such expression.
    """
    try:
        return iter(CronSim(expression, after))
    except CronSimError as error:
        raise InvalidInput(
            f"--every must be a cron expression like '0 3 * * 1', Mondays at 3. Got {expression!r}: {error}."
        ) from error


def repeat(
    expression: str,
    do: Callable[[], object],
    *,
    now: Callable[[], datetime] = datetime.now,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Call a function at the times of a cron expression, for good. Its errors are printed, and the next time comes.

    A time that passes while the function runs is left out, so that it runs once at a time.

    Args:
        expression: see `times`.
        do: the function.
        now: the local time.
        sleep: waits for so many seconds.

    Raises:
        InvalidInput: no such expression; the function was not called.
    """
    while True:
        following = next(times(expression, now()))
        print(f"Next round: {following:%Y-%m-%d %H:%M}", file=sys.stderr, flush=True)
        while (left := (following - now()).total_seconds()) > 0:
            sleep(min(left, LONGEST_SLEEP))
        try:
            do()
        except FinetunerError as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
