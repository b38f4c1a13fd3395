"""rsLoRA and DoRA: the factor, the lengths, merged weights, and kills."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from finetuner.config.run_config import RunConfig
from finetuner.exceptions import InvalidInput
from finetuner.executors.trainer.data.training_data import TrainingData
from finetuner.executors.trainer.hooks.hook import Progress
from finetuner.executors.trainer.hooks.lora import MergeAdapters, TrainAdapters
from finetuner.executors.trainer.hooks.weights import copied_weights
from finetuner.executors.trainer.loop.optimization import make_optimizer
from finetuner.models.clip import Clip
from tests.trainer.short_training import equal, trained

from .test_lora import Holder, outputs, shake

LAYER, ATTENTION = "visual.transformer.resblocks.0.mlp.c_fc", "visual.transformer.resblocks.0.attn"


def adapters_in(network: nn.Module, kind: str) -> TrainAdapters:
    adapters = TrainAdapters(4, 6, 0, kind)
    adapters.before_training(Progress(Holder(network)))  # type: ignore[arg-type]
    return adapters


def test_rslora_is_scaled_by_the_root_of_the_rank(clip_mini: Clip) -> None:
    before = clip_mini.network.get_parameter(f"{LAYER}.weight").clone()
    adapters = adapters_in(clip_mini.network, "rslora")
    shake(clip_mini.network)
    b, a = (clip_mini.network.get_parameter(f"{LAYER}.lora_{each}.default.weight").clone() for each in "BA")
    adapters.merge()
    torch.testing.assert_close(clip_mini.network.get_parameter(f"{LAYER}.weight"), before + 6 / 4**0.5 * b @ a)


def test_dora_trains_lengths_and_merges_to_the_formula_under_the_old_names(clip_mini: Clip) -> None:
    names, at_first = set(clip_mini.network.state_dict()), outputs(clip_mini)
    before = copied_weights(clip_mini.network)
    adapters = adapters_in(clip_mini.network, "dora")
    for found, expected in zip(outputs(clip_mini), at_first, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    trained_names = {name for name, value in clip_mini.network.named_parameters() if value.requires_grad}
    lengths = {name for name in trained_names if "lora_magnitude_vector" in name}
    assert f"{LAYER}.lora_magnitude_vector.default.weight" in lengths
    assert {f"{ATTENTION}.lora_A.attention.weight", f"{ATTENTION}.lora_B.attention.weight"} <= trained_names
    shake(clip_mini.network)
    state, unmerged = copied_weights(clip_mini.network), outputs(clip_mini)
    copied = adapters.merged(clip_mini)
    adapters.merge()
    after = copied_weights(clip_mini.network)
    b, a = (state[f"{LAYER}.lora_{each}.default.weight"].double() for each in "BA")
    rows = before[f"{LAYER}.weight"].double() + 6 / 4 * b @ a
    of_rows = state[f"{LAYER}.lora_magnitude_vector.default.weight"].double()
    assert of_rows.shape == (len(rows),)
    merged_rows = torch.stack([length * row / row.norm() for length, row in zip(of_rows, rows, strict=True)])
    torch.testing.assert_close(after[f"{LAYER}.weight"].double(), merged_rows, atol=1e-5, rtol=1e-4)
    b, a = (state[f"{ATTENTION}.lora_{each}.attention.weight"] for each in "BA")
    torch.testing.assert_close(
        after[f"{ATTENTION}.in_proj_weight"], before[f"{ATTENTION}.in_proj_weight"] + 6 / 4 * b @ a
    )
    assert set(after) == set(copied.network.state_dict()) == names
    for model in (clip_mini, copied):
        for merged, as_before in zip(outputs(model), unmerged, strict=True):  # type: ignore[arg-type]
            torch.testing.assert_close(merged, as_before, atol=2e-5, rtol=0)


def test_lengths_do_not_decay(clip_mini: Clip) -> None:
    adapters_in(clip_mini.network, "dora")
    options = {"lora_rank": 4, "lora_kind": "dora"}
    config = RunConfig("clip-mini", "data", optimizer="AdamW", training_options=options)
    names = {id(value): name for name, value in clip_mini.network.named_parameters()}
    for group in make_optimizer(clip_mini.network, config, 0.01).param_groups:
        for value in group["params"]:
            assert group["weight_decay"] == 0 or "lora_magnitude_vector" not in names[id(value)]


def test_dora_without_a_layer_is_refused() -> None:
    with pytest.raises(InvalidInput, match="lora_kind='dora' needs linear layers or convolutions.*Choose 'lora'"):
        adapters_in(nn.MultiheadAttention(8, 2), "dora")


@pytest.mark.seconds
def test_a_killed_run_ends_in_the_same_weights(blobs_of_colour: TrainingData, tmp_path: Path) -> None:
    def run(epochs: int, checkpoint: Path | None = None, kind: str = "dora") -> dict[str, torch.Tensor]:
        adapters = TrainAdapters(4, None, 0, kind)
        progress, _ = trained(blobs_of_colour, MergeAdapters(adapters), adapters, epochs=epochs, checkpoint=checkpoint)
        return dict(copied_weights(progress.model.network))

    whole = run(2)
    run(1, tmp_path / "checkpoint.pt")
    assert equal(run(2, tmp_path / "checkpoint.pt"), whole)
    assert not equal(run(2, kind="rslora"), whole)
