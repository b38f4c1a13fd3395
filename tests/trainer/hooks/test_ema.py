"""The average of the weights: against a plain loop, with buffers, and after a kill."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from finetuner.executors.trainer.data.training_data import TrainingData
from finetuner.executors.trainer.hooks.ema import AverageWeights
from finetuner.executors.trainer.hooks.freezing import Freeze
from finetuner.executors.trainer.hooks.weights import copied_weights
from tests.trainer.short_training import Recorder, equal, trained


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_the_average_equals_a_plain_loop(decay: float, blobs_of_colour: TrainingData) -> None:
    recorder = Recorder()
    progress, _ = trained(blobs_of_colour, recorder, AverageWeights(decay), epochs=2)
    chosen = copied_weights(progress.model.network)
    for name in ("logit_scale", "visual.conv1.weight", "transformer.resblocks.0.attn.in_proj_bias"):
        average = recorder.steps[0][name].double()
        for step in recorder.steps[1:]:
            average = decay * average + (1 - decay) * step[name].double()
        torch.testing.assert_close(chosen[name].double(), average, rtol=1e-5, atol=1e-7)
    assert equal(chosen, recorder.steps[-1]) is (decay == 0)


def test_frozen_weights_stay(blobs_of_colour: TrainingData) -> None:
    recorder = Recorder()
    progress, _ = trained(blobs_of_colour, recorder, AverageWeights(0.5), Freeze(["text"]), epochs=1)
    chosen, last = copied_weights(progress.model.network), recorder.steps[-1]
    assert torch.equal(chosen["token_embedding.weight"], last["token_embedding.weight"])
    assert not torch.equal(chosen["visual.conv1.weight"], last["visual.conv1.weight"])


def test_the_average_survives_a_kill(blobs_of_colour: TrainingData, tmp_path: Path) -> None:
    whole, _ = trained(blobs_of_colour, AverageWeights(0.9), epochs=3)
    trained(blobs_of_colour, AverageWeights(0.9), epochs=1, checkpoint=tmp_path / "checkpoint.pt")
    resumed, _ = trained(blobs_of_colour, AverageWeights(0.9), epochs=3, checkpoint=tmp_path / "checkpoint.pt")
    assert equal(copied_weights(resumed.model.network), copied_weights(whole.model.network))
