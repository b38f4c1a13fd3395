"""Patch dropout: what the network sees in training and afterwards, and kills."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import open_clip
import pytest
import timm
import torch

from finetuner.exceptions import InvalidInput
from finetuner.executors.trainer.data.training_data import TrainingData
from finetuner.executors.trainer.hooks.hook import Progress
from finetuner.executors.trainer.hooks.patch_dropout import DropPatches
from finetuner.executors.trainer.hooks.weights import copied_weights
from finetuner.executors.trainer.loop.grad_cache import cached_backward
from finetuner.models.clip import Clip
from tests.trainer.short_training import equal, trained


def progress_of(visual: Any) -> Any:
    return SimpleNamespace(model=SimpleNamespace(network=SimpleNamespace(visual=visual)))


def test_training_sees_a_part_and_scores_see_all(clip_mini: Clip) -> None:
    visual, images = clip_mini.network.visual, torch.rand(2, 3, 80, 80)
    whole, seen = visual.eval()(images), []
    visual.transformer.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
    hook, progress = DropPatches(0.5), Progress(clip_mini)
    hook.before_training(progress)
    assert torch.equal(visual(images), whole)
    one, other = (visual.train()(images) for _ in range(2))
    assert not torch.equal(one, other)
    hook.choose_weights(progress)
    visual(images)
    patches = (80 // visual.patch_size[0]) ** 2
    assert seen == [1 + patches, 1 + patches // 2, 1 + patches // 2, 1 + patches]


def test_timms_transformers_take_it_and_others_are_refused() -> None:
    trunk = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    visual, images = SimpleNamespace(trunk=trunk, training=True), torch.rand(1, 3, 224, 224)
    before, seen = trunk.patch_drop, []
    trunk.blocks[0].register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
    hook = DropPatches(0.75)
    hook.before_training(progress_of(visual))
    trunk.train()(images)
    hook.choose_weights(progress_of(visual))
    assert seen == [1 + 49]
    assert trunk.patch_drop is before
    tower = open_clip.modified_resnet.ModifiedResNet([1, 1, 1, 1], 8, 2, 64, 8)
    with pytest.raises(
        InvalidInput, match="patch_dropout needs a vision transformer of open_clip or timm. Got Modified"
    ):
        DropPatches(0.5).before_training(progress_of(tower))


def run(data: TrainingData, share: float = 0.5, **fields: Any) -> Any:
    progress, _ = trained(data, DropPatches(share), **{"epochs": 2, "optimizer": "SGD", **fields})
    return copied_weights(progress.model.network)


@pytest.mark.seconds
def test_a_resumed_run_drops_the_same_patches(blobs_of_colour: TrainingData, tmp_path: Path) -> None:
    whole, kept = run(blobs_of_colour), tmp_path / "checkpoint"
    run(blobs_of_colour, epochs=1, checkpoint=kept)
    assert equal(run(blobs_of_colour, checkpoint=kept), whole)


@pytest.mark.slow
@pytest.mark.seconds
def test_the_share_and_the_parts_of_a_batch_decide_the_weights(blobs_of_colour: TrainingData) -> None:
    whole, options = run(blobs_of_colour), {"micro_batch_size": 2}
    in_parts = run(blobs_of_colour, training_options=options)
    assert equal(run(blobs_of_colour, training_options=options), in_parts)
    assert not equal(in_parts, whole), "each part draws its own patches"
    assert not equal(run(blobs_of_colour, 0.25), whole)


def test_the_second_pass_over_a_part_drops_the_same_patches(clip_mini: Clip) -> None:
    visual = clip_mini.network.visual
    DropPatches(0.5).before_training(Progress(clip_mini))
    images = torch.rand(4, 3, 80, 80)
    found = []

    def encode(chunk: torch.Tensor) -> tuple[torch.Tensor]:
        found.append(visual.train()(chunk))
        return (found[-1],)

    cached_backward(encode, images.split(2), lambda rows: rows.square().sum())
    assert all(torch.equal(first, second) for first, second in zip(found[:2], found[2:], strict=True))
