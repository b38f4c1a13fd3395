"""A sweep through the Flow, interrupted and called again."""

from __future__ import annotations

import pytest
from docarray import DocumentArray

import finetuner
from finetuner.catalogue import fashion
from finetuner.exceptions import InvalidInput
from finetuner.flow.running_flow import RunningFlow
from tests.sessions import own_session


@pytest.mark.slow
def test_a_sweep_ends_with_a_winner_and_goes_on_where_it_was(flow: RunningFlow) -> None:
    with own_session():
        finetuner.login(host=flow.host)
        for split in ("train", "test"):
            images = fashion(split, items=12)
            pairs = DocumentArray(finetuner.make_pair(image.captions["en"], image.jpeg) for image in images)
            finetuner.push_data(f"swept-{split}", pairs)
        options = {"device": "cpu", "batch_size": 8, "experiment_name": "swept", "guard_data": "swept-test"}
        given = {"recipes": ["default", "small-data"], "learning_rates": [1e-3, 1e-7], "epochs": 2, "seeds": 2}
        done = finetuner.sweep("clip-mini", "swept-train", "swept-test", **given, **options)
        assert [trial.run_name for trial in done.trials[:4]] == [
            *("default-0.001-1-0", "default-1e-07-1-0", "small-data-0.001-1-0", "small-data-1e-07-1-0")
        ]
        assert len(done.trials) == 4 + 2 * 2
        assert all(trial.score is not None and trial.guard is not None for trial in done.trials)
        assert {trial.seed for trial in done.trials[4:]} == {0, 1}
        assert done.artifact_id in {trial.artifact_id for trial in done.trials if trial.candidate == done.winner}
        assert done.before > 0
        runs = len(finetuner.list_runs("swept"))
        again = finetuner.sweep("clip-mini", "swept-train", "swept-test", **given, **options)
        assert again == done, "nothing is trained twice"
        assert len(finetuner.list_runs("swept")) == runs
        with pytest.raises(InvalidInput, match="experiment_name must be that of this sweep, or new. Got 'swept'"):
            finetuner.sweep("clip-mini", "swept-test", "swept-train", **given, **options)
