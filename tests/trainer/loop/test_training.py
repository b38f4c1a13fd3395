"""The training loop in this process: its loss, its seed, and every option does something."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

from finetuner.config.run_config import RunConfig
from finetuner.exceptions import FinetunerError, InvalidInput
from finetuner.executors.trainer.data.training_data import TrainingData
from finetuner.executors.trainer.hooks.hook import Progress
from finetuner.executors.trainer.loop import clip_task, learner, memory_probe
from finetuner.executors.trainer.loop.clip_task import ClipTask
from finetuner.executors.trainer.loop.training import Training
from finetuner.executors.trainer.losses.contrastive import CLIPLoss
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import Clip
from finetuner.models.clip_files import load_backbone

Weights = Mapping[str, torch.Tensor]
BASE: dict[str, Any] = {"epochs": 2, "device": "cpu", "seed": 0}


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps one precision for each process."""
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


def tuned(
    data: TrainingData,
    *,
    learning_rate: float = 5e-4,
    batch_size: int = 4,
    validation: TrainingData | None = None,
    **fields: Any,
) -> tuple[list[dict[str, Any]], Clip]:
    """Tune a fresh clip-mini; return the reports and the model."""
    model, reports = load_backbone(find_backbone("clip-mini")), []
    config = RunConfig(model="clip-mini", train_data="data", **(BASE | fields))
    task = ClipTask(model, data, config, batch_size, validation)
    Training(task, Progress(model), config, learning_rate=learning_rate, report=reports.append).run()
    return reports, model


def weights(model: Clip) -> Weights:
    return {name: value.clone() for name, value in model.network.state_dict().items()}


def equal(left: Clip, right: Clip) -> bool:
    other = weights(right)
    return all(torch.equal(value, other[name]) for name, value in weights(left).items())


@pytest.fixture(scope="module")
def usual(blobs_of_colour: TrainingData) -> tuple[list[dict[str, Any]], Clip]:
    return tuned(blobs_of_colour)


def embedded(model: Clip, data: TrainingData) -> tuple[np.ndarray, np.ndarray]:
    """Every image, and its first caption: (images, dim) float64 each."""
    config = model.preprocess_config
    mean, std = (torch.tensor(values)[:, None, None] for values in (config.mean, config.std))
    vision = model.encode_pixels([(torch.tensor(pixels) / 255 - mean) / std for pixels in data.pixels])
    text = model.encode_texts([captions[0] for captions in data.captions])
    return vision.astype(np.float64), text.astype(np.float64)


def naive_info_nce(vision: np.ndarray, text: np.ndarray, scale: float) -> float:
    """Mean over both directions of -log(softmax at the right one), with loops and 64-bit floats."""
    total = 0.0
    for queries, index in ((vision, text), (text, vision)):
        for row, query in enumerate(queries):
            logits = [scale * float(query @ other) for other in index]
            total += math.log(sum(math.exp(logit) for logit in logits)) - logits[row]
    return total / (2 * len(vision))


def test_the_loss_is_info_nce(blobs_of_colour: TrainingData, clip_mini: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner, "augment", lambda images, *_, **__: images)
    data = TrainingData(blobs_of_colour.pixels, [captions[:1] for captions in blobs_of_colour.captions])
    reports, _ = tuned(data, batch_size=8, epochs=1)
    scale = clip_mini.network.logit_scale.exp().item()
    assert reports[0]["loss"] == pytest.approx(naive_info_nce(*embedded(clip_mini, data), scale), rel=1e-4)


def test_the_validation_loss_is_info_nce_of_the_held_out(blobs_of_colour: TrainingData) -> None:
    reports, model = tuned(blobs_of_colour, val_split=0.25, epochs=1)
    vision, text = embedded(model, blobs_of_colour)
    scale = model.network.logit_scale.exp().item()
    of_each_pair = [
        naive_info_nce(vision[list(rows)], text[list(rows)], scale) for rows in itertools.combinations(range(8), 2)
    ]
    assert min(abs(loss - reports[-1]["val_loss"]) for loss in of_each_pair) < 1e-4


