"""The script that trained clip-mini: it runs and writes a folder that open_clip loads."""

from pathlib import Path
from random import Random

import open_clip
import pytest
import torch

from finetuner.catalogue.drawing.shape_image import SIDE
from finetuner.demo import pretrain


@pytest.mark.process
def test_a_few_steps_write_a_loadable_repeatable_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain, "POOL", 64)
    monkeypatch.setattr(pretrain, "BLOCK", 32)
    monkeypatch.setattr(pretrain, "BATCH", 8)
    monkeypatch.setattr(pretrain, "quality", lambda _folder, seed: {"shapes_en_r5": float(seed)})
    for name in ("first", "second"):
        figures = pretrain.pretrain(tmp_path / name, seed=3, minutes=1, steps=2)
        assert figures["steps"] == 2
        assert figures["shapes_en_r5"] == 4, "the figures must come from another seed than the training"
    weights = "open_clip_model.safetensors"
    assert (tmp_path / "first" / weights).read_bytes() == (tmp_path / "second" / weights).read_bytes()
    model = open_clip.create_model(f"local-dir:{tmp_path / 'first'}")
    assert type(model) is open_clip.CLIP


def test_images_are_shifted_and_normalised_only() -> None:
    plain = torch.full((2, 3, SIDE, SIDE), 255, dtype=torch.uint8)
    moved = pretrain._shifted(plain, Random(0))
    assert moved.shape == plain.shape
    assert torch.allclose(moved, torch.tensor((1 - 0.5) / 0.25))


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    rates = [pretrain._cosine(number / 1000) for number in range(1000)]
    peak = rates.index(max(rates))
    assert rates[0] > 0
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 1e-4
