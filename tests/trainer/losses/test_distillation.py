"""Self-distillation: the term against a plain loop, and the teacher of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState

from finetuner.config.run_config import RunConfig
from finetuner.executors.trainer.data.training_data import TrainingData
from finetuner.executors.trainer.hooks.freezing import Freeze
from finetuner.executors.trainer.hooks.hook import Progress
from finetuner.executors.trainer.hooks.lora import MergeAdapters, TrainAdapters
from finetuner.executors.trainer.hooks.weights import Weights, copied_weights
from finetuner.executors.trainer.loop.checkpoint import Checkpoint
from finetuner.executors.trainer.loop.clip_task import ClipTask
from finetuner.executors.trainer.losses.contrastive import PairBatch
from finetuner.executors.trainer.losses.distillation import Teacher, distillation_loss
from finetuner.models.clip import Clip
from tests.trainer.short_training import Recorder, equal, trained

DISTILLED: dict[str, Any] = {"training_options": {"distillation": 3.0}}
PAIRS = 6
IMAGE_IDS, TEXT_IDS = torch.tensor([0, 1, 2, 0, 4, 5]), torch.tensor([0, 1, 1, 3, 4, 5])


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps one precision for each process."""
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


def embeddings(seed: int, dim: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.randn(2, PAIRS, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    image, text = torch.nn.functional.normalize(rows, dim=-1)
    return image, text


def naive_shares(query: list[float], index: list[list[float]], scale: float, left_out: set[int]) -> list[float]:
    kept = {
        row: math.exp(scale * sum(a * b for a, b in zip(query, other, strict=True)))
        for row, other in enumerate(index)
        if row not in left_out
    }
    return [kept.get(row, 0.0) / sum(kept.values()) for row in range(len(index))]


def naive(student: Any, scale: float, teacher: Any, teacher_scale: float, false_negatives: list[set[int]]) -> float:
    """Mean over rows and directions of -sum(p * log q), with loops and 64-bit floats."""
    total = 0.0
    for forwards in (1, -1):
        queries, index = (side.tolist() for side in student[::forwards])
        taught_queries, taught_index = (side.tolist() for side in teacher[::forwards])
        for row, left_out in enumerate(false_negatives):
            found = naive_shares(queries[row], index, scale, left_out)
            wanted = naive_shares(taught_queries[row], taught_index, teacher_scale, left_out)
            total -= sum(p * math.log(q) for p, q in zip(wanted, found, strict=True) if p)
    return total / (2 * len(false_negatives))


def false_negatives(image_ids: torch.Tensor, text_ids: torch.Tensor) -> list[set[int]]:
    return [
        {
            other
            for other in range(PAIRS)
            if other != row and (image_ids[other] == image_ids[row] or text_ids[other] == text_ids[row])
        }
        for row in range(PAIRS)
    ]


@pytest.mark.parametrize(
    ("ids", "masks"),
    [
        ((None, None), [set()] * PAIRS),
        ((IMAGE_IDS, TEXT_IDS), false_negatives(IMAGE_IDS, TEXT_IDS)),
        ((torch.zeros(PAIRS), TEXT_IDS), [set(range(PAIRS)) - {row} for row in range(PAIRS)]),
    ],
    ids=["unmasked", "masked", "all masked"],
)
def test_the_term_equals_a_plain_loop_in_value_and_gradient(ids: tuple[Any, Any], masks: list[set[int]]) -> None:
    assert any(masks) == (ids[0] is not None)
    image, text = (side.requires_grad_() for side in embeddings(0))
    teacher = embeddings(1, dim=3)  # another size of embeddings
    scale = torch.tensor(7.0, dtype=torch.float64, requires_grad=True)
    loss = distillation_loss(PairBatch(image, text, *ids), scale, PairBatch(*teacher), torch.tensor(11.0))
    assert loss.item() == pytest.approx(naive((image, text), 7.0, teacher, 11.0, masks), abs=1e-10)
    loss.backward()
    assert image.grad is not None
    assert scale.grad is not None
    step = 1e-6
    for row, column in ((0, 0), (3, 2), (5, 1)):
        ends = []
        for sign in (1, -1):
            moved = image.detach().clone()
            moved[row, column] += sign * step
            ends.append(naive((moved, text), 7.0, teacher, 11.0, masks))
        assert image.grad[row, column].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-7)
    ends = [naive((image, text), 7.0 + sign * step, teacher, 11.0, masks) for sign in (1, -1)]
    assert scale.grad.item() == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-7)


@pytest.mark.parametrize("ids", [(None, None), (IMAGE_IDS, TEXT_IDS)], ids=["unmasked", "masked"])
def test_a_student_that_is_the_teacher_has_no_gradient(ids: tuple[Any, Any]) -> None:
    image, text = (side.requires_grad_() for side in embeddings(0))
    scale = torch.tensor(9.0, dtype=torch.float64, requires_grad=True)
    teacher = PairBatch(image.detach(), text.detach())
    distillation_loss(PairBatch(image, text, *ids), scale, teacher, scale.detach()).backward()
    for value in (image, text, scale):
        assert value.grad is not None
        assert value.grad.abs().max() < 1e-15