def test_other_data_may_be_the_data_of_the_validation_loss(blobs_of_colour: TrainingData) -> None:
    other = TrainingData(blobs_of_colour.pixels[5:], blobs_of_colour.captions[5:])
    usual = tuned(blobs_of_colour, epochs=1)[1]
    reports, model = tuned(blobs_of_colour, validation=other, epochs=1)
    assert equal(model, usual), "nothing is held out, and validation changes no weights"
    expected = naive_info_nce(*embedded(model, other), model.network.logit_scale.exp().item())
    assert reports[-1]["val_loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.seconds
def test_tuning_changes_both_towers_and_the_loss_falls(blobs_of_colour: TrainingData, clip_mini: Clip) -> None:
    reports, model = tuned(blobs_of_colour, epochs=10, batch_size=8)
    before, after = weights(clip_mini), weights(model)
    same = [name for name in before if torch.equal(before[name], after[name])]
    assert not [name for name in same if name.endswith("weight")]
    losses = [step["loss"] for step in reports]
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
    assert not model.network.training


def test_the_same_seed_gives_bitwise_the_same_weights(
    usual: tuple[list[dict[str, Any]], Clip], blobs_of_colour: TrainingData
) -> None:
    reports, model = tuned(blobs_of_colour)
    assert equal(model, usual[1])
    assert [step["loss"] for step in reports] == [step["loss"] for step in usual[0]]


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": 1},
        {"learning_rate": 1e-4},
        {"epochs": 3},
        {"batch_size": 8},
        {"optimizer": "AdamW"},
        {"optimizer_options": {"weight_decay": 0.3}},
        {"optimizer_options": {"eps": 1e-2}},
        {"optimizer_options": {"beta1": 0.5}},
        {"optimizer_options": {"beta2": 0.5}},
        {"scheduler": "cosine"},
        {"val_split": 0.25},
        {"loss": "SigLIPLoss"},
        {"loss_options": {"label_smoothing": 0.2}},
        {"loss_options": {"hardness": 5}},
        {"precision": "bf16"},
        {"training_options": {"crop_scale": [0.5, 0.6]}},
        {"training_options": {"flips": True}},
        {"training_options": {"distillation": 1.0}},
        {"training_options": {"l2_sp": 10.0}},
        {"training_options": {"learning_rates": {"text": 1e-4}}},
        {"training_options": {"learning_rates": {"vision": 1e-4}}},
        {"training_options": {"learning_rates": {"logit_scale": 1e-2}}},
        {"training_options": {"learning_rates": {"projection": 1e-2}}},
        {"training_options": {"hard_batches": 2}},
        {"training_options": {"hard_negatives": {"per_image": 2, "relative_margin": 1}}},
        {"training_options": {"hard_batches": 2, "hard_batches_from": 1}},
    ],
    ids=str,
)
@pytest.mark.seconds
def test_every_option_changes_the_weights(
    fields: dict[str, Any], usual: tuple[list[dict[str, Any]], Clip], blobs_of_colour: TrainingData
) -> None:
    assert not equal(tuned(blobs_of_colour, **fields)[1], usual[1])


@pytest.mark.parametrize(
    "options", [{"num_warmup_steps": 3}, {"num_training_steps": 40}], ids=["num_warmup_steps", "num_training_steps"]
)
def test_every_option_of_the_schedule_changes_the_rates(options: dict[str, int], blobs_of_colour: TrainingData) -> None:
    plain, _ = tuned(blobs_of_colour, scheduler="cosine")
    other, _ = tuned(blobs_of_colour, scheduler="cosine", scheduler_options=options)
    assert [step["learning_rate"] for step in plain] != [step["learning_rate"] for step in other]


def test_the_constant_schedule_equals_none(
    usual: tuple[list[dict[str, Any]], Clip], blobs_of_colour: TrainingData
) -> None:
    assert equal(tuned(blobs_of_colour, scheduler="constant")[1], usual[1])


@pytest.mark.parametrize(
    ("fields", "steps"),
    [({}, 4), ({"epochs": 3}, 6), ({"batch_size": 3}, 6), ({"batch_size": 7}, 2), ({"batch_size": 100}, 2)],
    ids=str,
)
def test_epochs_and_batch_size_make_the_steps(
    fields: dict[str, Any], steps: int, blobs_of_colour: TrainingData
) -> None:
    reports, _ = tuned(blobs_of_colour, **fields)
    assert reports[-1]["step"] == steps
    assert [step["step"] for step in reports] == sorted({step["step"] for step in reports})
    assert reports[-1]["epoch"] == fields.get("epochs", 2)


def test_reports_have_the_learning_rate_of_their_step(blobs_of_colour: TrainingData) -> None:
    reports, _ = tuned(
        blobs_of_colour,
        scheduler="cosine",
        scheduler_options={"num_warmup_steps": 1},
        learning_rate=1e-3,
        batch_size=8,
        epochs=5,
    )
    end = [0.1 + 0.9 * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)]
    assert [step["learning_rate"] for step in reports] == pytest.approx([5e-4] + [1e-3 * share for share in end])
    assert all(step["pairs_per_second"] > 0 and math.isfinite(step["loss"]) for step in reports)


