"""Commands that repeat at the times of a cron expression."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from finetuner.cli.schedule import LONGEST_SLEEP, repeat
from finetuner.exceptions import InvalidInput


class Clock:
    """Ends after so many rounds, of so many minutes each."""

    def __init__(self, rounds: int, minutes: int) -> None:
        self.time = datetime(2026, 11, 27, 12, 0, 30)  # a Friday
        self.done: list[datetime] = []
        self.longest = 0.0
        self._rounds = rounds
        self._minutes = minutes

    def now(self) -> datetime:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.longest = max(self.longest, seconds)
        self.time += timedelta(seconds=seconds)

    def do(self) -> None:
        self.done.append(self.time)
        self.time += timedelta(minutes=self._minutes)
        if len(self.done) == self._rounds:
            raise KeyboardInterrupt
        if len(self.done) == 1:
            raise InvalidInput("held-out queries must have at least 10 pairs. Got 3. Mark more results.")


def test_rounds_come_at_their_times_one_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock(rounds=3, minutes=90)
    with pytest.raises(KeyboardInterrupt):
        repeat("0 * * * *", clock.do, now=clock.now, sleep=clock.sleep)
    assert [f"{each:%H:%M}" for each in clock.done] == ["13:00", "15:00", "17:00"], "14:00 passed meanwhile"
    assert clock.longest == LONGEST_SLEEP
    shown = capsys.readouterr().err
    assert "Next round: 2026-11-27 15:00" in shown
    assert "InvalidInput: held-out queries must have at least 10 pairs" in shown, "and the next round came"


@pytest.mark.parametrize("expression", ["", "soon", "* * * *", "61 * * * *", "0 0 31 2 *", "@daily"])
def test_what_is_no_expression_is_refused_at_once(expression: str) -> None:
    clock = Clock(rounds=1, minutes=1)
    with pytest.raises(InvalidInput, match="--every must be a cron expression like '0 3"):
        repeat(expression, clock.do, now=clock.now, sleep=clock.sleep)
    assert clock.done == []