def inputs_of(task: ClipTask) -> tuple[torch.Tensor, torch.Tensor]:
    (planned,) = task.held_out()
    batch = task.fetch_held_out(planned)
    return batch.pixels.float() / 255, batch.inputs[0]


def make_task(model: Clip, data: TrainingData) -> ClipTask:
    config = RunConfig(model="clip-mini", train_data="data", device="cpu", **DISTILLED)
    return ClipTask(model, data, config, 8, data)


def test_the_teacher_stays_the_initial_model(clip_mini: Clip, blobs_of_colour: TrainingData) -> None:
    task = make_task(clip_mini, blobs_of_colour)
    inputs = inputs_of(task)
    before = task.network.eval()(*inputs)
    clip_mini.network.train()
    with torch.no_grad():
        for parameter in clip_mini.network.parameters():
            parameter.add_(0.01)
    taught = task.teach(inputs, None)
    assert all(torch.allclose(old, now, atol=1e-6) for old, now in zip(before, taught, strict=True))
    assert not any(side.requires_grad for side in taught)
    assert not any(torch.allclose(old, now, atol=1e-3) for old, now in zip(before, task.network(*inputs), strict=True))
    for parts in (1, 3):
        in_parts = task.teach(inputs, parts)
        assert all(torch.allclose(old, now, atol=1e-6) for old, now in zip(taught, in_parts, strict=True))


def test_the_teacher_shares_frozen_weights_only(clip_mini: Clip) -> None:
    Freeze(["vision"]).before_training(Progress(clip_mini))
    network = clip_mini.network
    teacher = Teacher(network, network.logit_scale)
    kept = dict(teacher._network.named_parameters())
    shared = {name for name, value in network.named_parameters() if value is kept[name]}
    assert shared == {name for name in kept if name.startswith("visual.")}
    assert not any(value.requires_grad for value in kept.values())
    assert network.logit_scale.requires_grad


def test_the_teacher_of_adapters_is_the_model_without_them(clip_mini: Clip, blobs_of_colour: TrainingData) -> None:
    before = make_task(clip_mini, blobs_of_colour)
    inputs = inputs_of(before)
    expected = before.network.eval()(*inputs)
    TrainAdapters(2, None, 0).before_training(Progress(clip_mini))
    task = make_task(clip_mini, blobs_of_colour)
    with torch.no_grad():
        for name, value in clip_mini.network.named_parameters():
            if "lora_B" in name:
                value.add_(0.1)
    assert all(torch.allclose(old, now, atol=1e-6) for old, now in zip(expected, task.teach(inputs, None), strict=True))
    assert not torch.allclose(expected[0], task.network.eval()(*inputs)[0], atol=1e-3)


def reach(data: TrainingData, model: Clip, **fields: Any) -> float:
    """Distance of the tuned embeddings from the initial ones."""
    texts = [captions[0] for captions in data.captions]
    before = model.encode_texts(texts)
    after = trained(data, epochs=3, batch_size=8, **fields)[0].model
    assert isinstance(after, Clip)
    return float(((after.encode_texts(texts) - before) ** 2).sum())


@pytest.mark.seconds
def test_a_strong_teacher_keeps_the_embeddings_nearer(clip_mini: Clip, blobs_of_colour: TrainingData) -> None:
    alone = reach(blobs_of_colour, clip_mini)
    taught = reach(blobs_of_colour, clip_mini, training_options={"distillation": 100.0})
    assert taught < 0.8 * alone


@pytest.mark.seconds
def test_the_batch_in_parts_has_the_same_gradient(blobs_of_colour: TrainingData) -> None:
    plain = {"crop_scale": [1, 1], "distillation": 2.0}
    losses, weights = [], []
    for parts in (8, 3, 1):
        fields = {"optimizer": "SGD", "training_options": plain | {"micro_batch_size": parts}}
        recorder = Recorder()
        _, reports = trained(blobs_of_colour, recorder, epochs=2, batch_size=8, **fields)
        losses.append([point["loss"] for point in reports])
        weights.append(recorder.steps[-1])
    for found, other in zip(losses[1:], weights[1:], strict=True):
        assert found == pytest.approx(losses[0], rel=1e-5)
        assert all(torch.allclose(value, weights[0][name], atol=1e-6) for name, value in other.items())


@pytest.mark.parametrize("options", [{"distillation": 3.0}, {"l2_sp": 20.0}, {"distillation": 1.0, "lora_rank": 2}])
@pytest.mark.seconds
def test_a_resumed_run_has_the_same_teacher_and_start(
    options: dict[str, Any], blobs_of_colour: TrainingData, tmp_path: Path
) -> None:
    def run(epochs: int, checkpoint: Path | None = None) -> Weights:
        adapters = TrainAdapters(2, None, 0)
        hooks = [MergeAdapters(adapters), adapters] if "lora_rank" in options else []
        progress, _ = trained(blobs_of_colour, *hooks, epochs=epochs, checkpoint=checkpoint, training_options=options)
        return copied_weights(progress.model.network)

    checkpoint = tmp_path / "checkpoint.pt"
    run(1, checkpoint)
    state = Checkpoint(checkpoint, 0).read()
    assert state is not None
    assert not [name for name in state["network"] if "teacher" in name]
    assert equal(run(3, checkpoint), run(3))
