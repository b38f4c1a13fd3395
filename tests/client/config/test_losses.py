"""Options of a CLIP's losses: numbers in a range, and names to choose from."""

from __future__ import annotations

import pytest

from finetuner.config.losses import CLIP_LOSSES, SCORE_CHOICES, checked_loss_options, require_scores
from finetuner.config.run_config import RunConfig
from finetuner.exceptions import InvalidInput


@pytest.mark.parametrize("loss", CLIP_LOSSES)
@pytest.mark.parametrize("choice", SCORE_CHOICES)
def test_weights_of_scores_are_a_choice_of_every_loss(loss: str, choice: str) -> None:
    assert checked_loss_options(loss, {"score_weights": choice}) == {"score_weights": choice}
    config = RunConfig("clip-mini", "data", loss=loss, loss_options={"score_weights": choice})
    assert RunConfig.from_dict(config.to_dict()).loss_options == {"score_weights": choice}


def test_numbers_become_floats() -> None:
    checked = checked_loss_options("SigLIPLoss", {"logit_bias": -3, "score_weights": "log"})
    assert checked == {"logit_bias": -3.0, "score_weights": "log"}
    assert type(checked["logit_bias"]) is float


def test_a_name_that_is_nearly_right_is_suggested() -> None:
    with pytest.raises(InvalidInput, match="must be one of constant, linear, log. Got 'Linear'. Did you mean 'linear'"):
        checked_loss_options("CLIPLoss", {"score_weights": "Linear"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"score_weights": "cubic"}, "must be one of constant, linear, log. Got 'cubic'"),
        ({"score_weights": 1}, "must be one of constant, linear, log. Got 1"),
        ({"label_smoothing": "log"}, r"must be a number in \[0.0, 0.99\]. Got 'log'"),
        ({"binary_weight": 0}, r"must be a number in \[0.001, 100.0\]. Got 0"),
        ({"binary_codes": "tanh"}, "needs binary_weight. Got 'tanh' alone. Set both"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name(given: dict[str, object], message: str) -> None:
    (name,) = given
    with pytest.raises(InvalidInput, match=rf"loss_options\['{name}'\] {message}"):
        RunConfig("clip-mini", "data", loss_options=given)


def test_without_scores_only_the_other_options_remain() -> None:
    require_scores({"label_smoothing": 0.1})
    with pytest.raises(InvalidInput, match="'score_weights'.* Got 'log' for pairs without scores. Leave it out, or"):
        require_scores({"label_smoothing": 0.1, "score_weights": "log"})


def test_the_codes_of_a_run_are_those_with_a_weight() -> None:
    for given, codes in (
        ({}, ()),
        ({"int8_weight": 1}, ("int8",)),
        ({"binary_weight": 1, "int8_weight": 2}, ("int8", "binary")),
    ):
        assert RunConfig("clip-mini", "data", loss_options=given).codes == codes
    with pytest.raises(InvalidInput, match="must have keys of logit_bias, score_weights. Got int8_weight"):
        RunConfig("clip-mini", "data", loss="SigLIPLoss", loss_options={"int8_weight": 1})
