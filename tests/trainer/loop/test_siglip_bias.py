"""A SigLIP is tuned with its own bias, which goes on from where it was."""

from __future__ import annotations

import numpy as np
import pytest

from finetuner.executors.trainer.data.training_data import TrainingData
from tests.client.exports.small_siglip import siglip
from tests.trainer.short_training import Recorder, trained

pytestmark = pytest.mark.seconds


@pytest.fixture(scope="module")
def data() -> TrainingData:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 3, 32, 32), dtype=np.uint8)
    return TrainingData(pixels, [(f"a red dress, number {row}",) for row in range(8)])


def test_the_bias_of_the_model_is_the_losss(data: TrainingData) -> None:
    recorder = Recorder()
    progress, _ = trained(data, recorder, epochs=2, model=siglip(), loss="SigLIPLoss")
    biases = [float(weights["logit_bias"]) for weights in recorder.steps]
    assert len(set(biases)) == len(biases) == 4, "it is trained"
    assert biases[0] == pytest.approx(-9.5, abs=1e-2), "it begins with the model's, not with -10"
    assert float(progress.model.network.logit_bias) == biases[-1]
    frozen, _ = trained(data, epochs=1, model=siglip(), loss="SigLIPLoss", loss_options={"logit_bias": -3.0})
    assert float(frozen.model.network.logit_bias) == -9.5, "a bias that is given is the loss's own"
