"""An artifact with int8 ONNX files: libraries get its float32 weights, 'onnx' its files, and neither is silent."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

import finetuner
from finetuner.artifacts.load import load_onnx_artifact
from finetuner.exceptions import FinetunerError, InvalidInput
from finetuner.exports.export import FORMATS
from finetuner.models.clip import TEXT, TOWERS, Clip
from finetuner.onnx.model import INT8_FILE
from tests.client.onnx.conftest import TEXTS, with_onnx

__all__ = ["with_onnx"]  # a fixture
pytestmark = pytest.mark.slow


def test_a_library_gets_the_weights_in_float32(with_onnx: Path, mini: Clip, tmp_path: Path) -> None:
    finetuner.export_artifact(with_onnx, "open_clip", tmp_path / "out")
    network, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'out'}")
    network.eval()
    with torch.inference_mode():
        found = network.encode_text(open_clip.get_tokenizer(f"local-dir:{tmp_path / 'out'}")(TEXTS), normalize=True)
    exact, rough = mini.encode_texts(TEXTS), load_onnx_artifact(with_onnx, TEXT, int8=True).encode_texts(TEXTS)
    np.testing.assert_allclose(found.numpy(), exact, atol=1e-5)
    assert np.abs(rough - exact).max() > 1e-4, "int8 is another thing"
    assert not [*(tmp_path / "out").rglob("*.onnx")]


def test_onnx_has_the_int8_files_of_the_run(with_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(model: Clip, folder: Path) -> None:
        """Stand for the exporter, which takes 20 s; its own tests show what it writes."""
        for tower in model.towers:
            (folder / tower).mkdir()

    monkeypatch.setattr("finetuner.onnx.export.export_onnx", write)
    out = Path(finetuner.export_artifact(with_onnx, "onnx", tmp_path / "out"))
    for tower in TOWERS:
        assert (out / tower / INT8_FILE).read_bytes() == (with_onnx / "models" / tower / INT8_FILE).read_bytes()
    assert INT8_FILE in (out / "README.md").read_text()


@pytest.mark.parametrize("to", FORMATS)
def test_int8_files_without_their_weights_are_no_model(to: str, with_onnx: Path, tmp_path: Path) -> None:
    folder = tmp_path / with_onnx.name
    shutil.copytree(with_onnx, folder)
    for tower in TOWERS:
        (folder / "models" / tower / "weights.safetensors").unlink()
    with pytest.raises(FinetunerError, match=r"weights\.safetensors"):
        finetuner.export_artifact(folder, to, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_timm_and_an_unknown_format_are_refused(with_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="to='timm' cannot hold a CLIP. Got .* Take to='open_clip'"):
        finetuner.export_artifact(with_onnx, "timm", tmp_path / "exported")
    with pytest.raises(InvalidInput, match="to must be one of open_clip, .*, onnx. Got 'int8'"):
        finetuner.export_artifact(with_onnx, "int8", tmp_path / "exported")
