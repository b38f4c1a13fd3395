"""Groups of near duplicates: the search for them, their ids in a batch, and training with them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finetuner.config.near_duplicates import NearDuplicates
from finetuner.config.run_config import RunConfig
from finetuner.exceptions import InvalidInput
from finetuner.executors.trainer.data import near_duplicates
from finetuner.executors.trainer.data.near_duplicates import NearGroups, leaders
from finetuner.executors.trainer.data.training_data import TrainingData
from finetuner.executors.trainer.hooks.weights import copied_weights
from finetuner.executors.trainer.loop.clip_task import ClipTask
from finetuner.models.clip import Clip
from tests.trainer.short_training import equal, trained


def naive_leaders(vectors: list[list[float]], cosine: float) -> list[int]:
    found: list[int] = []
    for at, vector in enumerate(vectors):
        led = [other for other in range(at) if found[other] == other]
        cosines = {other: sum(a * b for a, b in zip(vector, vectors[other], strict=True)) for other in led}
        best = max(cosines, key=lambda other: cosines[other], default=at)
        found.append(best if cosines.get(best, -1.0) >= cosine else at)
    return found


@pytest.mark.parametrize("at_once", [1, 4, 100])
@pytest.mark.parametrize("cosine", [0.2, 0.7, 0.95, 1.0])
def test_the_groups_are_those_of_a_loop(at_once: int, cosine: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "AT_ONCE", at_once)
    vectors = torch.nn.functional.normalize(torch.randn(40, 3, generator=torch.manual_seed(1)).double(), dim=-1)
    assert leaders(vectors, cosine).tolist() == naive_leaders(vectors.tolist(), cosine)


def test_a_chain_of_similar_ones_is_not_one_group() -> None:
    angles = torch.arange(0, 90, 10) * torch.pi / 180
    chain = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert leaders(chain, 0.98).tolist() == [0, 0, 2, 2, 4, 4, 6, 6, 8]


@pytest.fixture(scope="module")
def twins(blobs_of_colour: TrainingData) -> TrainingData:
    """Eight images with a caption each: 1 is nearly image 0, and the captions of 2 and 3 differ in a dot."""
    pixels = blobs_of_colour.pixels.copy()
    pixels[1] = pixels[0]
    pixels[1, :, :2, :2] ^= 1
    captions = [
        ["blue jeans"], ["a black coat"], ["a red dress"], ["A red dress."], ["white trainers"], ["a yellow hat"],
        ["a striped green shirt"], ["a pink skirt"],
    ]  # fmt: skip
    return TrainingData(pixels, captions)


OPTIONS = {"images": 0.999, "captions": 0.95}


def task_of(model: Clip, data: TrainingData, **options: Any) -> ClipTask:
    config = RunConfig("clip-mini", "data", device="cpu", training_options=options)
    return ClipTask(model, data, config, len(data))


def test_near_duplicates_are_counted_and_have_equal_ids(
    clip_mini: Clip, twins: TrainingData, caplog: pytest.LogCaptureFixture
) -> None:
    task = task_of(clip_mini, twins, near_duplicates=OPTIONS)
    plan = task.plan(np.random.default_rng(0))
    assert len(set(task.fetch(plan[0]).keys[0].tolist())) == 8, "before the search each is alone"
    with caplog.at_level(logging.INFO, "finetuner"):
        (arranged,) = task.arrange(plan, 1)
        task.arrange(plan, 2)
    (line,) = [record.getMessage() for record in caplog.records if "Near dup" in record.message]
    assert "2 of 8 images in 1 groups (cosine >= 0.999), 2 of 8 captions in 1 groups (cosine >= 0.95); masked" in line
    images, texts = (key.tolist() for key in task.fetch(arranged).keys[:2])
    place = {row: at for at, row in enumerate(arranged.rows.tolist())}
    assert images[place[0]] == images[place[1]]
    assert len(set(images)) == 7
    assert texts[place[2]] == texts[place[3]]
    assert len(set(texts)) == 7
    held_out = task.fetch_held_out(task._data.plan(np.arange(8), 8, None)[0])
    assert len(set(held_out.keys[0].tolist())) == 8, "the validation loss knows equal images alone"


def test_soft_ones_have_keys_of_their_own(clip_mini: Clip, twins: TrainingData) -> None:
    task = task_of(clip_mini, twins, near_duplicates=OPTIONS | {"soft": 0.5}, captions_per_image=1)
    (plan,) = task.arrange(task.plan(np.random.default_rng(0)), 1)
    keys = task.fetch(plan).keys
    assert [len(set(key.tolist())) for key in (keys[0], keys[1], keys[3], keys[4])] == [8, 8, 7, 7]


def test_a_side_may_be_left_out_and_one_group_of_all_is_refused(clip_mini: Clip, twins: TrainingData) -> None:
    rows = np.arange(8)
    groups = NearGroups(clip_mini, twins, rows, NearDuplicates(None, 0.95))
    groups.prepare()
    black = TrainingData(np.zeros_like(twins.pixels), twins.captions)
    assert groups.state()["images"].tolist() == rows.tolist()
    with pytest.raises(InvalidInput, match="must leave images that differ. Got images=0.9, and all 8 are near dup"):
        NearGroups(clip_mini, black, rows, NearDuplicates(0.9, None)).prepare()


def test_a_negative_that_is_nearly_a_caption_of_the_image_does_not_count(clip_mini: Clip, twins: TrainingData) -> None:
    negatives = [[[]] for _ in twins.captions]
    negatives[2] = [["A red dress."]]  # of image 2, "a red dress"
    data = TrainingData(twins.pixels, twins.captions, negatives=negatives)
    found = {}
    for name, options in (("exact", {}), ("near", {"near_duplicates": OPTIONS})):
        task = task_of(clip_mini, data, **options)
        (plan,) = task.arrange(task.plan(np.random.default_rng(0)), 1)
        at = plan.rows.tolist().index(2)
        ids, _, known = task.fetch(plan).keys[-3:]
        found[name] = bool((ids[at, 0] == known[at]).any())
    assert found == {"exact": False, "near": True}


@pytest.mark.seconds
@pytest.mark.parametrize("soft", [pytest.param(0.0, marks=pytest.mark.slow), 0.5])
def test_training_in_parts_and_resumed_is_the_same(soft: float, twins: TrainingData, tmp_path: Path) -> None:
    near = {"near_duplicates": OPTIONS | {"soft": soft}}

    def weights(options: dict[str, Any], **fields: Any) -> Any:
        options = {"crop_scale": [1, 1], **options}
        progress, _ = trained(
            twins, epochs=fields.pop("epochs", 2), optimizer="SGD", training_options=options, batch_size=8, **fields
        )
        return copied_weights(progress.model.network)

    whole = weights(near)
    assert not equal(whole, weights({}))
    parts = weights(near | {"micro_batch_size": 3})
    assert all(torch.allclose(value, whole[name], atol=1e-6) for name, value in parts.items())
    kept = tmp_path / "checkpoint"
    weights(near, epochs=1, checkpoint=kept)
    assert equal(weights(near, checkpoint=kept), whole)
