"""Options of short vectors: allowed and refused values."""

from __future__ import annotations

from typing import Any

import pytest

from finetuner.config.matryoshka import Matryoshka
from finetuner.config.run_config import RunConfig
from finetuner.exceptions import InvalidInput


def config(options: dict[str, Any], **fields: Any) -> RunConfig:
    return RunConfig(**{"model": "clip-mini", "train_data": "pairs", "loss_options": options, **fields})


def test_sizes_are_sorted_with_their_weights() -> None:
    made = config({"matryoshka_dims": [16.0, 64, 32], "matryoshka_weights": [1, 2, 3, 4]})
    expected = {"matryoshka_dims": [64, 32, 16], "matryoshka_weights": [1.0, 3.0, 4.0, 2.0]}
    assert made.loss_options == expected
    assert RunConfig.from_dict(made.to_dict()) == made
    assert made.matryoshka == Matryoshka((64, 32, 16), (1.0, 3.0, 4.0, 2.0))


def test_every_weight_is_one_by_default() -> None:
    assert config({"matryoshka_dims": [64]}).matryoshka == Matryoshka((64,), (1.0, 1.0))
    assert config({}).matryoshka is None


def test_it_stands_beside_the_other_options() -> None:
    made = config({"matryoshka_dims": [64], "label_smoothing": 0.1})
    assert made.loss_options["label_smoothing"] == 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"matryoshka_dims": []}, r"must be a list of 1 to 16 sizes. Got \[\]. For example"),
        ({"matryoshka_dims": list(range(1, 18))}, "must be a list of 1 to 16 sizes. Got"),
        ({"matryoshka_dims": 64}, "must be a list of 1 to 16 sizes. Got 64"),
        ({"matryoshka_dims": "64"}, "must be a list of 1 to 16 sizes. Got '64'"),
        ({"matryoshka_dims": [64, 64.0]}, r"must be sizes that differ. Got \[64, 64\]. Name each once"),
        ({"matryoshka_dims": [0]}, r"must be a whole number in \[1, 65535\]. Got 0"),
        ({"matryoshka_dims": [1.5]}, "must be a whole number in .* Got 1.5"),
        ({"matryoshka_dims": [True]}, "must be a whole number in .* Got True"),
        ({"matryoshka_dims": [128]}, "must be below 128, the size of the model's embeddings, .* Got 128. Leave it out"),
        ({"matryoshka_dims": [32, 500]}, "must be below 128, .* Got 500"),
        ({"matryoshka_dims": [64], "matryoshka_weights": [1]}, r"must be 2 numbers: .* each of \[64\]. Got \[1\]"),
        ({"matryoshka_dims": [64], "matryoshka_weights": [1, 0]}, "must be a number in .* Got 0"),
        ({"matryoshka_dims": [64], "matryoshka_weights": [1, float("nan")]}, "must be a number in .* Got nan"),
        ({"matryoshka_dims": [64], "matryoshka_weights": 1}, "must be 2 numbers: .* Got 1"),
        ({"matryoshka_weights": [1, 1]}, r"needs matryoshka_dims. Got \[1, 1\] alone. Set both"),
        ({"matryoshka_dim": [64]}, "must have keys of label_smoothing, .*matryoshka_dims.* Got matryoshka_dim"),
    ],
    ids=str,
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        config(options)
    assert str(caught.value).startswith("loss_options")


def test_other_losses_refuse_it_with_the_reason() -> None:
    with pytest.raises(InvalidInput, match=r"for CLIPLoss alone: .* fits one size. Got \[64\] for another loss. Ch"):
        config({"matryoshka_dims": [64]}, loss="SigLIPLoss")
    with pytest.raises(InvalidInput, match="Got .matryoshka_dims"):
        config({"matryoshka_dims": [64]}, model="resnet-base")


def test_a_model_of_unknown_size_is_compared_later() -> None:
    made = config({"matryoshka_dims": [600]}, model="ViT-B-32::openai").matryoshka
    assert made is not None
    made.check_below(601)
    with pytest.raises(InvalidInput, match="must be below 512.* Got 600"):
        made.check_below(512)
