"""The loss over int8 and binary codes against loops, and training with it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from finetuner.executors.trainer.data.training_data import TrainingData
from finetuner.executors.trainer.losses.codes import CodesLoss, with_codes
from finetuner.executors.trainer.losses.contrastive import CLIPLoss, Negatives, PairBatch
from finetuner.executors.trainer.losses.matryoshka import MatryoshkaLoss

from ..short_training import equal, trained
from .test_contrastive import IDS, ids_of, naive, pairs

SCALE = torch.tensor(3.0, dtype=torch.float64)


def signs(rows: Any, largest: float) -> list[list[float]]:
    return [[(1 if value > 0 else -1) / math.sqrt(len(row)) for value in row] for row in rows]


def soft(rows: Any, largest: float) -> list[list[float]]:
    found = [[math.tanh(2 * math.sqrt(len(row)) * value) for value in row] for row in rows]
    return [[value / math.sqrt(sum(each**2 for each in row)) for value in row] for row in found]


def int8(rows: Any, largest: float) -> list[list[float]]:
    return [[round(value / largest * 127) / 127 * largest for value in row] for row in rows]


@pytest.mark.parametrize("by", ["sign", "tanh"])
@pytest.mark.parametrize("case", IDS)
def test_it_equals_a_loop_over_codes_and_pairs(case: str, by: str) -> None:
    image, text = pairs(5)
    found = CodesLoss(CLIPLoss(0.2), 2.0, 0.5, by)(PairBatch(image, text, *ids_of(IDS[case])), SCALE)
    expected, binary = 0.0, soft if by == "tanh" else signs
    for code, weight in ((lambda rows, _: rows, 1.0), (binary, 2.0), (int8, 0.5)):
        sides = [code(side.tolist(), side.abs().max().item()) for side in (image, text)]
        expected += weight * naive("clip", *sides, 3.0, IDS[case], 0.2) / 3.5
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_gradients_pass_as_if_nothing_was_rounded() -> None:
    image, text = pairs(5)
    for kind, code in (({"binary": 1.0}, signs), ({"int8": 1.0}, int8)):
        leaves = [
            torch.tensor(code(side.tolist(), side.abs().max().item()), dtype=torch.float64, requires_grad=True)
            for side in (image, text)
        ]
        of_codes = torch.autograd.grad(CLIPLoss()(PairBatch(*leaves), SCALE), leaves)
        plain = torch.autograd.grad(CLIPLoss()(PairBatch(image, text), SCALE), [image, text])
        found = torch.autograd.grad(CodesLoss(CLIPLoss(), **kind)(PairBatch(image, text), SCALE), [image, text])
        assert all(torch.allclose(2 * a, b + c) for a, b, c in zip(found, of_codes, plain, strict=True))


def test_negatives_are_texts_with_the_same_levels() -> None:
    image, text = pairs(5)
    further = torch.nn.functional.normalize(torch.eye(5, 6, dtype=torch.float64), dim=-1)  # the largest numbers of all
    ids, none = torch.arange(5)[:, None], torch.full((5, 1), -1)
    negatives = Negatives(further[:, None], ids + 9, none, ids)
    found = CodesLoss(CLIPLoss(), int8=1.0)(PairBatch(image, text, negatives=negatives), SCALE)
    others = [further.tolist()] * 5
    images, texts = int8(image.tolist(), image.abs().max().item()), int8(text.tolist(), 1.0)
    expected = naive("clip", image.tolist(), text.tolist(), 3.0, IDS["all differ"], further=others)
    expected += naive("clip", images, texts, 3.0, IDS["all differ"], further=others)
    assert found.item() == pytest.approx(expected / 2, rel=1e-12)


def test_the_options_make_the_loss_and_short_vectors_have_codes_too() -> None:
    loss = with_codes(CLIPLoss, {"binary_weight": 2.0, "binary_codes": "tanh", "label_smoothing": 0.1})
    assert isinstance(loss, CodesLoss)
    assert (loss.binary, loss.int8) == (2.0, 0.0)
    assert isinstance(with_codes(CLIPLoss, {"label_smoothing": 0.1}), CLIPLoss)
    batch = PairBatch(*pairs(5))
    found = MatryoshkaLoss(loss, (3,))(batch, SCALE)
    torch.testing.assert_close(found, (loss(batch, SCALE) + loss(batch.first_numbers(3), SCALE)) / 2)


@pytest.mark.seconds
def test_training_in_parts_and_resumed_is_the_same(blobs_of_colour: TrainingData, tmp_path: Path) -> None:
    options = {"binary_weight": 1.0, "int8_weight": 1.0}

    def run(**fields: Any) -> Any:
        usual = {"epochs": 2, "batch_size": 8, "loss_options": options}
        return trained(blobs_of_colour, **{**usual, **fields})

    (whole, reports), (_, in_parts) = run(), run(epochs=1, training_options={"micro_batch_size": 3})
    assert reports[0]["loss"] == pytest.approx(in_parts[0]["loss"], rel=1e-4)
    for epochs in (1, 2):
        resumed, _ = run(epochs=epochs, checkpoint=tmp_path / "checkpoint.pt")
    weights = whole.model.network.state_dict()
    assert equal(resumed.model.network.state_dict(), weights)
    assert not equal(run(loss_options={"binary_weight": 1.0})[0].model.network.state_dict(), weights)