def test_validation_is_reported_once_an_epoch(
    blobs_of_colour: TrainingData, usual: tuple[list[dict[str, Any]], Clip], caplog: pytest.LogCaptureFixture
) -> None:
    assert all(step["val_loss"] is None for step in usual[0])
    with caplog.at_level(logging.INFO, "finetuner"):
        reports, _ = tuned(blobs_of_colour, val_split=0.25, batch_size=2, epochs=3)
    with_validation = [step["step"] for step in reports if step["val_loss"] is not None]
    assert with_validation == [3, 6, 9]
    assert f"val_loss {reports[-1]['val_loss']:.4f}" in caplog.text
    assert (
        "Finetuning: 6 images, CLIPLoss, 3 epochs of 3 steps of 2 pairs, Adam, learning rate 0.0005, fp32"
        in caplog.text
    )


def labelled(data: TrainingData, labels: str) -> TrainingData:
    return TrainingData(data.pixels, data.captions, [[label.strip()] * 2 for label in labels])


def test_labels_change_the_weights_and_are_counted_in_the_log(
    usual: tuple[list[dict[str, Any]], Clip], blobs_of_colour: TrainingData, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "finetuner"):
        assert not equal(tuned(labelled(blobs_of_colour, "aab bccc"))[1], usual[1])
    assert "Finetuning: 8 images, 3 labels, CLIPLoss" in caplog.text
    assert equal(tuned(labelled(blobs_of_colour, "abcdefgh"))[1], usual[1]), "nothing is masked"


def with_negatives(data: TrainingData, *of_row: list[str]) -> TrainingData:
    lists = [[texts] * 2 for texts in of_row]
    return TrainingData(data.pixels, data.captions, (), [*lists, *[[[], []]] * (len(data) - len(lists))])


NEGATIVES = (["a skirt, number 1", "a dress"], [], ["a shirt, number 3"])


def test_negatives_change_the_weights_and_a_batch_without_any_does_not(
    usual: tuple[list[dict[str, Any]], Clip], blobs_of_colour: TrainingData
) -> None:
    reports, model = tuned(with_negatives(blobs_of_colour, *NEGATIVES))
    assert not equal(model, usual[1])
    assert reports[0]["loss"] >= usual[0][0]["loss"]
    assert equal(tuned(with_negatives(blobs_of_colour))[1], usual[1])


def test_negatives_in_parts_give_the_same_losses(blobs_of_colour: TrainingData) -> None:
    data = with_negatives(blobs_of_colour, *NEGATIVES)
    whole, _ = tuned(data)
    parts, _ = tuned(data, training_options={"micro_batch_size": 3})
    assert [step["loss"] for step in parts] == pytest.approx([step["loss"] for step in whole], rel=1e-3)


def test_the_validation_loss_takes_no_negatives(blobs_of_colour: TrainingData) -> None:
    data = with_negatives(blobs_of_colour, *NEGATIVES)
    plain, with_them = (
        tuned(blobs_of_colour, validation=validation, epochs=1)[0][-1]["val_loss"]
        for validation in (blobs_of_colour, data)
    )
    assert plain == with_them


def test_data_of_one_label_are_refused(blobs_of_colour: TrainingData) -> None:
    with pytest.raises(InvalidInput, match="train_data must have pairs of two labels.*Got one label for all"):
        tuned(labelled(blobs_of_colour, "aaaaaaaa"))
    assert tuned(labelled(blobs_of_colour, "aaa aaaa"))[0]


@pytest.mark.parametrize("share", [0.05, 0.1, 0.9, 0.99])
def test_a_split_that_leaves_less_than_two_images_is_refused(share: float, blobs_of_colour: TrainingData) -> None:
    if share == 0.05:  # rounds to none of eight
        assert round(8 * share) == 0
    with pytest.raises(InvalidInput, match=f"val_split must leave two images on each side. Got {share:g} of 8"):
        tuned(blobs_of_colour, val_split=share)


