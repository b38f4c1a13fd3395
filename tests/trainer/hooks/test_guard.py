"""The guard's scores before and after training, and the warning if the model forgot."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from finetuner.catalogue import fashion
from finetuner.config.run_config import RunConfig
from finetuner.documents.pairs import Pair, make_pair, read_pairs
from finetuner.evaluation.pairs import evaluate_pairs
from finetuner.exceptions import InvalidInput
from finetuner.executors.trainer.hooks.evaluation import Scores
from finetuner.executors.trainer.hooks.guard import TOLERANCE, ScoreGuard
from finetuner.executors.trainer.hooks.hook import Progress
from finetuner.executors.trainer.run_folder import RunFolder
from finetuner.models.clip import Clip


@pytest.fixture(scope="module")
def guard() -> list[Pair]:
    return read_pairs(make_pair(entry.captions["en"], entry.jpeg) for entry in fashion("test", items=12))


@pytest.mark.parametrize("forgets", [True, False])
def test_a_fall_is_logged_and_a_large_one_is_a_warning(
    forgets: bool, guard: list[Pair], clip_mini: Clip, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "finetuner")
    scores, progress = Scores(RunFolder(tmp_path)), Progress(clip_mini)
    expected = evaluate_pairs(clip_mini, guard)
    hook = ScoreGuard(guard, scores)
    hook.before_training(progress)
    if forgets:
        with torch.no_grad():
            clip_mini.network.visual.proj.normal_(generator=torch.Generator().manual_seed(0))
    hook.after_training(progress)
    before, after = scores.metrics["before"], scores.metrics["after"]
    assert len(before) == 6
    assert before == {f"guard_{name.removeprefix('guard_')}": expected[name.removeprefix("guard_")] for name in before}
    falls = [
        sum(metrics[f"guard_{way}_recall_at_5"] for way in ("text_to_image", "image_to_text")) / 2
        for metrics in (before, after)
    ]
    assert f"Guard: mean R@5 was {falls[0]:.3f} and is {falls[1]:.3f}, {falls[1] - falls[0]:+.3f}" in caplog.text
    assert (falls[0] - falls[1] > TOLERANCE) is forgets is ("The model forgot" in caplog.text)


def test_a_resumed_run_keeps_the_score_from_before(guard: list[Pair], clip_mini: Clip, tmp_path: Path) -> None:
    scores = Scores(RunFolder(tmp_path))
    ScoreGuard(guard, scores).before_training(Progress(clip_mini, step=3))
    assert scores.metrics == {}


def test_image_models_have_no_guard() -> None:
    with pytest.raises(InvalidInput, match="guard_data must be empty for resnet"):
        RunConfig(model="resnet50", train_data="data", loss="TripletMarginLoss", guard_data="other")
