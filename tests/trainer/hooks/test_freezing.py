"""Frozen parts stay bit for bit, the rest is trained, and names that match nothing are refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from finetuner.exceptions import InvalidInput
from finetuner.executors.trainer.data.training_data import TrainingData
from finetuner.executors.trainer.hooks.freezing import Freeze, keep_statistics
from finetuner.executors.trainer.hooks.hook import Progress
from finetuner.executors.trainer.hooks.weights import copied_weights
from finetuner.models.clip import Clip
from tests.trainer.short_training import trained


@pytest.mark.parametrize(
    ("frozen", "stays"),
    [
        (["text"], lambda name: not name.startswith(("visual.", "logit_scale"))),
        (["vision"], lambda name: name.startswith("visual.")),
        (["visual.", "token_embedding"], lambda name: name.startswith(("visual.", "token_embedding"))),
        (["visual.transformer.resblocks.0."], lambda name: name.startswith("visual.transformer.resblocks.0.")),
        (["logit_scale"], lambda name: name == "logit_scale"),
    ],
)
def test_frozen_parameters_stay_and_the_rest_is_trained(
    frozen: list[str], stays: object, blobs_of_colour: TrainingData, clip_mini: Clip
) -> None:
    assert callable(stays)
    progress, _ = trained(blobs_of_colour, Freeze(frozen), epochs=1)
    before, after = copied_weights(clip_mini.network), copied_weights(progress.model.network)
    for name, parameter in progress.model.network.named_parameters():
        assert parameter.requires_grad is not stays(name), name
        assert torch.equal(before[name], after[name]) is stays(name), name


@pytest.mark.parametrize(
    ("frozen", "message"),
    [
        (["visual.transformer.resblock.0"], "'visual.transformer.resblock.0', which no name has. The nearest are "
         "visual.transformer.resblocks.0"),
        (["txt"], "nearest are text"),
        (["visual.", "t", "positional", "ln_final"], "frozen must leave something to train"),
    ],
)  # fmt: skip
def test_names_that_match_nothing_or_everything_are_refused(frozen: list[str], message: str, clip_mini: Clip) -> None:
    with pytest.raises(InvalidInput, match=message):
        Freeze(frozen).before_training(Progress(clip_mini))


def test_batch_norms_without_trained_weights_keep_their_statistics() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3))
    network[0].requires_grad_(requires_grad=False)
    keep_statistics(network)
    network.train()
    network(torch.randn(8, 3))
    assert network[0].running_mean.tolist() == [0, 0, 0]
    assert network[1].running_mean.tolist() != [0, 0, 0]