def test_a_loss_that_is_not_finite_stops_the_run_with_its_step(
    blobs_of_colour: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Diverging(CLIPLoss):
        steps = 0

        def forward(self, *given: Any, **options: Any) -> torch.Tensor:
            self.steps += 1
            return super().forward(*given, **options) * (float("nan") if self.steps == 3 else 1.0)

    monkeypatch.setitem(clip_task._LOSSES, "CLIPLoss", Diverging)
    with pytest.raises(
        FinetunerError, match=r"Got nan at step 3, learning rate 0.0005. Lower the learning rate"
    ) as caught:
        tuned(blobs_of_colour)
    assert "Nummer" in str(caught.value) or "number" in str(caught.value)


def test_a_hostile_learning_rate_ends_in_an_error_or_in_numbers(blobs_of_colour: TrainingData) -> None:
    options = {"eps": 1e-12, "beta1": 0.0, "beta2": 0.0}
    outcome = ""
    try:
        _, model = tuned(blobs_of_colour, learning_rate=1.0, optimizer_options=options, epochs=3)
    except FinetunerError as error:
        outcome = str(error)
    assert "at step" in outcome or all(value.isfinite().all() for value in weights(model).values())


def test_the_logit_scale_stays_between_1_and_100(blobs_of_colour: TrainingData) -> None:
    _, model = tuned(blobs_of_colour, learning_rate=0.5, epochs=3)
    assert 1 <= model.network.logit_scale.exp().item() <= 100.001


@pytest.mark.parametrize("options", [{"micro_batch_size": 3}, {"gradient_checkpointing": True}], ids=str)
def test_options_that_save_memory_give_the_same_weights(
    options: dict[str, Any], usual: tuple[list[dict[str, Any]], Clip], blobs_of_colour: TrainingData
) -> None:
    reports, model = tuned(blobs_of_colour, training_options=options)
    assert [step["loss"] for step in reports] == pytest.approx([step["loss"] for step in usual[0]], rel=1e-3)
    expected = weights(usual[1])
    assert all(torch.allclose(value, expected[name], atol=2e-3) for name, value in weights(model).items())


def saved_bytes(data: TrainingData, **options: Any) -> int:
    """Bytes that one step keeps for its backward pass, weights included."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        tuned(data, batch_size=8, epochs=1, training_options=options)
    return sum(kept.values())


def test_gradient_checkpointing_keeps_less(blobs_of_colour: TrainingData) -> None:
    assert saved_bytes(blobs_of_colour, gradient_checkpointing=True) < 0.7 * saved_bytes(blobs_of_colour)


def test_measuring_the_batch_leaves_no_trace(
    usual: tuple[list[dict[str, Any]], Clip], blobs_of_colour: TrainingData, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(learner, "SURELY_FITS", 2)
    with caplog.at_level(logging.INFO, "finetuner"):
        _, model = tuned(blobs_of_colour)
    assert "Batch size: 4 pairs take" in caplog.text
    assert equal(model, usual[1])


def test_a_batch_that_does_not_fit_is_split(
    usual: tuple[list[dict[str, Any]], Clip], blobs_of_colour: TrainingData, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(learner, "SURELY_FITS", 2)
    monkeypatch.setattr(memory_probe, "find_batch_size", lambda *_, **__: 2)
    with caplog.at_level(logging.INFO, "finetuner"):
        reports, _ = tuned(blobs_of_colour)
    assert "2 steps of 4 pairs, 2 at once" in caplog.text
    assert [step["loss"] for step in reports] == pytest.approx([step["loss"] for step in usual[0]], rel=1e-3)


def test_compile_compiles_the_layers_of_both_towers(
    blobs_of_colour: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[torch.nn.Module] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, dynamic: compiled.append(self))
    _, model = tuned(blobs_of_colour, epochs=1, training_options={"compile": True})
    network = model.network
    assert compiled == [*network.visual.transformer.resblocks, *network.transformer.resblocks]


def test_compilation_ends(
    blobs_of_colour: TrainingData, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stances: list[str] = []
    monkeypatch.setattr(torch.compiler, "set_stance", lambda stance: stances.append(stance) or nullcontext())
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, dynamic: None)
    monkeypatch.setattr(learner, "COMPILE_SECONDS", 0.0)
    monkeypatch.setattr(learner, "SURELY_FITS", 2)
    with caplog.at_level(logging.INFO, "finetuner"):
        tuned(blobs_of_colour, training_options={"compile": True})
    assert stances == ["default", "force_eager", "eager_on_recompile"], "no batch size is tried with compilation"
    assert caplog.text.count("without compilation from here on") == 1


def test_half_precision_on_a_cpu_is_refused(blobs_of_colour: TrainingData) -> None:
    with pytest.raises(FinetunerError, match="precision must be 'fp32' or 'bf16' on a CPU. Got 'fp16'"):
        tuned(blobs_of_colour, precision="fp16")
