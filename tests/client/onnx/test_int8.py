"""Towers with int8 weights: smaller files, and the measured loss of quality."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from finetuner.artifacts.load import load_onnx_artifact
from finetuner.documents.images import decode
from finetuner.documents.pairs import Pair
from finetuner.evaluation.pairs import evaluate_pairs
from finetuner.exceptions import (
    ArtifactNotFound,
    InvalidInput,
)
from finetuner.models.clip import TEXT, TOWERS, VISION, Clip
from finetuner.models.image_model import ImageModel
from finetuner.onnx import int8 as onnx_int8
from finetuner.onnx.export import as_onnx
from finetuner.onnx.int8 import cost_of_int8
from finetuner.onnx.model import ONNX_FILE
from tests.client.onnx.conftest import TEXTS, largest_difference


def test_int8_is_nearly_the_same_in_fewer_bytes(with_onnx: Path, mini: Clip, images: list[Image.Image]) -> None:
    for tower, items in ((TEXT, TEXTS), (VISION, images)):
        exact, int8 = (load_onnx_artifact(with_onnx, tower, int8=int8) for int8 in (False, True))
        assert int8.bytes < 0.6 * exact.bytes
        assert 1e-5 < largest_difference(mini, int8, tower, items) < 0.1
        assert int8._padding == exact._padding


def test_the_loss_is_recall_with_pairs_and_an_angle_without(
    with_onnx: Path, mini: Clip, jpeg: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    text, vision = (load_onnx_artifact(with_onnx, tower, int8=True) for tower in TOWERS)
    pairs = [Pair(f"image {row}", jpeg(row)) for row in range(6)]
    lines = cost_of_int8(mini, text, vision, pairs, (), [])
    assert re.fullmatch(
        r"int8 on 6 texts of evaluation data: text_to_image_recall_at_5 [01]\.\d{4} -> [01]\.\d{4}, "
        r"image_to_text_recall_at_5 [01]\.\d{4} -> [01]\.\d{4}",
        lines[0],
    )
    assert f"recall_at_5 {evaluate_pairs(mini, pairs)['text_to_image_recall_at_5']:.4f} -> " in lines[0]
    angles = cost_of_int8(mini, text, vision, [], TEXTS, [decode(jpeg(0))])
    assert [line.split(":")[0] for line in angles] == ["int8 of clip-text", "int8 of clip-vision"]
    cosine = (mini.encode_texts(TEXTS) * text.encode_texts(TEXTS)).sum(axis=1)
    assert f"cosine to fp32 {cosine.mean():.4f} on average, {cosine.min():.4f} at least" in angles[0]
    monkeypatch.setattr(onnx_int8, "MAX_PAIRS", 2)
    assert "on 2 texts" in cost_of_int8(mini, text, vision, pairs, (), [])[0]


@pytest.mark.process
def test_quantising_adds_no_handler_to_the_root_logger(with_onnx: Path, tmp_path: Path) -> None:
    code = f"""
import logging
from pathlib import Path
from finetuner.onnx.int8 import quantise
quantise(Path({str(with_onnx / "models" / TEXT / ONNX_FILE)!r}), Path({str(tmp_path)!r}) / "int8.onnx")
assert not logging.getLogger().handlers
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=250)


@pytest.mark.seconds
def test_a_model_without_matrix_products_is_refused(random_mini: ImageModel) -> None:
    with pytest.raises(InvalidInput, match="must have matrix products for int8. Got .* Leave int8 out"):
        as_onnx(random_mini, random_mini.towers[0], int8=True)


def test_an_artifact_without_int8_is_refused_with_advice(published: Path) -> None:
    with pytest.raises(ArtifactNotFound, match=r"model-int8.onnx for precision int8.*fit\(to_onnx='int8'\)"):
        load_onnx_artifact(published, TEXT, int8=True)
