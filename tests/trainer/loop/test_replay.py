"""Training of clip-mini with pairs of another dataset beside those of each batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finetuner.config.run_config import RunConfig
from finetuner.exceptions import InvalidInput
from finetuner.executors.trainer.data.replay import Replay
from finetuner.executors.trainer.data.training_data import TrainingData
from finetuner.executors.trainer.hooks.weights import copied_weights
from finetuner.executors.trainer.loop.clip_task import ClipTask
from finetuner.executors.trainer.losses.contrastive import CLIPLoss, PairBatch
from finetuner.executors.trainer.losses.distillation import distillation_loss
from finetuner.executors.trainer.run_folder import RunFolder
from finetuner.models.clip import Clip
from tests.trainer.short_training import equal, trained

DISTILLED = {"distillation": 2.0}


@pytest.fixture
def other(blobs_of_colour: TrainingData) -> TrainingData:
    """Six images, darker, each with one caption."""
    return TrainingData(blobs_of_colour.pixels[:6] // 2, [[f"dark {row}"] for row in range(6)])


def test_an_epoch_draws_every_image_before_one_comes_again(
    clip_mini: Clip, blobs_of_colour: TrainingData, other: TrainingData
) -> None:
    task = ClipTask(clip_mini, blobs_of_colour, RunConfig("clip-mini", "data", device="cpu"), 4)
    plans = [each for seed in (0, 1) for each in task.plan(np.random.default_rng(seed))]
    first, second = (Replay(other, seed=5).beside(plans, epoch) for epoch in (1, 2))
    drawn = [row for plan in first for row in plan.replayed.rows.tolist()]
    assert len(drawn) == 16
    assert sorted(drawn[:6]) == [*range(6)]
    assert [plan.rows.tolist() for plan in first] == [plan.rows.tolist() for plan in plans]
    again = Replay(other, seed=5).beside(plans, 1)
    assert [plan.replayed.rows.tolist() for plan in again] == [plan.replayed.rows.tolist() for plan in first]
    assert [plan.replayed.rows.tolist() for plan in second] != [plan.replayed.rows.tolist() for plan in first]


@pytest.mark.parametrize("options", [{}, {"captions_per_image": 2}, {"hard_batches": 2, "hard_batches_from": 1}])
def test_the_loss_is_that_of_both_parts_and_the_teacher_sees_the_replayed(
    options: dict[str, Any], clip_mini: Clip, blobs_of_colour: TrainingData, other: TrainingData
) -> None:
    negatives = [[[f"not {row}"]] * len(captions) for row, captions in enumerate(blobs_of_colour.captions)]
    data = replace(blobs_of_colour, negatives=negatives, scores=[[1.0, 2.0]] * len(blobs_of_colour))
    config = RunConfig("clip-mini", "data", device="cpu", training_options=options | DISTILLED)
    task = ClipTask(clip_mini, data, config, 8, replay=other)
    assert task.rows_per_step == 16
    assert "6 images replayed" in task.summary()
    (plan,) = task.arrange(task.plan(np.random.default_rng(0)), 1)
    batch = task.fetch(plan)
    assert torch.equal(batch.pixels[8:], torch.from_numpy(other.pixels[plan.replayed.rows]))
    inputs = (batch.pixels.float() / 255, *batch.inputs)
    outputs = task.network.eval()(*inputs)
    image, text = (side[8:] for side in outputs[:2])
    scale = clip_mini.network.logit_scale.exp()
    ids = [key[8:] if key.ndim == 1 else key[8:, 0] for key in batch.keys[:2]]  # one caption, twice
    of_replayed = CLIPLoss()(PairBatch(image, text if text.ndim == 2 else text[:, 0], *ids), scale)
    alone = ClipTask(clip_mini, data, config, 8)
    of_batch = alone.loss(tuple(side[:8] for side in outputs), tuple(key[:8] for key in batch.keys))
    assert float(task.loss(outputs, batch.keys).detach()) == pytest.approx(
        float((of_batch + of_replayed).detach()), 1e-5
    )
    taught = task.teach(inputs, None)
    assert len(taught[0]) == 8
    moved = torch.nn.functional.normalize(image + 0.1, dim=-1)
    outputs = (torch.cat([outputs[0][:8], moved]), *outputs[1:])
    flat = [side if side.ndim == 2 else side[:, 0] for side in (text, taught[1])]
    expected = distillation_loss(PairBatch(moved, flat[0], *ids), scale, PairBatch(taught[0], flat[1]), scale)
    assert float(task.distillation(outputs, taught, batch.keys).detach()) == pytest.approx(
        2 * float(expected.detach()), 1e-5
    )


@pytest.mark.seconds
def test_replay_trains_in_parts_and_resumes(blobs_of_colour: TrainingData, other: TrainingData, tmp_path: Path) -> None:
    def weights(**fields: Any) -> Any:
        options = {"crop_scale": [1, 1], **DISTILLED, **fields.pop("options", {})}
        progress, _ = trained(blobs_of_colour, optimizer="SGD", training_options=options, **fields)
        return copied_weights(progress.model.network)

    whole = weights(replay=other)
    assert not equal(whole, weights())
    parts = weights(replay=other, options={"micro_batch_size": 4})
    assert all(torch.allclose(value, whole[name], atol=1e-6) for name, value in parts.items())
    kept = tmp_path / "checkpoint"
    weights(replay=other, epochs=1, checkpoint=kept)
    assert equal(weights(replay=other, checkpoint=kept), whole)


@pytest.mark.seconds
def test_a_run_replays_a_dataset(work: Callable[..., tuple[int, RunFolder]], caplog: pytest.LogCaptureFixture) -> None:
    code, _ = work(replay_data="pairs")
    assert code == 0, caplog.text
    assert "images replayed, CLIPLoss" in caplog.text


def test_image_models_replay_nothing() -> None:
    with pytest.raises(InvalidInput, match="replay_data must be empty for resnet"):
        RunConfig(model="resnet50", train_data="data", loss="TripletMarginLoss", replay_data="other")
