"""The model card of an artifact as it is stored."""

from __future__ import annotations

from finetuner.artifacts.manifest import Manifest
from finetuner.exports.card import own_card


def test_the_card_says_what_the_model_is_and_how_it_is_loaded() -> None:
    metrics = {"before": {"recall|x": 0.25}, "after": {"recall|x": 0.5}}
    card = own_card(Manifest("a" * 24, "autumn", "clip-mini", 128, ["clip-text"], metrics, {}, "2026-01-01", "0.1"))
    assert card.startswith("# autumn\n")
    assert f'finetuner.get_model("{"a" * 24}")' in card
    assert "| recall x | 0.2500 | 0.5000 |" in card
