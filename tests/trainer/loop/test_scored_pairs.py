"""Training of clip-mini on pairs with scores: weights in the loss, several positives of a caption, options."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from finetuner.config.run_config import RunConfig
from finetuner.exceptions import InvalidInput
from finetuner.executors.trainer.data.training_data import TrainingData
from finetuner.executors.trainer.hooks.weights import copied_weights
from finetuner.executors.trainer.loop.clip_task import ClipTask
from finetuner.models.clip import Clip
from tests.trainer.short_training import equal, trained

WEIGHTS = 3  # position among the keys of a batch
SCORES = [[0.0, 1.0], [3.0, 0.5], [2.0, 2.0], [0.5, 3.0], [1.0, 0.0], [0.0, 0.0], [3.0, 3.0], [1.0, 2.0]]


@pytest.fixture(scope="module")
def scored(blobs_of_colour: TrainingData) -> TrainingData:
    """Eight images, each with two captions and a score for each."""
    return replace(blobs_of_colour, scores=SCORES)


def weights_of(data: TrainingData, **fields: Any) -> dict[str, torch.Tensor]:
    return dict(copied_weights(trained(data, epochs=2, **fields)[0].model.network))


def task_of(model: Clip, data: TrainingData, validation: TrainingData | None = None, **fields: Any) -> ClipTask:
    config = RunConfig("clip-mini", "data", device="cpu", **fields)
    return ClipTask(model, data, config, len(data), validation)


def test_a_batch_carries_the_weights_of_the_captions_it_draws(clip_mini: Clip, scored: TrainingData) -> None:
    task = task_of(clip_mini, scored)
    every = [score for row in SCORES for score in row]
    mean = sum(score / 3 + 0.1 for score in every) / len(every)
    for seed in range(3):
        (plan,) = task.plan(np.random.default_rng(seed))
        batch = task.fetch(plan)
        drawn = [SCORES[row][choice] for row, choice in zip(plan.rows.tolist(), plan.choices.tolist(), strict=True)]
        assert batch.keys[WEIGHTS].tolist() == pytest.approx([(score / 3 + 0.1) / mean for score in drawn])
        assert batch.keys[WEIGHTS].dtype == torch.float32
    shares = [task.fetch(plan, process, 2).keys[WEIGHTS] for process in range(2)]
    assert sorted(torch.cat(shares).tolist()) == sorted(batch.keys[WEIGHTS].tolist())


def test_the_loss_is_the_weighted_mean(clip_mini: Clip, scored: TrainingData) -> None:
    task = task_of(clip_mini, scored)
    image, text = torch.nn.functional.normalize(torch.randn(2, 8, 6, generator=torch.manual_seed(0)), dim=-1)
    (plan,) = task.held_out() or task.plan(np.random.default_rng(0))
    keys = task.fetch(plan).keys
    losses, scale = [], task.model.network.logit_scale.exp().item()
    for row in range(8):
        both = [scale * image[row] @ text.T, scale * text[row] @ image.T]
        losses.append(sum(float(torch.logsumexp(logits, 0) - logits[row]) for logits in both) / 2)
    weights = keys[WEIGHTS].tolist()
    expected = sum(weight * loss for weight, loss in zip(weights, losses, strict=True)) / sum(weights)
    assert task.loss((image, text), keys).item() == pytest.approx(expected, rel=1e-5)


def test_a_caption_of_several_images_has_no_negatives_among_them(
    clip_mini: Clip, blobs_of_colour: TrainingData
) -> None:
    captions = [["a shirt"], ["a shirt "], ["a coat"], ["a shirt"]] * 2
    data = TrainingData(blobs_of_colour.pixels, captions, scores=[[3.0], [1.0], [2.0], [0.0]] * 2)
    task = task_of(clip_mini, data)
    (plan,) = task.plan(np.random.default_rng(0))
    batch = task.fetch(plan)
    coats = [row for row, at in enumerate(plan.rows.tolist()) if at % 4 == 2]
    image, text = torch.nn.functional.normalize(torch.randn(2, 8, 6, generator=torch.manual_seed(0)), dim=-1)
    shirts = [row for row in range(8) if row not in coats]
    image.requires_grad_()
    text.requires_grad_()
    task.loss((image[shirts], text[shirts]), tuple(key[shirts] for key in batch.keys)).backward()
    assert not image.grad.any()  # type: ignore[union-attr]
    assert task.loss((image, text), batch.keys).item() > 0


@pytest.mark.seconds
@pytest.mark.parametrize("loss", ["CLIPLoss", "SigLIPLoss"])
def test_each_choice_of_weights_gives_other_weights_of_the_network(loss: str, scored: TrainingData) -> None:
    found = {
        choice: weights_of(scored, loss=loss, loss_options={"score_weights": choice})
        for choice in ("constant", "linear", "log")
    }
    for one, other in (("constant", "linear"), ("constant", "log"), ("linear", "log")):
        assert not equal(found[one], found[other])
    assert equal(weights_of(scored, loss=loss), found["linear"])  # the default


@pytest.mark.seconds
def test_scores_change_the_result_and_other_scores_change_it_again(scored: TrainingData) -> None:
    reversed_scores = replace(scored, scores=SCORES[::-1])
    assert not equal(weights_of(scored), weights_of(reversed_scores))
    shifted = replace(scored, scores=[[5 + 2 * score for score in row] for row in SCORES])
    found, expected = weights_of(shifted), weights_of(scored)  # 'linear' rescales
    assert all(torch.allclose(value, expected[name], atol=1e-3) for name, value in found.items())


@pytest.mark.seconds
def test_scores_and_smoothing_and_parts_of_a_batch_work_together(scored: TrainingData) -> None:
    fields: dict[str, Any] = {"loss_options": {"label_smoothing": 0.1}, "batch_size": 8}
    whole = weights_of(scored, **fields)
    parts = weights_of(scored, training_options={"micro_batch_size": 3}, **fields)
    assert all(torch.allclose(value, whole[name], atol=2e-3) for name, value in parts.items())
    assert not equal(whole, weights_of(scored, batch_size=8))


@pytest.mark.seconds
def test_equal_scores_are_a_warning_and_train_as_constant_weights(
    blobs_of_colour: TrainingData, caplog: pytest.LogCaptureFixture
) -> None:
    equal_scores = replace(blobs_of_colour, scores=[[2.0, 2.0]] * 8)
    with caplog.at_level(logging.WARNING, "finetuner"):
        found = weights_of(equal_scores)
    assert "All scores of train_data are 2: every pair has the same weight. Check the scores" in caplog.text
    caplog.clear()
    constant = weights_of(equal_scores, loss_options={"score_weights": "constant"})
    assert "All scores" not in caplog.text
    assert equal(found, constant)
    plain = weights_of(blobs_of_colour)
    assert all(torch.allclose(value, plain[name], atol=1e-4) for name, value in found.items())


@pytest.mark.parametrize("choice", ["constant", "linear", "log"])
def test_weights_of_scores_that_are_not_there_are_refused(
    choice: str, clip_mini: Clip, blobs_of_colour: TrainingData
) -> None:
    with pytest.raises(InvalidInput, match=f"is for train_data whose pairs have a score. Got '{choice}' for pairs wit"):
        task_of(clip_mini, blobs_of_colour, loss_options={"score_weights": choice})


def test_the_log_and_the_options_in_force_have_the_choice(
    clip_mini: Clip, scored: TrainingData, blobs_of_colour: TrainingData
) -> None:
    task = task_of(clip_mini, scored)
    assert task.summary() == "8 images, CLIPLoss, scores 0 to 3, linear weights"
    assert task.loss_options() == {"score_weights": "linear"}
    plain = task_of(clip_mini, blobs_of_colour, loss_options={"label_smoothing": 0.2})
    assert plain.summary() == "8 images, CLIPLoss"
    assert plain.loss_options() == {"label_smoothing": 0.2}


def test_validation_data_have_the_training_datas_weights_or_none(
    clip_mini: Clip, scored: TrainingData, blobs_of_colour: TrainingData
) -> None:
    other = replace(blobs_of_colour, scores=[[3.0, 0.0]] * 4 + [[99.0, 0.0]] * 4)
    task = task_of(clip_mini, scored, other)
    most = task.fetch_held_out(task.held_out()[0]).keys[WEIGHTS]
    highest = task.fetch(task.plan(np.random.default_rng(0))[0]).keys[WEIGHTS].max()
    assert torch.unique(most).tolist() == pytest.approx([highest.item()])
    for training, validation in ((scored, blobs_of_colour), (blobs_of_colour, scored)):
        task = task_of(clip_mini, training, validation)
        assert len(task.fetch_held_out(task.held_out()[0]).keys) == WEIGHTS
