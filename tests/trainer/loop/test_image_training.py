"""Training an image model in this process: it learns, depends on its seed, and every option does something."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from docarray import Document

from finetuner.catalogue import fashion
from finetuner.config.callbacks import EvaluationCallback
from finetuner.config.metric_config import CLASS_LOSSES, MetricConfig
from finetuner.config.optimizer_config import OPTIMIZERS
from finetuner.config.run_config import RunConfig
from finetuner.contract.environment import STAND_INS
from finetuner.documents.labelled import read_labelled
from finetuner.evaluation.search import evaluate_search, read_search_data
from finetuner.exceptions import FinetunerError, InvalidInput
from finetuner.executors.trainer.data.image_cache import ImageCache
from finetuner.executors.trainer.data.image_data import ImageData, prepare_images
from finetuner.executors.trainer.hooks.hook import Hook, Progress
from finetuner.executors.trainer.loop import image_task, learner
from finetuner.executors.trainer.loop.image_task import ImageTask
from finetuner.executors.trainer.loop.training import Training
from finetuner.executors.trainer.losses.metric_losses import MetricLoss
from finetuner.models.backbone import Backbone
from finetuner.models.image_model import ImageModel
from finetuner.models.image_weights import load_image_backbone, with_head
from finetuner.models.pixels import normalised

RANDOM = Backbone("resnet-mini-random", "test_resnet", "random", task="image-to-image")
WIDE = {"margin": 0.3}  # the random network violates triplets
BASE: dict[str, Any] = {"model": RANDOM.name, "train_data": "data", "epochs": 1, "device": "cpu", "seed": 0}


@pytest.fixture(scope="module", autouse=True)
def known() -> Iterator[None]:
    """Let configurations name the random model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(STAND_INS, f"{RANDOM.name}={RANDOM.name}")
        yield


def documents(items: int) -> list[Document]:
    return [Document(blob=image.jpeg, tags={"finetuner_label": image.item}) for image in fashion("train", items=items)]


@pytest.fixture(scope="module")
def small() -> ImageData:
    """16 images of 4 labels, 32 x 32: one colour for each label, and noise."""
    generator = np.random.default_rng(0)
    colours = generator.integers(60, 190, (4, 1, 3, 1, 1))
    pixels = colours + generator.integers(-60, 60, (4, 4, 3, 32, 32))
    return ImageData(pixels.reshape(16, 3, 32, 32).astype(np.uint8), np.repeat(np.arange(4), 4), "abcd")


def tuned(
    data: ImageData,
    metric: MetricConfig | None = None,
    *,
    learning_rate: float = 1e-3,
    batch_size: int = 8,
    hooks: tuple[Hook, ...] = (),
    output_dim: int | None = None,
    freeze: bool = False,
    validation: ImageData | None = None,
    **fields: Any,
) -> tuple[list[dict[str, Any]], ImageModel]:
    """Tune a fresh random model; return the reports and the model."""
    reports: list[dict[str, Any]] = []
    model = load_image_backbone(RANDOM)
    torch.manual_seed(0)
    with_head(model, output_dim, freeze=freeze)
    config = RunConfig(**(BASE | vars(metric or MetricConfig(loss_options=WIDE)) | fields))
    task = ImageTask(model, data, config, batch_size, validation)
    Training(task, Progress(model), config, learning_rate=learning_rate, report=reports.append, hooks=hooks).run()
    return reports, model


def weights(model: ImageModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.network.state_dict().items()}


def equal(left: ImageModel, right: ImageModel) -> bool:
    other = weights(right)
    return all(torch.equal(value, other[name]) for name, value in weights(left).items())


@pytest.fixture(scope="module")
def usual(small: ImageData) -> tuple[list[dict[str, Any]], ImageModel]:
    return tuned(small)


