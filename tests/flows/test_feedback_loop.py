"""The loop of the benchmark, with few garments: people search and mark, and a round tunes, compares and decides."""

from __future__ import annotations

from pathlib import Path

import pytest

import finetuner
from finetuner.flow.running_flow import RunningFlow
from tests.benchmarks.feedback_loop import TOLERANCE, loop
from tests.sessions import own_session


@pytest.mark.slow
@pytest.mark.flow
def test_a_round_of_marks_tunes_and_goes_live_only_if_it_finds_more(tmp_path: Path) -> None:
    with own_session(), RunningFlow(tmp_path) as flow:
        finetuner.login(host=flow.host)
        found = loop(items=60, test_items=20, rounds=1, epochs=4, replay=100, kept=100)
        live, marks = finetuner.index_status()["searched"], finetuner.list_feedback(limit=1)["marks"]
    (done,) = found["rounds"]
    assert done["marks"] >= done["pairs"] > 0
    assert marks
    assert all(0 <= value <= 1 for name in ("recall_at_5", "guard") for value in found[name])
    assert done["promoted"] == (live != "clip-mini")
    if done["promoted"]:
        assert done["after"] >= done["before"] + 0.01
        assert found["guard"][1] >= found["guard"][0] - 3 * TOLERANCE, "other shapes than those it was compared on"
    else:
        assert found["recall_at_5"][0] == found["recall_at_5"][1]
        assert "must rise" in done["reason"] or "may fall" in done["reason"]
