"""Stand-ins for models: tests enable them by an environment variable, and without it they do not exist."""

from __future__ import annotations

import pytest

from finetuner.contract.environment import STAND_INS
from finetuner.exceptions import NoSuchModel
from finetuner.models.backbones import find_backbone
from finetuner.models.stand_ins import ROWS, stand_in, stand_in_rows


def test_without_the_variable_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STAND_INS, raising=False)
    assert stand_in("resnet50") == "resnet50"
    assert stand_in_rows() == ()
    with pytest.raises(NoSuchModel, match="Got 'resnet-mini-random'"):
        find_backbone("resnet-mini-random")


def test_a_named_model_is_replaced_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STAND_INS, "resnet50=resnet-mini-random,clip-base-en=clip-mini")
    assert find_backbone("resnet50") is ROWS[0]
    assert find_backbone("clip-base-en").name == "clip-mini"
    assert find_backbone("clip-large-en").name == "clip-large-en"


@pytest.mark.parametrize("value", ["1", "=", "a", ",,"])
def test_a_value_without_names_enables_the_rows_alone(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(STAND_INS, value)
    assert stand_in("resnet50") == "resnet50"
    assert find_backbone("resnet-mini-random") is ROWS[0]
