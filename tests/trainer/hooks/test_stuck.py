"""A loss that stays at ln(batch size) is one warning, with its likely causes."""

from __future__ import annotations

import math

import pytest

from finetuner.executors.trainer.hooks.hook import Progress
from finetuner.executors.trainer.hooks.stuck import WarnIfStuck
from finetuner.models.clip import Clip


@pytest.mark.parametrize(
    ("losses", "warned_after"),
    [
        ([math.log(8)], 1),
        ([0.99 * math.log(8), math.log(8)], 1),
        ([0.97 * math.log(8), 0.985 * math.log(8)], 2),
        ([0.97 * math.log(8)] * 3, None),
        ([1.0, 1.0, 1.0, math.log(8)], None),  # no longer one of the first epochs
    ],
)
def test_a_loss_at_chance_is_warned_about_once(
    losses: list[float], warned_after: int | None, clip_mini: Clip, caplog: pytest.LogCaptureFixture
) -> None:
    hook, progress = WarnIfStuck(8), Progress(clip_mini)
    for epoch, loss in enumerate(losses, 1):
        progress.epoch, progress.values = epoch, {"train_loss": loss}
        resumed = WarnIfStuck(8)
        resumed.restore(hook.state())
        hook = resumed
        hook.after_epoch(progress)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == (warned_after is not None)
    if warned_after is not None:
        assert f"after epoch {warned_after}, and guessing gives ln(8) = 2.0794" in warnings[0]
        assert "learning rate" in warnings[0]