@pytest.mark.slow
def test_training_raises_the_retrieval_metrics(tmp_path: Path) -> None:
    found = documents(20)
    options = EvaluationCallback("data", limit=1)
    model = load_image_backbone(RANDOM)
    search = read_search_data(options, model.towers, found, None)
    before = evaluate_search(model, search)[0]
    data = prepare_images(read_labelled(found), model, ImageCache(tmp_path, 0), "", 2)
    reports, model = tuned(
        data, MetricConfig("NTXentLoss"), learning_rate=3e-3, batch_size=20, epochs=16, scheduler="cosine"
    )
    after = evaluate_search(model, search)[0]
    assert after["precision_at_k"] > before["precision_at_k"] + 0.2
    assert reports[-1]["loss"] < 0.6 * reports[0]["loss"]
    assert not model.network.training


@pytest.mark.parametrize("name", ["TripletMarginLoss", "ArcFaceLoss", "CosFaceLoss", "ProxyNCALoss", "SupConLoss"])
def test_the_loss_falls(small: ImageData, name: str) -> None:
    reports, _ = tuned(small, MetricConfig(name), epochs=10, batch_size=16)
    losses = [step["loss"] for step in reports]
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])


def test_the_first_loss_is_that_of_the_pretrained_model(small: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner, "augment", lambda images, *_, **__: images)
    reports, _ = tuned(small, batch_size=16)
    model = load_image_backbone(RANDOM)
    model.network.train()
    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1) for values in (model.preprocess_config.mean, model.preprocess_config.std)
    )
    images = normalised(torch.from_numpy(small.pixels), mean, std)
    expected = MetricLoss(MetricConfig(loss_options=WIDE), 4, model.dim)(
        model.network(images), torch.from_numpy(small.labels)
    )
    assert reports[0]["loss"] == pytest.approx(expected.item(), rel=1e-3)


def test_the_same_seed_gives_bitwise_the_same_weights(
    small: ImageData, usual: tuple[list[dict[str, Any]], ImageModel]
) -> None:
    reports, model = tuned(small)
    assert equal(model, usual[1])
    assert [step["loss"] for step in reports] == [step["loss"] for step in usual[0]]


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": 1},
        {"learning_rate": 1e-4},
        {"batch_size": 16},
        {"optimizer": "AdamW"},
        {"scheduler": "cosine"},
        {"val_split": 0.5},
        {"metric": MetricConfig("NCALoss")},
        {"metric": MetricConfig(loss_options={"margin": 0.4})},
        {"metric": MetricConfig(loss_options=WIDE | {"memory_size": 128})},
        {"metric": MetricConfig(loss_options=WIDE, miner="BatchHardMiner")},
        {"metric": MetricConfig(loss_options=WIDE, sampler="random")},
        {"metric": MetricConfig(loss_options=WIDE, num_items_per_class=2)},
    ],
    ids=str,
)
def test_every_option_does_something(
    small: ImageData, usual: tuple[list[dict[str, Any]], ImageModel], fields: dict[str, Any]
) -> None:
    assert not equal(tuned(small, **fields)[1], usual[1])


@pytest.mark.parametrize(
    "options",
    [
        {"loss_optimizer_options": {"lr": 0.5}},
        *({"loss_optimizer": name} for name in OPTIMIZERS if name != "Adam"),
        {"loss_optimizer": "SGD", "loss_optimizer_options": {"momentum": 0.9, "lr": 0.1}},
    ],
    ids=str,
)
def test_the_optimizer_of_the_loss_does_something(small: ImageData, options: dict[str, Any]) -> None:
    plain = tuned(small, MetricConfig("ArcFaceLoss"), epochs=2)[1]
    assert not equal(tuned(small, MetricConfig("ArcFaceLoss", **options), epochs=2)[1], plain)


def test_a_frozen_backbone_stays_and_the_head_learns(small: ImageData) -> None:
    _, model = tuned(small, freeze=True, output_dim=8)
    before, after = weights(load_image_backbone(RANDOM)), weights(model)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    _, other = tuned(small, freeze=True, output_dim=8, epochs=2)
    assert not torch.equal(after["head.0.weight"], weights(other)["head.0.weight"])


