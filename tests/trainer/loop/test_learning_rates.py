"""Learning rates of the parts of a CLIP, which `optimization` puts together with layer decay and LoRA+."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from finetuner.config.optimizer_config import LAYER_DECAY
from finetuner.config.run_config import RunConfig
from finetuner.config.training_options import PARTS
from finetuner.exceptions import InvalidInput
from finetuner.executors.trainer.data.training_data import TrainingData
from finetuner.executors.trainer.hooks.freezing import Freeze, part_of
from finetuner.executors.trainer.hooks.hook import Hook, Progress
from finetuner.executors.trainer.hooks.lora import MergeAdapters, TrainAdapters
from finetuner.executors.trainer.hooks.weights import Weights, copied_weights
from finetuner.executors.trainer.loop.layer_decay import depths
from finetuner.executors.trainer.loop.optimization import make_optimizer
from finetuner.models.clip import Clip
from tests.trainer.short_training import equal, trained

RATES = {"text": 0.02, "vision": 0.03, "logit_scale": 0.5, "projection": 0.9}
MADE = {  # names of open_clip's networks -> part
    "logit_scale": "logit_scale", "logit_bias": "logit_scale",
    "visual.proj": "projection", "text_projection": "projection", "text.text_projection.weight": "projection",
    "text.proj.weight": "projection", "text.proj.2.weight": "projection", "visual.head.proj.weight": "projection",
    "visual.attnpool.c_proj.bias": "projection",
    "visual.attnpool.q_proj.weight": "vision", "visual.trunk.blocks.0.attn.proj.weight": "vision",
    "visual.trunk.patch_embed.proj.weight": "vision", "visual.transformer.resblocks.0.mlp.c_proj.weight": "vision",
    "text.transformer.encoder.layer.0.output.dense.weight": "text", "positional_embedding": "text",
    "transformer.resblocks.1.attn.in_proj_weight": "text",
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_every_parameter_belongs_to_one_part(name: str) -> None:
    expected = MADE[name]
    assert part_of(name, PARTS) == expected
    tower = "vision" if name.startswith("visual.") else "text"
    towers = ("text", "vision")
    assert part_of(name, towers) == (tower if expected != "logit_scale" else "")
    assert part_of(name, ()) == ""


def rates_of(clip: Clip, rates: dict[str, float], options: dict[str, Any], **training: Any) -> dict[str, float]:
    """The learning rate of each trained parameter, by name."""
    training_options = {"learning_rates": rates, **training}
    config = RunConfig(
        model="clip-mini", train_data="data", optimizer_options=options, training_options=training_options
    )
    made = make_optimizer(clip.network, config, 0.1)
    found = {id(value): group["lr"] for group in made.param_groups for value in group["params"]}
    return {name: found[id(value)] for name, value in clip.network.named_parameters() if value.requires_grad}


@pytest.mark.parametrize("parts", [("text",), ("projection",), ("vision", "logit_scale"), PARTS], ids=str)
@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_the_rates_are_those_of_a_plain_loop(parts: tuple[str, ...], decay: float, clip_mini: Clip) -> None:
    rates = {part: RATES[part] for part in parts}
    depth_of = depths(clip_mini.network)
    for name, found in rates_of(clip_mini, rates, {LAYER_DECAY: decay}).items():
        own = [RATES["text"] if "text" in parts else 0.1, RATES["vision"] if "vision" in parts else 0.1]
        rate = own[name.startswith("visual.")]
        if name == "logit_scale":
            rate = RATES[name] if name in parts else 0.1
        if name in ("visual.proj", "text_projection") and "projection" in parts:
            rate = RATES["projection"]
        assert found == pytest.approx(rate * decay ** depth_of[name]), name


def test_adapters_have_the_rate_of_their_tower(clip_mini: Clip) -> None:
    TrainAdapters(2, None, 0).before_training(Progress(clip_mini))
    found = rates_of(clip_mini, {"vision": 0.03}, {}, lora_rank=2, lora_plus_ratio=4.0)
    assert any(".lora_B." in name for name in found)
    for name, rate in found.items():
        expected = 0.03 if name.startswith("visual.") else 0.1
        assert rate == pytest.approx(expected * (4 if ".lora_B." in name else 1)), name


def test_the_reported_rate_is_that_of_the_other_parts(blobs_of_colour: TrainingData) -> None:
    options = {"learning_rates": {"text": 1e-5}}
    _, reports = trained(blobs_of_colour, epochs=1, scheduler="cosine", training_options=options)
    _, plain = trained(blobs_of_colour, epochs=1, scheduler="cosine")
    assert [point["learning_rate"] for point in reports] == [point["learning_rate"] for point in plain]


@pytest.mark.parametrize(
    ("frozen", "part"), [(["visual.proj", "text_projection"], "projection"), (["logit_scale"], "logit_scale")]
)
def test_a_part_that_is_not_trained_is_refused(frozen: list[str], part: str, blobs_of_colour: TrainingData) -> None:
    options = {"learning_rates": {"text": 1e-5, part: 1e-3}}
    with pytest.raises(InvalidInput, match=f"learning_rates must name parts that are trained. Got '{part}'"):
        trained(blobs_of_colour, Freeze(frozen), training_options=options)


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.seconds
def test_a_resumed_run_ends_in_the_same_weights(adapted: bool, blobs_of_colour: TrainingData, tmp_path: Path) -> None:
    options = {"learning_rates": {"vision": 1e-4, "logit_scale": 1e-2}} | ({"lora_rank": 2} if adapted else {})
    decay = {"optimizer_options": {LAYER_DECAY: 0.7}, "training_options": options}

    def run(epochs: int, checkpoint: Path | None = None) -> Weights:
        adapters = TrainAdapters(2, None, 0)
        hooks: list[Hook] = [MergeAdapters(adapters), adapters] if adapted else []
        progress, _ = trained(blobs_of_colour, *hooks, epochs=epochs, checkpoint=checkpoint, **decay)
        return copied_weights(progress.model.network)

    checkpoint = tmp_path / "checkpoint.pt"
    run(1, checkpoint)
    assert equal(run(3, checkpoint), run(3))


def test_siglips_bias_has_the_rate_of_the_scale() -> None:
    bias = torch.nn.Module()
    bias.logit_bias = torch.nn.Parameter(torch.zeros(()))
    options = {"learning_rates": {"logit_scale": 0.5}}
    config = RunConfig(model="clip-mini", train_data="data", training_options=options)
    assert [group["lr"] for group in make_optimizer(bias, config, 0.1).param_groups] == [0.5]
