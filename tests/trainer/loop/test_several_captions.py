"""Training of clip-mini on several captions of each image in a step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from finetuner.config.run_config import RunConfig
from finetuner.executors.trainer.data.training_data import Plan, TrainingData
from finetuner.executors.trainer.hooks.weights import copied_weights
from finetuner.executors.trainer.loop.clip_task import ClipTask
from finetuner.executors.trainer.losses.contrastive import CLIPLoss, PairBatch
from finetuner.models.clip import Clip
from tests.trainer.short_training import equal, trained

TWO = {"captions_per_image": 2}


def task_of(model: Clip, data: TrainingData, **options: Any) -> ClipTask:
    return ClipTask(model, data, RunConfig("clip-mini", "data", device="cpu", training_options=options), len(data))


def weights_of(data: TrainingData, **options: Any) -> dict[str, torch.Tensor]:
    return dict(copied_weights(trained(data, epochs=2, training_options=options)[0].model.network))


def test_a_batch_has_both_captions_of_each_image(clip_mini: Clip, blobs_of_colour: TrainingData) -> None:
    task = task_of(clip_mini, blobs_of_colour, **TWO)
    (plan,) = task.plan(np.random.default_rng(0))
    batch = task.fetch(plan)
    (tokens,), (image_ids, text_ids, label_ids) = batch.inputs, batch.keys
    assert tokens.shape[:2] == text_ids.shape == label_ids.shape == (8, 2)
    assert image_ids.tolist() == plan.rows.tolist()
    for row, drawn, both in zip(plan.rows.tolist(), plan.choices.tolist(), tokens, strict=True):
        captions = blobs_of_colour.captions[row]
        expected = clip_mini.tokenizer([captions[drawn], captions[1 - drawn]])[:, : tokens.shape[2]]
        assert torch.equal(both, expected)
    parts = [task.fetch(plan, process, 2) for process in range(2)]
    assert sorted(torch.cat([part.keys[1] for part in parts]).tolist()) == sorted(text_ids.tolist())


def test_the_loss_is_the_mean_over_the_captions(clip_mini: Clip, blobs_of_colour: TrainingData) -> None:
    task = task_of(clip_mini, replace(blobs_of_colour, scores=[[1.0, 2.0], [3.0, 0.0]] * 4), **TWO)
    batch = task.fetch(Plan(np.arange(8), np.zeros(8, np.int64)))
    generator = torch.manual_seed(0)
    image = torch.nn.functional.normalize(torch.randn(8, 6, generator=generator), dim=-1)
    text = torch.nn.functional.normalize(torch.randn(8, 2, 6, generator=generator), dim=-1)
    image_ids, text_ids, label_ids, weights = batch.keys
    scale = clip_mini.network.logit_scale.exp().detach()
    sides = zip(*(each.unbind(1) for each in (text, text_ids, label_ids, weights)), strict=True)
    apart = [
        CLIPLoss()(PairBatch(image, one, image_ids, ids, labels, None, counts), scale)
        for one, ids, labels, counts in sides
    ]
    assert task.loss((image, text), batch.keys).item() == pytest.approx(sum(map(float, apart)) / 2, rel=1e-6)
    assert abs(float(apart[0]) - float(apart[1])) > 1e-3


@pytest.mark.seconds
def test_both_captions_train(blobs_of_colour: TrainingData) -> None:
    two = weights_of(blobs_of_colour, **TWO)
    assert not equal(two, weights_of(blobs_of_colour))
    parts = weights_of(blobs_of_colour, micro_batch_size=3, **TWO)
    assert all(torch.allclose(value, two[name], atol=2e-3) for name, value in parts.items())
    assert not equal(two, weights_of(blobs_of_colour, distillation=1.0, **TWO))
    assert not equal(two, weights_of(blobs_of_colour, hard_negatives={"per_image": 1, "relative_margin": 1}, **TWO))


@pytest.mark.seconds
def test_more_captions_than_the_data_has_change_nothing(blobs_of_colour: TrainingData) -> None:
    one = replace(blobs_of_colour, captions=[captions[:1] for captions in blobs_of_colour.captions])
    assert equal(weights_of(one), weights_of(one, captions_per_image=3))
    assert equal(weights_of(blobs_of_colour, **TWO), weights_of(blobs_of_colour, captions_per_image=8))