@pytest.mark.parametrize("name", ["TripletMarginLoss", "ArcFaceLoss"])
def test_validation_is_reported_after_each_epoch(small: ImageData, name: str) -> None:
    reports, _ = tuned(small, MetricConfig(name), val_split=0.5, epochs=2, batch_size=8)
    values = [step["val_loss"] for step in reports if step["val_loss"] is not None]
    assert len(values) == 2
    assert all(math.isfinite(value) for value in values)


@pytest.mark.parametrize("name", ["TripletMarginLoss", "ArcFaceLoss"])
def test_other_data_may_be_the_data_of_the_validation_loss(small: ImageData, name: str) -> None:
    labels = "dcba" if name in CLASS_LOSSES else "abxy"
    other = ImageData(small.pixels[::-1], small.labels, labels)
    _, usual = tuned(small, MetricConfig(name))
    reports, model = tuned(small, MetricConfig(name), validation=other)
    assert equal(model, usual)
    assert math.isfinite(reports[-1]["val_loss"])


def test_validation_labels_get_the_numbers_of_the_training_labels(small: ImageData) -> None:
    other = ImageData(small.pixels[:4], np.array([0, 1, 2, 1]), ["c", "x", "a"])
    renumbered = other.with_numbers(small.names, others=True)
    assert [renumbered.names[number] for number in renumbered.labels] == ["c", "x", "a", "x"]
    assert renumbered.labels.tolist() == [2, 4, 0, 4]
    with pytest.raises(InvalidInput, match="eval_data must hold labels of train_data .* Got 'x'"):
        tuned(small, MetricConfig("ArcFaceLoss"), validation=other)


def test_whole_labels_are_held_out_unless_the_loss_learns_them(small: ImageData) -> None:
    for name in ("TripletMarginLoss", *CLASS_LOSSES):
        config = RunConfig(**BASE, loss=name, val_split=0.5)
        rows = image_task._split(small, config, by_label=name not in CLASS_LOSSES)
        assert sorted(np.concatenate(rows).tolist()) == list(range(16))
        shared = set(small.labels[rows[0]].tolist()) & set(small.labels[rows[1]].tolist())
        assert bool(shared) == (name in CLASS_LOSSES)


def test_hooks_are_called_and_may_end_training(small: ImageData) -> None:
    called: list[str] = []

    class Recorder(Hook):
        def after_step(self, progress: Progress) -> None:
            assert progress.model.network.training
            called.append(f"step {progress.step}")

        def after_epoch(self, progress: Progress) -> None:
            assert not progress.model.network.training
            assert progress.values["loss"] == progress.values["train_loss"]
            called.append(f"epoch {progress.epoch}")
            progress.stop = "enough" if progress.epoch == 2 else ""

    reports, _ = tuned(small, hooks=(Recorder(),), epochs=5)
    assert called == ["step 1", "step 2", "epoch 1", "step 3", "step 4", "epoch 2"]
    assert [step["step"] for step in reports] == [1, 2, 3, 4]


def test_a_loss_that_is_not_finite_ends_the_run(small: ImageData) -> None:
    with pytest.raises(FinetunerError, match=r"loss must be finite. Got nan at step 1, .* begins with the labels \['"):
        tuned(small, MetricConfig("NTXentLoss", {"temperature": 0}))


def test_data_that_a_loss_cannot_learn_from_is_refused(small: ImageData) -> None:
    alone = ImageData(small.pixels[:4], np.arange(4), "abcd")
    with pytest.raises(InvalidInput, match="two or more images for TripletMarginLoss. Got 4 images"):
        tuned(alone)
    tuned(alone, MetricConfig("ArcFaceLoss"))
    with pytest.raises(InvalidInput, match="val_split must leave two labels on each side. Got 0.1 of 4 labels"):
        tuned(small, val_split=0.1)
    with pytest.raises(InvalidInput, match="batch_size must be at least 4"):
        tuned(small, batch_size=2)
