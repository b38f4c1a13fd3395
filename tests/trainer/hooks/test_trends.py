"""A run that diverges, and one that over-fits, are one warning each, with the next step."""

from __future__ import annotations

import pytest

from finetuner.executors.trainer.hooks.hook import Progress
from finetuner.executors.trainer.hooks.trends import WarnOfTrends
from finetuner.models.clip import Clip

DIVERGES = "The run diverges: the loss is {:.4f} after epoch {}, and was {:.4f}. Lower the learning rate, now 0.01"
OVER_FITS = "The run over-fits: val_loss is {:.4f} after epoch {} and was {:.4f} after epoch {}"


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([(3.0, None), (2.0, None), (1.9, None)], []),
        ([(3.0, None), (2.0, None), (2.4, None)], []),  # a loss may rise a little
        ([(3.0, None), (2.0, None), (2.6, None), (9.0, None)], [DIVERGES.format(2.6, 3, 2.0)]),
        ([(3.0, 2.0), (2.0, 1.5), (1.0, 1.4)], []),
        ([(3.0, 2.0), (2.0, 1.5), (1.0, 1.55)], []),
        ([(3.0, 2.0), (2.0, 1.5), (1.0, 1.6), (0.5, 3.0)], [OVER_FITS.format(1.6, 3, 1.5, 2)]),
        ([(3.0, 2.0), (2.0, 1.5), (2.1, 1.6)], []),  # it gets worse, but not by learning the data by heart
        ([(2.0, 1.5), (1.0, 1.7), (4.0, 5.0)], [OVER_FITS.format(1.7, 2, 1.5, 1), DIVERGES.format(4.0, 3, 1.0)]),
        ([(0.0, 0.0), (0.0, 0.1)], []),
    ],
)
def test_each_is_named_once_with_what_to_do(
    losses: list[tuple[float, float | None]], expected: list[str], clip_mini: Clip, caplog: pytest.LogCaptureFixture
) -> None:
    hook, progress = WarnOfTrends(), Progress(clip_mini)
    for epoch, (loss, val_loss) in enumerate(losses, 1):
        progress.epoch, progress.values = epoch, {"train_loss": loss, "learning_rate": 0.01}
        progress.values |= {} if val_loss is None else {"val_loss": val_loss}
        resumed = WarnOfTrends()
        resumed.restore(hook.state())
        hook = resumed
        hook.after_epoch(progress)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == len(expected)
    assert all(warning.startswith(start) for warning, start in zip(warnings, expected, strict=True))
    assert all("BestModelCheckpoint" in warning for warning in warnings if "over-fits" in warning)
